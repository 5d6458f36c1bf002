//! The one place that knows what ClickHouse's exceptions mean for an INSERT.
//!
//! # Source
//! `src/Common/ErrorCodes.cpp` of ClickHouse.

use crate::ErrorKind;

/// What one exception says about the INSERT that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExceptionClass {
    /// Send the same again later.
    Transient,
    /// Send the same again in smaller pieces.
    TooLarge,
    /// A row in it cannot be stored.
    Rejected,
    /// An exception without an entry here. Bisecting tells whether rows or the server are to
    /// blame; a lone row is asked twice before it is rejected.
    Unlisted,
    /// Nothing can be stored until somebody mends the table, the user or the settings.
    Fatal,
}

/// Judges an exception by its number and, where the number has two meanings, by its text.
///
/// What a materialized view refuses says nothing about the row, which is stored in the table all
/// the same: it is the view that must be mended.
pub(crate) fn classify(code: u32, message: &str) -> ExceptionClass {
    match of_code(code, message) {
        ExceptionClass::Rejected | ExceptionClass::Unlisted if failing_view(message).is_some() => {
            ExceptionClass::Fatal
        }
        class => class,
    }
}

/// Finds the view behind `…: while pushing to view db.name. (NAME)`; of a chain the outermost.
///
/// The text may quote a row that holds the same words, but then a quote or a bracket follows.
fn failing_view(message: &str) -> Option<&str> {
    let (_, view) = message.rsplit_once(": while pushing to view ")?;
    let quoted = view.contains(['\'', '"', '{', '}', '[', ']']);
    (!quoted).then_some(view)
}

fn of_code(code: u32, message: &str) -> ExceptionClass {
    match code {
        // Too many partitions in one block; "Too many parts" has the same number.
        252 if message.contains("Too many partitions") => ExceptionClass::TooLarge,
        // A column has another type than the head of the rows says.
        117 if message.starts_with("DB::Exception: Type of '") => ExceptionClass::Fatal,
        // MEMORY_LIMIT_EXCEEDED
        241 => ExceptionClass::TooLarge,

        // Load and time: TIMEOUT_EXCEEDED, QUOTA_EXCEEDED, TOO_MANY_SIMULTANEOUS_QUERIES,
        // NO_FREE_CONNECTION, SOCKET_TIMEOUT, NETWORK_ERROR, QUERY_WAS_CANCELLED,
        // CANNOT_SCHEDULE_TASK, DEADLOCK_AVOIDED, SERVER_OVERLOADED, TOO_MANY_PARTS
        159 | 201 | 202 | 203 | 209 | 210 | 252 | 394 | 439 | 473 | 745
        // Disk and system: CANNOT_READ_FROM_FILE_DESCRIPTOR, CANNOT_WRITE_TO_FILE_DESCRIPTOR,
        // CANNOT_OPEN_FILE, CANNOT_ALLOCATE_MEMORY, NOT_ENOUGH_SPACE, SYSTEM_ERROR, S3_ERROR
        | 74 | 75 | 76 | 173 | 243 | 425 | 499
        // Shut down in the middle, damaged on the way: CHECKSUM_DOESNT_MATCH, ABORTED
        | 40 | 236
        // Replicas and Keeper: NO_ZOOKEEPER, TABLE_IS_READ_ONLY, ALL_CONNECTION_TRIES_FAILED,
        // TOO_FEW_LIVE_REPLICAS, UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE, UNKNOWN_STATUS_OF_INSERT,
        // KEEPER_EXCEPTION
        | 225 | 242 | 279 | 285 | 286 | 319 | 999 => ExceptionClass::Transient,

        // Schema: THERE_IS_NO_COLUMN, NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE,
        // NUMBER_OF_COLUMNS_DOESNT_MATCH, ILLEGAL_COLUMN, UNKNOWN_IDENTIFIER, UNKNOWN_TABLE,
        // UNKNOWN_DATABASE, TABLE_IS_DROPPED
        8 | 10 | 16 | 20 | 44 | 47 | 60 | 81 | 218
        // What the server cannot do: UNKNOWN_FUNCTION, NOT_IMPLEMENTED, UNKNOWN_TYPE,
        // SYNTAX_ERROR, UNKNOWN_FORMAT, UNKNOWN_SETTING, SUPPORT_IS_DISABLED
        | 46 | 48 | 50 | 62 | 73 | 115 | 344
        // Cluster: QUERY_IS_PROHIBITED (no queue for ON CLUSTER), CLUSTER_DOESNT_EXIST
        | 392 | 701
        // User: READONLY, UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD,
        // IP_ADDRESS_NOT_ALLOWED, SETTING_CONSTRAINT_VIOLATION, ACCESS_DENIED,
        // AUTHENTICATION_FAILED
        | 164 | 192 | 193 | 194 | 195 | 452 | 497 | 516 => ExceptionClass::Fatal,

        // CANNOT_PARSE_TEXT, CANNOT_PARSE_QUOTED_STRING,
        // CANNOT_PARSE_INPUT_ASSERTION_FAILED, CANNOT_READ_ALL_DATA,
        // CANNOT_PARSE_DATETIME, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, INCORRECT_DATA,
        // TOO_LARGE_STRING_SIZE, VIOLATED_CONSTRAINT
        6 | 26 | 27 | 33 | 41 | 53 | 69 | 117 | 131 | 469 => ExceptionClass::Rejected,

        _ => ExceptionClass::Unlisted,
    }
}

/// Judges the answer of something in between that is not ClickHouse.
pub(crate) fn foreign_kind(text: &str) -> ErrorKind {
    let refused = ["401 ", "403 ", "404 ", "405 "]
        .iter()
        .any(|status| text.starts_with(status));
    if refused {
        ErrorKind::Fatal
    } else {
        ErrorKind::Transient
    }
}

/// Splits `Code: 60. DB::Exception: …` into number and text.
///
/// Returns `None` if the text does not begin like an exception.
pub(crate) fn exception(text: &str) -> Option<(u32, &str)> {
    let rest = text.trim().strip_prefix("Code: ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, message) = rest.split_at(digits);
    Some((number.parse().ok()?, message.trim_start_matches('.').trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_contract_has_its_class() {
        for code in [159, 202, 209, 210, 242, 243, 285, 319, 425, 999] {
            assert_eq!(classify(code, ""), ExceptionClass::Transient, "{code}");
        }
        for code in [16, 60, 81, 192, 193, 392, 497, 516, 701] {
            assert_eq!(classify(code, ""), ExceptionClass::Fatal, "{code}");
        }
        for code in [6, 26, 27, 33, 41, 53, 69, 117, 131, 469] {
            assert_eq!(classify(code, ""), ExceptionClass::Rejected, "{code}");
        }
        assert_eq!(classify(241, ""), ExceptionClass::TooLarge);
        assert_eq!(classify(1001, ""), ExceptionClass::Unlisted);
    }

    #[test]
    fn code_252_is_told_apart_by_its_text() {
        let busy = "DB::Exception: Too many parts (3000 with average size of 1.00 KiB) in table";
        let data = "DB::Exception: Too many partitions for single INSERT block (more than 100).";
        assert_eq!(classify(252, busy), ExceptionClass::Transient);
        assert_eq!(classify(252, data), ExceptionClass::TooLarge);
    }

    #[test]
    fn code_117_is_told_apart_by_its_text() {
        let table = "DB::Exception: Type of 'a' must be UInt8, not Int8: (while reading header)";
        let row = "DB::Exception: Cannot parse JSON object here: {\"a\":\"Type of 'a' must be\"}";
        assert_eq!(classify(117, table), ExceptionClass::Fatal);
        assert_eq!(classify(117, row), ExceptionClass::Rejected);
    }

    #[test]
    fn what_a_view_refuses_is_not_the_rows_fault() {
        let text = |end| format!("DB::Exception: Cannot parse string 'xx' as UInt8{end}");
        let view = text(
            ": while executing 'FUNCTION toUInt8(s :: 1) -> toUInt8(s) UInt8 : 0': while pushing to \
             view p.mv2: while pushing to view p.`m v` (9347e19a-39f1-4300-bb20-0044aec7ddd0). \
             (CANNOT_PARSE_TEXT) (version 26.7.2.1)",
        );
        for code in [6, 469, 1001] {
            assert_eq!(classify(code, &view), ExceptionClass::Fatal, "{code}");
        }
        assert_eq!(classify(241, &view), ExceptionClass::TooLarge);
        assert_eq!(classify(159, &view), ExceptionClass::Transient);
        assert_eq!(
            classify(6, &text(". (CANNOT_PARSE_TEXT)")),
            ExceptionClass::Rejected
        );
    }

    #[test]
    fn a_row_that_speaks_of_views_is_still_the_row() {
        for quoting in [
            "Constraint `c` is violated. Column values: s = 'x: while pushing to view p.mv'. (X)",
            "Cannot parse JSON object here: {\"a\":\": while pushing to view p.mv\"}: (at row 1)",
        ] {
            assert_eq!(
                classify(469, quoting),
                ExceptionClass::Rejected,
                "{quoting}"
            );
        }
    }

    #[test]
    fn only_the_beginning_names_the_code() {
        assert_eq!(
            exception("Code: 60. DB::Exception: a\n"),
            Some((60, "DB::Exception: a"))
        );
        assert_eq!(exception(" Code: 516"), Some((516, "")));
        for no in [
            "",
            "Code: ",
            "Code: x",
            "<html>502</html>",
            "Code: 99999999999. x",
            "a Code: 6.",
        ] {
            assert_eq!(exception(no), None, "{no}");
        }
    }
}
