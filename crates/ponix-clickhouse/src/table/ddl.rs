//! The table that does, and the view for its readers.

use super::check;
use super::{
    DATA, EVENT_ID, Identity, PUBLISHED_AT, STREAM_SEQUENCE, TableConfig, UnknownFields, VERSION,
};
use crate::layout::quoted;

/// Statements that create a table and a view of it; both are safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ddl {
    /// The table.
    pub table: String,
    /// The view that readers use, `<table>_final`: every event once, whatever is merged so far.
    pub view: String,
}

impl std::fmt::Display for Ddl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{};\n\n{};", self.table, self.view)
    }
}

/// Writes the DDL of a table with these columns that makes copies of an event one.
pub(super) fn ddl(config: &TableConfig, declared: &[(String, String)]) -> Ddl {
    let columns = columns(config, declared);
    let has = |name: &str| declared.iter().any(|(known, _)| known == name);
    let mut lines: Vec<String> = columns
        .iter()
        .map(|(name, column_type)| format!("    {} {column_type}", quoted(name)))
        .collect();
    // The earliest publish wins, as the highest version does.
    let versioned = !has(VERSION) && !has(PUBLISHED_AT) && !has(STREAM_SEQUENCE);
    if versioned {
        lines.push(format!(
            "    {} UInt128 MATERIALIZED bitNot(bitOr(bitShiftLeft(\
             toUInt128(toUnixTimestamp64Nano({})), 64), toUInt128({})))",
            quoted(VERSION),
            quoted(PUBLISHED_AT),
            quoted(STREAM_SEQUENCE)
        ));
    }
    let version = if versioned { VERSION } else { "" };
    let time = time_column(config, declared);
    let month = || time.map(|time| format!("toYYYYMM({})", quoted(time)));
    let partition = config.partition_by.clone().or_else(month);
    let partition = partition.map_or(String::new(), |by| format!("PARTITION BY {by}\n"));
    let mut order: Vec<&str> = check::identity(config);
    if config.identity == Identity::Message {
        order.splice(0..0, time);
    }
    let order: Vec<String> = order.into_iter().map(quoted).collect();
    let table = format!(
        "CREATE TABLE IF NOT EXISTS {}\n(\n{}\n)\nENGINE = ReplacingMergeTree({version})\n\
         {partition}ORDER BY ({})\n\
         SETTINGS min_age_to_force_merge_seconds = 3600, \
         min_age_to_force_merge_on_partition_only = 1",
        config.quoted_table(),
        lines.join(",\n"),
        order.join(", "),
    );
    let view = view(config, columns.iter().map(|(name, _)| name.as_str()));
    Ddl { table, view }
}

/// Writes the view for readers.
pub(super) fn view<'a>(config: &TableConfig, columns: impl Iterator<Item = &'a str>) -> String {
    let columns: Vec<String> = columns.map(quoted).collect();
    format!(
        "CREATE VIEW IF NOT EXISTS {} AS\nSELECT {}\nFROM {} FINAL\n\
         SETTINGS do_not_merge_across_partitions_select_final = 1",
        config.quoted_view(),
        columns.join(", "),
        config.quoted_table(),
    )
}

/// The declared columns, and those that the sink fills.
pub(super) fn columns(
    config: &TableConfig,
    declared: &[(String, String)],
) -> Vec<(String, String)> {
    let mut columns = declared.to_vec();
    let mut ours = Vec::new();
    if config.unknown_fields == UnknownFields::JsonColumn {
        ours.push((DATA, "JSON"));
    }
    if config.identity == Identity::Message {
        ours.push((EVENT_ID, "UUID"));
    }
    ours.push((PUBLISHED_AT, "DateTime64(9, 'UTC')"));
    ours.push((STREAM_SEQUENCE, "UInt64"));
    for (name, column_type) in ours {
        if !declared.iter().any(|(known, _)| known == name) {
            columns.push((name.into(), column_type.into()));
        }
    }
    columns
}

/// The column that tells when an event happened: one of the identity, or the first of a time.
fn time_column<'a>(config: &'a TableConfig, declared: &'a [(String, String)]) -> Option<&'a str> {
    let of_time = |name: &str| {
        let column = declared.iter().find(|(known, _)| known == name);
        column.is_some_and(|(_, type_text)| type_text.starts_with("Date"))
    };
    match &config.identity {
        Identity::Fields(fields) => fields.iter().map(String::as_str).find(|name| of_time(name)),
        Identity::Message => declared
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| of_time(name) && *name != PUBLISHED_AT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Delivery, Schema};

    fn config(identity: Identity, unknown_fields: UnknownFields) -> TableConfig {
        TableConfig {
            table: "meter_readings".into(),
            database: None,
            columns: None,
            identity,
            partition_by: None,
            unknown_fields,
            schema: Schema::Create,
            delivery: Delivery::ExactlyOnce,
        }
    }

    fn columns() -> Vec<(String, String)> {
        [
            ("meter_id", "String"),
            ("read_at", "DateTime64(3, 'UTC')"),
            ("value", "Float64"),
        ]
        .map(|(name, column_type)| (name.to_owned(), column_type.to_owned()))
        .to_vec()
    }

    #[test]
    fn fields_are_the_sorting_key_and_their_time_the_partition() {
        let identity = Identity::Fields(vec!["meter_id".into(), "read_at".into()]);
        let ddl = ddl(&config(identity, UnknownFields::JsonColumn), &columns());
        assert_eq!(
            ddl.to_string(),
            "CREATE TABLE IF NOT EXISTS `meter_readings`\n(\n    `meter_id` String,\n    \
             `read_at` DateTime64(3, 'UTC'),\n    `value` Float64,\n    `data` JSON,\n    \
             `published_at` DateTime64(9, 'UTC'),\n    `stream_sequence` UInt64,\n    \
             `version` UInt128 MATERIALIZED bitNot(bitOr(bitShiftLeft(toUInt128(\
             toUnixTimestamp64Nano(`published_at`)), 64), toUInt128(`stream_sequence`)))\n)\n\
             ENGINE = ReplacingMergeTree(version)\nPARTITION BY toYYYYMM(`read_at`)\n\
             ORDER BY (`meter_id`, `read_at`)\nSETTINGS min_age_to_force_merge_seconds = 3600, \
             min_age_to_force_merge_on_partition_only = 1;\n\n\
             CREATE VIEW IF NOT EXISTS `meter_readings_final` AS\nSELECT `meter_id`, `read_at`, \
             `value`, `data`, `published_at`, `stream_sequence`\nFROM `meter_readings` FINAL\n\
             SETTINGS do_not_merge_across_partitions_select_final = 1;"
        );
    }

    #[test]
    fn the_messages_identity_is_a_column_of_its_own() {
        let table = ddl(
            &config(Identity::Message, UnknownFields::Reject),
            &columns(),
        )
        .table;
        assert!(table.contains("`event_id` UUID"), "{table}");
        assert!(
            table.contains("ORDER BY (`read_at`, `event_id`)"),
            "{table}"
        );
        assert!(!table.contains("JSON"), "{table}");
        let table = ddl(&config(Identity::Message, UnknownFields::Reject), &[]).table;
        assert!(table.contains("ORDER BY (`event_id`)"), "{table}");
        assert!(!table.contains("PARTITION"), "{table}");
    }
}
