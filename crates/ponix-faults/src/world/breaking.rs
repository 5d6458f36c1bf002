//! What the stores are made to refuse.

use anyhow::Result;

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

    /// Has a pipeline's table refuse every row, as after a constraint that was added by mistake.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn refuse_rows_of(&self, pipeline: Pipeline) -> Result<()> {
        let check = match pipeline {
            Pipeline::Messages => "(value < 0) NOT VALID",
            Pipeline::Readings => "value < 0",
            Pipeline::Envelopes => "end_device_id = ''",
        };
        let table = pipeline.table();
        let add = format!("ALTER TABLE {table} ADD CONSTRAINT mistaken CHECK {check}");
        self.execute_on(pipeline, &add).await
    }

    /// Takes the constraint away again.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn take_rows_of(&self, pipeline: Pipeline) -> Result<()> {
        let table = pipeline.table();
        let drop = format!("ALTER TABLE {table} DROP CONSTRAINT mistaken");
        self.execute_on(pipeline, &drop).await
    }
}
