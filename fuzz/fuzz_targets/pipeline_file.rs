//! Any text as a pipeline's document: the loader never panics, and what it takes has a decoder that
//! reads its own sample or says why not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ponix_pipeline::{Message, Outcome, RecordDecoder, from_files, outcome, run_tests, sample};
use uuid::Uuid;

fuzz_target!(|text: &str| {
    // What the document names is not looked for on this machine.
    if text.contains("entit") || text.contains("descriptor") || text.contains("vrl") {
        return;
    }
    let pipelines = match from_files([("fuzz.yaml".into(), text.to_owned())]) {
        Ok(pipelines) => pipelines,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            return drop(errors.to_string());
        }
    };
    for pipeline in &pipelines {
        let decoder = RecordDecoder::new(pipeline).expect("it was checked");
        assert_eq!(run_tests(pipeline, &decoder, &|record| Ok(record.fields.clone())).len(), pipeline.tests.len());
        let Ok(payload) = decoder.encode(&sample(pipeline)) else {
            continue;
        };
        let message = Message {
            payload: &payload,
            subject: "a",
            headers: &(),
            identity: Uuid::nil(),
            published_at_ns: 0,
            stream_sequence: 1,
            deliveries: 1,
        };
        if let Outcome::DeadLetter(err) = outcome(&decoder, &message, &|record| Ok(record.fields.clone())) {
            assert!(!err.text.is_empty());
        }
    }
});
