use proptest::prelude::*;

use super::*;

const MONTH_NS: i64 = 31 * 86_400 * 1_000_000_000;
const NO_LIMITS: BatchLimits = BatchLimits {
    rows_max: usize::MAX,
    bytes_max: usize::MAX,
    months_max: 50,
};

fn row(n: u64, occurred_at_ns: i64, data_json: &str) -> EnvelopeRow {
    EnvelopeRow {
        envelope: DecodedEnvelope {
            organization_id: "org".into(),
            end_device_id: format!("device-{n}"),
            occurred_at_ns,
            processed_at_ns: occurred_at_ns + 1,
            data_json: data_json.into(),
            event_id: None,
        },
        event_id: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        published_at_ns: 3,
        stream_sequence: n,
    }
}

fn indexes(batches: &[EncodedBatch]) -> Vec<Vec<usize>> {
    batches
        .iter()
        .map(|batch| batch.indexes().to_vec())
        .collect()
}

#[test]
fn a_row_is_encoded_byte_for_byte() {
    let mut row = row(258, 1, &"x".repeat(200));
    row.envelope.end_device_id = "d".into();
    let batches = encode(&[row], NO_LIMITS);
    let mut expected = b"\x03org\x01d".to_vec();
    expected.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0xc8, 0x01]);
    expected.extend_from_slice("x".repeat(200).as_bytes());
    expected.extend_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1, 16, 15, 14, 13, 12, 11, 10, 9]);
    expected.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].bytes(), expected);
}

#[test]
fn no_rows_make_no_batch() {
    assert!(encode(&[], NO_LIMITS).is_empty());
}

#[test]
fn a_batch_ends_at_the_most_rows() {
    let rows: Vec<_> = (0..5).map(|n| row(n, 0, "{}")).collect();
    let limits = BatchLimits {
        rows_max: 2,
        ..NO_LIMITS
    };
    assert_eq!(
        indexes(&encode(&rows, limits)),
        [vec![0, 1], vec![2, 3], vec![4]]
    );
}

#[test]
fn a_batch_ends_at_the_most_bytes_but_never_without_a_row() {
    let rows = [
        row(0, 0, "{}"),
        row(1, 0, &"x".repeat(1_000)),
        row(2, 0, "{}"),
        row(3, 0, "{}"),
    ];
    let limits = BatchLimits {
        bytes_max: 200,
        ..NO_LIMITS
    };
    let batches = encode(&rows, limits);
    assert_eq!(indexes(&batches), [vec![0], vec![1], vec![2, 3]]);
    assert!(batches[2].bytes().len() <= 200);
}

#[test]
fn rows_of_too_many_months_are_brought_together() {
    // Two times over twelve months.
    let rows: Vec<_> = (0..24)
        .map(|n| row(n, (n as i64 % 12) * MONTH_NS, "{}"))
        .collect();
    let batches = encode(
        &rows,
        BatchLimits {
            months_max: 5,
            ..NO_LIMITS
        },
    );
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[0].indexes(), [0, 1, 2, 3, 4, 12, 13, 14, 15, 16]);
    let one = encode(
        &rows,
        BatchLimits {
            months_max: 12,
            ..NO_LIMITS
        },
    );
    assert_eq!(indexes(&one), [(0..24).collect::<Vec<_>>()]);
}

#[test]
fn parts_are_the_same_bytes() {
    let rows: Vec<_> = (0..5).map(|n| row(n, 0, &"y".repeat(n as usize))).collect();
    let whole = encode(&rows, NO_LIMITS).remove(0);
    let (left, right) = (whole.part(0..2), whole.part(2..5));
    assert_eq!(
        (left.indexes(), right.indexes()),
        (&[0, 1][..], &[2, 3, 4][..])
    );
    assert_eq!([left.bytes(), right.bytes()].concat(), whole.bytes());
    let (one, two) = (right.part(0..1), right.part(1..3));
    assert_eq!((one.indexes(), two.indexes()), (&[2][..], &[3, 4][..]));
    assert_eq!([one.bytes(), two.bytes()].concat(), right.bytes());
}

proptest! {
    #[test]
    fn every_row_is_in_one_batch_within_the_limits(
        months in prop::collection::vec((0i64..100, 0usize..300), 0..200),
        rows_max in 1usize..50, bytes_max in 1usize..5_000, months_max in 1usize..20,
    ) {
        let rows: Vec<_> = months.iter().enumerate()
            .map(|(n, (month, size))| row(n as u64, month * MONTH_NS, &"z".repeat(*size)))
            .collect();
        let batches = encode(&rows, BatchLimits { rows_max, bytes_max, months_max });
        let mut all: Vec<usize> = indexes(&batches).concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
        for batch in &batches {
            prop_assert!(batch.rows() <= rows_max);
            prop_assert!(batch.rows() == 1 || batch.bytes().len() <= bytes_max);
            let mut finder = MonthFinder::default();
            let mut distinct: Vec<_> = batch.indexes().iter()
                .map(|&index| finder.month_of(rows[index].envelope.occurred_at_ns)).collect();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert!(distinct.len() <= months_max);
            let expected: usize = batch.indexes().iter().map(|&i| encoded_len(&rows[i])).sum();
            prop_assert_eq!(batch.bytes().len(), expected);
        }
    }
}
