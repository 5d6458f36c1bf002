//! Calendar months in UTC, the partitions of the table.
//!
//! # Source
//! The calendar arithmetic is Howard Hinnant's, "chrono-Compatible Low-Level Date Algorithms".

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// Months since the year 0.
pub(crate) type Month = i32;

/// Finds the month of a time, fast for times that lie near each other.
#[derive(Debug, Default)]
pub(crate) struct MonthFinder {
    month: Month,
    /// The month's days since 1970, the last one excluded; empty at first.
    from_day: i64,
    to_day: i64,
}

impl MonthFinder {
    /// Returns the month of a time in nanoseconds since 1970.
    pub(crate) fn month_of(&mut self, ns: i64) -> Month {
        let day = ns.div_euclid(DAY_NS);
        if !(self.from_day..self.to_day).contains(&day) {
            self.month = month_of_day(day);
            self.from_day = first_day(self.month);
            self.to_day = first_day(self.month + 1);
        }
        self.month
    }
}

fn month_of_day(day: i64) -> Month {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    // The computation's years begin in March.
    ((era * 400 + year_of_era) * 12 + months_since_march + 2) as Month
}

/// The first day of a month, in days since 1970.
fn first_day(month: Month) -> i64 {
    let since_march = i64::from(month) - 2;
    let (year, months_since_march) = (since_march.div_euclid(12), since_march.rem_euclid(12));
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * months_since_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn year_and_month(ns: i64) -> (i32, i32) {
        let month = MonthFinder::default().month_of(ns);
        (month.div_euclid(12), month.rem_euclid(12) + 1)
    }

    #[test]
    fn months_of_known_times() {
        assert_eq!(year_and_month(0), (1970, 1));
        assert_eq!(year_and_month(-1), (1969, 12));
        let leap_day = 951_782_400 * 1_000_000_000; // 2000-02-29T00:00:00Z
        assert_eq!(year_and_month(leap_day + DAY_NS - 1), (2000, 2));
        assert_eq!(year_and_month(leap_day + DAY_NS), (2000, 3));
        assert_eq!(year_and_month(1_798_761_599_999_999_999), (2026, 12));
        assert_eq!(year_and_month(1_798_761_600_000_000_000), (2027, 1));
        assert_eq!(year_and_month(i64::MAX), (2262, 4));
        assert_eq!(year_and_month(i64::MIN), (1677, 9));
    }

    proptest! {
        #[test]
        fn a_remembered_month_is_the_computed_one(times in prop::collection::vec(any::<i64>(), 1..20)) {
            let mut finder = MonthFinder::default();
            for ns in times {
                for near in [ns, ns.saturating_add(DAY_NS * 27), ns.saturating_sub(1)] {
                    prop_assert_eq!(finder.month_of(near), month_of_day(near.div_euclid(DAY_NS)));
                }
            }
        }

        #[test]
        fn a_day_lies_in_its_month(day in -110_000i64..110_000) {
            let month = month_of_day(day);
            prop_assert!(first_day(month) <= day && day < first_day(month + 1));
            prop_assert!((28..=31).contains(&(first_day(month + 1) - first_day(month))));
        }
    }
}
