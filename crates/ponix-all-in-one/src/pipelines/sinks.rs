//! From what a document says of its table to what the stores understand.

use ponix_clickhouse::{TableConfig, table};
use ponix_pipeline::{
    ClickhouseSink, Delivery, Pipeline, PostgresSink, Schema, Sink, UnknownFields,
};
use ponix_postgres::table as postgres;

/// Returns what a document says of its table.
pub(crate) fn table_config(declared: &Pipeline, sink: &ClickhouseSink) -> TableConfig {
    TableConfig {
        database: sink.database.clone(),
        table: sink.table.clone(),
        columns: sink.columns.clone(),
        identity: if sink.identity.is_empty() {
            table::Identity::Message
        } else {
            table::Identity::Fields(sink.identity.clone())
        },
        partition_by: sink.partition_by.clone(),
        unknown_fields: match sink.unknown_fields {
            UnknownFields::Reject => table::UnknownFields::Reject,
            UnknownFields::JsonColumn => table::UnknownFields::JsonColumn,
            UnknownFields::Ignore => table::UnknownFields::Ignore,
        },
        schema: match sink.schema {
            Schema::Require => table::Schema::Require,
            Schema::Create => table::Schema::Create,
            Schema::Evolve => table::Schema::Evolve,
        },
        delivery: match declared.delivery {
            Delivery::ExactlyOnce => table::Delivery::ExactlyOnce,
            Delivery::AtLeastOnce => table::Delivery::AtLeastOnce,
        },
    }
}

/// Returns what a document says of its table of PostgreSQL; `None` for another sink.
pub(crate) fn postgres_table_config(sink: &Sink) -> Option<postgres::TableConfig> {
    let Sink::Postgres(PostgresSink::Table {
        table,
        columns,
        unknown_fields,
    }) = sink
    else {
        return None;
    };
    Some(postgres::TableConfig {
        table: table.clone(),
        columns: columns.clone(),
        unknown_fields: match unknown_fields {
            UnknownFields::Reject => postgres::UnknownFields::Reject,
            UnknownFields::JsonColumn => postgres::UnknownFields::JsonColumn,
            UnknownFields::Ignore => postgres::UnknownFields::Ignore,
        },
    })
}
