use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

/// What a search came to, with a server that refuses some rows.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    rejected: BTreeSet<usize>,
    stored: Vec<usize>,
    inserts: usize,
    alike: Option<Alike>,
}

/// `bad` gives the code a row is refused with; more than `memory` rows at once are too large.
fn run(
    rows: usize,
    allowed: usize,
    memory: usize,
    seed: u64,
    bad: impl Fn(usize) -> Option<u32>,
) -> Run {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut search = Search::new(rows, allowed);
    let mut codes = Refused::new();
    let mut result = Run {
        rejected: BTreeSet::new(),
        stored: Vec::new(),
        inserts: 0,
        alike: None,
    };
    loop {
        let range = match search.next(&codes, &mut rng) {
            Ok(Some(range)) => range,
            Ok(None) => return result,
            Err(alike) => {
                return Run {
                    alike: Some(alike),
                    ..result
                };
            }
        };
        result.inserts += 1;
        if range.len() > memory {
            assert!(search.halve());
        } else if let Some(code) = range.clone().find_map(&bad) {
            if let Some(row) = search.refused(code) {
                assert_eq!(range, row..row + 1, "rejected alone");
                *codes.entry(code).or_default() += 1;
                result.rejected.insert(row);
            }
        } else {
            search.stored();
            result.stored.extend(range);
        }
    }
}

#[test]
fn a_good_batch_is_one_insert() {
    let run = run(5_000, 250, usize::MAX, 1, |_| None);
    assert_eq!((run.inserts, run.stored.len()), (1, 5_000));
}

#[test]
fn one_bad_row_in_5000_costs_at_most_26_more() {
    for bad in [0, 1, 2_499, 2_500, 4_998, 4_999, 1_234] {
        let run = run(5_000, 250, usize::MAX, 1, |row| (row == bad).then_some(117));
        assert_eq!(run.rejected, BTreeSet::from([bad]));
        assert_eq!(run.stored.len(), 4_999);
        assert!(
            run.inserts <= 1 + 26,
            "{} INSERTs for row {bad}",
            run.inserts
        );
    }
}

#[test]
fn a_batch_that_is_bad_throughout_ends_soon() {
    for (percent, inserts_max) in [(100, 60), (50, 120), (30, 220)] {
        for seed in 0..20 {
            let bad = |row: usize| ((row * 7_919 + 13) % 100 < percent).then_some(117);
            let run = run(5_000, 250, usize::MAX, seed, bad);
            let alike = run.alike.expect("far more than 5 % are refused");
            assert!(alike.rows > 250 && alike.code == 117, "{alike:?}");
            assert!(
                run.inserts <= inserts_max,
                "{} INSERTs at {percent} %",
                run.inserts
            );
        }
    }
}

#[test]
fn a_run_of_bad_rows_is_counted_too() {
    let run = run(5_000, 250, usize::MAX, 3, |row| {
        (row >= 3_500).then_some(117)
    });
    assert!(run.alike.is_some());
    assert!(run.inserts < 100, "{} INSERTs", run.inserts);
}

#[test]
fn refusals_for_different_reasons_are_not_alike() {
    let bad = |row: usize| (row < 8).then_some(row as u32);
    let run = run(100, 2, usize::MAX, 1, bad);
    assert_eq!((run.alike, run.rejected.len()), (None, 8));
}

#[test]
fn as_many_as_allowed_are_found_and_one_more_ends_the_search() {
    let bad = [10, 35, 60, 85];
    let found = run(100, 4, usize::MAX, 1, |row| {
        bad.contains(&row).then_some(117)
    });
    assert_eq!((found.alike, found.rejected.len()), (None, 4));
    let ended = run(100, 3, usize::MAX, 1, |row| {
        bad.contains(&row).then_some(117)
    });
    assert_eq!(ended.alike, Some(Alike { code: 117, rows: 4 }));
    // Four ranges are refused, which is enough: no row has to be sent alone.
    assert!(ended.rejected.is_empty(), "{ended:?}");
}

#[test]
fn a_sample_seldom_takes_fewer_than_allowed_for_more() {
    let bad = |row: usize| ((row * 7_919 + 13) % 100 < 4).then_some(117);
    let ended = |seed| run(5_000, 250, usize::MAX, seed, bad).alike.is_some();
    let wrong = (0..40).filter(|seed| ended(*seed)).count();
    assert!(wrong <= 3, "{wrong} of 40 at 4 %, where 5 % are allowed");
}

#[test]
fn a_single_row_cannot_be_halved() {
    let mut search = Search::new(1, 0);
    let mut rng = StdRng::seed_from_u64(1);
    assert_eq!(search.next(&Refused::new(), &mut rng), Ok(Some(0..1)));
    assert!(!search.halve());
    search.stored();
    assert_eq!(search.next(&Refused::new(), &mut rng), Ok(None));
}

proptest! {
    #[test]
    fn every_row_is_stored_once_or_rejected(
        rows in 1usize..2_000,
        bad in prop::collection::btree_set(0usize..2_000, 0..40),
        memory in 1usize..2_000,
        seed in any::<u64>(),
    ) {
        let bad: BTreeSet<_> = bad.into_iter().filter(|row| *row < rows).collect();
        let mut run = run(rows, rows, memory, seed, |row| bad.contains(&row).then_some(117));
        run.stored.sort_unstable();
        let good: Vec<_> = (0..rows).filter(|row| !bad.contains(row)).collect();
        prop_assert_eq!(run.alike, None);
        prop_assert_eq!(&run.rejected, &bad);
        prop_assert_eq!(run.stored, good);
    }

    #[test]
    fn a_bad_row_costs_two_inserts_per_level(
        rows in 2usize..60_000,
        bad in prop::collection::btree_set(0usize..60_000, 1..6),
        seed in any::<u64>(),
    ) {
        let bad: BTreeSet<_> = bad.into_iter().map(|row| row % rows).collect();
        let run = run(rows, rows, usize::MAX, seed, |row| bad.contains(&row).then_some(117));
        let levels = (rows - 1).ilog2() as usize + 1;
        prop_assert!(run.inserts <= 1 + 2 * levels * bad.len());
    }

    #[test]
    fn giving_up_never_stores_a_row_twice(
        rows in 50usize..3_000, percent in 6usize..100, seed in any::<u64>(),
    ) {
        let bad = |row: usize| (row.wrapping_mul(2_654_435_761) % 100 < percent).then_some(117);
        let run = run(rows, rows / 20, usize::MAX, seed, bad);
        let distinct: BTreeSet<_> = run.stored.iter().collect();
        prop_assert_eq!(distinct.len(), run.stored.len());
        prop_assert!(run.rejected.iter().all(|row| bad(*row).is_some()));
    }
}
