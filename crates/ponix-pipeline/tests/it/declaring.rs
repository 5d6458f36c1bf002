//! What may be declared, and what is told about what may not.

use std::path::Path;
use std::time::Duration;

use ponix_pipeline::{
    ClickhouseSink, DecodeFormat, Expect, Limits, Pipeline, Schema, Sink, TestInput, UnknownFields,
    from_files, schema,
};
use serde_json::json;

/// A document with everything, to be spoilt in one place.
const METERS: &str = "\
apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: meter-readings, doc: Readings.}
spec:
  source: {stream: METERS, subjects: [meters.>], consumer: ponix-meters}
  http: {path: /v1/meter-readings}
  decode: {format: json}
  sink:
    clickhouse:
      table: meter_readings
      columns: {meter_id: String, read_at: \"DateTime64(3, 'UTC')\", value: Float64, note: Nullable(String)}
      identity: [meter_id, read_at]
      unknown_fields: reject
      schema: create
  limits: {batch_messages: 5000, batch_bytes: 2MiB, linger: 500ms, in_flight: 2}
  dead_letters: {stream: METERS_DLQ}
  tests:
    - name: a reading
      input: {meter_id: m1, value: 1.5}
      expect: {row: {meter_id: m1, value: 1.5}}
    - {name: no JSON, input: '{', expect: {dead_letter: decode}}
";

fn pipeline(text: &str) -> Pipeline {
    let pipelines = from_files([("m.yaml".into(), text.to_owned())]);
    let mut pipelines = pipelines.unwrap_or_else(|errors| panic!("{errors}"));
    pipelines.remove(0)
}

/// What is wrong with these documents, a line each.
fn complaints(files: &[(&str, &str)]) -> Vec<String> {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).into(), (*text).to_owned()));
    match from_files(files) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// What is wrong with the document when `old` is replaced.
fn spoilt(old: &str, new: &str) -> Vec<String> {
    assert!(METERS.contains(old), "{old}");
    complaints(&[("m.yaml", &METERS.replacen(old, new, 1))])
}

#[test]
fn a_document_is_data() {
    let pipeline = pipeline(METERS);
    assert_eq!(pipeline.name, "meter-readings");
    assert_eq!(pipeline.source.filter.as_deref(), Some("meters.>"));
    assert_eq!(pipeline.source.consumer, "ponix-meters");
    assert_eq!(pipeline.http.unwrap().subject_prefix, "meters.http");
    assert_eq!(pipeline.decode, DecodeFormat::Json { members_max: 1_000 });
    let Sink::Clickhouse(ClickhouseSink {
        columns,
        identity,
        unknown_fields,
        schema,
        ..
    }) = pipeline.sink
    else {
        panic!("the sink is ClickHouse")
    };
    let columns = columns.unwrap();
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["meter_id", "read_at", "value", "note"],
        "in the order of the file"
    );
    assert_eq!(columns[1].1, "DateTime64(3, 'UTC')");
    assert_eq!(identity, ["meter_id", "read_at"]);
    assert_eq!(
        (unknown_fields, schema),
        (UnknownFields::Reject, Schema::Create)
    );
    let limits = Limits {
        batch_messages: 5_000,
        batch_bytes: 2 << 20,
        linger: Duration::from_millis(500),
        in_flight: 2,
        ..Limits::default()
    };
    assert_eq!(pipeline.limits, limits);
    assert_eq!(pipeline.dead_letters.stream, "METERS_DLQ");
    assert_eq!(pipeline.dead_letters.subject_prefix, "meters_dlq");
    assert_eq!(
        pipeline.tests[0].input,
        TestInput::Fields(json!({"meter_id": "m1", "value": 1.5}))
    );
    assert_eq!(pipeline.tests[0].subject, "meters.test");
    assert_eq!(pipeline.tests[1].input, TestInput::Payload(b"{".to_vec()));
    assert_eq!(
        pipeline.tests[1].expect,
        Expect::DeadLetter("decode".into())
    );
}

#[test]
fn what_is_not_said_has_defaults() {
    let text = "apiVersion: ponix.dev/v1\nkind: Pipeline\nmetadata: {name: a}\nspec:\n  source: {stream: A, subjects: [a.*, b.>]}\n  decode: {format: bytes}\n  sink: {clickhouse: {table: t}}\n";
    let pipeline = pipeline(text);
    assert_eq!(pipeline.source.consumer, "ponix-a");
    assert_eq!(pipeline.source.filter, None, "all of several subjects");
    assert_eq!(pipeline.dead_letters.stream, "A_dlq");
    assert_eq!(pipeline.limits, Limits::default());
}

#[test]
fn each_mistake_is_told_with_its_place() {
    for (old, new, told) in [
        (
            "decode: {format",
            "decode: {fromat",
            "m.yaml:7:12: decode has no key \"fromat\", did you mean \"format\"?",
        ),
        (
            "format: json",
            "format: jsn",
            "m.yaml:7:20: format is \"jsn\", did you mean \"json\"?",
        ),
        (
            "kind: Pipeline",
            "kind: Pipline",
            "m.yaml:2:7: kind is \"Pipline\", expected Pipeline",
        ),
        (
            "ponix.dev/v1",
            "ponix.dev/v2",
            "m.yaml:1:13: apiVersion is \"ponix.dev/v2\", expected ponix.dev/v1",
        ),
        (
            "name: meter-readings",
            "name: Meters",
            "name \"Meters\" must be 1 to 63 lower-case letters",
        ),
        (
            "stream: METERS,",
            "stream: a.b,",
            "m.yaml:5:20: stream \"a.b\" must not be empty or have white space",
        ),
        (
            "[meters.>]",
            "[meters.>, x.>.y]",
            "m.yaml:5:49: subject \"x.>.y\" must have '*' as a token of its own",
        ),
        ("[meters.>]", "[]", "m.yaml:5:38: subjects are missing"),
        (
            "consumer: ponix-meters",
            "filter: meter.a",
            "m.yaml:5:58: filter \"meter.a\" is outside the stream's subjects, meters.>",
        ),
        (
            "stream: METERS_DLQ",
            "stream: METERS",
            "dead letters need a stream of their own",
        ),
        (
            "{stream: METERS_DLQ}",
            "{subject_prefix: meters.dlq}",
            "m.yaml:16:34: dead letters on meters.dlq.> would come back into the source",
        ),
        (
            "/v1/meter-readings",
            "/v1/envelopes",
            "m.yaml:6:16: path /v1/envelopes is that of the envelopes",
        ),
        (
            "/v1/meter-readings",
            "/ingest/meters",
            "m.yaml:6:16: path \"/ingest/meters\" must be /v1/",
        ),
        ("/v1/meter-readings", "/health", "must be /v1/"),
        (
            "/v1/meter-readings",
            "/v1//id",
            "path \"/v1//id\" must be /v1/ and then lower-case letters",
        ),
        (
            "readings}",
            "readings, subject_prefix: other.x}",
            "m.yaml:6:52: subject_prefix \"other.x\" is outside what the pipeline reads",
        ),
        (
            "readings}",
            "readings, subject_prefix: meters.*}",
            "must have no wildcards",
        ),
        ("[meters.>]", "[meters.a]", "http needs subject_prefix"),
        ("format: json", "format: envelope", "http takes JSON"),
        (
            "identity: [meter_id, read_at]",
            "identity: [meter_id, read_a]",
            "m.yaml:12:28: identity: \"read_a\" is no column, did you mean \"read_at\"?",
        ),
        (
            "identity: [meter_id, read_at]",
            "identity: [meter_id, note]",
            "identity: \"note\" is Nullable(String): NULL is no identity",
        ),
        (
            "identity: [meter_id, read_at]",
            "identity: [meter_id, meter_id]",
            "\"meter_id\" is there twice",
        ),
        (
            "value: Float64",
            "value: ''",
            "column \"value\" has no type",
        ),
        ("value: Float64", "data: String", ""),
        (
            "unknown_fields: reject",
            "unknown_fields: rejekt",
            "m.yaml:13:23: unknown_fields is \"rejekt\", did you mean \"reject\"?",
        ),
        (
            "    clickhouse:",
            "    clickhose:",
            "sink has no key \"clickhose\", did you mean \"clickhouse\"?",
        ),
        (
            "batch_bytes: 2MiB",
            "batch_bytes: 2 megs",
            "m.yaml:15:47: batch_bytes is \"2 megs\", expected bytes such as 6MiB",
        ),
        (
            "linger: 500ms",
            "linger: 1",
            "linger is \"1\", expected a time such as 500ms",
        ),
        (
            "in_flight: 2",
            "in_flight: 0",
            "in_flight is 0, expected 1 to 64",
        ),
        (
            "batch_messages: 5000",
            "batch_messages: 90000",
            "max_ack_pending is 200000, expected at least 360000",
        ),
        (
            "linger: 500ms",
            "linger: 6s, ack_wait: 10s",
            "linger is 6s, expected at most half of ack_wait, which is 10s",
        ),
        (
            "batch_messages: 5000",
            "batch_messages: lots",
            "batch_messages is a text, expected a whole number",
        ),
        ("name: a reading", "name: ' '", "a test needs a name"),
        (
            "name: no JSON",
            "name: a reading",
            "test \"a reading\" is there twice",
        ),
        (
            "row: {meter_id: m1,",
            "row: {meter: m1,",
            "test \"a reading\" expects \"meter\", which is no column",
        ),
        (
            "{dead_letter: decode}",
            "{dead_leter: decode}",
            "m.yaml:21:44: expect has no key \"dead_leter\", did you mean \"dead_letter\"?",
        ),
        (
            "{dead_letter: decode}",
            "{dead_letter: ''}",
            "dead_letter needs a reason",
        ),
        (
            "{dead_letter: decode}",
            "droped",
            "expect is \"droped\", did you mean \"dropped\"?",
        ),
        ("format: json", "format: csv", "csv needs columns"),
        (
            "format: json",
            "format: json, delimiter: ;",
            "delimiter is for format csv",
        ),
        (
            "format: json",
            "format: csv, columns: {a: text}, delimiter: ab",
            "delimiter \"ab\" must be one character",
        ),
        (
            "format: json",
            "format: csv, columns: {a: txt}",
            "a is \"txt\", did you mean \"text\"?",
        ),
        (
            "format: json",
            "format: protobuf, message: a.B",
            "protobuf needs descriptor",
        ),
        ("format: json", "format: entity", "entity needs entities"),
        (
            "format: json",
            "format: json, max_members: 0",
            "max_members is 0, expected 1 to 100000",
        ),
    ] {
        let mut found = spoilt(old, new);
        if old == "format: json" && !new.contains("envelope") {
            found.retain(|found| !found.contains("http takes JSON"));
        }
        if told.is_empty() {
            let other = found
                .iter()
                .filter(|found| !found.contains("which is no column"));
            assert_eq!(other.count(), 0, "{new}: {found:?}");
            continue;
        }
        assert_eq!(found.len(), 1, "{new}: {found:#?}");
        assert!(found[0].contains(told), "{new}: {found:#?}");
    }
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    let one = METERS
        .replace("format: json", "format: jsn")
        .replace("linger", "lingr");
    let two = METERS
        .replace("linger: 500ms", "linger: soon")
        .replace("/v1/meter-readings", "/v1/envelopes");
    let told = complaints(&[("a.yaml", &one), ("b.yaml", "kind: ["), ("c.yaml", &two)]);
    assert_eq!(told.len(), 5, "{told:#?}");
    for (told, expected) in told.iter().zip([
        "a.yaml:7:",
        "a.yaml:15:",
        "b.yaml",
        "c.yaml:6:",
        "c.yaml:15:",
    ]) {
        assert!(told.starts_with(expected), "{told}, expected {expected}");
    }
}

#[test]
fn what_is_for_one_pipeline_is_not_for_two() {
    let other = METERS.replace("[meters.>]", "[meters.*]");
    let told = complaints(&[("a.yaml", METERS), ("b.yaml", &other)]);
    for expected in [
        "b.yaml:3:18: name meter-readings is that of pipeline \"meter-readings\" in a.yaml too",
        "b.yaml:5:60: consumer ponix-meters of stream METERS is that of",
        "b.yaml:5:20: stream METERS has other subjects in",
        "b.yaml:6:16: path /v1/meter-readings is that of",
        "b.yaml:16:26: dead-letter stream METERS_DLQ is that of",
    ] {
        assert!(
            told.iter().any(|told| told.starts_with(expected)),
            "{expected}: {told:#?}"
        );
    }
    assert_eq!(told.len(), 5, "{told:#?}");
    let other = METERS
        .replace("name: meter-readings", "name: other")
        .replace("METERS", "OTHERS")
        .replace("[meters.>]", "[meters.a.>]")
        .replace("/v1/meter", "/v1/other");
    let told = complaints(&[("a.yaml", METERS), ("b.yaml", &other)]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains(
            "subject meters.a.> of stream OTHERS overlaps with meters.> of stream METERS"
        ),
        "{told:?}"
    );
}

#[test]
fn two_pipelines_may_read_one_stream() {
    let other = METERS
        .replace("name: meter-readings", "name: other")
        .replace("consumer: ponix-meters", "consumer: others")
        .replace("METERS_DLQ", "OTHERS_DLQ")
        .replace("/v1/meter", "/v1/other");
    let told = complaints(&[("a.yaml", METERS), ("b.yaml", &other)]);
    assert_eq!(told, [] as [String; 0]);
}

#[test]
fn a_document_with_one_odd_character_is_taken_or_told_never_a_panic() {
    let (mut taken, mut told) = (0, 0);
    for (at, _) in METERS.char_indices().step_by(3) {
        for odd in [
            "", "{", "[", "'", "\"", ":", "&a ", "*a", "<<", "0", "-", "\n", "\t", "\0", "|", "é",
        ] {
            let text = format!("{}{odd}{}", &METERS[..at], &METERS[at + 1..]);
            match from_files([("m.yaml".into(), text)]) {
                Ok(_) => taken += 1,
                Err(errors) => {
                    assert!(!errors.0.is_empty());
                    told += 1;
                }
            }
        }
    }
    assert!(taken > 100 && told > 1_000, "{taken} taken, {told} told");
}

/// With `PONIX_WRITE_SCHEMA=1` the file is written instead.
#[test]
fn the_schema_for_editors_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.schema.json");
    if std::env::var_os("PONIX_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, schema()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), schema());
}
