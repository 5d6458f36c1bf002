//! The identity of a stored message: the same on every delivery.

use uuid::Uuid;

/// Where a message stands in its stream. Together with the stream's name and the publish time it
/// names a message for ever; the sequence alone does not, because a server that lost the tail of
/// its store gives the same numbers to other messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// The message's sequence in the stream.
    pub sequence: u64,
    /// When the server stored it, nanoseconds since 1970.
    pub published_at_ns: i64,
}

/// Returns the identity of a message that carries none in its body.
///
/// The message's id when it is a UUID (`Ponix-Message-Id`, else `Nats-Msg-Id`), else a UUIDv8 from BLAKE3 over the stream's name,
/// the sequence and the publish time (both big endian).
pub fn message_identity(message_id: Option<&str>, position: StreamPosition<'_>) -> Uuid {
    message_id
        .and_then(|id| Uuid::try_parse(id).ok())
        .unwrap_or_else(|| position_identity(position))
}

fn position_identity(position: StreamPosition<'_>) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    // The numbers have a fixed width and stand last, so no two positions give the same bytes.
    hasher.update(position.stream.as_bytes());
    hasher.update(&position.sequence.to_be_bytes());
    hasher.update(&position.published_at_ns.to_be_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::new_v8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: StreamPosition<'static> = StreamPosition {
        stream: "events",
        sequence: 852,
        published_at_ns: 1_700_000_000_000_000_000,
    };

    #[test]
    fn a_uuid_in_the_header_wins() {
        let id = "018f4e5c-0000-7000-8000-000000000001";
        assert_eq!(message_identity(Some(id), AT).to_string(), id);
    }

    #[test]
    fn another_header_is_as_good_as_none() {
        let derived = message_identity(None, AT);
        assert_eq!(message_identity(Some("order-17"), AT), derived);
        assert_eq!(derived.get_version_num(), 8);
        // The value is a contract: rows written by one version must meet those of the next.
        assert_eq!(derived.to_string(), "bb678cd1-8843-8656-8a14-48f18b65931e");
    }

    #[test]
    fn every_part_of_the_position_counts() {
        let id = message_identity(None, AT);
        for other in [
            StreamPosition {
                stream: "event",
                ..AT
            },
            StreamPosition {
                sequence: 853,
                ..AT
            },
            StreamPosition {
                published_at_ns: AT.published_at_ns + 1,
                ..AT
            },
        ] {
            assert_ne!(message_identity(None, other), id);
        }
    }
}
