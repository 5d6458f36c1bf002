//! How messages reach the child, and the child's side.
//!
//! A frame is the length of its head as 4 bytes little-endian, the head as JSON, and the payload,
//! whose length stands in the head. The child answers each frame with one byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use ponix_nats::Delivery;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::decode::Message;

/// What the child answers for each message it has survived.
pub(super) const SURVIVED: u8 = b'.';

/// A message of its own.
#[derive(Debug, Default)]
pub(super) struct Frame {
    head: Head,
    payload: Vec<u8>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Head {
    subject: String,
    headers: BTreeMap<String, String>,
    identity: Uuid,
    published_at_ns: i64,
    stream_sequence: u64,
    deliveries: u32,
    payload_bytes: usize,
}

impl Frame {
    pub(super) fn of(delivery: &Delivery) -> Self {
        let headers = delivery
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter());
        let first = |(name, values): (_, &Vec<_>)| -> Option<(String, String)> {
            let name: &ponix_nats::async_nats::HeaderName = name;
            let value: &ponix_nats::async_nats::HeaderValue = values.first()?;
            Some((name.to_string(), value.as_str().to_owned()))
        };
        Self {
            head: Head {
                subject: delivery.subject().to_owned(),
                headers: headers.filter_map(first).collect(),
                identity: delivery.identity(),
                published_at_ns: delivery.published_at_ns(),
                stream_sequence: delivery.stream_sequence(),
                deliveries: delivery.deliveries(),
                payload_bytes: delivery.payload().len(),
            },
            payload: delivery.payload().to_vec(),
        }
    }

    pub(super) fn stream_sequence(&self) -> u64 {
        self.head.stream_sequence
    }

    pub(super) fn deliveries(&self) -> u32 {
        self.head.deliveries
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let head = serde_json::to_vec(&self.head).expect("numbers and texts are JSON");
        let mut bytes = Vec::with_capacity(4 + head.len() + self.payload.len());
        bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads a frame; `None` at the end of the input, or when it cannot be read.
    fn read(input: &mut impl Read) -> Option<Self> {
        let mut length = [0; 4];
        input.read_exact(&mut length).ok()?;
        let mut head = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut head).ok()?;
        let head: Head = serde_json::from_slice(&head).ok()?;
        let mut payload = vec![0; head.payload_bytes];
        input.read_exact(&mut payload).ok()?;
        Some(Self { head, payload })
    }

    fn message(&self) -> Message<'_> {
        Message {
            subject: &self.head.subject,
            payload: &self.payload,
            headers: &self.head.headers,
            identity: self.head.identity,
            published_at_ns: self.head.published_at_ns,
            stream_sequence: self.head.stream_sequence,
            deliveries: self.head.deliveries,
        }
    }
}

/// The child's side: reads messages from `input` until it ends, and answers each on `output` once
/// `read_message` has returned.
pub fn serve_crash_isolation(
    mut input: impl Read,
    mut output: impl Write,
    mut read_message: impl FnMut(&Message<'_>),
) {
    while let Some(frame) = Frame::read(&mut input) {
        read_message(&frame.message());
        let answered = output.write_all(&[SURVIVED]).and_then(|()| output.flush());
        if answered.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Frame {
        Frame {
            head: Head {
                subject: "events.a".to_owned(),
                headers: BTreeMap::from([("Ponix-Entity".to_owned(), "Order".to_owned())]),
                stream_sequence: 7,
                payload_bytes: payload.len(),
                ..Head::default()
            },
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn messages_arrive_whole_and_each_is_answered() {
        let input = [frame(b"one\n\0").bytes(), frame(b"").bytes()].concat();
        let (mut seen, mut output) = (Vec::new(), Vec::new());
        serve_crash_isolation(&*input, &mut output, |message| {
            assert_eq!((message.subject, message.stream_sequence), ("events.a", 7));
            assert_eq!(message.header("Ponix-Entity"), Some("Order"));
            seen.push(message.payload.to_vec());
        });
        assert_eq!(seen, [b"one\n\0".to_vec(), Vec::new()]);
        assert_eq!(output, [SURVIVED; 2]);
    }

    #[test]
    fn a_broken_frame_ends_the_child() {
        let mut input = frame(b"payload").bytes();
        input.truncate(input.len() - 1);
        let mut output = Vec::new();
        serve_crash_isolation(&*input, &mut output, |_| panic!("it is not whole"));
        assert!(output.is_empty());
    }
}
