//! The value of `X-ClickHouse-Summary`.

use std::time::Duration;

use crate::ffi::Counts;

/// The counts as ClickHouse's JSON object of strings.
pub(crate) fn summary(counts: &Counts, elapsed: Duration) -> String {
    format!(
        concat!(
            r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","#,
            r#""total_rows_to_read":"0","result_rows":"{}","result_bytes":"{}","elapsed_ns":"{}"}}"#
        ),
        counts.read_rows,
        counts.read_bytes,
        counts.written_rows,
        counts.written_bytes,
        // ClickHouse counts what an INSERT wrote as its result.
        counts.result_rows.max(counts.written_rows),
        counts.result_bytes.max(counts.written_bytes),
        elapsed.as_nanos(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::summary;
    use crate::ffi::Counts;

    #[test]
    fn it_is_json_with_strings() {
        let counts = Counts {
            written_rows: 3,
            ..Counts::default()
        };
        let value: serde_json::Value =
            serde_json::from_str(&summary(&counts, Duration::from_micros(2))).unwrap();
        assert_eq!(value["written_rows"], "3");
        assert_eq!(value["result_rows"], "3");
        assert_eq!(value["elapsed_ns"], "2000");
    }
}
