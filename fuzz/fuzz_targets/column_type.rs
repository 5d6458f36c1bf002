//! Any text as a ClickHouse type: the parser never panics, and what it takes can be printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ponix_clickhouse::table::ColumnType;

fuzz_target!(|text: &str| {
    match text.parse::<ColumnType>() {
        Ok(column_type) => assert!(!column_type.to_string().is_empty()),
        Err(error) => drop(error.to_string()),
    }
});
