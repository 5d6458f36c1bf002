//! Any bytes as a packed message: refused, or as many events as the header says, each of which packs again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ponix_wire::envelope::v1::ProcessedEnvelopes;
use ponix_wire::{Message as _, PackFormat, PackLimits, Packer, unpack};
use uuid::Uuid;

const EVENTS_MAX: usize = 200;

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (said, lines, payload) = input;
    let format = if lines { PackFormat::Lines } else { PackFormat::Envelopes };
    let header = said.to_string();
    let Ok(events) = unpack(format, Some(&header), payload, Uuid::nil(), EVENTS_MAX) else {
        return;
    };
    assert_eq!(events.len(), usize::from(said));
    let limits = PackLimits { events_max: EVENTS_MAX, bytes_max: usize::MAX };
    let mut packer = Packer::new(format, limits);
    for event in events.iter() {
        assert_eq!(packer.push(event.bytes), Ok(true));
    }
    let (body, count) = packer.take();
    let again = unpack(format, Some(&count.to_string()), &body, Uuid::nil(), EVENTS_MAX);
    let again = again.expect("it was packed here");
    assert!(events.iter().eq(again.iter()));
    if !lines && let Ok(read) = ProcessedEnvelopes::decode(payload) {
        assert_eq!(read.envelopes.len(), count);
    }
});
