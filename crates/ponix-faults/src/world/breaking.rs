//! What the stores and the dead letters are made to refuse.

use anyhow::Result;
use ponix_nats::async_nats::jetstream::stream::Config;

use super::World;
use crate::event::REFUSED_DEVICE;
use crate::pipeline::Pipeline;

impl World {
    /// Has every table refuse rows of the devices that [`Poison::RefusedByStore`] uses.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    ///
    /// [`Poison::RefusedByStore`]: crate::Poison::RefusedByStore
    pub async fn refuse_some_rows(&self) -> Result<()> {
        for pipeline in self.pipelines() {
            let check = match pipeline {
                Pipeline::Messages => format!("(device NOT LIKE '{REFUSED_DEVICE}%')"),
                Pipeline::Readings => format!("NOT startsWith(meter, '{REFUSED_DEVICE}')"),
                Pipeline::Envelopes => format!("NOT startsWith(end_device_id, '{REFUSED_DEVICE}')"),
            };
            let table = pipeline.table();
            let add = format!("ALTER TABLE {table} ADD CONSTRAINT planted CHECK {check}");
            self.execute_on(*pipeline, &add).await?;
        }
        Ok(())
    }

    /// Has the table take all rows again.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub async fn refuse_no_rows(&self) -> Result<()> {
        self.execute("ALTER TABLE processed_envelopes DROP CONSTRAINT planted")
            .await
    }

    /// Has a pipeline's table refuse every row, as after a constraint that was added by mistake. May be
    /// repeated.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn refuse_rows_of(&self, pipeline: Pipeline) -> Result<()> {
        let table = pipeline.table();
        let add = match pipeline {
            Pipeline::Messages => {
                "DROP CONSTRAINT IF EXISTS mistaken, \
                 ADD CONSTRAINT mistaken CHECK (value < 0) NOT VALID"
            }
            Pipeline::Readings => "ADD CONSTRAINT IF NOT EXISTS mistaken CHECK value < 0",
            Pipeline::Envelopes => "ADD CONSTRAINT IF NOT EXISTS mistaken CHECK end_device_id = ''",
        };
        self.execute_on(pipeline, &format!("ALTER TABLE {table} {add}"))
            .await
    }

    /// Takes the constraint away again. May be repeated.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn take_rows_of(&self, pipeline: Pipeline) -> Result<()> {
        let table = pipeline.table();
        let drop = format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS mistaken");
        self.execute_on(pipeline, &drop).await
    }

    /// Makes a view that keeps the identity of each event, as one must that is to be exact.
    pub(super) async fn add_view(&self) -> Result<()> {
        for sql in [
            "CREATE TABLE seen (organization_id String, end_device_id String, \
             occurred_at DateTime64(9, 'UTC'), event_id UUID, key String) \
             ENGINE = ReplacingMergeTree \
             ORDER BY (organization_id, end_device_id, occurred_at, event_id)",
            "CREATE MATERIALIZED VIEW seeing TO seen AS \
             SELECT organization_id, end_device_id, occurred_at, event_id, \
             toString(data.key) AS key FROM processed_envelopes",
            "CREATE TABLE unseen (x UInt8) ENGINE = Null",
        ] {
            self.execute(sql).await?;
        }
        Ok(())
    }

    /// Adds a view, to a world with a view, that fails for a tenth of the devices: ClickHouse then
    /// stores the rows and answers an error. May be repeated.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub async fn add_failing_view(&self) -> Result<()> {
        self.execute(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS failing TO unseen AS \
             SELECT throwIf(endsWith(end_device_id, '7')) AS x FROM processed_envelopes",
        )
        .await
    }

    /// Drops that view. May be repeated.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub async fn drop_failing_view(&self) -> Result<()> {
        self.execute("DROP TABLE IF EXISTS failing SYNC").await
    }

    /// Limits the messages that a pipeline's dead letters take; -1 is no limit. A worker that starts
    /// brings the stream back to its own settings.
    ///
    /// # Errors
    /// NATS does not answer.
    pub async fn limit_dead_letters(&self, pipeline: Pipeline, max_messages: i64) -> Result<()> {
        let stream = self.dead_letters_of(pipeline).await?;
        let config = stream.cached_info().config.clone();
        let config = Config {
            max_messages,
            ..config
        };
        self.publishing().context().update_stream(config).await?;
        Ok(())
    }
}
