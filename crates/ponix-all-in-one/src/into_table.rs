//! A pipeline whose rows go into another table than its own, for history that is read again.

use anyhow::{Context as _, bail};
use ponix_clickhouse::{ClickHouseMetrics, Client, TableSink};
use ponix_nats::{Batch, BatchProcessor as _, BatchSettings, ProcessError, ProcessingResult};
use ponix_pipeline::{
    ClickhouseSink, CrashIsolation, Pipeline, PipelineProcessor, PostgresSink, RecordDecoder,
    Schema, Sink,
};
use ponix_postgres::{Postgres, PostgresMetrics, table as postgres};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::deployment::Deployment;
use crate::pipelines::{named, postgres_table_config, table_config};

/// Decoder and transform of a pipeline, and another table of the same store.
#[derive(Debug)]
pub struct IntoTable(Processor);

#[derive(Debug)]
enum Processor {
    Clickhouse(PipelineProcessor<RecordDecoder, TableSink>),
    Postgres(PipelineProcessor<RecordDecoder, postgres::TableSink>),
}

impl IntoTable {
    /// Gets a table ready for the rows of a pipeline. In ClickHouse it is made like the pipeline's own
    /// where it is missing; in PostgreSQL where the document has columns.
    ///
    /// # Errors
    /// There is no such pipeline, its rows go into several tables or into this one already, or the
    /// store does not answer or refuses.
    ///
    /// # Cancel safety
    /// Cancel safe: what is made stays, and is used the next time.
    pub async fn open(
        deployment: &Deployment,
        pipeline: &str,
        table: &str,
    ) -> anyhow::Result<Self> {
        let found = named(&deployment.documents, pipeline);
        let mut pipeline = found
            .with_context(|| format!("there is no pipeline {pipeline:?}"))?
            .clone();
        let settings = BatchSettings {
            pack_events_max: deployment.config.nats.pack_events_max as usize,
            ..BatchSettings::default()
        };
        let name = pipeline.name.clone();
        if let Sink::Postgres(PostgresSink::Entities { .. }) = pipeline.sink {
            bail!(
                "pipeline {name} writes into the tables of its entities: they cannot be one other table"
            );
        }
        let decoder = RecordDecoder::new(&pipeline)?;
        // What is read is delivered for the first time: nothing is suspected of ending the process.
        let isolation = CrashIsolation::new(["crash-isolation", &name]);
        Ok(Self(match &mut pipeline.sink {
            Sink::Clickhouse(sink) => {
                let (own, mut other) = (sink.clone(), sink.clone());
                (other.database, other.table) = match table.split_once('.') {
                    Some((database, table)) => (Some(database.to_owned()), table.to_owned()),
                    None => (own.database.clone(), table.to_owned()),
                };
                // The document of envelopes names the key of their table, and the identity in it is the
                // message's own.
                if found.is_some_and(Pipeline::is_built_in) {
                    other.identity.clear();
                }
                other.schema = Schema::Require;
                let sink = clickhouse(deployment, &pipeline, &own, &other).await?;
                Processor::Clickhouse(PipelineProcessor::new(decoder, sink, isolation, &settings))
            }
            Sink::Postgres(PostgresSink::Table { table: own, .. }) => {
                differ(own, table)?;
                table.clone_into(own);
                let config = deployment.config.postgres.client();
                let config = config.context("PONIX_POSTGRES_URL is not set")?;
                let metrics = PostgresMetrics::register(&mut Registry::default());
                let store = Postgres::connect(config, metrics)?.for_pipeline(&name);
                let config = postgres_table_config(&pipeline.sink).context("no table")?;
                let sink = postgres::TableSink::prepare(store, config).await?;
                Processor::Postgres(PipelineProcessor::new(decoder, sink, isolation, &settings))
            }
            other => bail!("this program knows no sink like {other:?}"),
        }))
    }

    /// Decodes, transforms and stores a batch.
    ///
    /// # Errors
    /// The store takes nothing now, see [`ProcessError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: what is stored already would not be known. Cancel `give_up` instead.
    pub async fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        match &self.0 {
            Processor::Clickhouse(processor) => processor.process(batch, give_up).await,
            Processor::Postgres(processor) => processor.process(batch, give_up).await,
        }
    }
}

async fn clickhouse(
    deployment: &Deployment,
    pipeline: &Pipeline,
    own_sink: &ClickhouseSink,
    other: &ClickhouseSink,
) -> anyhow::Result<TableSink> {
    let config = deployment.config.clickhouse.client();
    let place = |sink: &ClickhouseSink| {
        let database = sink.database.as_ref().unwrap_or(&config.database);
        (quoted(database), quoted(&sink.table))
    };
    let ((database, table), (other_database, other_table)) = (place(own_sink), place(other));
    let own = format!("{database}.{table}");
    let into = format!("{other_database}.{other_table}");
    differ(&own, &into)?;
    let client = Client::new(&config)?;
    for sink in [own_sink, other] {
        let database = sink.database.as_ref().unwrap_or(&config.database);
        let engine = "SELECT engine FROM system.tables WHERE database = ? AND name = ?";
        let engine = client.raw().query(engine).bind(database).bind(&sink.table);
        let engine = engine.fetch_optional::<String>().await?;
        // Made like one of these, or written through one, rows may end up in the pipeline's own table.
        if let Some(engine) = engine.filter(|engine| !engine.ends_with("MergeTree")) {
            bail!(
                "table {}.{} is of engine {engine}, which keeps its rows elsewhere: name a table that keeps its own",
                quoted(database),
                quoted(&sink.table)
            );
        }
    }
    let made = format!("CREATE TABLE IF NOT EXISTS {into} AS {own}");
    let made = client.raw().query_raw(&made).execute().await;
    made.with_context(|| format!("table {into} cannot be made like {own}"))?;
    let metrics = ClickHouseMetrics::register(&mut Registry::default());
    let metrics = metrics.for_pipeline(&pipeline.name);
    Ok(TableSink::prepare(&client, table_config(pipeline, other), metrics).await?)
}

/// # Errors
/// Both are one.
fn differ(own: &str, into: &str) -> anyhow::Result<()> {
    let bare = |table: &str| table.strip_prefix("public.").unwrap_or(table).to_owned();
    if bare(own) == bare(into) {
        bail!(
            "{own} is the pipeline's own table: leave --into out to send history through it again"
        );
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
