//! Dead letters as they lie in their stream: read, and put back where they came from.

use async_nats::jetstream::stream::Stream;
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use ponix_wire::header;
use uuid::Uuid;

use crate::delivery::{Delivery, message_id};
use crate::history::HistoryError;
use crate::identity::{StreamPosition, message_identity};
use crate::publisher::OutgoingMessage;

/// Headers of the server's that a message gets anew when it is published again.
const SERVER_HEADERS: &str = "Nats-";

/// One dead letter.
#[derive(Debug, Clone)]
pub struct KeptLetter {
    /// Its sequence in the stream of dead letters.
    pub sequence: u64,
    /// When it was kept, nanoseconds since 1970.
    pub kept_at_ns: i64,
    /// The class of the reason, see [`DeadLetterReason`](ponix_wire::DeadLetterReason).
    pub reason: String,
    /// What was wrong, as text.
    pub error: String,
    /// The stream the message was in; empty where the letter does not say.
    pub stream: String,
    /// Its sequence there.
    pub stream_sequence: u64,
    /// Its place in the packed message there, counted from 0, where it was one event of one.
    pub index: Option<u32>,
    /// The subject it was published on.
    pub subject: String,
    /// When it was published, nanoseconds since 1970.
    pub published_at_ns: i64,
    /// How often it had been delivered.
    pub deliveries: u32,
    /// The headers it came with.
    pub headers: HeaderMap,
    /// Whether they were too large to be kept.
    pub headers_dropped: bool,
    identity: Uuid,
    /// Identity of this letter as a message of its own stream.
    place: Uuid,
    payload: Bytes,
    rest: Option<String>,
}

impl KeptLetter {
    /// Reads a message of the stream `stream` of dead letters; `None` for one that is none, such
    /// as the second part of a body too large to stand beside the headers.
    pub fn read(stream: &str, message: &Delivery) -> Option<Self> {
        let all = message.headers()?;
        let reason = text(all, header::REASON)?;
        let published_at_ns = number(all, header::PUBLISHED_NS).unwrap_or_default();
        let stream_sequence = number(all, header::SEQUENCE).unwrap_or_default();
        let source = text(all, header::STREAM).unwrap_or_default();
        let headers = original_headers(all);
        let position = StreamPosition {
            stream: &source,
            sequence: stream_sequence,
            published_at_ns,
        };
        let message_id = message_id(&headers);
        let own = StreamPosition {
            stream,
            sequence: message.stream_sequence(),
            published_at_ns: message.published_at_ns(),
        };
        Some(Self {
            sequence: message.stream_sequence(),
            kept_at_ns: message.published_at_ns(),
            reason,
            error: text(all, header::ERROR).unwrap_or_default(),
            index: number(all, header::INDEX),
            subject: text(all, header::SUBJECT).unwrap_or_default(),
            deliveries: number(all, header::DELIVERIES).unwrap_or(1),
            headers_dropped: all.get(header::HEADERS_DROPPED).is_some(),
            identity: message_identity(message_id, position),
            place: message_identity(None, own),
            payload: message.payload().clone(),
            rest: text(all, header::REST),
            stream: source,
            stream_sequence,
            published_at_ns,
            headers,
        })
    }

    /// Returns the identity by header or stream position; a body that carries one outranks it.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    /// Returns the body; of one too large to stand beside the headers, the first part.
    pub fn first_part(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the subject of the second part of the body, where there is one.
    pub fn rest_subject(&self) -> Option<&str> {
        self.rest.as_deref()
    }

    /// Returns the whole body; `dead_letters` is the stream that holds the letter.
    ///
    /// # Errors
    /// The second part cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn body(&self, dead_letters: &Stream) -> Result<Bytes, HistoryError> {
        let Some(rest) = &self.rest else {
            return Ok(self.payload.clone());
        };
        let rest = dead_letters
            .direct_get_last_for_subject(rest.as_str())
            .await
            .map_err(|err| HistoryError::new(dead_letters, "no second part of a body", err))?;
        Ok([&self.payload[..], &rest.payload[..]].concat().into())
    }

    /// Makes the message that puts the letter back where it came from, with the same identity.
    ///
    /// Its id in the stream is a function of the letter, so that within the stream's duplicate
    /// window it is put back once, whoever does it and however often; beyond that the identity
    /// makes copies one event.
    pub fn message(&self, body: Bytes) -> OutgoingMessage {
        let mut headers = HeaderMap::new();
        for (name, values) in self.headers.iter() {
            if starts_with(name.as_ref(), SERVER_HEADERS) {
                continue;
            }
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        if headers.get(header::MESSAGE_ID).is_none() {
            headers.insert(header::MESSAGE_ID, self.identity.to_string().as_str());
        }
        let retries: u32 = number(&headers, header::RETRY_COUNT).unwrap_or_default();
        let retries = retries.saturating_add(1).to_string();
        headers.insert(header::RETRY_COUNT, retries.as_str());
        if !self.stream.is_empty() {
            headers.insert(header::EXPECTED_STREAM, self.stream.as_str());
        }
        OutgoingMessage {
            subject: self.subject.clone(),
            id: Some(self.place),
            headers,
            payload: body,
        }
    }
}

fn original_headers(all: &HeaderMap) -> HeaderMap {
    let mut originals = HeaderMap::new();
    for (name, values) in all.iter() {
        let name: &str = name.as_ref();
        // The letter's own mark begins like an original header.
        if !starts_with(name, header::ORIGINAL_PREFIX) || name == header::HEADERS_DROPPED {
            continue;
        }
        let Ok(name) = name[header::ORIGINAL_PREFIX.len()..].parse::<HeaderName>() else {
            continue;
        };
        for value in values {
            originals.append(name.clone(), value.clone());
        }
    }
    originals
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

fn text<N: async_nats::header::IntoHeaderName>(headers: &HeaderMap, name: N) -> Option<String> {
    headers.get(name).map(|value| value.as_str().to_owned())
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Option<T> {
    headers.get(name)?.as_str().parse().ok()
}
