//! The id of a row.

use uuid::Uuid;

/// Bytes at the front that come from the message's id: the time, where that is a UUIDv7, so that
/// rows of one time lie side by side in the index.
const PREFIX: usize = 6;

/// Derives the id of a row from its message: the same whenever the message is written.
///
/// A UUIDv8 of the first 48 bits of the message's id and of BLAKE3 over the whole of it, the
/// table's name and the row's place in the message.
pub(crate) fn row_id(message_id: Uuid, table: &str, position: usize) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(message_id.as_bytes());
    hasher.update(&(table.len() as u64).to_be_bytes());
    hasher.update(table.as_bytes());
    hasher.update(&(position as u64).to_be_bytes());
    let mut bytes = [0; 16];
    bytes[..PREFIX].copy_from_slice(&message_id.as_bytes()[..PREFIX]);
    bytes[PREFIX..].copy_from_slice(&hasher.finalize().as_bytes()[PREFIX..16]);
    Uuid::new_v8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_differs_by_message_table_and_position_and_by_nothing_else() {
        let message = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        let id = row_id(message, "orders", 0);
        assert_eq!(id, row_id(message, "orders", 0));
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id.as_bytes()[..6], message.as_bytes()[..6]);
        assert_ne!(id, row_id(message, "orders", 1));
        assert_ne!(id, row_id(message, "order", 0));
        assert_ne!(
            id,
            row_id(Uuid::from_u128(message.as_u128() + 1), "orders", 0)
        );
    }
}
