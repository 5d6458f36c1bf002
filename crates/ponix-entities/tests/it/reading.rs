//! Messages become rows, or an error that names the field.

use ponix_entities::{Format, TableIndex, Value, sample};
use proptest::prelude::*;

use crate::TPCH;

const ORDER: &str = "O|1|370|O|172799.49|1996-01-02|5-LOW|Clerk#000000951|0|nstructions sleep";
const LINE: &str = "L|1|1552|93|1|17|24710.35|0.04|0.02|N|O|1996-03-13|TRUCK|egular courts";
const ITEM: &str = r#"{"product_key":1552,"supplier_key":93,"line_number":1,"quantity":17,"extended_price":24710.35,"discount":"0.04","tax":0.02,"return_flag":"N","line_status":"O","ship_date":"1996-03-13","ship_mode":"TRUCK"}"#;

fn order(more: &str) -> String {
    format!(
        r#"{{"entity_type":"Order","order_key":1,"customer_key":370,"order_status":"O","total_price":172799.49,"order_date":"1996-01-02","order_priority":"5-LOW","clerk":"Clerk#000000951"{more}}}"#
    )
}

fn refused(format: Format, message: &str) -> String {
    TPCH.parse(format, message.as_bytes(), None)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_line_and_the_same_in_json_are_the_same_row() {
    let line = TPCH.parse(Format::Line, ORDER.as_bytes(), None).unwrap();
    let json = order(r#","comment":"nstructions sleep""#);
    let json = TPCH.parse(Format::Json, json.as_bytes(), None).unwrap();
    assert_eq!(line, json);
    assert_eq!((line.entity.as_str(), line.rows.len()), ("Order", 1));
    let values = &line.rows[0].values;
    assert_eq!(values[0], Value::Integer(1));
    assert_eq!(values[3], Value::Decimal("172799.49".parse().unwrap()));
    assert_eq!(values[7], Value::Integer(0), "the default");
    // Files of TPC-H end each line with a bar.
    let with_bar = format!("{ORDER}|\n");
    let with_bar = TPCH.parse(Format::Line, with_bar.as_bytes(), None).unwrap();
    assert_eq!(with_bar, line);
}

#[test]
fn line_items_of_an_order_are_rows_of_their_own() {
    let items = format!(
        r#","line_items":[{ITEM},{}]"#,
        ITEM.replace("\"line_number\":1", "\"line_number\":2")
    );
    let parsed = TPCH
        .parse(Format::Json, order(&items).as_bytes(), None)
        .unwrap();
    let tables: Vec<&str> = parsed
        .rows
        .iter()
        .map(|row| TPCH.table(row.table).name.as_str())
        .collect();
    assert_eq!(tables, ["orders", "order_line_items", "order_line_items"]);
    // The parent's key, and the same as a line of its own.
    let line = TPCH.parse(Format::Line, LINE.as_bytes(), None).unwrap();
    assert_eq!(line.entity, "OrderLineItem");
    assert_eq!(parsed.rows[1].values[..12], line.rows[0].values[..12]);
    assert_eq!(parsed.rows[2].values[3], Value::Integer(2));
    assert_eq!(line.rows[0].table, TableIndex(2));
}

#[test]
fn messages_are_told_apart_without_being_read() {
    let name = |format, message: &str, hint| TPCH.identify(format, message.as_bytes(), hint).ok();
    assert_eq!(name(Format::Line, ORDER, None), Some("Order"));
    assert_eq!(name(Format::Line, "L", None), Some("OrderLineItem"));
    assert_eq!(name(Format::Line, "X|1", None), None);
    assert_eq!(name(Format::Json, &order(""), None), Some("Order"));
    assert_eq!(name(Format::Json, "{}", Some("Customer")), Some("Customer"));
    assert_eq!(name(Format::Json, "{}", None), None);
    assert_eq!(name(Format::Json, "{", None), None);
    // Names count in any case.
    assert_eq!(name(Format::Json, "{}", Some("customer")), Some("Customer"));
    let lower = order("").replace("\"Order\"", "\"order\"");
    let parsed = TPCH.parse(Format::Json, lower.as_bytes(), Some("ORDER"));
    assert_eq!(parsed.unwrap().entity, "Order");
    let told = |payload: &str| TPCH.identify(Format::Json, payload.as_bytes(), None);
    let unknown = told(r#"{"entity_type":"Nothing"}"#)
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("known are") && unknown.contains("Customer"),
        "{unknown}"
    );
}

#[test]
fn a_message_that_names_no_entity_is_of_the_default_one() {
    let message = br#"{"order_id":"123","total":100.50}"#;
    let told = TPCH.parse(Format::Json, message, None).unwrap_err();
    assert!(
        told.to_string()
            .starts_with("entity_type: is missing, known are"),
        "{told}"
    );
    let catalog = TPCH.clone().with_default("simpleorder").unwrap();
    assert_eq!(
        catalog.identify(Format::Json, message, None).unwrap(),
        "SimpleOrder"
    );
    let parsed = catalog.parse(Format::Json, message, None).unwrap();
    assert_eq!(parsed.entity, "SimpleOrder");
    assert!(TPCH.clone().with_default("Nothing").is_err());
}

#[test]
fn a_line_with_plain_words_is_an_order() {
    let line = b"O|123|456|F|123.45|2024-01-01|urgent|clerk1|1|comment";
    assert_eq!(
        TPCH.parse(Format::Line, line, None).unwrap().entity,
        "Order"
    );
}

#[test]
fn what_does_not_fit_is_told_by_field() {
    for (message, told) in [
        (
            "X|1",
            "no entity has the prefix \"X\", known are C, O, L, P, S",
        ),
        ("", "no entity has the prefix \"\", known are C, O, L, P, S"),
        ("O|1|2", "Order: 2 values, expected 9"),
        (
            &ORDER.replace("|370|", "|x|"),
            "Order.customer_key: \"x\" is not a whole number",
        ),
        (
            &ORDER.replace("|370|", "|0|"),
            "Order.customer_key: 0 is less than 1",
        ),
        (
            &ORDER.replace("|370|", "||"),
            "Order.customer_key: is missing",
        ),
        (
            &ORDER.replace("|O|", "|Q|"),
            "Order.order_status: \"Q\" is not one of O, F, P",
        ),
        (
            &ORDER.replace("172799.49", "1.234"),
            "Order.total_price: 1.234 has more than 2 digits behind the point",
        ),
        (
            &ORDER.replace("172799.49", "12345678901"),
            "Order.total_price: 12345678901 has more than 10 digits before the point",
        ),
        (
            &ORDER.replace("1996-01-02", "1996-02-30"),
            "Order.order_date: \"1996-02-30\" is not a day such as 2026-03-01",
        ),
        (
            &ORDER.replace("Clerk#", "Clerk "),
            "Order.clerk: \"Clerk 000000951\" does not match the pattern",
        ),
        (
            &ORDER.replace("sleep", "\0"),
            "Order.comment: has a NUL character",
        ),
        (
            &format!("{ORDER}{}", "x".repeat(80)),
            "Order.comment: has 97 characters, at most 79 fit",
        ),
    ] {
        assert_eq!(refused(Format::Line, message), told, "{message}");
    }
    let binary = TPCH.parse(Format::Line, b"O|\xff", None).unwrap_err();
    assert_eq!(binary.to_string(), "not UTF-8 from byte 2 on");
}

#[test]
fn json_that_does_not_fit_is_told_by_field() {
    let item = |from: &str, to: &str| {
        order(&format!(
            r#","line_items":[{ITEM},{}]"#,
            ITEM.replace(from, to)
        ))
    };
    for (message, told) in [
        (
            "{}".to_owned(),
            "entity_type: is missing, known are Customer, Order, OrderLineItem, Product, SimpleOrder",
        ),
        ("[]".to_owned(), "the message is not an object"),
        (
            r#"{"entity_type":"Nothing"}"#.to_owned(),
            "entity_type: there is no entity \"Nothing\", known are Customer, Order, OrderLineItem, Product, SimpleOrder",
        ),
        (order(r#","x":1"#), "Order.x: is no field of the entity"),
        (
            order(r#","line_items":{}"#),
            "Order.line_items: is not a list",
        ),
        (
            order(r#","line_items":[1]"#),
            "Order.line_items.0.item: is not an object",
        ),
        (
            order(r#","ship_priority":1.5"#),
            "Order.ship_priority: 1.5 is not a whole number of 64 bits",
        ),
        (
            order(r#","ship_priority":"1""#),
            "Order.ship_priority: \"1\" is a text, not a whole number",
        ),
        (
            item("\"line_number\":1,", ""),
            "Order.line_items.1.line_number: is missing",
        ),
        (
            item("\"N\"", "\"X\""),
            "Order.line_items.1.return_flag: \"X\" is not one of R, A, N",
        ),
        (
            item("\"tax\"", "\"taxes\""),
            "Order.line_items.1.taxes: is no field of the item, did you mean tax?",
        ),
    ] {
        assert_eq!(refused(Format::Json, &message), told, "{message}");
    }
    for (message, told) in [
        (order(r#","comment":"a","comment":"b""#), "is there twice"),
        (order(r#","comment":"\u0000""#), "NUL character"),
        (
            "{\"a\":".repeat(33) + "1" + &"}".repeat(33),
            "nested deeper than 32 levels",
        ),
        ("{\"a\":".repeat(100_000), "nested deeper than 32 levels"),
        ("{".to_owned(), "line 1 column 1"),
    ] {
        let found = refused(Format::Json, &message);
        assert!(found.contains(told), "{found}");
    }
}

#[test]
fn everything_that_is_wrong_with_a_message_is_told() {
    let line = ORDER.replace("|370|", "|x|").replace("|O|", "|Q|");
    assert_eq!(
        refused(Format::Line, &line),
        "Order.customer_key: \"x\" is not a whole number; order_status: \"Q\" is not one of O, F, P"
    );
    let broken = ITEM
        .replace("\"N\"", "\"X\"")
        .replace("\"line_number\":1,", "");
    let message = order(&format!(r#","line_items":[{broken},{ITEM},{broken}]"#));
    let error = TPCH.parse(Format::Json, message.as_bytes(), None);
    let error = error.unwrap_err();
    let others: Vec<&str> = error.others.iter().map(|other| &other.field[..]).collect();
    assert_eq!(error.field.as_deref(), Some("line_items.0.line_number"));
    assert_eq!(
        others,
        [
            "line_items.0.return_flag",
            "line_items.2.line_number",
            "line_items.2.return_flag"
        ]
    );
    let misspelt = order(r#","ship_prioritie":"1","comments":1"#);
    assert_eq!(
        refused(Format::Json, &misspelt),
        "Order.comments: is no field of the entity, did you mean comment?; \
         ship_prioritie: is no field of the entity, did you mean ship_priority?"
    );
    // Bounded: a status has to hold it.
    let many = vec![broken; 50].join(",");
    let many = order(&format!(r#","line_items":[{many}]"#));
    let error = TPCH.parse(Format::Json, many.as_bytes(), None).unwrap_err();
    assert_eq!(error.others.len(), 19);
}

#[test]
fn the_messages_of_the_examples_readme_can_be_read() {
    let readme = include_str!("../../../../examples/tpch/README.md");
    let bodies = readme.split("--data '").skip(1);
    let rows = bodies.map(|rest| {
        let body = rest.split('\'').next().unwrap();
        let (format, hint) = if body.starts_with('{') {
            (Format::Json, Some("Order"))
        } else {
            (Format::Line, None)
        };
        let parsed = TPCH.parse(format, body.as_bytes(), hint);
        parsed
            .unwrap_or_else(|err| panic!("{err}: {body}"))
            .rows
            .len()
    });
    assert_eq!(rows.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn lines_that_people_have_in_hand_can_be_read() {
    let k6 = include_str!("../../../../bench/k6/http.js");
    let (_, order) = k6.split_once("return `O|${number}|").unwrap();
    let order = order.split('`').next().unwrap();
    for line in [
        format!("O|1795672345000000|{order}"),
        "O|123|456|F|123.45|2024-01-01|urgent|clerk1|1|comment".to_owned(),
    ] {
        let parsed = TPCH.parse(Format::Line, line.as_bytes(), None);
        assert_eq!(parsed.unwrap().rows.len(), 1, "{line}");
    }
}

#[test]
fn samples_can_be_read() {
    for entity in TPCH.entities() {
        let sample = sample(&TPCH, entity);
        let line = sample.line.unwrap();
        let line = TPCH.parse(Format::Line, line.as_bytes(), None);
        assert_eq!(line.unwrap().entity, entity.name());
        let json = TPCH.parse(Format::Json, sample.json.as_bytes(), None);
        let rows = json
            .unwrap_or_else(|err| panic!("{err}: {}", sample.json))
            .rows;
        let derived = usize::from(entity.name() == "Order");
        assert_eq!(rows.len(), 1 + derived, "{}", sample.json);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), json: bool) {
        let format = if json { Format::Json } else { Format::Line };
        let _ = TPCH.identify(format, &bytes, None);
        prop_assert!(TPCH.parse(format, &bytes, None).is_err());
    }

    #[test]
    fn a_line_with_one_odd_value_is_read_or_told(index in 0_usize..9, value in "\\PC{0,20}") {
        let mut values: Vec<&str> = ORDER.split('|').collect();
        values[index + 1] = &value;
        match TPCH.parse(Format::Line, values.join("|").as_bytes(), None) {
            Ok(parsed) => prop_assert_eq!(parsed.rows[0].values.len(), 9),
            Err(err) => prop_assert_eq!(err.entity.as_deref(), Some("Order")),
        }
    }
}
