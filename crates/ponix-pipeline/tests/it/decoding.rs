//! Messages become rows or errors, always the same.

use std::collections::BTreeMap;
use std::path::Path;

use ponix_pipeline::{
    Decode as _, Decoded, Message, Pipeline, Reason, RecordDecoder, TestInput, from_files,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

const IDENTITY: Uuid = Uuid::from_u128(7);
const PUBLISHED_AT_NS: i64 = 1_767_225_600_000_000_000;

/// A pipeline with this way to decode, whose files lie in a folder.
fn pipeline(dir: &Path, decode: &str) -> Result<Pipeline, Vec<String>> {
    let text = format!(
        "apiVersion: ponix.dev/v1\nkind: Pipeline\nmetadata: {{name: a}}\nspec:\n  source: {{stream: A, subjects: [a.>]}}\n  decode: {{{decode}}}\n  sink: {{clickhouse: {{table: t}}}}\n"
    );
    let pipelines = from_files([(dir.join("a.yaml"), text)]);
    let mut pipelines =
        pipelines.map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(pipelines.remove(0))
}

fn decoder(decode: &str) -> RecordDecoder {
    let pipeline = pipeline(Path::new(""), decode).unwrap();
    RecordDecoder::new(&pipeline).unwrap()
}

/// What a payload becomes: its fields, or the class and the text of the error.
fn read(decoder: &RecordDecoder, payload: &[u8]) -> Result<Json, (Reason, String)> {
    let headers = BTreeMap::new();
    let message = Message {
        payload,
        subject: "a.b",
        headers: &headers,
        identity: IDENTITY,
        published_at_ns: PUBLISHED_AT_NS,
        stream_sequence: 3,
        deliveries: 1,
    };
    let decoded = decoder.decode(&message);
    assert_eq!(
        decoded,
        decoder.decode(&message),
        "the same on every delivery"
    );
    match decoded {
        Ok(Decoded::Row { row, .. }) => {
            assert_eq!(
                (row.published_at_ns, row.stream_sequence),
                (PUBLISHED_AT_NS, 3)
            );
            Ok(Json::Object(row.fields))
        }
        Ok(Decoded::Dropped) => panic!("nothing drops it"),
        Err(err) => Err((err.reason, err.text)),
    }
}

/// That a payload is refused, and what is said.
fn refused(decoder: &RecordDecoder, payload: &[u8], reason: Reason, told: &str) {
    let (found, text) = read(decoder, payload).unwrap_err();
    assert_eq!(found, reason, "{text}");
    assert!(text.contains(told), "{text:?} does not say {told:?}");
}

#[test]
fn json_is_an_object_and_nothing_is_ambiguous_in_it() {
    let decoder = decoder("format: json");
    let event =
        br#" {"b": {"c": [1, -2.5, null, true]}, "a": 18446744073709551615, "nul": "\u0000"} "#;
    let fields = json!({"a": u64::MAX, "b": {"c": [1, -2.5, null, true]}, "nul": "\0"});
    assert_eq!(read(&decoder, event), Ok(fields));
    for (payload, told) in [
        ("", "EOF"),
        ("[1]", "invalid type: sequence, expected an object"),
        ("null", "invalid type: null, expected an object"),
        ("{\"a\":1", "EOF"),
        ("{\"a\":1} x", "trailing characters"),
        ("{\"a\":1,\"a\":2}", "a is there twice"),
        ("{\"a\":{\"b\":1,\"b\":1}}", "a.b is there twice"),
        ("{\"a\":NaN}", "expected"),
        ("{\"a\":1e999}", "number out of range"),
        ("{\"a\":123456789012345678901}", "send it as a text"),
        ("{\"a\":\"\u{1}\"}", "control character"),
    ] {
        refused(&decoder, payload.as_bytes(), Reason::Decode, told);
    }
    refused(
        &decoder,
        b"{\"a\":\"\xff\"}",
        Reason::Decode,
        "is not UTF-8 from byte 6 on",
    );
}

#[test]
fn large_events_are_taken_and_wide_or_deep_ones_are_not() {
    let decoder = decoder("format: json");
    let megabyte = json!({"text": "x".repeat(1 << 20)});
    assert_eq!(
        read(&decoder, megabyte.to_string().as_bytes()),
        Ok(megabyte)
    );
    let wide: serde_json::Map<String, Json> = (0..10_000)
        .map(|index| (format!("f{index}"), json!(index)))
        .collect();
    let wide = Json::Object(wide).to_string();
    refused(
        &decoder,
        wide.as_bytes(),
        Reason::Decode,
        "more than 1000 members",
    );
    let own = self::decoder("format: json, max_members: 10000");
    assert!(read(&own, wide.as_bytes()).is_ok());
    let deep = |levels: usize| {
        format!(
            "{{\"a\":{}{}}}",
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    assert!(read(&decoder, deep(32).as_bytes()).is_ok());
    refused(
        &decoder,
        deep(33).as_bytes(),
        Reason::Decode,
        "nested deeper than 32 levels",
    );
    refused(
        &decoder,
        deep(100_000).as_bytes(),
        Reason::Decode,
        "nested deeper than 32 levels",
    );
}

#[test]
fn csv_is_one_line_of_the_declared_columns() {
    let decoder = decoder(
        "format: csv, delimiter: ;, columns: {id: text, n: integer, x: number, ok: boolean, j: json}",
    );
    let fields = json!({"id": "a;b \"c\"\nd", "n": -3, "x": 2.5, "ok": true, "j": {"k": [1]}});
    let line = b"\"a;b \"\"c\"\"\nd\";-3; 2.5 ;true;\"{\"\"k\"\":[1]}\"\r\n";
    assert_eq!(read(&decoder, line), Ok(fields.clone()));
    let written = decoder.encode(&TestInput::Fields(fields.clone())).unwrap();
    assert_eq!(
        read(&decoder, &written),
        Ok(fields),
        "what is written is read"
    );
    let empty = json!({"id": "", "n": null, "x": null, "ok": null, "j": null});
    assert_eq!(
        read(&decoder, b"\"\";;;;"),
        Ok(empty),
        "a text in quotes is there"
    );
    for (payload, told) in [
        ("a;1;2;true", "4 values, expected 5"),
        ("a;1;2;true;1;", "6 values, expected 5"),
        ("\"a;1;2;true;1", "value 1 has no closing quote"),
        (
            "\"a\"b;1;2;true;1",
            "value 1 goes on behind its closing quote",
        ),
        ("a\"b;1;2;true;1", "value 1 has a quote inside"),
        ("a;1;2;true;1\nb;1;2;true;1", "more than one line"),
    ] {
        refused(&decoder, payload.as_bytes(), Reason::Decode, told);
    }
    for (payload, told) in [
        ("a;1.5;2;true;1", "n is not a whole number of 64 bits"),
        ("a;1;NaN;true;1", "x is not a finite number"),
        ("a;1;2;yes;1", "ok is not true or false"),
        ("a;1;2;true;{", "j is not JSON"),
    ] {
        refused(&decoder, payload.as_bytes(), Reason::Value, told);
    }
    refused(
        &decoder,
        b"\xff;1;2;true;1",
        Reason::Decode,
        "not UTF-8 from byte 0 on",
    );
}

const PROTO: &str = "syntax = \"proto3\";
package meters.v1;
import \"google/protobuf/timestamp.proto\";
message Reading {
  string meter_id = 1;
  google.protobuf.Timestamp read_at = 2;
  double value = 3;
  int64 counter = 4;
  bytes raw = 5;
  Kind kind = 6;
  repeated Reading parts = 7;
  map<string, int32> tags = 8;
  optional bool ok = 9;
}
enum Kind { UNKNOWN = 0; WATER = 1; }
";

#[test]
fn protobuf_is_read_by_its_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("meters.proto"), PROTO).unwrap();
    let compiled = protox::compile(["meters.proto"], [folder.path()]).unwrap();
    let bytes = prost_reflect::prost::Message::encode_to_vec(&compiled);
    std::fs::write(folder.path().join("meters.binpb"), bytes).unwrap();
    let of = |message: &str| {
        pipeline(
            folder.path(),
            &format!("format: protobuf, descriptor: meters.binpb, message: {message}"),
        )
    };
    let decoder = RecordDecoder::new(&of("meters.v1.Reading").unwrap()).unwrap();
    let fields = json!({
        "meter_id": "m1", "read_at": "2026-01-01T00:00:00Z", "value": 1.5, "counter": i64::MAX,
        "raw": "AP8=", "kind": "WATER", "parts": [], "tags": {"a": 1}, "ok": false,
    });
    let payload = decoder.encode(&TestInput::Fields(fields.clone())).unwrap();
    assert_eq!(read(&decoder, &payload), Ok(fields));
    let defaults = json!({"meter_id": "", "value": 0.0, "counter": 0, "raw": "", "kind": "UNKNOWN", "parts": [], "tags": {}});
    assert_eq!(read(&decoder, b""), Ok(defaults), "as proto3 says");
    refused(
        &decoder,
        b"\x0a\xff",
        Reason::Decode,
        "no meters.v1.Reading",
    );
    // Parts in parts: one level of fields, one of lists, and so on.
    let mut deep = Vec::new();
    for _ in 0..20 {
        let mut outer = vec![0x3a, deep.len() as u8];
        outer.append(&mut deep);
        deep = outer;
    }
    refused(
        &decoder,
        &deep,
        Reason::Value,
        "nested deeper than 32 levels",
    );
    let told = of("meters.v1.Readng").unwrap_err();
    assert!(
        told[0]
            .contains("has no message \"meters.v1.Readng\", did you mean \"meters.v1.Reading\"?"),
        "{told:?}"
    );
    assert!(told[0].contains("a.yaml:6:20: "), "{told:?}");
    std::fs::write(folder.path().join("meters.binpb"), "x").unwrap();
    assert!(of("meters.v1.Reading").unwrap_err()[0].contains("is no file of descriptors"));
    std::fs::remove_file(folder.path().join("meters.binpb")).unwrap();
    assert!(of("meters.v1.Reading").unwrap_err()[0].contains("meters.binpb: cannot be read"));
}

#[test]
fn envelopes_are_flat_and_bring_their_identity() {
    let decoder = decoder("format: envelope");
    let mut fields = json!({
        "organization_id": "o", "end_device_id": "d", "occurred_at": "2026-01-01T00:00:00.000000001Z",
        "processed_at": "2026-01-01T00:00:01Z", "data": {"t": 21.5},
    });
    let payload = decoder.encode(&TestInput::Fields(fields.clone())).unwrap();
    assert_eq!(read(&decoder, &payload), Ok(fields.clone()));
    let own = Uuid::from_u128(1);
    fields["event_id"] = json!(own.to_string());
    let payload = decoder.encode(&TestInput::Fields(fields.clone())).unwrap();
    let message = Message {
        payload: &payload,
        subject: "",
        headers: &(),
        identity: IDENTITY,
        published_at_ns: PUBLISHED_AT_NS,
        stream_sequence: 3,
        deliveries: 1,
    };
    let Ok(Decoded::Row { row, identity }) = decoder.decode(&message) else {
        panic!("an envelope")
    };
    assert_eq!((row.identity, identity), (own, own));
    fields["end_device_id"] = json!("");
    let payload = decoder.encode(&TestInput::Fields(fields.clone())).unwrap();
    refused(
        &decoder,
        &payload,
        Reason::MissingField,
        "end_device_id is missing",
    );
    fields["end_device_id"] = json!("d");
    fields["occurred_at"] = json!("2026-02-01T00:00:00Z");
    let payload = decoder.encode(&TestInput::Fields(fields)).unwrap();
    refused(
        &decoder,
        &payload,
        Reason::Value,
        "ahead of the publish time",
    );
    refused(&decoder, b"test message", Reason::Decode, "");
}

#[test]
fn lines_of_an_entity_are_its_own_row() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let decode = "format: entity, entities: ../../examples/tpch, entity: Product";
    let decoder = RecordDecoder::new(&pipeline(folder, decode).unwrap()).unwrap();
    refused(&decoder, b"O|1", Reason::Value, "of another entity");
    refused(
        &decoder,
        b"{\"entity_type\":\"Order\"}",
        Reason::Value,
        "entity_type",
    );
    let told = pipeline(folder, &decode.replace("Product", "Produkt")).unwrap_err();
    assert!(
        told[0].contains("there is no entity \"Produkt\", did you mean \"Product\"?"),
        "{told:?}"
    );
    let told = pipeline(folder, &decode.replace("tpch", "tpcz")).unwrap_err();
    assert!(told[0].contains("the folder cannot be read"), "{told:?}");
}

#[test]
fn bytes_are_taken_as_they_are() {
    assert_eq!(
        read(&decoder("format: bytes"), b"\x00\xff"),
        Ok(json!({"payload": "AP8=", "subject": "a.b"}))
    );
    let decoder = decoder("format: bytes, encoding: text");
    assert_eq!(
        read(&decoder, b"hi"),
        Ok(json!({"payload": "hi", "subject": "a.b"}))
    );
    refused(&decoder, b"\xff", Reason::Decode, "not UTF-8");
}
