//! Which columns of a table are written, and from what.

use bytes::Bytes;

use super::described::{DefaultKind, Described, DescribedColumn};
use super::rows::{Column, Missing, OMITTABLE_MAX, Rows, Source};
use super::types::ColumnType;
use super::{
    DATA, EVENT_ID, Identity, PUBLISHED_AT, STREAM_SEQUENCE, Schema, TableConfig, TableError,
    UnknownFields, check, default,
};

/// Plans the rows of a table as it is.
///
/// # Errors
/// [`TableError::NoColumn`] and [`TableError::Column`].
pub(super) fn plan(config: &TableConfig, table: &Described) -> Result<Rows, TableError> {
    let missing = |column: &str| TableError::NoColumn {
        table: config.table.clone(),
        column: column.into(),
    };
    for (name, declared) in config.columns.iter().flatten() {
        let found = table.column(name).ok_or_else(|| missing(name))?;
        same_type(config, found, declared)?;
    }
    for name in check::identity(config) {
        table.column(name).ok_or_else(|| missing(name))?;
    }
    if config.unknown_fields == UnknownFields::JsonColumn {
        table.column(DATA).ok_or_else(|| missing(DATA))?;
    }
    let mut columns = Vec::new();
    for described in &table.columns {
        if described.default_kind == DefaultKind::Computed {
            if is_declared(config, described) {
                let complaint = "gets its value from the table: it must not be declared";
                return Err(config.column_error(&described.name, complaint));
            }
            continue;
        }
        if takes_all(config) || is_declared(config, described) {
            columns.extend(column(config, described)?);
        }
    }
    let omittable = columns
        .iter()
        .filter(|column| column.missing == Missing::Omit);
    if let Some(column) = omittable.skip(OMITTABLE_MAX).last() {
        let complaint = format!("is one of more than {OMITTABLE_MAX} with a default");
        return Err(config.column_error(&column.name, complaint));
    }
    Ok(Rows::new(columns, config.unknown_fields))
}

/// Tells whether every column is written, declared or not.
fn takes_all(config: &TableConfig) -> bool {
    config.columns.is_none() || config.schema == Schema::Evolve
}

/// Tells whether the document names a column, or the sink fills it.
fn is_declared(config: &TableConfig, column: &DescribedColumn) -> bool {
    let name = column.name.as_str();
    let declared = config
        .columns
        .iter()
        .flatten()
        .any(|(known, _)| known == name);
    let rest = name == DATA && config.unknown_fields == UnknownFields::JsonColumn;
    let filled = config.columns.is_some() && is_filled(column);
    declared || rest || filled || check::identity(config).contains(&name)
}

fn is_filled(column: &DescribedColumn) -> bool {
    let read = column.type_text.parse();
    column.default_kind != DefaultKind::Computed
        && match (column.name.as_str(), read) {
            (EVENT_ID, Ok(ColumnType::Uuid))
            | (PUBLISHED_AT, Ok(ColumnType::DateTime64 { .. })) => true,
            (STREAM_SEQUENCE, Ok(column_type)) => column_type == SEQUENCE,
            _ => false,
        }
}

const SEQUENCE: ColumnType = ColumnType::Integer {
    bits: 64,
    signed: false,
};

fn same_type(
    config: &TableConfig,
    found: &DescribedColumn,
    declared: &str,
) -> Result<(), TableError> {
    let declared_type = declared.parse::<ColumnType>();
    let found_type = found.type_text.parse::<ColumnType>();
    match (declared_type, found_type) {
        (Err(error), _) => Err(config.column_error(&found.name, error.to_string())),
        (Ok(declared), Ok(found)) if declared == found => Ok(()),
        _ => {
            let complaint = format!("is {}, but declared {declared}", found.type_text);
            Err(config.column_error(&found.name, complaint))
        }
    }
}

fn column(config: &TableConfig, described: &DescribedColumn) -> Result<Option<Column>, TableError> {
    let name = described.name.as_str();
    let has_default = described.default_kind == DefaultKind::Default;
    let column_type = match described.type_text.parse::<ColumnType>() {
        Ok(column_type) => column_type,
        // The table gives it a value.
        Err(_) if has_default && takes_all(config) => return Ok(None),
        Err(error) => {
            let complaint = format!("cannot be written: {error}");
            return Err(config.column_error(name, complaint));
        }
    };
    let identity = check::identity(config).contains(&name);
    let source = match (name, &column_type) {
        (DATA, ColumnType::Json) if config.unknown_fields == UnknownFields::JsonColumn => {
            Source::Rest
        }
        (DATA, _) if config.unknown_fields == UnknownFields::JsonColumn => {
            let complaint = format!("is {}, but must be JSON", described.type_text);
            return Err(config.column_error(name, complaint));
        }
        (EVENT_ID, ColumnType::Uuid) if config.identity == Identity::Message => {
            Source::MessageIdentity
        }
        (EVENT_ID, _) if config.identity == Identity::Message => {
            let complaint = format!("is {}, but must be UUID", described.type_text);
            return Err(config.column_error(name, complaint));
        }
        // What is part of the identity comes from the event alone.
        _ if identity => Source::Field,
        (EVENT_ID, ColumnType::Uuid) => Source::FieldOrIdentity,
        (PUBLISHED_AT, ColumnType::DateTime64 { precision, .. }) => {
            Source::FieldOrPublishedAt(*precision)
        }
        (STREAM_SEQUENCE, column_type) if *column_type == SEQUENCE => Source::FieldOrSequence,
        (_, ColumnType::Array(_)) if name.contains('.') && !has_default => Source::Nested,
        _ => Source::Field,
    };
    let missing = match source {
        Source::Field if identity => Missing::Reject,
        Source::Field if has_default => {
            let bytes = default::bytes(&described.default_expression, &column_type);
            bytes.map_or(Missing::Omit, Missing::Value)
        }
        Source::Field if column_type.is_nullable() => Missing::Value(Bytes::from_static(&[1])),
        _ => Missing::Reject,
    };
    Ok(Some(Column {
        name: name.into(),
        type_text: described.type_text.clone(),
        value_type: column_type,
        source,
        missing,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Delivery;

    fn config(columns: Option<&[(&str, &str)]>, unknown_fields: UnknownFields) -> TableConfig {
        let owned = |columns: &[(&str, &str)]| {
            let own = |(name, type_text): &(&str, &str)| ((*name).into(), (*type_text).into());
            columns.iter().map(own).collect()
        };
        TableConfig {
            database: None,
            table: "t".into(),
            partition_by: None,
            columns: columns.map(owned),
            identity: Identity::Fields(vec!["meter".into()]),
            unknown_fields,
            schema: Schema::Require,
            delivery: Delivery::AtLeastOnce,
        }
    }

    fn table(extra: &[(&str, &str, DefaultKind)]) -> Described {
        let columns = [
            ("meter", "LowCardinality(String)", DefaultKind::None),
            ("value", "Nullable(Float64)", DefaultKind::None),
        ];
        let columns = columns.iter().chain(extra);
        let columns = columns.map(|(name, type_text, default_kind)| DescribedColumn {
            name: (*name).into(),
            type_text: (*type_text).into(),
            default_kind: *default_kind,
            default_expression: String::new(),
        });
        Described {
            engine: "ReplacingMergeTree".into(),
            distributed: None,
            sorting_key: "meter".into(),
            partition_key: String::new(),
            columns: columns.collect(),
        }
    }

    #[test]
    fn a_table_that_does_not_do_is_refused_with_the_column() {
        use DefaultKind::{Computed, Default, None as Plain};
        let reject = UnknownFields::Reject;
        for (config, table, message) in [
            (
                config(None, UnknownFields::JsonColumn),
                table(&[]),
                "table t has no column data",
            ),
            (
                config(None, UnknownFields::JsonColumn),
                table(&[("data", "String", Plain)]),
                "column data of table t is String, but must be JSON",
            ),
            (
                config(Some(&[("meter", "String"), ("gone", "String")]), reject),
                table(&[]),
                "table t has no column gone",
            ),
            (
                config(Some(&[("value", "Float64")]), reject),
                table(&[]),
                "column value of table t is Nullable(Float64), but declared Float64",
            ),
            (
                config(Some(&[("value", "Flout")]), reject),
                table(&[]),
                "column value of table t type Flout is not supported",
            ),
            (
                config(Some(&[("twice", "Float64")]), reject),
                table(&[("twice", "Float64", Computed)]),
                "column twice of table t gets its value from the table: it must not be declared",
            ),
            (
                config(None, reject),
                table(&[("any", "Dynamic", Plain)]),
                "column any of table t cannot be written: type Dynamic is not supported",
            ),
        ] {
            let error = plan(&config, &table).expect_err(message);
            assert_eq!(error.to_string(), message);
        }
        let passed_over = [("twice", "Float64", Computed), ("any", "Dynamic", Default)];
        assert!(plan(&config(None, reject), &table(&passed_over)).is_ok());
    }
}
