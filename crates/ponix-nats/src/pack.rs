//! Many events in few messages, for senders that have many at once.

use async_nats::HeaderMap;
use bytes::Bytes;
use ponix_wire::{PackFormat, PackLimits, Packer, header, pack_id};

use crate::publisher::OutgoingMessage;

/// Bytes that are left for headers beside a packed body: the server counts both.
pub(crate) const HEADER_BYTES: usize = 512;

/// A message and which events it carries.
#[derive(Debug)]
pub struct Pack {
    /// To be published. One event is a message as it came.
    pub message: OutgoingMessage,
    /// Positions of its events among those given.
    pub events: Vec<usize>,
}

/// Packs events, each given as the message that it would be alone, into as few messages as their limits
/// allow, in order. Events with other headers than those before go into another message.
///
/// A packed message has the subject of its events, and `mixed_subject` where they have several. Its id is a
/// function of their ids: sent again with the same events it is stored once. It has none where one of
/// them has none. An event that carries no identity in its body is then known by the message's identity
/// and its place in it.
///
/// Messages of a format that takes no packs, texts of more than one line, and events that only just fit a
/// message, stay as they are.
pub fn pack(
    format: PackFormat,
    messages: impl IntoIterator<Item = OutgoingMessage>,
    mixed_subject: &str,
    limits: PackLimits,
) -> Vec<Pack> {
    let mut packing = Packing {
        packer: Packer::new(format, limits),
        waiting: Vec::new(),
        mixed_subject,
        packs: Vec::new(),
    };
    for (position, message) in messages.into_iter().enumerate() {
        let stays = match format {
            PackFormat::Envelopes => false,
            PackFormat::Lines => message.payload.contains(&b'\n'),
            PackFormat::Single => true,
        };
        if stays {
            packing.add_alone(position, message);
        } else {
            packing.add(position, message);
        }
    }
    packing.finish();
    packing.packs
}

struct Packing<'a> {
    packer: Packer,
    /// What is in the packer.
    waiting: Vec<(usize, OutgoingMessage)>,
    mixed_subject: &'a str,
    packs: Vec<Pack>,
}

impl Packing<'_> {
    fn add(&mut self, position: usize, message: OutgoingMessage) {
        let first = self.waiting.first();
        if first.is_some_and(|(_, first)| first.headers != message.headers) {
            self.finish();
        }
        match self.packer.push(&message.payload) {
            Ok(true) => {}
            Ok(false) => {
                self.finish();
                let fits = self.packer.push(&message.payload);
                debug_assert_eq!(fits, Ok(true), "it fits an empty message");
            }
            // In a message of its own it needs no frame; who publishes it says whether it fits.
            Err(_) => return self.add_alone(position, message),
        }
        self.waiting.push((position, message));
    }

    fn add_alone(&mut self, position: usize, message: OutgoingMessage) {
        self.finish();
        let events = vec![position];
        self.packs.push(Pack { message, events });
    }

    /// Ends the message that is being packed.
    fn finish(&mut self) {
        let (body, events) = self.packer.take();
        let waiting = std::mem::take(&mut self.waiting);
        if events == 0 {
            return;
        }
        let (positions, mut messages): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let message = match messages.len() {
            1 => messages.remove(0),
            _ => self.packed(&messages, body.into()),
        };
        self.packs.push(Pack {
            message,
            events: positions,
        });
    }

    fn packed(&self, messages: &[OutgoingMessage], payload: Bytes) -> OutgoingMessage {
        let first = &messages[0];
        let is_one = messages.iter().all(|it| it.subject == first.subject);
        let ids: Option<Vec<_>> = messages.iter().map(|it| it.id.as_ref()).collect();
        let mut headers: HeaderMap = first.headers.clone();
        headers.insert(header::PACKED, messages.len().to_string().as_str());
        OutgoingMessage {
            subject: if is_one {
                first.subject.clone()
            } else {
                self.mixed_subject.to_owned()
            },
            id: ids.map(pack_id),
            headers,
            payload,
        }
    }
}

/// Returns the subject of packed messages whose events are of several devices: one that no device has.
pub fn mixed_subject(prefix: &str) -> String {
    // `%` stands before two digits in the token of a device.
    format!("{prefix}.%packed")
}

#[cfg(test)]
mod tests {
    use ponix_wire::{PackError, encode_token, unpack};
    use uuid::Uuid;

    use super::*;

    const LIMITS: PackLimits = PackLimits {
        events_max: 3,
        bytes_max: 100,
    };

    fn event(n: u128, device: &str, payload: &'static str) -> OutgoingMessage {
        OutgoingMessage {
            subject: format!("events.{device}"),
            id: Some(Uuid::from_u128(n)),
            headers: HeaderMap::new(),
            payload: payload.into(),
        }
    }

    fn packed(events: Vec<OutgoingMessage>) -> Vec<Pack> {
        pack(PackFormat::Lines, events, &mixed_subject("events"), LIMITS)
    }

    fn lines(message: &OutgoingMessage) -> Result<Vec<&[u8]>, PackError> {
        let said = message.headers.get(header::PACKED);
        let said = said.map(async_nats::HeaderValue::as_str);
        let events = unpack(PackFormat::Lines, said, &message.payload, Uuid::nil(), 100)?;
        Ok(events.iter().map(|event| event.bytes).collect())
    }

    #[test]
    fn events_are_packed_in_order_and_know_where_they_went() {
        let packs = packed(vec![
            event(1, "a", "one"),
            event(2, "a", "two"),
            event(3, "a", "three"),
            event(4, "a", "four"),
            event(5, "b", "five"),
        ]);
        let [three, two] = &packs[..] else {
            panic!("{packs:?}")
        };
        assert_eq!(
            lines(&three.message),
            Ok(vec![&b"one"[..], b"two", b"three"])
        );
        assert_eq!(
            (&three.events[..], &two.events[..]),
            (&[0, 1, 2][..], &[3, 4][..])
        );
        assert_eq!(three.message.subject, "events.a");
        assert_eq!(two.message.subject, "events.%packed");
        let same = packed(vec![event(4, "a", "four"), event(5, "b", "five")]);
        assert_eq!(same[0].message.id, two.message.id);
        assert!(two.message.id.is_some());
    }

    #[test]
    fn one_event_is_a_message_as_it_came() {
        let packs = packed(vec![event(1, "a", "one")]);
        let message = &packs[0].message;
        assert_eq!(message.id, Some(Uuid::from_u128(1)));
        assert!(message.headers.is_empty());
        assert_eq!(message.payload, "one");
    }

    #[test]
    fn what_fits_no_pack_is_a_message_as_it_came() {
        let long = "x".repeat(LIMITS.bytes_max);
        let mut events = vec![
            event(1, "a", "one"),
            event(2, "a", ""),
            event(3, "a", "three"),
        ];
        events[1].payload = long.clone().into();
        let packs = packed(events);
        let events: Vec<_> = packs.iter().map(|it| &it.events[..]).collect();
        assert_eq!(events, [[0], [1], [2]]);
        assert_eq!(packs[1].message.payload, long);
    }

    #[test]
    fn other_headers_and_several_lines_go_apart() {
        let mut other = event(2, "a", "two");
        other.headers.insert(header::ORGANIZATION, "acme");
        let two_lines = event(3, "a", "th\nree");
        let packs = packed(vec![
            event(1, "a", "one"),
            other,
            two_lines,
            event(4, "a", "4"),
        ]);
        let events: Vec<_> = packs.iter().map(|it| &it.events[..]).collect();
        assert_eq!(events, [[0], [1], [2], [3]]);
    }

    #[test]
    fn an_event_without_an_id_leaves_its_message_without_one() {
        let mut anonymous = event(2, "a", "two");
        anonymous.id = None;
        let packs = packed(vec![event(1, "a", "one"), anonymous]);
        assert_eq!(packs[0].message.id, None);
    }

    #[test]
    fn no_device_has_the_subject_of_mixed_messages() {
        assert_eq!(encode_token("%packed").as_deref(), Ok("%25packed"));
        assert_eq!(mixed_subject("events"), "events.%packed");
    }
}
