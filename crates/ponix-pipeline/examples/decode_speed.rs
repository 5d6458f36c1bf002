//! What decoding and a program of ten lines cost on one thread:
//! `cargo run --release -p ponix-pipeline --features vrl --example decode_speed`.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::hint::black_box;
use std::time::Instant;

use ponix_pipeline::{Decode as _, Message, RecordDecoder, from_files};
use serde_json::json;
use uuid::Uuid;

const EVENTS: u32 = 200_000;

const PROGRAM: &str = "  transform:
    vrl: |
      if .test == true { drop() }
      .maker = split(%subject, \".\")[1]
      .meter_id = downcase(string!(.meter_id))
      .value = to_float!(.value)
      if .value < 0 { abort \"a meter does not run backwards\" }
      .unit = .unit || \"m3\"
      if .unit == \"l\" { .value = .value / 1000 }
      .read_at = .read_at || format_timestamp!(%published_at, \"%+\")
      .total = to_int!(.counter) + 1
      del(.signal)
";

fn main() {
    let plain = ns_per_event("");
    let transformed = ns_per_event(PROGRAM);
    println!("decode:            {plain:>6} ns an event");
    println!("decode, transform: {transformed:>6} ns an event");
    println!(
        "transform:         {:>6} ns an event",
        transformed.saturating_sub(plain)
    );
}

fn ns_per_event(transform: &str) -> u128 {
    let document = format!(
        "apiVersion: ponix.dev/v1\nkind: Pipeline\nmetadata: {{name: speed}}\nspec:\n  source: {{stream: S, subjects: [s.>]}}\n  decode: {{format: json}}\n{transform}  sink: {{clickhouse: {{table: t}}}}\n"
    );
    let pipelines = from_files([("speed.yaml".into(), document)]);
    let pipelines = pipelines.unwrap_or_else(|errors| panic!("{errors}"));
    let decoder = RecordDecoder::new(&pipelines[0]).expect("it was checked");
    let payload = json!({
        "meter_id": "WATER-17", "read_at": "2026-03-01T12:00:00Z", "value": "2500.5", "unit": "l",
        "signal": -80, "counter": 7, "status": "ok", "site": "north", "battery": 87.5,
    })
    .to_string();
    let message = Message {
        payload: payload.as_bytes(),
        subject: "s.acme.water",
        headers: &(),
        identity: Uuid::from_u128(7),
        published_at_ns: 1_767_225_600_000_000_000,
        stream_sequence: 1,
        deliveries: 1,
    };
    let mut best = u128::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..EVENTS {
            let decoded = decoder.decode(black_box(&message));
            drop(black_box(decoded.expect("it is a row")));
        }
        best = best.min(start.elapsed().as_nanos() / u128::from(EVENTS));
    }
    best
}
