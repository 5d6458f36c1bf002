//! What may be declared, and what is told about what may not.

use std::path::Path;

use ponix_entities::{Catalog, ddl, schema};

use crate::TPCH;

/// An entity with this in place of its fields and persistence.
fn entity(name: &str, prefix: &str, spec: &str) -> String {
    format!(
        "apiVersion: ponix.dev/v1\nkind: Entity\nmetadata:\n  name: {name}\nspec:\n  type: root\n  prefix: {prefix}\n{spec}"
    )
}

/// What is wrong with these files, without the folder.
fn complaints(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = format!("{}/", folder.path().display());
    match Catalog::load(folder.path()) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            let errors = errors.0.iter();
            errors
                .map(|error| error.to_string().replace(&path, ""))
                .collect()
        }
    }
}

/// What is wrong with one field and one more line of the persistence.
fn of_field(field: &str, more: &str) -> Vec<String> {
    let spec = format!("  fields:\n    - {field}\n  persistence:\n    table: ts\n{more}");
    complaints(&[("t.yaml", &entity("T", "T", &spec))])
}

#[test]
fn the_example_is_sound_and_its_tables_come_in_order() {
    let tables: Vec<&str> = TPCH.tables().map(|table| table.name.as_str()).collect();
    assert_eq!(
        tables,
        [
            "customers",
            "orders",
            "order_line_items",
            "products",
            "simple_orders"
        ]
    );
    let sql = ddl(&TPCH);
    assert!(
        sql.contains("CREATE TABLE IF NOT EXISTS \"orders\""),
        "{sql}"
    );
    assert!(
        sql.contains("\"total_price\" numeric(12,2) NOT NULL"),
        "{sql}"
    );
    assert!(
        sql.contains("UNIQUE (\"order_key\", \"line_number\")"),
        "{sql}"
    );
}

#[test]
fn unknown_keys_and_wrong_types_are_told_with_their_place() {
    let fields = "{name: a, typ: Integer}";
    let told = of_field(fields, "");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("t.yaml:9:"), "{told:?}");
    assert!(told[0].contains("typ"), "{told:?}");
    let told = of_field("{name: a, type: Int}", "");
    assert!(
        told[0].starts_with("t.yaml:9:") && told[0].contains("Int"),
        "{told:?}"
    );
    let told = complaints(&[("a.yaml", "apiVersion: [\n")]);
    assert!(told[0].starts_with("a.yaml:"), "{told:?}");
    let told = complaints(&[]);
    assert!(told[0].ends_with(": there is no *.yaml file"), "{told:?}");
}

#[test]
fn one_mistake_in_the_shape_of_a_file_does_not_hide_the_others() {
    let spec = "  fields:\n    - {name: a, typ: Integer}\n    - {name: b, type: Strng}\n    - {type: Date}\n  persistance: {table: ts}\n  lists: x\n";
    assert_eq!(
        complaints(&[("t.yaml", &entity("T", "T", spec))]),
        [
            "t.yaml:9:17: fields has no key \"typ\", did you mean \"type\"?",
            "t.yaml:10:23: type is \"Strng\", did you mean \"String\"?",
            "t.yaml:11:8: fields has no \"name\", which is needed",
            "t.yaml:12:3: spec has no key \"persistance\", did you mean \"persistence\"?",
            "t.yaml:13:10: lists is a text, expected a list",
        ]
    );
    let told = complaints(&[(
        "t.yaml",
        "apiVersion: ponix.dev/v1\nkind: Entiti\nmetadata: 3\n",
    )]);
    assert_eq!(told, ["t.yaml:2:7: kind is \"Entiti\", expected Entity"]);
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_what_is_wrong_with_others() {
    let key = "    foreign_keys: [{fields: [a], entity: A, references: [x]}]\n";
    let spec = format!(
        "  fields:\n    - {{name: a, type: Integer, scale: 1}}\n  persistence:\n    table: ts\n{key}"
    );
    let told = complaints(&[
        ("a.yaml", "apiVersion: [\n"),
        ("t.yaml", &entity("T", "T", &spec)),
    ]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("a.yaml:"), "{told:?}");
    assert!(
        told[1].contains("precision and scale are for a Decimal"),
        "{told:?}"
    );
    // What stands before a mistake in the syntax is told as well, and gives the file its name.
    let broken = entity("A", "A", "  feelds: []\n  fields: [\n");
    let missing = entity("T", "T", &spec.replace("entity: A", "entity: B"));
    let told = complaints(&[("a.yaml", &broken), ("t.yaml", &missing)]);
    assert!(
        told[0].starts_with("a.yaml:8:3: spec has no key \"feelds\", did you mean \"fields\"?"),
        "{told:?}"
    );
    assert!(told[1].starts_with("a.yaml:"), "{told:?}");
    let unknown = told.iter().filter(|told| told.contains("no entity \"B\""));
    assert_eq!(unknown.count(), 1, "{told:?}");
    // A file that is there, though wrong, is not said to be missing.
    let wrong = entity("A", "A", "  feelds: []\n");
    let told = complaints(&[("a.yaml", &wrong), ("t.yaml", &entity("T", "T", &spec))]);
    assert!(
        !told.iter().any(|told| told.contains("no entity")),
        "{told:?}"
    );
}

#[test]
fn every_problem_of_every_file_is_told_at_once() {
    let one = entity(
        "one",
        "O",
        "  fields:\n    - {name: A, type: Integer}\n  persistence: {table: t}\n",
    );
    let two = entity(
        "Two",
        "O",
        "  fields:\n    - {name: a, type: Integer}\n  persistence: {table: t}\n",
    );
    let told = complaints(&[("a.yaml", &one), ("b.yaml", &two)]);
    let expected = [
        "a.yaml:4:9: name \"one\" must be letters and digits, an upper-case letter first",
        "a.yaml:9:14: field \"A\" must be 1 to 63 lower-case letters, digits or '_', a letter first",
    ];
    for line in expected {
        assert!(
            told.iter().any(|told| told == line),
            "{line} is not in {told:#?}"
        );
    }
    for what in ["table \"t\" is in ", "prefix \"O\" is in "] {
        assert!(
            told.iter()
                .any(|told| told.starts_with("b.yaml:") && told.contains(what)),
            "{told:#?}"
        );
    }
}

#[test]
fn constraints_that_contradict_the_type_are_refused() {
    for (field, what) in [
        (
            "{name: a, type: Integer, constraints: {max_length: 3}}",
            "max_length is for a String",
        ),
        (
            "{name: a, type: String, constraints: {minimum: 3}}",
            "minimum and maximum are numbers",
        ),
        (
            "{name: a, type: Integer, constraints: {minimum: 3, maximum: 2}}",
            "maximum 2 is less than minimum 3",
        ),
        (
            "{name: a, type: String, constraints: {pattern: '('}}",
            "pattern is no regular expression",
        ),
        (
            "{name: a, type: Date, constraints: {enum: [x]}}",
            "enum is for a String",
        ),
        (
            "{name: a, type: Integer, constraints: {default: x}}",
            "default \"x\" is a text, not a whole number",
        ),
        (
            "{name: a, type: Integer, constraints: {default: 1, minimum: 3}}",
            "default 1 is less than 3",
        ),
        (
            "{name: a, type: Integer, scale: 3}",
            "precision and scale are for a Decimal",
        ),
        (
            "{name: a, type: Decimal, precision: 3, scale: 4}",
            "1 to 28 digits",
        ),
        (
            "{name: entity_type, type: Integer}",
            "is a member of every message",
        ),
        ("{name: id, type: Integer}", "name another id_column"),
        ("{name: xmin, type: Integer}", "every table has already"),
        (
            "{name: a, type: String, constraints: {max_length: 20000000}}",
            "max_length is for a String, and 1 to 10485760",
        ),
        (
            "{name: a, type: String, constraints: {max_length: 1, enum: [a, bc]}}",
            "enum: \"bc\" has 2 characters",
        ),
        (
            "{name: a, type: String, constraints: {pattern: 'a)|(b'}}",
            "pattern is no regular expression",
        ),
        (
            "{name: a, type: Json, constraints: {default: {b: \"\\0\"}}}",
            "default has a NUL character",
        ),
    ] {
        let told = of_field(field, "");
        assert!(
            told.iter().any(|told| told.contains(what)),
            "{field}: {told:?}"
        );
        assert!(told[0].starts_with("t.yaml:"), "{told:?}");
    }
    assert_eq!(of_field("{name: a, type: Integer}", ""), [] as [String; 0]);
}

#[test]
fn names_that_lead_nowhere_are_told() {
    for (more, what) in [
        ("    unique: [[b]]\n", "unique: there is no field \"b\""),
        (
            "    indexes: [[a], [b]]\n",
            "indexes: there is no field \"b\"",
        ),
        (
            "    foreign_keys: [{fields: [a], entity: X, references: [x]}]\n",
            "there is no entity \"X\"",
        ),
        (
            "    foreign_keys: [{fields: [a], entity: T, references: [a]}]\n",
            "a is not declared unique in \"T\"",
        ),
        ("    id_column: a\n", "id_column \"a\" is a field too"),
        ("    unique: [[a, a]]\n", "unique: \"a\" is there twice"),
        (
            "    indexes: [[a], [a]]\n",
            "would be called \"ts_a_idx\", like another one",
        ),
    ] {
        let told = of_field("{name: a, type: Integer}", more);
        assert!(
            told.iter().any(|told| told.contains(what)),
            "{more}: {told:?}"
        );
    }
}

#[test]
fn circles_and_orphans_are_told() {
    let derived = |name: &str, parent: &str| {
        entity(name, name, &format!("  fields:\n    - {{name: a, type: Integer}}\n  persistence: {{table: t{}}}\n  derivation: {{parent: {parent}}}\n", name.to_lowercase()))
            .replace("type: root", "type: derived")
    };
    let told = complaints(&[
        ("a.yaml", &derived("A", "B")),
        ("b.yaml", &derived("B", "A")),
    ]);
    assert!(
        told.iter().any(|told| told.contains("a circle")),
        "{told:?}"
    );
    let told = complaints(&[("a.yaml", &derived("A", "Z"))]);
    assert!(
        told.iter()
            .any(|told| told.contains("parent \"Z\" is no entity")),
        "{told:?}"
    );
}

#[test]
fn names_in_use_and_keys_of_two_types_are_told() {
    let spec = |table: &str, more: &str| {
        format!(
            "  fields:\n    - {{name: a, type: Integer}}\n    - {{name: b, type: String}}\n  persistence:\n    table: {table}\n{more}"
        )
    };
    let told = complaints(&[("a.yaml", &entity("A", "A", &spec("message_status", "")))]);
    assert!(
        told[0].ends_with("a name that is in use already"),
        "{told:?}"
    );
    let one = entity("A", "A", &spec("ones", "    unique: [[a]]\n"));
    let key = "    foreign_keys: [{fields: [b], entity: A, references: [a]}]\n";
    let two = entity("B", "B", &spec("twos", key));
    let told = complaints(&[("a.yaml", &one), ("b.yaml", &two)]);
    assert_eq!(
        told,
        ["b.yaml:13:30: foreign_keys: \"b\" is of another type than A's \"a\""]
    );
}

#[test]
fn a_derivation_says_where_each_field_comes_from() {
    let one = entity(
        "A",
        "A",
        "  fields:\n    - {name: a, type: Integer}\n  persistence: {table: ones}\n",
    );
    let two = |derivation: &str| {
        let spec = format!(
            "  fields:\n    - {{name: b, type: Integer}}\n  persistence: {{table: twos}}\n  derivation: {derivation}\n"
        );
        let two = entity("B", "B", &spec).replace("type: root", "type: derived");
        complaints(&[("a.yaml", &one), ("b.yaml", &two)])
    };
    for (derivation, what) in [
        ("{parent: A}", "without repeated_for there is none"),
        ("{parent: A, repeated_for: bs}", "A has no list \"bs\""),
        (
            "{parent: A, fields: {b: {parent: x}}}",
            "A has no field \"x\"",
        ),
        (
            "{parent: A, fields: {b: {parent: a, constant: 1}}}",
            "just one of parent, item, constant",
        ),
        (
            "{parent: A, fields: {b: {constant: x}}}",
            "is a text, not a whole number",
        ),
        (
            "{parent: A, fields: {b: {parent: a}}, when: [{field: b}]}",
            "needs one of in, not_in, present",
        ),
    ] {
        let told = two(derivation);
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
    assert_eq!(
        two("{parent: A, fields: {b: {parent: a}}}"),
        [] as [String; 0]
    );
}

#[test]
fn what_is_quoted_in_sql_stays_in_its_quotes() {
    let long = "a_name_of_sixty_and_three_bytes_which_is_as_long_as_they_can_be";
    let spec = format!(
        "  fields:\n    - {{name: {long}, type: Integer}}\n    - {{name: b, type: String, constraints: {{default: \"it's\"}}}}\n  persistence:\n    table: ones\n    indexes: [[{long}], [{long}, b]]\n"
    );
    let text =
        entity("A", "A", &spec).replace("name: A\n", "name: A\n  doc: \"one\\rtwo\\nthree\"\n");
    let catalog = Catalog::from_files([("a.yaml".into(), text)]).unwrap();
    let sql = ddl(&catalog);
    assert!(sql.starts_with("-- one two\n-- three\nCREATE"), "{sql}");
    assert!(sql.contains("\"b\" text NOT NULL DEFAULT 'it''s'"), "{sql}");
    let indexes = sql.split("CREATE INDEX IF NOT EXISTS \"").skip(1);
    let mut names: Vec<&str> = indexes.filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.iter().all(|name| name.len() == 63), "{names:?}");
    names.dedup();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// With `PONIX_WRITE_SCHEMA=1` the file is written instead.
#[test]
fn the_schema_for_editors_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("entity.schema.json");
    if std::env::var_os("PONIX_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, schema()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), schema());
}
