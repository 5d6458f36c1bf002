use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::envelope::v1::{ProcessedEnvelope, ProcessedEnvelopes};
use crate::{DecodeErrorKind, decode_envelope};

const MESSAGE: Uuid = Uuid::from_u128(0x018f_4e5c_0000_7000_8000_0000_0000_0001);
const LIMITS: PackLimits = PackLimits {
    events_max: 100,
    bytes_max: 1 << 20,
};

fn unpacked<'a>(
    format: PackFormat,
    said: &str,
    payload: &'a [u8],
) -> Result<Vec<&'a [u8]>, PackError> {
    let events = unpack(format, Some(said), payload, MESSAGE, LIMITS.events_max)?;
    Ok(events.iter().map(|event| event.bytes).collect())
}

fn envelope(n: u64) -> ProcessedEnvelope {
    ProcessedEnvelope {
        organization_id: "o".to_owned(),
        end_device_id: format!("d{n}"),
        ..ProcessedEnvelope::default()
    }
}

#[test]
fn a_message_without_the_header_is_one_event_with_the_messages_identity() {
    let formats = [PackFormat::Envelopes, PackFormat::Lines, PackFormat::Single];
    for format in formats {
        let events = unpack(format, None, b"a\nb\n", MESSAGE, 1).expect("it is no pack");
        assert!(!events.is_packed());
        let events: Vec<_> = events.iter().collect();
        let whole = Event {
            index: None,
            identity: MESSAGE,
            bytes: b"a\nb\n",
        };
        assert_eq!(events, [whole]);
    }
}

#[test]
fn identities_by_place_differ_and_are_never_the_messages() {
    let events = unpack(PackFormat::Lines, Some("2"), b"a\na", MESSAGE, 9).expect("a pack");
    let ids: Vec<String> = events.iter().map(|it| it.identity.to_string()).collect();
    // The values are a contract: rows written by one version must meet those of the next.
    assert_eq!(
        ids,
        [
            "7d841227-62e1-8075-bba6-0df7d11f211d",
            "d87e20f4-dfed-8a4f-a395-af3182d8cfee"
        ]
    );
    let alone = unpack(PackFormat::Lines, Some("1"), b"a", MESSAGE, 9).expect("a pack");
    let alone = alone.iter().next().expect("of one");
    assert_eq!(alone.index, Some(0));
    assert_ne!(alone.identity, MESSAGE);
}

#[test]
fn what_makes_a_pack_unreadable() {
    let two = ProcessedEnvelopes {
        envelopes: vec![envelope(1), envelope(2)],
    };
    let two = two.encode_to_vec();
    let one = envelope(1).encode_to_vec();
    use PackFormat::{Envelopes, Lines, Single};
    let count = |said, found| PackError::Count { said, found };
    let too_many = |events| PackError::TooMany {
        events,
        events_max: 100,
    };
    for (format, said, payload, expected) in [
        (Envelopes, "", &two[..], PackError::Header),
        (Envelopes, "+2", &two, PackError::Header),
        (Envelopes, "two", &two, PackError::Header),
        (Envelopes, "3", &two, count(3, 2)),
        (Envelopes, "1", &two, count(1, 2)),
        (Envelopes, "0", &[], PackError::Empty),
        (Envelopes, "1", &[], PackError::Empty),
        // A single envelope that somebody put the header on.
        (Envelopes, "1", &one, PackError::Empty),
        (Envelopes, "101", &two, too_many(101)),
        (Envelopes, "18446744073709551615", &two, too_many(u64::MAX)),
        (
            Envelopes,
            "2",
            &two[..two.len() - 1],
            WireError::Truncated.into(),
        ),
        (Single, "2", b"a\nb", PackError::Single),
        (Lines, "2", b"a", count(2, 1)),
        (Lines, "1", b"a\n\n", count(1, 2)),
        (Lines, "1", b"", PackError::Empty),
    ] {
        assert_eq!(unpacked(format, said, payload), Err(expected), "{said}");
    }
    let lines = [b'\n'; 200];
    assert_eq!(unpacked(Lines, "2", &lines), Err(too_many(101)));
}

#[test]
fn lines_are_events_with_or_without_a_break_behind_the_last() {
    for payload in ["a\r\nb", "a\r\nb\n"] {
        let lines = unpacked(PackFormat::Lines, "2", payload.as_bytes());
        assert_eq!(lines, Ok(vec![&b"a\r"[..], b"b"]));
    }
    // An empty line is an event, if a wrong one: nothing is left out.
    let empty = unpacked(PackFormat::Lines, "3", b"a\n\nb\n");
    assert_eq!(empty, Ok(vec![&b"a"[..], b"", b"b"]));
}

#[test]
fn a_program_that_knows_no_packs_refuses_one() {
    let packed = ProcessedEnvelopes {
        envelopes: vec![envelope(1), envelope(2)],
    };
    let err = decode_envelope(&packed.encode_to_vec(), 0).expect_err("it has no field");
    assert_eq!(err.kind(), DecodeErrorKind::MissingField);
}

#[test]
fn a_packer_cuts_at_events_and_bytes_and_refuses_what_fits_nowhere() {
    let limits = PackLimits {
        events_max: 2,
        bytes_max: 10,
    };
    let mut packer = Packer::new(PackFormat::Lines, limits);
    assert_eq!(packer.push(b"abc"), Ok(true));
    assert_eq!(packer.push(b"abcdef"), Ok(false), "too many bytes");
    assert_eq!(packer.push(b"abcde"), Ok(true));
    assert_eq!(packer.push(b""), Ok(false), "too many events");
    assert_eq!(packer.take(), (b"abc\nabcde\n".to_vec(), 2));
    let (bytes, bytes_max) = (11, 10);
    assert_eq!(
        packer.push(b"abcdefghij"),
        Err(TooLarge { bytes, bytes_max })
    );
    assert_eq!(packer.take(), (Vec::new(), 0));
}

#[test]
fn the_id_of_a_pack_goes_by_its_events_in_order() {
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(pack_id([&one, &two]), pack_id([&one, &two]));
    assert_ne!(pack_id([&one, &two]), pack_id([&two, &one]));
    assert_ne!(pack_id([&one]), one);
}

proptest! {
    #[test]
    fn what_is_packed_is_what_prost_packs_and_comes_out_again(
        names in vec(".{0,200}", 1..60)
    ) {
        let envelopes: Vec<_> = names
            .into_iter()
            .map(|end_device_id| ProcessedEnvelope { end_device_id, ..envelope(0) })
            .collect();
        let mut packer = Packer::new(PackFormat::Envelopes, LIMITS);
        for envelope in &envelopes {
            prop_assert_eq!(packer.push(&envelope.encode_to_vec()), Ok(true));
        }
        let (body, events) = packer.take();
        prop_assert_eq!(&body, &ProcessedEnvelopes { envelopes: envelopes.clone() }.encode_to_vec());
        let parts = unpacked(PackFormat::Envelopes, &events.to_string(), &body).expect("a pack");
        let read: Vec<_> = parts
            .into_iter()
            .map(|bytes| ProcessedEnvelope::decode(bytes).expect("an envelope"))
            .collect();
        prop_assert_eq!(read, envelopes);
    }

    #[test]
    fn lines_come_out_as_they_went_in(lines in vec("[^\n]{0,40}", 1..60)) {
        let mut packer = Packer::new(PackFormat::Lines, LIMITS);
        for line in &lines {
            prop_assert_eq!(packer.push(line.as_bytes()), Ok(true));
        }
        let (body, events) = packer.take();
        let parts = unpacked(PackFormat::Lines, &events.to_string(), &body).expect("a pack");
        let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
        prop_assert_eq!(parts, lines);
    }

    #[test]
    fn any_bytes_are_read_as_prost_reads_them_or_refused(
        bytes in vec(any::<u8>(), 0..200), said in 0..20_u64
    ) {
        let found = unpacked(PackFormat::Envelopes, &said.to_string(), &bytes);
        if let Ok(parts) = found {
            prop_assert_eq!(parts.len() as u64, said);
        }
        if let Ok(read) = ProcessedEnvelopes::decode(&bytes[..]) {
            let count = read.envelopes.len();
            let found = unpacked(PackFormat::Envelopes, &count.to_string(), &bytes);
            prop_assert_eq!(found.map_or(0, |parts| parts.len()), count);
        }
    }
}
