//! Tries suspects in a child process, so that a payload that ends the process condemns only itself.
//!
//! A message on its third delivery may be what ended the workers that had it before. The delivery
//! count cannot tell it from the thousands that were merely in flight beside it, so each suspect is
//! decoded and encoded in a child first; the one during which two children die is the one.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use ponix_clickhouse::{BatchLimits, ClickHouseConfig, EnvelopeRow, encode};
use ponix_nats::{DeadLetter, DeadLetterReason, Delivery};
use ponix_runner::Outcome;
use ponix_wire::decode_envelope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use uuid::Uuid;

/// Name of the hidden subcommand that is the child's side.
pub(crate) const SUBCOMMAND: &str = "trial";
/// Time one payload may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What the child answers for each payload it has survived.
const SURVIVED: u8 = b'.';
/// Length of the publish time and of the payload's length, before each payload.
const FRAME_HEAD_BYTES: usize = 16;

/// Returns a dead letter for each suspect that ends two children, in order; `None` for the others.
///
/// When no child can be started, every suspect counts as harmless: the worker goes on as if there
/// were no trial.
pub(crate) async fn try_suspects(suspects: &[&Delivery]) -> Vec<Option<DeadLetter>> {
    let mut verdicts = Vec::with_capacity(suspects.len());
    let mut ended_one = false;
    while verdicts.len() < suspects.len() {
        let mut bench = match Bench::start() {
            Ok(bench) => bench,
            Err(err) => {
                tracing::error!(error = %err, "suspects cannot be tried in a child process");
                verdicts.resize(suspects.len(), None);
                break;
            }
        };
        for suspect in &suspects[verdicts.len()..] {
            if bench.survives(suspect).await {
                verdicts.push(None);
                ended_one = false;
                continue;
            }
            let how = bench.end().await;
            let sequence = suspect.stream_sequence();
            if ended_one {
                tracing::error!(sequence, how, "a payload ends the process that decodes it");
                verdicts.push(Some(condemned(suspect, &how)));
            } else {
                // Something else may have ended it: a lack of memory, somebody's kill.
                tracing::warn!(sequence, how, "a child process ended, trying once more");
            }
            ended_one = !ended_one;
            break;
        }
    }
    verdicts
}

fn condemned(suspect: &Delivery, how: &str) -> DeadLetter {
    DeadLetter {
        reason: DeadLetterReason::EndsProcess,
        error: format!(
            "delivery {}: decoding it ends the process ({how})",
            suspect.deliveries()
        ),
        event_id: None,
    }
}

/// A child that decodes what it is handed.
#[derive(Debug)]
struct Bench {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Bench {
    fn start() -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || std::io::Error::other("the child has no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Self {
            child,
            input,
            output,
        })
    }

    async fn survives(&mut self, suspect: &Delivery) -> bool {
        let exchange = async {
            let payload = suspect.payload();
            self.input.write_i64_le(suspect.published_at_ns()).await?;
            self.input.write_u64_le(payload.len() as u64).await?;
            self.input.write_all(payload).await?;
            self.input.flush().await?;
            self.output.read_u8().await
        };
        matches!(
            tokio::time::timeout(TIMEOUT, exchange).await,
            Ok(Ok(SURVIVED))
        )
    }

    /// Ends the child and says how it died.
    async fn end(mut self) -> String {
        match tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(err)) => err.to_string(),
            Err(_) => {
                // Killed when dropped.
                format!("no answer in {} s", TIMEOUT.as_secs())
            }
        }
    }
}

/// The child's side: decodes and encodes each payload from standard input, answers with one byte.
pub(crate) fn child() -> Outcome {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let mut head = [0; FRAME_HEAD_BYTES];
    while input.read_exact(&mut head).is_ok() {
        let (time, length) = head.split_at(8);
        let published_at_ns = i64::from_le_bytes(time.try_into().expect("8 bytes"));
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        if input.read_exact(&mut payload).is_err() {
            break;
        }
        use_payload(&payload, published_at_ns);
        if output
            .write_all(&[SURVIVED])
            .and_then(|()| output.flush())
            .is_err()
        {
            break;
        }
    }
    Outcome::Clean
}

fn use_payload(payload: &[u8], published_at_ns: i64) {
    super::processor::abort_if_planted(payload);
    if let Ok(envelope) = decode_envelope(payload, published_at_ns) {
        let row = EnvelopeRow {
            envelope,
            event_id: Uuid::nil(),
            published_at_ns,
            stream_sequence: 0,
        };
        std::hint::black_box(encode(
            &[row],
            BatchLimits::from(&ClickHouseConfig::default()),
        ));
    }
}
