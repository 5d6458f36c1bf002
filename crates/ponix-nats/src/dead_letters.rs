//! Keeps what cannot be stored, once per identity.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use ponix_wire::header;

use crate::delivery::Delivery;
use crate::processing_result::DeadLetter;
use crate::publisher::{OutgoingMessage, PublishError, Publisher};
use crate::stream::StreamSettings;

/// Longest error text kept, in bytes.
const ERROR_BYTES_MAX: usize = 2048;

/// Writes into a dead-letter stream: one subject per identity, a second publish is refused by the
/// stream and counts as done, so dead-lettering may be repeated after a crash.
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
        let subject = format!("{}.{id}", self.subject_prefix);
        let headers = headers(stream, delivery, dead_letter);
        match self
            .publish(&subject, headers, delivery.payload().clone())
            .await
        {
            Err(PublishError::TooLarge { .. }) => {
                self.keep_in_parts(&subject, stream, delivery, dead_letter)
                    .await
            }
            other => other,
        }
    }

    /// A body of just the server's `max_payload` does not fit beside more headers than it came with.
    async fn keep_in_parts(
        &self,
        subject: &str,
        stream: &str,
        delivery: &Delivery,
        dead_letter: &DeadLetter,
    ) -> Result<(), PublishError> {
        let payload = delivery.payload();
        let (first, rest) = (
            payload.slice(..payload.len() / 2),
            payload.slice(payload.len() / 2..),
        );
        let rest_subject = format!("{subject}.rest");
        // The rest first: once the head is there, the whole is.
        self.publish(&rest_subject, HeaderMap::new(), rest).await?;
        let mut whole = headers(stream, delivery, dead_letter);
        set(&mut whole, header::REST, &rest_subject);
        match self.publish(subject, whole, first.clone()).await {
            Err(PublishError::TooLarge { .. }) => {
                let mut few = own_headers(stream, delivery, dead_letter);
                set(&mut few, header::REST, &rest_subject);
                set(&mut few, header::HEADERS_DROPPED, "true");
                self.publish(subject, few, first).await
            }
            other => other,
        }
    }

    async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let message = OutgoingMessage {
            subject: subject.to_owned(),
            id: None,
            headers,
            payload,
        };
        let published = match self.publisher.publish(message).await {
            Ok(_) => Ok(()),
            Err(err) if err.is_store_refusal() && self.holds(subject).await => Ok(()),
            Err(err) => Err(err),
        };
        match &published {
            Ok(()) => self.publisher.metrics().refusing.set(&self.stream, false),
            Err(err) if err.is_store_refusal() => {
                self.publisher.metrics().refusing.set(&self.stream, true);
            }
            // It does not answer, which is the connection's to tell.
            Err(_) => {}
        }
        published
    }

    /// Tells whether the stream has a message on this subject. A full stream refuses with the
    /// same code as one that has the subject, and a cluster refuses also while the first message
    /// is only on its way: what counts is that it can be read.
    async fn holds(&self, subject: &str) -> bool {
        let context = self.publisher.context();
        match context.get_stream_no_info(&self.stream).await {
            Ok(stream) => stream.direct_get_last_for_subject(subject).await.is_ok(),
            Err(_) => false,
        }
    }
}

fn headers(stream: &str, delivery: &Delivery, dead_letter: &DeadLetter) -> HeaderMap {
    let mut headers = own_headers(stream, delivery, dead_letter);
    for (name, values) in delivery.headers().into_iter().flat_map(HeaderMap::iter) {
        let Ok(name) = format!("{}{name}", header::ORIGINAL_PREFIX).parse::<HeaderName>() else {
            continue;
        };
        for value in values {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

fn own_headers(stream: &str, delivery: &Delivery, dead_letter: &DeadLetter) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, header::REASON, dead_letter.reason.as_str());
    set(&mut headers, header::ERROR, &dead_letter.error);
    set(&mut headers, header::SUBJECT, delivery.subject());
    set(&mut headers, header::STREAM, stream);
    headers.insert(
        header::SEQUENCE,
        HeaderValue::from(delivery.stream_sequence()),
    );
    headers.insert(
        header::PUBLISHED_NS,
        HeaderValue::from(delivery.published_at_ns()),
    );
    headers.insert(
        header::DELIVERIES,
        HeaderValue::from(u64::from(delivery.deliveries())),
    );
    headers
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
