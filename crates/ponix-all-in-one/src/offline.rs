//! What a start needs beside the variables, checked without any server.

use anyhow::Context as _;
use ponix_entities::Catalog;
use ponix_ingest::ApiKeys;
use ponix_pipeline::{
    DecodeFormat, LoadErrors, Pipeline, PostgresSink, RecordDecoder, Sink, clashes,
};

use crate::commands::pipelines::with_their_tables;
use crate::config::{Config, Problem};
use crate::pipelines;

/// Reads every file that the configuration names; returns all pipelines.
///
/// # Errors
/// Everything that a start would find wrong, at once.
pub(crate) async fn check(config: &Config) -> Result<Vec<Pipeline>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut note = |variable: &str, err: anyhow::Error| {
        problems.push(Problem::new(variable, format!("cannot be used: {err:#}")));
    };
    if let Err(err) = ponix_nats::check_config(&config.nats.connection()).await {
        note(config.nats.variable_of(&err), err.into());
    }
    let ingest = &config.ingest;
    if ingest.enabled {
        if let Some(Err(err)) = ingest.api_keys_file.as_deref().map(ApiKeys::from_file) {
            note("PONIX_INGEST_API_KEYS_FILE", err.into());
        }
        if let Some(Err(err)) = ingest.tls().map(|files| files.check()) {
            note("PONIX_INGEST_TLS_CERT, or _TLS_KEY,", err.into());
        }
    }
    let entities = config.service.entities_dir.as_deref();
    match entities.map(Catalog::load).transpose() {
        Ok(Some(catalog)) => {
            if let Err(err) = pipelines::with_default(config, catalog) {
                note("PONIX_MESSAGES_DEFAULT_ENTITY", err);
            }
        }
        Ok(None) => {}
        Err(err) => note("PONIX_ENTITIES_DIR", err.into()),
    }
    let loaded = pipelines::load(config.service.pipelines_dir.as_deref());
    let loaded = loaded.and_then(with_their_tables);
    let declared = match loaded {
        Ok(declared) => declared,
        Err(errors) => {
            note("PONIX_PIPELINES_DIR", errors.into());
            Vec::new()
        }
    };
    for pipeline in &declared {
        if let Err(err) = files_of(pipeline, config) {
            note("PONIX_PIPELINES_DIR", err);
        }
    }
    let pipelines = pipelines::all(config, declared);
    let clashes = clashes(&pipelines::run_by(config, &pipelines));
    if !clashes.is_empty() {
        note("PONIX_PIPELINES_DIR", LoadErrors(clashes).into());
    }
    if problems.is_empty() {
        Ok(pipelines)
    } else {
        Err(problems)
    }
}

/// Reads the files that a document names.
fn files_of(pipeline: &Pipeline, config: &Config) -> anyhow::Result<()> {
    let named = || format!("pipeline {} ({})", pipeline.name, pipeline.path.display());
    let ((DecodeFormat::Entity { dir, .. }, _)
    | (_, Sink::Postgres(PostgresSink::Entities { dir }))) = (&pipeline.decode, &pipeline.sink)
    else {
        return RecordDecoder::new(pipeline).map(drop).with_context(named);
    };
    // The service's own are read with PONIX_ENTITIES_DIR.
    match dir.as_deref() {
        Some(dir) => Catalog::load(dir).map(drop).with_context(named),
        None if config.service.entities_dir.is_some() => Ok(()),
        None => Err(anyhow::anyhow!(
            "neither the document nor PONIX_ENTITIES_DIR names entities"
        ))
        .with_context(named),
    }
}
