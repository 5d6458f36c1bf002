//! Events to publish.

use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{EnvelopeBuilder, json_to_struct, timestamp_from_ns};
use serde_json::{Value, json};

/// 2025-01-01T00:00:00Z
pub(crate) const START_NS: i64 = 1_735_689_600 * 1_000_000_000;

/// An event of a device; it is processed a microsecond after it occurred.
pub(crate) fn envelope(
    organization: &str,
    device: &str,
    occurred_at_ns: i64,
    data: &Value,
) -> ProcessedEnvelope {
    let data = json_to_struct(data.as_object().unwrap()).unwrap();
    EnvelopeBuilder::new(
        organization,
        device,
        timestamp_from_ns(occurred_at_ns),
        data,
    )
    .build(timestamp_from_ns(occurred_at_ns + 1_000))
    .unwrap()
}

/// Events that differ in everything, so many of them.
pub(crate) fn numbered(count: u32) -> impl Iterator<Item = ProcessedEnvelope> {
    (0..count).map(|n| {
        envelope(
            &format!("org-{}", n % 10),
            &format!("device-{}", n % 100),
            START_NS + i64::from(n) * 1_000_000,
            &json!({ "n": n, "temperature": f64::from(n) / 8.0 }),
        )
    })
}
