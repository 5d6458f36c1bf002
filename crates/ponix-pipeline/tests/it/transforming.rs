//! Programs change events, drop them, or make dead letters of them.

use ponix_pipeline::{Decode as _, Decoded, Message, Pipeline, Reason, RecordDecoder, from_files};
use serde_json::{Value as Json, json};
use uuid::Uuid;

const IDENTITY: Uuid = Uuid::from_u128(7);

fn load(transform: &str) -> Result<Pipeline, Vec<String>> {
    let text = format!(
        "apiVersion: ponix.dev/v1\nkind: Pipeline\nmetadata: {{name: a}}\nspec:\n  source: {{stream: A, subjects: [a.>]}}\n  decode: {{format: json}}\n  transform:\n{transform}\n  sink: {{clickhouse: {{table: t}}}}\n"
    );
    let pipelines = from_files([("a.yaml".into(), text)]);
    let told = |errors: ponix_pipeline::LoadErrors| {
        errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    Ok(pipelines.map_err(told)?.remove(0))
}

/// A document with this program as a block.
fn program(program: &str) -> Result<Pipeline, Vec<String>> {
    let lines: Vec<String> = program
        .lines()
        .map(|line| format!("      {line}"))
        .collect();
    load(&format!("    vrl: |\n{}", lines.join("\n")))
}

/// What a program makes of an event.
fn run(text: &str, event: &Json) -> Result<Option<Json>, String> {
    run_limited(
        &program(text).unwrap_or_else(|told| panic!("{told:#?}")),
        event,
    )
}

fn run_limited(pipeline: &Pipeline, event: &Json) -> Result<Option<Json>, String> {
    let decoder = RecordDecoder::new(pipeline).unwrap();
    let payload = event.to_string();
    let message = Message {
        payload: payload.as_bytes(),
        subject: "a.b",
        headers: &(),
        identity: IDENTITY,
        published_at_ns: 1_767_225_600_000_000_001,
        stream_sequence: 1,
        deliveries: 1,
    };
    let decoded = decoder.decode(&message);
    assert_eq!(
        decoded,
        decoder.decode(&message),
        "the same on every delivery"
    );
    match decoded {
        Ok(Decoded::Row { row, .. }) => Ok(Some(Json::Object(row.fields))),
        Ok(Decoded::Dropped) => Ok(None),
        Err(err) => {
            assert_eq!(err.reason, Reason::Transform, "{}", err.text);
            Err(err.text)
        }
    }
}

#[test]
fn fields_are_changed_by_what_is_known_of_the_message() {
    let text = ".value = to_float!(.value)\n.subject = %subject\n.id = %identity\n.at = %published_at\ndel(.x)\nlarge = .large\n.large = large";
    let event = json!({"value": "1.5", "x": 1, "n": {"a": [1, 2.5, null]}, "large": u64::MAX});
    let row = json!({
        "value": 1.5, "subject": "a.b", "id": IDENTITY.to_string(),
        "at": "2026-01-01T00:00:00.000000001Z", "n": {"a": [1, 2.5, null]},
        "large": u64::MAX.to_string(),
    });
    assert_eq!(run(text, &event), Ok(Some(row)));
}

#[test]
fn events_are_dropped_or_become_dead_letters() {
    let text = "if .a == 1 { abort \"a is one\" }\nif .a == 2 { abort }\nif .a == 3 { . = null }\nif .a == 4 { drop() }\nif .a == 5 { . = [1] }\nif .a == 6 { for_each([1]) -> |_i, _v| { drop() } }\nif .a == 7 { .b = to_int!(.b) }\nif .a == 8 { .b = decode_base64!(\"/w==\") }";
    let of = |a: i64| run(text, &json!({"a": a, "b": "x"}));
    assert_eq!(of(0), Ok(Some(json!({"a": 0, "b": "x"}))));
    assert_eq!(of(1), Err("a is one".into()));
    assert_eq!(of(2), Err("aborted".into()));
    assert_eq!(of(3), Ok(None));
    assert_eq!(of(4), Ok(None));
    assert!(
        of(5).unwrap_err().contains("leaves array as the event"),
        "{:?}",
        of(5)
    );
    assert_eq!(of(6), Ok(None), "also from within a closure");
    let text = of(7).unwrap_err();
    assert!(text.contains("\"to_int\" in line 7"), "{text}");
    assert_eq!(of(8), Err("b is not UTF-8".into()));
}

#[test]
fn mistakes_are_told_at_their_line_of_the_document() {
    for (text, told) in [
        (
            ".a = 1\n.b = to_float(.b)",
            "a.yaml:10:12: vrl: E103 unhandled fallible assignment",
        ),
        (
            ".a = 1\n\n  .b = nosuch(.b)",
            "a.yaml:11:14: vrl: E105 call to undefined function",
        ),
        (".a = (1", "a.yaml:9:"),
        (
            ".a = 1 +",
            "vrl: E204 syntax error, unexpected end of program",
        ),
        (
            ".a = b",
            "a.yaml:9:12: vrl: E701 call to undefined variable",
        ),
        (
            ".a = now()",
            "a.yaml:9:12: vrl: E610 now cannot be used in a pipeline, it reads the clock",
        ),
        (
            ".a = uuid_v4()",
            "uuid_v4 cannot be used in a pipeline, it gives another value each time",
        ),
        (".a = random_int(1, 2)", "random_int cannot be used"),
        (
            ".a = parse_syslog!(.a)",
            "parse_syslog cannot be used in a pipeline, it takes a missing year",
        ),
        ("log(\"x\")", "log cannot be used"),
        (
            ".a = get_env_var!(\"HOME\")",
            "E105 call to undefined function",
        ),
        (".a = dns_lookup!(\"a\")", "E105 call to undefined function"),
        (".a = get_hostname!()", "E105 call to undefined function"),
        ("%subject = \"x\"", "mutation of read-only value"),
        ("upcase(.a)", "E110 invalid argument type"),
        (
            ".a[1000000000] = 1",
            "a.yaml:9:9: an index may be 1000 at most",
        ),
        (
            ".b = .a[-99999999999999999999]",
            "an index may be 1000 at most",
        ),
    ] {
        let found = program(text).unwrap_err();
        assert!(found[0].contains(told), "{text}: {found:#?}");
        assert!(found.iter().all(|line| !line.contains('\n')), "{found:?}");
    }
    let two = program(".a = to_int(.a)\n.b = to_int(.b)").unwrap_err();
    assert_eq!(two.len(), 2, "all at once: {two:?}");
    let found = load("    vrl: .a = nosuch(1)").unwrap_err();
    assert!(found[0].starts_with("a.yaml:8:15: "), "{found:?}");
    let found = load("    vrl_file: missing.vrl").unwrap_err();
    assert!(
        found[0].starts_with("a.yaml:8:15: vrl_file \"missing.vrl\" cannot be read"),
        "{found:?}"
    );
    let found = load("    vrl: .a = 1\n    vrl_file: b.vrl").unwrap_err();
    assert!(
        found[0].contains("transform needs just one of vrl, vrl_file"),
        "{found:?}"
    );
    assert!(program(" ").unwrap_err()[0].contains("the program is empty"));
}

#[test]
fn a_program_in_a_file_is_told_by_its_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.vrl");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load(&format!("    vrl_file: {}", file.display()))
    };
    let found = load("\n.a = nosuch(1)").unwrap_err();
    assert!(found[0].contains("a.vrl:2:6: vrl: E105"), "{found:?}");
    let pipeline = load(".b = 1").unwrap();
    assert_eq!(
        run_limited(&pipeline, &json!({})),
        Ok(Some(json!({"b": 1})))
    );
}

#[test]
fn an_event_that_grows_without_bound_is_a_dead_letter() {
    let event = json!({"a": "0123456789", "items": vec![1; 200]});
    let doubled: String = vec![".a = string!(.a) + string!(.a)\n"; 60].concat();
    let doubled_variable = format!(
        "x = string!(.a)\n{}.a = x",
        vec!["x = x + x\n"; 60].concat()
    );
    for (text, told) in [
        (doubled.as_str(), "the event grows beyond 10"),
        (
            doubled_variable.as_str(),
            "a variable grows beyond 67108864 bytes",
        ),
        (
            "for_each(array!(.items)) -> |_i, _v| { .a = string!(.a) + string!(.a) }",
            "the event grows beyond",
        ),
        (
            "x = string!(.a)\nfor_each(array!(.items)) -> |_i, _v| { x = x + x }\n.b = length(x)",
            "a variable grows beyond",
        ),
        (
            "for_each(array!(.items)) -> |_i, _v| { .items = append(array!(.items), array!(.items)) }",
            "the event grows beyond",
        ),
        (
            "for_each(array!(.items)) -> |_i, _v| { for_each(array!(.items)) -> |_i, _v| { for_each(array!(.items)) -> |_i, _v| { .b = 1 } } }",
            "the program takes more than 1000000 steps",
        ),
    ] {
        let found = run(text, &event).unwrap_err();
        assert!(found.contains(told), "{text}: {found}");
    }
    let far = json!({"a": 2_000_000_000});
    let found = run(". = set!(., [\"list\", .a], 1)", &far).unwrap_err();
    assert!(
        found.contains("a list may have 100000 items at most"),
        "{found}"
    );
    let near = run(". = set!(., [\"b\", 1], 1)", &json!({})).unwrap();
    assert_eq!(near, Some(json!({"b": [null, 1]})));
    let deep = ".b = 1\n".to_owned() + &vec![".b = [.b]\n"; 40].concat();
    let found = run(&deep, &event).unwrap_err();
    assert!(
        found.contains("b is nested deeper than 32 levels"),
        "{found}"
    );
}

#[test]
fn the_limit_of_the_output_can_be_set() {
    let event = json!({"a": "x".repeat(1_000)});
    let pipeline = load("    vrl: .b = string!(.a)\n    max_output: 1500B").unwrap();
    let found = run_limited(&pipeline, &event).unwrap_err();
    assert_eq!(found, "the event grows beyond 1500 bytes");
    let pipeline = load("    vrl: .b = string!(.a)\n    max_output: 3kB").unwrap();
    assert!(run_limited(&pipeline, &event).is_ok());
    // What is overwritten again and again does not grow.
    let often = vec![".b = string!(.a)\n"; 100].concat();
    let pipeline = program(&often).unwrap();
    assert!(run_limited(&pipeline, &event).is_ok());
}
