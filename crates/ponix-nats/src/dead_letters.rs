//! Keeps what cannot be stored, once per identity.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use ponix_wire::header;
use uuid::Uuid;

use crate::delivery::Delivery;
use crate::processing_result::DeadLetter;
use crate::publisher::{OutgoingMessage, PublishError, Publisher};
use crate::stream::StreamSettings;

/// Longest error text kept, in bytes.
const ERROR_BYTES_MAX: usize = 2048;

/// Writes into a dead-letter stream: one subject per event, a second publish of which is refused by
/// the stream and counts as done, so dead-lettering may be repeated after a crash.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    publisher: Publisher,
    stream: String,
    subject_prefix: String,
}

impl DeadLetters {
    /// Returns the settings of the dead-letter stream that belongs to `source`: its name is the
    /// source's with `_dlq`, and its subjects begin with the first token of the source's with
    /// `_dlq`, hence outside of the source's own.
    pub fn stream_settings(source: &StreamSettings, bytes_max: u64) -> StreamSettings {
        let first = source.subjects.first().unwrap_or(&source.name);
        let root = first.split('.').next().unwrap_or(first);
        StreamSettings {
            subjects: vec![format!("{root}_dlq.>")],
            name: format!("{}_dlq", source.name),
            bytes_max,
            replicas: source.replicas,
            duplicate_window: source.duplicate_window,
            one_per_subject: true,
            age_max: Duration::ZERO,
        }
    }

    /// Makes a writer into the stream of these settings.
    pub fn new(publisher: Publisher, settings: &StreamSettings) -> Self {
        let subject = settings.subjects.first().unwrap_or(&settings.name);
        Self {
            publisher,
            stream: settings.name.clone(),
            subject_prefix: subject.trim_end_matches(".>").to_owned(),
        }
    }

    /// Keeps one message. Returns once the stream has it, by this call or an earlier one.
    ///
    /// Where another event lies under its id, it is kept under its fingerprint.
    ///
    /// # Errors
    /// The dead letters cannot take the message now: do not end the original.
    ///
    /// # Cancel safety
    /// Not cancel safe, and safe to repeat.
    pub async fn keep(
        &self,
        stream: &str,
        delivery: &Delivery,
        dead_letter: &DeadLetter,
    ) -> Result<(), PublishError> {
        let id = dead_letter.event_id.unwrap_or_else(|| delivery.identity());
        let letter = Letter {
            stream,
            delivery,
            why: dead_letter,
            fingerprint: fingerprint(id, delivery),
        };
        let mut kept = self.keep_as(id, letter).await?;
        if matches!(kept, Kept::Another(_)) {
            kept = self.keep_as(letter.fingerprint, letter).await?;
        }
        match kept {
            Kept::Here => Ok(()),
            Kept::Another(refusal) => Err(refusal),
        }
    }

    async fn keep_as(&self, id: Uuid, letter: Letter<'_>) -> Result<Kept, PublishError> {
        let subject = format!("{}.{id}", self.subject_prefix);
        let payload = letter.delivery.payload().clone();
        match self
            .publish(&subject, letter.headers(), payload, letter)
            .await
        {
            Err(PublishError::TooLarge { .. }) => self.keep_in_parts(&subject, letter).await,
            other => other,
        }
    }

    /// A body of just the server's `max_payload` does not fit beside more headers than it came with.
    async fn keep_in_parts(&self, subject: &str, letter: Letter<'_>) -> Result<Kept, PublishError> {
        let payload = letter.delivery.payload();
        let (first, rest) = (
            payload.slice(..payload.len() / 2),
            payload.slice(payload.len() / 2..),
        );
        let rest_subject = format!("{subject}.rest");
        // The rest first: once the head is there, the whole is.
        let event = letter.event_headers();
        let kept = self.publish(&rest_subject, event, rest, letter).await?;
        if matches!(kept, Kept::Another(_)) {
            return Ok(kept);
        }
        let mut whole = letter.headers();
        set(&mut whole, header::REST, &rest_subject);
        match self.publish(subject, whole, first.clone(), letter).await {
            Err(PublishError::TooLarge { .. }) => {
                let mut few = letter.own_headers();
                set(&mut few, header::REST, &rest_subject);
                set(&mut few, header::HEADERS_DROPPED, "true");
                // What is put back is still the same event.
                let message_id = format!("{}{}", header::ORIGINAL_PREFIX, header::MESSAGE_ID);
                few.insert(message_id, letter.delivery.identity().to_string().as_str());
                self.publish(subject, few, first, letter).await
            }
            other => other,
        }
    }

    async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        letter: Letter<'_>,
    ) -> Result<Kept, PublishError> {
        let message = OutgoingMessage {
            subject: subject.to_owned(),
            id: None,
            headers,
            payload,
        };
        let published = match self.publisher.publish(message).await {
            Ok(_) => Ok(Kept::Here),
            Err(err) if err.is_store_refusal() => match self.held(subject).await {
                Some(held) if letter.is_kept_by(&held) => Ok(Kept::Here),
                Some(_) => Ok(Kept::Another(err)),
                None => Err(err),
            },
            Err(err) => Err(err),
        };
        match &published {
            Ok(_) => self.publisher.metrics().refusing.set(&self.stream, false),
            Err(PublishError::Refused { .. } | PublishError::NoStream { .. }) => {
                self.publisher.metrics().refusing.set(&self.stream, true);
            }
            // It does not answer, which is the connection's to tell.
            Err(_) => {}
        }
        published
    }

    /// Returns the message that the stream has on this subject. A full stream refuses with the
    /// same code as one that has the subject, and a cluster refuses also while the first message
    /// is only on its way: what counts is that it can be read.
    async fn held(&self, subject: &str) -> Option<StreamMessage> {
        let context = self.publisher.context();
        let stream = context.get_stream_no_info(&self.stream).await.ok()?;
        stream.direct_get_last_for_subject(subject).await.ok()
    }
}

/// What has become of a dead letter.
#[derive(Debug)]
enum Kept {
    Here,
    /// The subject holds another event, so that the stream refuses this one.
    Another(PublishError),
}

/// A message and why it is kept.
#[derive(Debug, Clone, Copy)]
struct Letter<'a> {
    stream: &'a str,
    delivery: &'a Delivery,
    why: &'a DeadLetter,
    fingerprint: Uuid,
}

impl Letter<'_> {
    /// Tells whether what is kept is the same message, or the same event published again. One id
    /// does not make one event: organizations and devices choose theirs by themselves.
    fn is_kept_by(self, kept: &StreamMessage) -> bool {
        let here = self.event_headers();
        let same = |name| kept.headers.get(name) == here.get(name);
        // Letters of versions that wrote no fingerprint are known by their place alone.
        same(header::FINGERPRINT)
            || [
                header::STREAM,
                header::SEQUENCE,
                header::PUBLISHED_NS,
                header::INDEX,
            ]
            .into_iter()
            .all(same)
    }

    fn headers(self) -> HeaderMap {
        let mut headers = self.own_headers();
        let originals = self.delivery.headers();
        for (name, values) in originals.into_iter().flat_map(HeaderMap::iter) {
            let Ok(name) = format!("{}{name}", header::ORIGINAL_PREFIX).parse::<HeaderName>()
            else {
                continue;
            };
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    fn own_headers(self) -> HeaderMap {
        let mut headers = self.event_headers();
        set(&mut headers, header::REASON, self.why.reason.as_str());
        set(&mut headers, header::ERROR, &self.why.error);
        set(&mut headers, header::SUBJECT, self.delivery.subject());
        headers.insert(
            header::DELIVERIES,
            HeaderValue::from(u64::from(self.delivery.deliveries())),
        );
        headers
    }

    /// Headers that tell the event from all others.
    fn event_headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        set(&mut headers, header::STREAM, self.stream);
        headers.insert(
            header::SEQUENCE,
            HeaderValue::from(self.delivery.stream_sequence()),
        );
        headers.insert(
            header::PUBLISHED_NS,
            HeaderValue::from(self.delivery.published_at_ns()),
        );
        if let Some(index) = self.delivery.index() {
            headers.insert(header::INDEX, HeaderValue::from(u64::from(index)));
        }
        set(
            &mut headers,
            header::FINGERPRINT,
            &self.fingerprint.to_string(),
        );
        headers
    }
}

/// Returns a UUIDv8 from BLAKE3 over id, subject, organization, count of replays and body: the same
/// for an event that is published again, another for another event with the same id, and for one that
/// was put back from the dead letters: the letter it was put back from goes once it is on its way.
fn fingerprint(id: Uuid, delivery: &Delivery) -> Uuid {
    let text = |name: &'static str| {
        let headers = delivery.headers();
        let value = headers.and_then(|headers| headers.get(name));
        value.map_or("", HeaderValue::as_str)
    };
    let (organization, replays) = (text(header::ORGANIZATION), text(header::RETRY_COUNT));
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_bytes());
    for part in [delivery.subject(), organization, replays] {
        // With its length, so that no other parts give the same bytes.
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(delivery.payload());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::new_v8(bytes)
}

/// Error texts come from outside: line breaks would end the header.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let mut clean: String = value
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    clean.truncate(clean.floor_char_boundary(ERROR_BYTES_MAX));
    if let Ok(value) = clean.trim().parse::<HeaderValue>() {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_in_an_error_do_not_break_the_header() {
        let mut headers = HeaderMap::new();
        set(
            &mut headers,
            header::ERROR,
            "Code: 117.\r\nNats-Rollup: all\0",
        );
        assert_eq!(
            headers.get(header::ERROR).map(HeaderValue::as_str),
            Some("Code: 117.  Nats-Rollup: all")
        );
        set(&mut headers, header::ERROR, &"ü".repeat(ERROR_BYTES_MAX));
        assert_eq!(
            headers.get(header::ERROR).map(|v| v.as_str().len()),
            Some(ERROR_BYTES_MAX)
        );
    }

    #[test]
    fn the_dead_letter_stream_lies_outside_the_source() {
        let source = StreamSettings::new("events", vec!["events.>".into()]);
        let dead_letters = DeadLetters::stream_settings(&source, 1);
        assert_eq!(dead_letters.name, "events_dlq");
        assert_eq!(dead_letters.subjects, ["events_dlq.>"]);
        assert!(!source.covers(&dead_letters.subjects[0]));
        assert!(dead_letters.one_per_subject);
    }

    #[test]
    fn a_stream_may_be_called_otherwise_than_its_subjects() {
        let source = StreamSettings::new("ORDERS", vec!["orders.new.>".into()]);
        let dead_letters = DeadLetters::stream_settings(&source, 1);
        assert_eq!(dead_letters.name, "ORDERS_dlq");
        assert_eq!(dead_letters.subjects, ["orders_dlq.>"]);
    }
}
