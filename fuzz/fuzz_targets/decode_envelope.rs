//! Any bytes as payload: the decoder gives the verdict and the meaning prost does.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/ponix-wire/tests/it/reference.rs"]
mod reference;

/// 2026-03-01T12:00:00Z.
const PUBLISHED_AT_NS: i64 = 1_772_366_400_000_000_000;

fuzz_target!(|payload: &[u8]| reference::assert_agrees_with_prost(payload, PUBLISHED_AT_NS));
