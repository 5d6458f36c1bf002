//! Any bytes as a JSON event: the decoder never panics, and what it takes is what serde_json reads,
//! without a number that was rounded.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ponix_pipeline::{Message, Outcome, RecordDecoder, from_files, outcome};
use uuid::Uuid;

const DOCUMENT: &str = "apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: fuzz}
spec:
  source: {stream: F, subjects: [f.>]}
  decode: {format: json}
  sink: {clickhouse: {table: t}}
";

static DECODER: LazyLock<RecordDecoder> = LazyLock::new(|| {
    let pipelines = from_files([("fuzz.yaml".into(), DOCUMENT.to_owned())]);
    RecordDecoder::new(&pipelines.expect("the document is right")[0]).expect("as is its decoder")
});

fuzz_target!(|payload: &[u8]| {
    let message = Message {
        payload,
        subject: "f.a",
        headers: &(),
        identity: Uuid::nil(),
        published_at_ns: 0,
        stream_sequence: 1,
        deliveries: 1,
    };
    match outcome(&DECODER, &message, &|record| Ok(record.fields.clone())) {
        Outcome::Row(fields) => {
            let read: serde_json::Value = serde_json::from_slice(payload).expect("it is JSON");
            assert_eq!(serde_json::Value::Object(fields), read);
        }
        Outcome::DeadLetter(err) => assert!(!err.text.is_empty()),
        Outcome::Dropped => panic!("nothing drops it"),
    }
});
