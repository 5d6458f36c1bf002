//! What the pipelines beside the envelopes' need.

use std::collections::BTreeMap;

use anyhow::Result;
use ponix_stack::{Postgres, Proxy};
use tempfile::TempDir;

use crate::pipeline::write_declarations;

/// What the pipelines beside the envelopes' need.
#[derive(Debug)]
pub(super) struct OtherPipelines {
    pub(super) postgres: Postgres,
    pub(super) postgres_proxy: Option<Proxy>,
    /// Their entities and documents.
    _declarations: TempDir,
}

impl OtherPipelines {
    /// Starts PostgreSQL, with a proxy before it or without, and tells the workers.
    pub(super) async fn start(env: &mut BTreeMap<String, String>, proxied: bool) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let postgres_proxy = if proxied {
            Some(Proxy::start(postgres.addr()).await?)
        } else {
            None
        };
        let addr = postgres_proxy.as_ref().map_or(postgres.addr(), Proxy::addr);
        let folder = tempfile::tempdir()?;
        let (entities, pipelines) = (
            folder.path().join("entities"),
            folder.path().join("pipelines"),
        );
        let ack_wait = env["PONIX_NATS_ACK_WAIT_SECS"].clone();
        write_declarations(&entities, &pipelines, &format!("{ack_wait}s"))?;
        for (name, value) in [
            ("PONIX_POSTGRES_URL", postgres.url_by(addr)),
            ("PONIX_ENTITIES_DIR", entities.display().to_string()),
            ("PONIX_PIPELINES_DIR", pipelines.display().to_string()),
            ("PONIX_MESSAGES_BATCH_SIZE", "100".to_owned()),
            ("PONIX_MESSAGES_NAK_DELAY_SECS", "0.2".to_owned()),
            ("PONIX_MESSAGES_ACK_WAIT_SECS", ack_wait),
        ] {
            env.insert(name.to_owned(), value);
        }
        Ok(Self {
            postgres,
            postgres_proxy,
            _declarations: folder,
        })
    }
}
