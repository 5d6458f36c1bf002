//! The child's side of crash isolation: reads messages as their pipeline does, without a server.

use ponix_clickhouse::{BatchLimits, ClickHouseConfig, encode};
use ponix_entities::Catalog;
use ponix_pipeline::{Decode, DecodeError, Decoded, Message, serve_crash_isolation};
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

fn serve(mut read_message: impl FnMut(&Message<'_>)) -> Outcome {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    serve_crash_isolation(input, output, |message| {
        abort_if_planted(message.payload);
        read_message(message);
    });
    Outcome::Clean
}

/// A decoder that ends the process where a test has planted such a payload.
#[derive(Debug)]
pub(crate) struct Planted<D>(pub(crate) D);

impl<D: Decode> Decode for Planted<D> {
    type Row = D::Row;

    fn decode(&self, message: &Message<'_>) -> Result<Decoded<D::Row>, DecodeError> {
        abort_if_planted(message.payload);
        self.0.decode(message)
    }
}

/// Ends the process when a payload holds the failpoint's argument.
fn abort_if_planted(payload: &[u8]) {
    fail::fail_point!("abort_on_payload", |marker| {
        let marker = marker.unwrap_or_default();
        if payload
            .windows(marker.len().max(1))
            .any(|window| window == marker.as_bytes())
        {
            std::process::abort();
        }
    });
    let _ = payload;
}
