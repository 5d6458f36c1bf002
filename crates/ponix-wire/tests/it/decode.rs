use ponix_wire::{Message, decode_envelope};
use proptest::prelude::{any, prop_assert, proptest};

use crate::reference::assert_agrees_with_prost;
use crate::wire_bytes::{
    PUBLISHED_AT_NS, complete_envelope, delimited, envelope, groups, mutated_payload,
    nested_envelope, odd_payload,
};

proptest! {
    #[test]
    fn what_producers_send_is_accepted_and_means_the_same(envelope in envelope()) {
        let payload = envelope.encode_to_vec();
        prop_assert!(decode_envelope(&payload, PUBLISHED_AT_NS).is_ok());
        assert_agrees_with_prost(&payload, PUBLISHED_AT_NS);
    }

    #[test]
    fn nesting_stops_at_the_same_level(envelope in nested_envelope()) {
        assert_agrees_with_prost(&envelope.encode_to_vec(), PUBLISHED_AT_NS);
    }

    #[test]
    fn odd_encodings_mean_the_same(payload in odd_payload()) {
        assert_agrees_with_prost(&payload, PUBLISHED_AT_NS);
    }

    #[test]
    fn damaged_bytes_get_the_same_verdict(payload in mutated_payload()) {
        assert_agrees_with_prost(&payload, PUBLISHED_AT_NS);
    }

    #[test]
    fn any_bytes_get_the_same_verdict(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        published_at_ns in any::<i64>(),
    ) {
        assert_agrees_with_prost(&payload, published_at_ns);
    }
}

/// Groups at every place of an envelope, from which prost still accepts fewer the deeper it lies.
#[test]
fn unknown_groups_are_refused_from_the_same_depth() {
    let (object, member, value, list) = (4, 1, 2, 6);
    let places: [&[u64]; 7] = [
        &[],
        &[3],
        &[object],
        &[object, member],
        &[object, member, value],
        &[object, member, value, list],
        &[object, member, value, list, 1, 5, member, value],
    ];
    for place in places {
        for levels in 85..=101 {
            let unknown = place
                .iter()
                .rev()
                .fold(groups(levels), |inside, &number| delimited(number, &inside));
            assert_agrees_with_prost(&[complete_envelope(), unknown].concat(), PUBLISHED_AT_NS);
        }
    }
}
