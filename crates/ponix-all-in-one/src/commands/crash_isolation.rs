//! The child's side of crash isolation: reads messages as their pipeline does, without a server.

use ponix_clickhouse::{BatchLimits, ClickHouseConfig, encode};
use ponix_entities::Catalog;
use ponix_pipeline::{Decode as _, Decoded, Message, serve_crash_isolation};
use ponix_runner::Outcome;

use crate::cli;
use crate::config::Config;
use crate::declared;
use crate::envelopes::{self, EnvelopeDecoder};
use crate::messages::{self, MessageDecoder};

/// Reads messages of a pipeline from standard input, and answers each on standard output.
pub(crate) fn run(config: &Config, pipeline: &str) -> Outcome {
    match pipeline {
        envelopes::NAME => serve(|message| {
            if let Ok(Decoded::Row { row, .. }) = EnvelopeDecoder.decode(message) {
                let limits = BatchLimits::from(&ClickHouseConfig::default());
                std::hint::black_box(encode(&[row], limits));
            }
        }),
        messages::NAME => {
            let dir = config.service.entities_dir.clone().unwrap_or_default();
            match Catalog::load(&dir) {
                Ok(catalog) => {
                    let decoder = MessageDecoder::new(catalog.into());
                    serve(|message| drop(std::hint::black_box(decoder.decode(message))))
                }
                Err(err) => cli::fail(&format!("PONIX_ENTITIES_DIR: {err}")),
            }
        }
        declared => match declared::read_offline(config, declared) {
            Ok(read) => serve(read),
            Err(err) => cli::fail(&format!("{err:#}")),
        },
    }
}

fn serve(read_message: impl FnMut(&Message<'_>)) -> Outcome {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    serve_crash_isolation(input, output, read_message);
    Outcome::Clean
}
