//! Finds messages that end the process that reads them, so that each goes to the dead letters alone.
//!
//! A message on its third delivery may be what ended the workers that had it before. The delivery
//! count cannot tell it from the thousands that were merely in flight beside it, so each suspect is
//! read in a child process first; the one during which two children end is poison. A message that
//! was read before goes first into each child: on a machine where that fails too, nothing is
//! concluded. Of a packed message that ends two children each event is then read by itself, so that
//! only those go to the dead letters which do so alone; where none does, the message as a whole.

mod frame;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ponix_nats::{Batch, DeadLetter, Delivery};
use ponix_wire::{DeadLetterReason, PackFormat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

pub use self::frame::serve_crash_isolation;
use self::frame::{Frame, SURVIVED};
use crate::unpacked::Unpacked;

/// From this delivery on, a message may be what ended the workers that had it before.
const SUSPECT_FROM_DELIVERY: u32 = 3;
/// Time one message may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which the events of one packed message are told apart: few of them may take all of theirs.
const EVENTS_TIMEOUT: Duration = Duration::from_mins(2);
/// Time a child that does not answer gets to end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest message that is kept as the control.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// Reads suspects of one pipeline in child processes.
#[derive(Debug)]
pub struct CrashIsolation {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// A message that this process has survived.
    control: Mutex<Option<Arc<Frame>>>,
    events_timeout: Duration,
}

/// What of a message ends two children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Poison {
    /// Nothing.
    None,
    /// The message, whatever is in it.
    Message(DeadLetter),
    /// Events of a packed message, by their index.
    Events(HashMap<u32, DeadLetter>),
}

/// How a child took a message.
enum Taken {
    Survived,
    /// It ended, or did not answer: how.
    Ended(String),
}

impl CrashIsolation {
    /// Makes one whose children are this program with these arguments; they must call
    /// [`serve_crash_isolation`].
    pub fn new(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            // Where it is not known, no child starts, and nothing is concluded.
            program: std::env::current_exe().unwrap_or_default(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            control: Mutex::default(),
            events_timeout: EVENTS_TIMEOUT,
        }
    }

    /// Returns what of each message of a batch ends two children, in the batch's order; `None` when
    /// `give_up` was cancelled before that is known.
    pub(crate) async fn find_poison(
        &self,
        batch: &Batch,
        format: PackFormat,
        events_max: usize,
        give_up: &CancellationToken,
    ) -> Option<Vec<Poison>> {
        let messages = batch.messages().iter().enumerate();
        let suspects = messages.filter(|(_, it)| it.deliveries() >= SUSPECT_FROM_DELIVERY);
        let suspects: Vec<_> = suspects.map(|(at, it)| (at, Frame::of(it))).collect();
        if suspects.is_empty() {
            return Some(vec![Poison::None; batch.len()]);
        }
        // Children end with the future.
        let search = self.search(batch, &suspects, format, events_max);
        give_up.run_until_cancelled(search).await
    }

    async fn search(
        &self,
        batch: &Batch,
        suspects: &[(usize, Frame)],
        format: PackFormat,
        events_max: usize,
    ) -> Vec<Poison> {
        let mut found = vec![None; batch.len()];
        if let Err(error) = self.read_apart(suspects, &mut found).await {
            tracing::error!(
                error,
                suspects = suspects.len(),
                "suspects cannot be read in child processes, none is taken for poison"
            );
            found.fill(None);
        }
        let mut poison = Vec::with_capacity(found.len());
        for (delivery, found) in batch.messages().iter().zip(found) {
            poison.push(match found {
                None => Poison::None,
                Some(letter) => self.events_of(delivery, letter, format, events_max).await,
            });
        }
        poison
    }

    /// Looks for what of a packed message ends children, one event after the other. Splitting is done
    /// here: it reads lengths, or looks for line breaks. A message whose events take too long is poison
    /// as a whole.
    async fn events_of(
        &self,
        delivery: &Delivery,
        mut whole: DeadLetter,
        format: PackFormat,
        events_max: usize,
    ) -> Poison {
        let unpacked = Unpacked::new(delivery.into(), format, events_max);
        let Some(unpacked) = unpacked.ok().filter(Unpacked::is_packed) else {
            return Poison::Message(whole);
        };
        let events = unpacked.events().filter_map(|(index, event)| {
            let payload = delivery.payload().slice_ref(event.payload);
            let event = delivery.event(index?, event.identity, payload);
            Some((index? as usize, Frame::of(&event)))
        });
        let events: Vec<_> = events.collect();
        let mut found = vec![None; events.len()];
        let read = self.read_apart(&events, &mut found);
        match tokio::time::timeout(self.events_timeout, read).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let sequence = delivery.stream_sequence();
                tracing::error!(
                    error,
                    sequence,
                    "the events of a message cannot be read in child processes, none is taken for poison"
                );
                return Poison::None;
            }
            Err(_) => {
                let (events, seconds) = (events.len(), self.events_timeout.as_secs());
                let told = format!("; which of its {events} events, {seconds} s did not show");
                whole.error.push_str(&told);
                return Poison::Message(whole);
            }
        }
        let dead = (0_u32..).zip(found);
        let dead: HashMap<_, _> = dead
            .filter_map(|(index, letter)| Some((index, letter?)))
            .collect();
        if dead.is_empty() {
            Poison::Message(whole)
        } else {
            Poison::Events(dead)
        }
    }

    /// Remembers a message of a batch that was read to its end.
    pub(crate) fn note_survivor(&self, batch: &Batch) {
        let first = batch.messages().first();
        let small = first.filter(|delivery| delivery.payload().len() <= CONTROL_BYTES_MAX);
        if let Some(delivery) = small {
            *self.control() = Some(Arc::new(Frame::of(delivery)));
        }
    }

    async fn read_apart(
        &self,
        suspects: &[(usize, Frame)],
        found: &mut [Option<DeadLetter>],
    ) -> Result<(), String> {
        let mut next = 0;
        let mut ended_one = false;
        while next < suspects.len() {
            let mut reader = self.start_reader().await?;
            while let Some((position, suspect)) = suspects.get(next) {
                match reader.read(suspect).await {
                    Taken::Survived => {
                        next += 1;
                        ended_one = false;
                        continue;
                    }
                    Taken::Ended(how) if ended_one => {
                        let sequence = suspect.stream_sequence();
                        tracing::error!(sequence, how, "a message ends the process that reads it");
                        found[*position] = Some(poison(suspect, &how));
                        next += 1;
                    }
                    // Something else may have ended it: a lack of memory, somebody's kill.
                    Taken::Ended(how) => {
                        let sequence = suspect.stream_sequence();
                        tracing::warn!(sequence, how, "a child process ended, trying once more");
                    }
                }
                ended_one = !ended_one;
                break;
            }
        }
        Ok(())
    }

    /// Starts a child and has it read a message that is known to be good.
    async fn start_reader(&self) -> Result<Reader, String> {
        let mut reader = Reader::start(self).map_err(|err| err.to_string())?;
        let control = self.control().clone().unwrap_or_default();
        match reader.read(&control).await {
            Taken::Survived => Ok(reader),
            Taken::Ended(how) => Err(format!("a message known to be good ends one too ({how})")),
        }
    }

    fn control(&self) -> std::sync::MutexGuard<'_, Option<Arc<Frame>>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn poison(suspect: &Frame, how: &str) -> DeadLetter {
    DeadLetter {
        reason: DeadLetterReason::EndsProcess,
        error: format!(
            "delivery {}: decoding it ends the process ({how})",
            suspect.deliveries()
        ),
        event_id: None,
    }
}

/// A child that reads what it is handed.
#[derive(Debug)]
struct Reader {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Reader {
    fn start(isolation: &CrashIsolation) -> std::io::Result<Self> {
        let mut child = Command::new(&isolation.program)
            .args(&isolation.arguments)
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

    async fn read(&mut self, frame: &Frame) -> Taken {
        let exchange = async {
            self.input.write_all(&frame.bytes()).await?;
            self.input.flush().await?;
            self.output.read_u8().await
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok(SURVIVED)) => Taken::Survived,
            _ => Taken::Ended(self.how_it_ended().await),
        }
    }

    /// Says how the child ended; one that hangs is killed when it is dropped.
    async fn how_it_ended(&mut self) -> String {
        match tokio::time::timeout(END_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(err)) => err.to_string(),
            Err(_) => format!("no answer in {} s", TIMEOUT.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of one suspect whose children are shells that run this.
    async fn found(script: &str) -> Result<Option<DeadLetter>, String> {
        let isolation = CrashIsolation {
            program: "sh".into(),
            ..CrashIsolation::new(["-c", script])
        };
        let mut found = [None];
        let suspects = [(0, Frame::default())];
        isolation.read_apart(&suspects, &mut found).await?;
        let [found] = found;
        Ok(found)
    }

    /// It survives the control and nothing more.
    const ENDS_AT_THE_SECOND: &str = "head -c 4 > /dev/null; printf .; exit 7";

    #[tokio::test]
    async fn a_message_that_ends_two_children_is_poison() {
        let letter = found(ENDS_AT_THE_SECOND).await.unwrap();
        let letter = letter.expect("two children ended");
        assert_eq!(letter.reason, DeadLetterReason::EndsProcess);
        assert!(letter.error.contains("exit status: 7"), "{}", letter.error);
    }

    #[tokio::test]
    async fn a_message_that_ends_one_child_of_two_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("ended-once");
        let script = format!(
            "if mkdir {}; then {ENDS_AT_THE_SECOND}; else printf ..; cat > /dev/null; fi",
            mark.display()
        );
        assert_eq!(found(&script).await, Ok(None));
        assert!(mark.exists());
    }

    #[tokio::test]
    async fn where_every_child_ends_nothing_is_concluded() {
        for script in ["exit 1", "kill -9 $$"] {
            let why = found(script).await.unwrap_err();
            assert!(why.contains("known to be good ends one too"), "{why}");
        }
    }

    #[tokio::test]
    async fn where_no_child_starts_nothing_is_concluded() {
        let isolation = CrashIsolation {
            program: PathBuf::new(),
            ..CrashIsolation::new([""; 0])
        };
        let suspects = [(0, Frame::default())];
        isolation
            .read_apart(&suspects, &mut [None])
            .await
            .unwrap_err();
    }

    /// Reads frames, and ends at a payload with what this pattern matches.
    fn child_that_ends_at(pattern: &str) -> CrashIsolation {
        let script = format!(
            r#"while l=$(head -c 4 | od -An -tu4 | tr -d ' ') && [ -n "$l" ]; do
                 head=$(head -c "$l"); bytes=${{head##*payload_bytes\":}}
                 body=$(head -c "${{bytes%\}}}}")
                 case "$body" in {pattern}) exit 7;; esac
                 printf .
               done"#
        );
        CrashIsolation {
            program: "sh".into(),
            ..CrashIsolation::new(["-c", &script])
        }
    }

    async fn find(isolation: &CrashIsolation, batch: &Batch) -> Vec<Poison> {
        let give_up = CancellationToken::new();
        let found = isolation.find_poison(batch, PackFormat::Lines, 10, &give_up);
        found.await.expect("nobody gives up")
    }

    /// A packed message of these lines, on its third delivery.
    fn packed(lines: &[&str]) -> Batch {
        let mut headers = ponix_nats::async_nats::HeaderMap::new();
        headers.insert(ponix_wire::header::PACKED, lines.len().to_string().as_str());
        let body = lines.join("\n");
        let message = ponix_nats::async_nats::Message {
            subject: "events.a".into(),
            reply: Some("$JS.ACK.events.worker.3.852.900.1700000000123456789.7".into()),
            length: body.len(),
            payload: body.into(),
            headers: Some(headers),
            status: None,
            description: None,
        };
        Batch::from_messages("events", [message])
    }

    #[tokio::test]
    async fn of_a_packed_message_only_what_ends_children_alone_is_poison() {
        let isolation = child_that_ends_at("*deadly*");
        let batch = packed(&["one", "deadly", "two", "deadly too"]);
        let found = find(&isolation, &batch).await;
        let [Poison::Events(letters)] = &found[..] else {
            panic!("{found:?}")
        };
        let mut indexes: Vec<_> = letters.keys().copied().collect();
        indexes.sort_unstable();
        assert_eq!(indexes, [1, 3]);
        let harmless = packed(&["one", "two"]);
        assert_eq!(find(&isolation, &harmless).await, [Poison::None]);
    }

    #[tokio::test]
    async fn a_packed_message_no_event_of_which_ends_a_child_alone_is_poison_as_a_whole() {
        let isolation = child_that_ends_at("*one*two*");
        let batch = packed(&["one", "two"]);
        let found = find(&isolation, &batch).await;
        assert!(matches!(&found[..], [Poison::Message(_)]), "{found:?}");
    }

    #[tokio::test]
    async fn a_packed_message_whose_events_take_too_long_is_poison_as_a_whole() {
        let isolation = CrashIsolation {
            events_timeout: Duration::ZERO,
            ..child_that_ends_at("*deadly*")
        };
        let found = find(&isolation, &packed(&["one", "deadly"])).await;
        let [Poison::Message(letter)] = &found[..] else {
            panic!("{found:?}")
        };
        let told = "which of its 2 events, 0 s did not show";
        assert!(letter.error.contains(told), "{}", letter.error);
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_search_and_its_children() {
        // The first answers the control and then waits for ever.
        let isolation = CrashIsolation {
            program: "sh".into(),
            ..CrashIsolation::new(["-c", "printf .; cat > /dev/null"])
        };
        let (suspect, give_up) = (packed(&["one"]), CancellationToken::new());
        let found = isolation.find_poison(&suspect, PackFormat::Lines, 10, &give_up);
        let stop = async { give_up.cancel() };
        assert_eq!(tokio::join!(found, stop).0, None);
        // What is no suspect is worked on all the same.
        let harmless = Batch::from_messages("events", []);
        let found = isolation.find_poison(&harmless, PackFormat::Lines, 10, &give_up);
        assert_eq!(found.await, Some(Vec::new()));
    }
}
