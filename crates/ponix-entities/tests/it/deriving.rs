//! Rows of one entity from messages of another.

use ponix_entities::{Catalog, Format, MessageError, Value, sample};

/// A visit with payments of two kinds, in one list, and a summary of its own.
const VISIT: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Visit}
spec:
  type: root
  prefix: V
  fields:
    - {name: visit_key, type: Integer}
    - {name: note, type: String, nullable: true}
  lists: [payments]
  persistence: {table: visits}
";
const SUMMARY: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Summary}
spec:
  type: derived
  fields:
    - {name: visit_key, type: Integer}
    - {name: origin, type: String}
    - {name: note, type: String, constraints: {max_length: 5, default: none}}
  derivation:
    parent: Visit
    fields:
      visit_key: {parent: visit_key}
      origin: {constant: visit}
      note: {parent: note}
    when: [{field: visit_key, not_in: ['13']}]
  persistence: {table: summaries}
";
const CARD: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Card}
spec:
  type: derived
  fields:
    - {name: visit_key, type: Integer}
    - {name: number, type: String}
    - {name: paid_with, type: String}
  derivation:
    parent: Visit
    repeated_for: payments
    fields:
      visit_key: {parent: visit_key}
      paid_with: {item: kind}
    when: [{field: paid_with, in: [card]}, {field: number, present: true}]
  persistence: {table: cards}
";
const CASH: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Cash}
spec:
  type: derived
  fields:
    - {name: kind, type: String}
    - {name: amount, type: Decimal}
  derivation:
    parent: Visit
    repeated_for: payments
    when: [{field: kind, in: [cash]}]
  persistence: {table: cash}
";

fn catalog() -> Catalog {
    let files = [VISIT, SUMMARY, CARD, CASH].iter().enumerate();
    let files = files.map(|(index, text)| (format!("{index}.yaml").into(), (*text).to_owned()));
    Catalog::from_files(files).unwrap()
}

/// The tables and values of the rows.
fn rows(catalog: &Catalog, format: Format, message: &str) -> Result<Vec<String>, MessageError> {
    let parsed = catalog.parse(format, message.as_bytes(), None)?;
    let rows = parsed.rows.iter().map(|row| {
        let values = row.values.iter().map(|value| match value {
            Value::Null => "-".to_owned(),
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Decimal(number) => number.to_string(),
            other => panic!("{other:?}"),
        });
        let values: Vec<String> = values.collect();
        format!("{} {}", catalog.table(row.table).name, values.join(" "))
    });
    Ok(rows.collect())
}

#[test]
fn a_line_gives_the_rows_that_need_no_list() {
    let catalog = catalog();
    let found = rows(&catalog, Format::Line, "V|7|").unwrap();
    assert_eq!(found, ["visits 7 -", "summaries 7 visit none"]);
    let json = r#"{"entity_type":"Visit","visit_key":7}"#;
    assert_eq!(rows(&catalog, Format::Json, json).unwrap(), found);
    let found = rows(&catalog, Format::Line, "V|13|").unwrap();
    assert_eq!(found, ["visits 13 -"], "the condition does not hold");
    let err = rows(&catalog, Format::Line, "V|7|a long note").unwrap_err();
    assert_eq!(
        err.to_string(),
        "Visit.Summary.note: has 11 characters, at most 5 fit"
    );
}

#[test]
fn items_of_one_list_go_where_their_conditions_say() {
    let catalog = catalog();
    let visit = |payments: &str| {
        let json = format!(r#"{{"entity_type":"Visit","visit_key":13,"payments":[{payments}]}}"#);
        rows(&catalog, Format::Json, &json).map_err(|err| err.to_string())
    };
    let found = visit(
        r#"{"kind":"card","number":"4"},{"kind":"cash","amount":1.5},{"kind":"none"},{"kind":"card"}"#,
    );
    assert_eq!(
        found.unwrap(),
        ["visits 13 -", "cards 13 4 card", "cash cash 1.5"]
    );
    let told = visit(r#"{"kind":"cash"}"#).unwrap_err();
    assert_eq!(told, "Visit.payments.0.amount: is missing");
    let told = visit(r#"{"kind":"card","numbers":"4"}"#).unwrap_err();
    assert_eq!(
        told,
        "Visit.payments.0.numbers: is no field of the item, did you mean number?"
    );
    let told = visit(r#"{"kind":1,"number":"4"}"#).unwrap_err();
    assert_eq!(told, "Visit.payments.0.kind: \"1\" is not a text");
    let many = vec![r#"{"kind":"none"}"#; 10_001].join(",");
    assert_eq!(
        visit(&many).unwrap_err(),
        "Visit: holds more than 10000 derived rows"
    );
}

#[test]
fn a_sample_has_one_item_for_all_that_share_its_list() {
    let catalog = catalog();
    let messages = sample(&catalog, catalog.entity("Visit").unwrap());
    assert_eq!(messages.line.as_deref(), Some("V|1|note"));
    assert!(rows(&catalog, Format::Json, &messages.json).is_ok());
    assert!(messages.json.contains("amount") && messages.json.contains("number"));
    assert_eq!(
        sample(&catalog, catalog.entity("Cash").unwrap()).line,
        None,
        "it has no prefix"
    );
}
