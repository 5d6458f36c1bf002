//! Packed messages through the processor, into a store that is a script.

use std::sync::Mutex;
use std::time::Duration;

use ponix_nats::async_nats::{HeaderMap, Message as NatsMessage};
use ponix_nats::{DeadEvent, Disposition};
use ponix_sink::{Attempt, BoxError, ErrorClass, Rejection, StoredRows, WriteError};
use ponix_wire::{DeadLetterReason, PackFormat, event_identity, header};
use uuid::Uuid;

use super::*;
use crate::decode::{DecodeError, Decoded, Message, Reason};

const NAK_DELAY: Duration = Duration::from_secs(7);

/// Reads words: `bad` is none, `drop` is dropped.
struct Words;

impl Decode for Words {
    type Row = String;

    fn pack_format(&self) -> PackFormat {
        PackFormat::Lines
    }

    fn decode(&self, message: &Message<'_>) -> Result<Decoded<String>, DecodeError> {
        let word = String::from_utf8_lossy(message.payload).into_owned();
        if word.starts_with("bad") {
            return Err(DecodeError::new(Reason::Value, word));
        }
        if word.starts_with("drop") {
            return Ok(Decoded::Dropped);
        }
        let identity = message.identity;
        Ok(Decoded::Row {
            row: word,
            identity,
        })
    }
}

/// Stores words, but `refused` and `later`; those with `held` only once it is mended.
#[derive(Default)]
struct Store {
    seen: Mutex<Vec<Vec<String>>>,
    mended: std::sync::atomic::AtomicBool,
}

impl Sink for Store {
    type Row = String;
    type Encoded = Vec<String>;

    async fn encode(&self, rows: Vec<String>) -> Result<Vec<String>, WriteError> {
        Ok(rows)
    }
    async fn write(
        &self,
        rows: &Vec<String>,
        _: Attempt<'_>,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        self.seen.lock().unwrap().push(rows.clone());
        let is_mended = self.mended.load(std::sync::atomic::Ordering::Relaxed);
        if !is_mended && rows.iter().any(|row| row.starts_with("held")) {
            let mut stored = StoredRows::none(rows.len());
            let taken = |n: &usize| !rows[*n].starts_with("held");
            let taken: Vec<usize> = (0..rows.len()).filter(taken).collect();
            stored.extend(&taken);
            return Err(WriteError::Unusable {
                class: ErrorClass::Fatal,
                stored,
                source: "the disk is full".into(),
            });
        }
        let outcome = |row: &String| match row.as_str() {
            row if row.starts_with("refused") => RowOutcome::Rejected(Rejection {
                by: RejectedBy::Store,
                text: row.to_owned(),
            }),
            row if row.starts_with("twin") => RowOutcome::Rejected(Rejection {
                by: RejectedBy::Identity,
                text: row.to_owned(),
            }),
            row if row.starts_with("later") => RowOutcome::Later {
                reason: row.to_owned(),
            },
            _ => RowOutcome::Stored,
        };
        Ok(rows.iter().map(outcome).collect())
    }

    async fn ping(&self) -> Result<(), BoxError> {
        Ok(())
    }
}

fn processor() -> PipelineProcessor<Words, Store> {
    let settings = BatchSettings {
        nak_delay: NAK_DELAY,
        pack_events_max: 10,
        ..BatchSettings::default()
    };
    // No child is started before the third delivery.
    let isolation = CrashIsolation::new([""; 0]);
    PipelineProcessor::new(Words, Store::default(), isolation, &settings)
}

/// A message at a sequence; with a header, packed.
fn message(sequence: u64, deliveries: u32, said: Option<usize>, body: &str) -> NatsMessage {
    let headers = said.map(|said| {
        let mut headers = HeaderMap::new();
        headers.insert(header::PACKED, said.to_string().as_str());
        headers
    });
    let reply = format!("$JS.ACK.events.worker.{deliveries}.{sequence}.9.1700000000000000000.0");
    NatsMessage {
        subject: "events.a".into(),
        reply: Some(reply.into()),
        payload: body.to_owned().into(),
        headers,
        status: None,
        description: None,
        length: body.len(),
    }
}

fn pack(sequence: u64, words: &str) -> NatsMessage {
    let body = words.replace(' ', "\n");
    message(sequence, 1, Some(words.split(' ').count()), &body)
}

fn batch(messages: impl IntoIterator<Item = NatsMessage>) -> Batch {
    Batch::from_messages("events", messages)
}

async fn dispositions(
    processor: &PipelineProcessor<Words, Store>,
    batch: &Batch,
) -> Vec<Disposition> {
    let result = processor.process(batch, &CancellationToken::new()).await;
    result.expect("it is processed").dispositions().to_vec()
}

/// What is dead of a message, as index, text and reason, and whether that is all of it.
fn dead(disposition: &Disposition) -> (Vec<(u32, String, DeadLetterReason)>, bool) {
    let Disposition::DeadEvents { events, all } = disposition else {
        panic!("{disposition:?}")
    };
    let of = |event: &DeadEvent| {
        let text = String::from_utf8_lossy(&event.payload).into_owned();
        assert_eq!(event.dead_letter.error, text);
        (event.index, text, event.dead_letter.reason)
    };
    (events.iter().map(of).collect(), *all)
}

#[tokio::test]
async fn each_event_is_stored_or_dead_by_itself() {
    let processor = processor();
    let batch = batch([
        pack(1, "one bad-2 refused-3 drop-4 five"),
        message(2, 1, None, "single"),
        message(3, 1, None, "bad-single"),
        pack(4, "bad-1 refused-2"),
        pack(5, "drop-1 drop-2"),
    ]);
    let found = dispositions(&processor, &batch).await;
    let (value, store) = (DeadLetterReason::Value, DeadLetterReason::RejectedByStore);
    let (events, all) = dead(&found[0]);
    assert_eq!(
        events,
        [(1, "bad-2".into(), value), (2, "refused-3".into(), store)]
    );
    assert!(!all, "others are stored");
    assert_eq!(found[1], Disposition::Ack);
    assert!(matches!(&found[2], Disposition::DeadLetter(it) if it.error == "bad-single"));
    let (events, all) = dead(&found[3]);
    assert_eq!((events.len(), all), (2, true));
    assert_eq!(found[4], Disposition::Ack, "nothing of it is to be kept");
    let seen = processor.sink.seen.lock().unwrap();
    assert_eq!(
        *seen,
        [["one", "refused-3", "five", "single", "refused-2"]],
        "in the order of messages and of the index"
    );
}

#[tokio::test]
async fn a_dead_event_has_the_identity_of_its_place() {
    let batch = batch([pack(1, "one bad-2 twin-3")]);
    let found = dispositions(&processor(), &batch).await;
    let Disposition::DeadEvents { events, .. } = &found[0] else {
        panic!("{found:?}")
    };
    let whole = &batch.messages()[0];
    for event in events {
        let expected = event_identity(whole.identity(), event.index);
        assert_eq!(event.identity, expected);
        let of_one = whole.event(event.index, event.identity, event.payload.clone());
        assert_eq!(of_one.identity(), expected);
    }
    assert_eq!(events[0].dead_letter.event_id, None);
    let place = event_identity(whole.place("events"), 2);
    assert_eq!(events[1].dead_letter.event_id, Some(place));
}

#[tokio::test]
async fn what_makes_a_pack_unreadable_makes_one_dead_letter_of_it() {
    let eleven = ["x"; 11].join(" ");
    let batch = batch([
        message(1, 1, Some(3), "one\ntwo"),
        message(2, 1, Some(0), ""),
        pack(3, &eleven),
        message(4, 1, Some(1), "alone"),
        message(5, 1, Some(1), "bad"),
    ]);
    let processor = processor();
    let found = dispositions(&processor, &batch).await;
    for found in &found[..3] {
        let Disposition::DeadLetter(letter) = found else {
            panic!("{found:?}")
        };
        assert_eq!(letter.reason, DeadLetterReason::Decode);
        assert_eq!(letter.event_id, None);
    }
    assert_eq!(found[3], Disposition::Ack);
    assert_eq!(
        dead(&found[4]),
        (vec![(0, "bad".into(), DeadLetterReason::Value)], true)
    );
    assert_eq!(*processor.sink.seen.lock().unwrap(), [["alone"]]);
}

#[tokio::test]
async fn while_an_event_is_for_later_all_of_its_message_is() {
    let words = "one bad-2 later-3 refused-4";
    let first = dispositions(&processor(), &batch([pack(1, words)])).await;
    let delay = Some(NAK_DELAY);
    assert_eq!(first, [Disposition::Nak { delay }]);

    let last = message(1, 8, Some(4), &words.replace(' ', "\n"));
    let processor = processor();
    // No child can be started, so nothing is taken for poison.
    let last = dispositions(&processor, &batch([last])).await;
    let (events, all) = dead(&last[0]);
    let reasons: Vec<_> = events
        .iter()
        .map(|(index, _, reason)| (*index, *reason))
        .collect();
    assert_eq!(
        reasons,
        [
            (1, DeadLetterReason::Value),
            (2, DeadLetterReason::MaxDeliveries),
            (3, DeadLetterReason::RejectedByStore),
        ]
    );
    assert!(!all);
}

#[tokio::test]
async fn a_held_message_leaves_its_batch_once_all_of_it_is_stored_and_nothing_dead() {
    let processor = processor();
    let batch = batch([
        pack(1, "one two"),
        pack(2, "three held-4"),
        message(3, 1, None, "five"),
        pack(4, "six bad-7"),
        pack(5, "drop-8 drop-9"),
        message(6, 1, None, "bad-10"),
    ]);
    let err = processor
        .process(&batch, &CancellationToken::new())
        .await
        .expect_err("the store holds");
    let ProcessError::StoreUnusable { stored, .. } = err else {
        panic!("{err:?}")
    };
    assert_eq!(
        stored,
        [0, 2],
        "of 1 one row is not stored, of 3 one event is dead"
    );

    // What is left is tried again, and then the dead events are told.
    processor
        .sink
        .mended
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let rest = [
        pack(2, "three held-4"),
        pack(4, "six bad-7"),
        pack(5, "drop-8 drop-9"),
    ];
    let found = dispositions(&processor, &Batch::from_messages("events", rest)).await;
    assert_eq!(found[0], Disposition::Ack);
    assert_eq!(dead(&found[1]).0.len(), 1);
    assert_eq!(found[2], Disposition::Ack);
}

#[tokio::test]
async fn identities_are_the_same_on_every_delivery() {
    let of = async |deliveries| {
        let words = message(9, deliveries, Some(2), "bad-1\nbad-2");
        let found = dispositions(&processor(), &batch([words])).await;
        let Disposition::DeadEvents { events, .. } = found.into_iter().next().expect("one") else {
            panic!()
        };
        let ids: Vec<Uuid> = events.iter().map(|event| event.identity).collect();
        ids
    };
    assert_eq!(of(1).await, of(5).await);
}
