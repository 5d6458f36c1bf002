//! Rows of envelopes to one block of columns, with one column for each path of their data.
//!
//! The server takes columns as they are, where it would parse the text of every row: its INSERTs
//! cost a third. What readers see is the same to the last digit.
//!
//! # Source
//! ClickHouse's format Native (`src/Formats/NativeWriter.cpp`), its JSON flattened, wire version 3
//! (`src/DataTypes/Serializations/SerializationObject.cpp`, `SerializationDynamic.cpp`).

mod paths;

use bytes::Bytes;

use self::paths::Paths;
use crate::encode::{EnvelopeRow, put_length, put_string};

/// Fewer rows are not worth a block.
pub(crate) const ROWS_MIN: usize = 64;

/// Rows times paths at most: each path has a byte for each row.
const CELLS_MAX: usize = 16 << 20;

/// Encodes some of the rows, by their indexes, as a block; `None` when their data has more than
/// `paths_max` paths, or too long ones, or holds what has no column of its own: lists of anything but numbers, texts
/// or truth values of one kind, and nulls.
pub(crate) fn encode(rows: &[EnvelopeRow], indexes: &[usize], paths_max: usize) -> Option<Bytes> {
    if indexes.len() < ROWS_MIN || paths_max == 0 {
        return None;
    }
    let mut paths = Paths::new(paths_max);
    for (n, index) in indexes.iter().enumerate() {
        paths.add(n, &rows[*index].envelope.data_json).ok()?;
    }
    if indexes.len().saturating_mul(paths.len()) > CELLS_MAX {
        return None;
    }
    let mut block = Vec::with_capacity(indexes.len() * 80 + paths.bytes());
    put_length(8, &mut block);
    put_length(indexes.len(), &mut block);
    let rows = || indexes.iter().map(|index| &rows[*index]);
    put_column("organization_id", "String", &mut block);
    rows().for_each(|row| put_string(&row.envelope.organization_id, &mut block));
    put_column("end_device_id", "String", &mut block);
    rows().for_each(|row| put_string(&row.envelope.end_device_id, &mut block));
    put_column("occurred_at", TIME, &mut block);
    rows().for_each(|row| block.extend(row.envelope.occurred_at_ns.to_le_bytes()));
    put_column("processed_at", TIME, &mut block);
    rows().for_each(|row| block.extend(row.envelope.processed_at_ns.to_le_bytes()));
    put_column("data", "JSON", &mut block);
    paths.put(indexes.len(), &mut block);
    put_column("event_id", "UUID", &mut block);
    for row in rows() {
        let (upper, lower) = row.event_id.as_u64_pair();
        block.extend(upper.to_le_bytes());
        block.extend(lower.to_le_bytes());
    }
    put_column("published_at", TIME, &mut block);
    rows().for_each(|row| block.extend(row.published_at_ns.to_le_bytes()));
    put_column("stream_sequence", "UInt64", &mut block);
    rows().for_each(|row| block.extend(row.stream_sequence.to_le_bytes()));
    Some(block.into())
}

/// Parts some of the rows, by their indexes: those that have columns by themselves, and the others.
pub(crate) fn partition(
    rows: &[EnvelopeRow],
    indexes: &[usize],
    paths_max: usize,
) -> (Vec<usize>, Vec<usize>) {
    if indexes.len() < ROWS_MIN || paths_max == 0 {
        return (Vec::new(), indexes.to_vec());
    }
    let has_columns = |index: &usize| {
        let mut paths = Paths::new(paths_max);
        paths.add(0, &rows[*index].envelope.data_json).is_ok()
    };
    indexes.iter().copied().partition(has_columns)
}

const TIME: &str = "DateTime64(9, 'UTC')";

fn put_column(name: &str, value_type: &str, block: &mut Vec<u8>) {
    put_string(name, block);
    put_string(value_type, block);
}
