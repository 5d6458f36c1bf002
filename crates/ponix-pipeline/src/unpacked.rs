//! A stored message as its events: itself, or those that are packed in it.

use ponix_wire::{Events, PackFormat, header, unpack};

use crate::decode::{DecodeError, Headers, Message, Reason};

/// The events of a message.
#[derive(Debug)]
pub struct Unpacked<'a> {
    message: Message<'a>,
    headers: EventHeaders<'a>,
    events: Events<'a>,
}

/// The headers of a packed message, as its events have them.
#[derive(Debug)]
struct EventHeaders<'a>(&'a dyn Headers);

impl Headers for EventHeaders<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        // They tell of the message, not of an event in it.
        let of_the_whole = [header::PACKED, header::MESSAGE_ID].contains(&name);
        self.0.get(name).filter(|_| !of_the_whole)
    }
}

impl<'a> Unpacked<'a> {
    /// Tells the events of a message apart. One that is not packed is its own and only event, whatever the
    /// format.
    ///
    /// # Errors
    /// What makes the message as a whole a dead letter.
    pub fn new(
        message: Message<'a>,
        format: PackFormat,
        events_max: usize,
    ) -> Result<Self, DecodeError> {
        let said = message.header(header::PACKED);
        let events = unpack(format, said, message.payload, message.identity, events_max);
        let events = events
            .map_err(|err| DecodeError::new(Reason::Decode, ponix_wire::error_chain(&err)))?;
        Ok(Self {
            headers: EventHeaders(message.headers),
            message,
            events,
        })
    }

    /// Tells whether the message is packed, be it with one event.
    pub fn is_packed(&self) -> bool {
        self.events.is_packed()
    }

    /// Returns the number of events, at least 1.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Tells whether there is none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns each event as a message of its own, with its place in a packed one.
    pub fn events(&self) -> impl Iterator<Item = (Option<u32>, Message<'_>)> {
        self.events.iter().map(|event| {
            let headers: &dyn Headers = match event.index {
                Some(_) => &self.headers,
                None => self.message.headers,
            };
            let message = Message {
                payload: event.bytes,
                identity: event.identity,
                headers,
                ..self.message
            };
            (event.index, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn events_of_a_pack_have_its_headers_but_for_those_of_the_whole() {
        let headers = [
            (header::PACKED, "2"),
            (header::MESSAGE_ID, "018f4e5c-0000-7000-8000-000000000001"),
            (header::ORGANIZATION, "acme"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = BTreeMap::from(headers);
        let message = |headers| Message {
            payload: b"a\nb",
            subject: "events.a",
            headers,
            identity: Uuid::from_u128(1),
            published_at_ns: 2,
            stream_sequence: 3,
            deliveries: 4,
        };
        let packed = Unpacked::new(message(&headers), PackFormat::Lines, 9).expect("a pack");
        let seen: Vec<_> = packed
            .events()
            .map(|(index, event)| {
                assert_eq!((event.published_at_ns, event.stream_sequence), (2, 3));
                let header = |name| event.header(name).is_some();
                assert!(!header(header::PACKED) && !header(header::MESSAGE_ID));
                assert!(header(header::ORGANIZATION) && event.identity != Uuid::from_u128(1));
                (index, event.payload)
            })
            .collect();
        assert_eq!(seen, [(Some(0), &b"a"[..]), (Some(1), b"b")]);

        let mut headers = headers.clone();
        headers.remove(header::PACKED);
        let single = Unpacked::new(message(&headers), PackFormat::Lines, 9).expect("one event");
        let (index, event) = single.events().next().expect("one");
        assert_eq!((index, event.payload), (None, &b"a\nb"[..]));
        assert_eq!(event.identity, Uuid::from_u128(1));
        assert!(event.header(header::MESSAGE_ID).is_some());
    }

    #[test]
    fn a_pack_that_cannot_be_read_is_undecodable() {
        let headers = BTreeMap::from([(header::PACKED.to_owned(), "3".to_owned())]);
        let message = Message {
            payload: b"a\nb",
            subject: "events.a",
            headers: &headers,
            identity: Uuid::nil(),
            published_at_ns: 0,
            stream_sequence: 0,
            deliveries: 1,
        };
        let err = Unpacked::new(message, PackFormat::Lines, 9).expect_err("there are 2");
        assert_eq!(err.reason, Reason::Decode);
        assert!(
            err.text.contains("of 2 events, whose header says 3"),
            "{}",
            err.text
        );
    }
}
