//! Rows to the bytes of an INSERT, and back to which row is where.
//!
//! # Source
//! ClickHouse's format RowBinary: a string is its length as LEB128 and its bytes, a UUID its upper
//! and then its lower half, each little-endian, a `DateTime64(9)` its nanoseconds, a JSON value
//! (with `input_format_binary_read_json_as_string`) its text.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ponix_wire::DecodedEnvelope;
use uuid::Uuid;

use crate::month::{Month, MonthFinder};
use crate::{ClickHouseConfig, block};

/// The columns of a row, in the order they are encoded in.
pub(crate) const COLUMNS: &str = "organization_id, end_device_id, occurred_at, processed_at, \
                                  data, event_id, published_at, stream_sequence";

/// What one stored message becomes in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeRow {
    /// The message's content. Its `event_id` is not looked at; the row's own is stored.
    pub envelope: DecodedEnvelope,
    /// The message's identity, the same on every delivery.
    pub event_id: Uuid,
    /// When JetStream took the message, in nanoseconds since 1970.
    pub published_at_ns: i64,
    /// The message's sequence in its stream.
    pub stream_sequence: u64,
}

/// Where an INSERT must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most rows, at least 1.
    pub rows_max: usize,
    /// The most bytes before compression; one row may be more.
    pub bytes_max: usize,
    /// The most months of `occurred_at`, at least 1.
    pub months_max: usize,
}

impl From<&ClickHouseConfig> for BatchLimits {
    fn from(config: &ClickHouseConfig) -> Self {
        Self {
            rows_max: config.insert_rows_max,
            bytes_max: config.insert_bytes_max,
            months_max: config.insert_months_max,
        }
    }
}

/// The rows of one INSERT, encoded; never empty. Clones and parts share the bytes.
#[derive(Clone)]
pub struct EncodedBatch {
    rows: Arc<EncodedRows>,
    /// All of the rows as columns, where that is the better way to send them.
    block: Option<Bytes>,
    /// Which row of the caller's each is.
    indexes: Arc<[usize]>,
    range: Range<usize>,
}

/// Rows one after another.
#[derive(Debug, Default)]
struct EncodedRows {
    bytes: OnceLock<RowBytes>,
    /// What `bytes` are made of when somebody asks for them.
    source: Arc<Vec<EnvelopeRow>>,
}

#[derive(Debug)]
struct RowBytes {
    body: Bytes,
    /// Where each row of `body` ends.
    ends: Vec<usize>,
}

impl std::fmt::Debug for EncodedBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedBatch")
            .field("rows", &self.rows())
            .field("columns", &self.block.is_some())
            .finish_non_exhaustive()
    }
}

impl EncodedBatch {
    /// Takes encoded rows, at least one: where each ends, and which one of the caller's it is.
    pub(crate) fn new(body: Bytes, ends: Vec<usize>, indexes: Vec<usize>) -> Self {
        let range = 0..ends.len();
        let rows = EncodedRows {
            bytes: RowBytes { body, ends }.into(),
            source: Arc::default(),
        };
        Self {
            rows: rows.into(),
            block: None,
            indexes: indexes.into(),
            range,
        }
    }

    /// Returns the number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.range.len()
    }

    /// Returns the rows in the format RowBinary, uncompressed.
    pub fn bytes(&self) -> Bytes {
        let encode = || encode_rows(&self.rows.source, &self.indexes);
        let RowBytes { body, ends } = self.rows.bytes.get_or_init(encode);
        let offset = |row: usize| if row == 0 { 0 } else { ends[row - 1] };
        body.slice(offset(self.range.start)..offset(self.range.end))
    }

    /// Returns all rows as one block in the format Native, uncompressed, where they have one. Parts
    /// have none.
    pub fn block(&self) -> Option<&Bytes> {
        self.block.as_ref()
    }

    /// Returns the same rows without their block.
    pub(crate) fn without_block(&self) -> Self {
        Self {
            block: None,
            ..self.clone()
        }
    }

    /// Returns the last row in the format RowBinary.
    pub(crate) fn last_row(&self) -> Bytes {
        let last = self.range.end - 1;
        match self.rows.source.get(self.indexes[last]) {
            Some(row) => {
                let mut body = Vec::with_capacity(encoded_len(row));
                encode_row(row, &mut body);
                body.into()
            }
            None => self.part(self.rows() - 1..self.rows()).bytes(),
        }
    }

    /// Returns, for each row in order, its position in the slice that was encoded.
    pub fn indexes(&self) -> &[usize] {
        &self.indexes[self.range.clone()]
    }

    /// Returns some of the rows, by their order in this batch.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let range = self.range.start + rows.start..self.range.start + rows.end;
        debug_assert!(range.start < range.end && range.end <= self.range.end);
        let whole = range == self.range;
        Self {
            range,
            block: self.block.clone().filter(|_| whole),
            ..self.clone()
        }
    }
}

/// As [`encode`], with a block for each batch that is better sent as columns, of at most so many
/// paths of `data`. Rows of those are encoded one by one only if somebody asks for them.
pub(crate) fn encode_columns(
    rows: Vec<EnvelopeRow>,
    limits: BatchLimits,
    paths_max: usize,
) -> Vec<EncodedBatch> {
    let rows = Arc::new(rows);
    let columns = |indexes: &[usize]| {
        let block = block::encode(&rows, indexes, paths_max)?;
        let encoded = EncodedRows {
            bytes: OnceLock::new(),
            source: Arc::clone(&rows),
        };
        Some(EncodedBatch {
            rows: encoded.into(),
            block: Some(block),
            indexes: indexes.into(),
            range: 0..indexes.len(),
        })
    };
    batches(&rows, limits, |indexes| {
        if let Some(batch) = columns(indexes) {
            return vec![batch];
        }
        // Two INSERTs, where most of the rows have columns.
        let (plain, others) = block::partition(&rows, indexes, paths_max);
        if plain.len() > others.len()
            && !others.is_empty()
            && let Some(batch) = columns(&plain)
        {
            return vec![batch, encode_batch(&rows, &others)];
        }
        vec![encode_batch(&rows, indexes)]
    })
}

/// Encodes rows into as few batches as the limits allow; no rows make no batch.
///
/// The order is that of the slice, unless it spans more than `months_max` months: then rows of the
/// same months are brought together, since one part per month and INSERT is what ClickHouse
/// writes. Pure.
pub fn encode(rows: &[EnvelopeRow], limits: BatchLimits) -> Vec<EncodedBatch> {
    batches(rows, limits, |indexes| vec![encode_batch(rows, indexes)])
}

/// Cuts rows at the limits; `encode` gets rows that one INSERT may hold, by their indexes.
fn batches(
    rows: &[EnvelopeRow],
    limits: BatchLimits,
    encode: impl Fn(&[usize]) -> Vec<EncodedBatch>,
) -> Vec<EncodedBatch> {
    let mut batches = Vec::new();
    for group in group_by_months(rows, limits.months_max) {
        let mut group = group.as_slice();
        while !group.is_empty() {
            let count = fitting(rows, group, limits);
            batches.extend(encode(&group[..count]));
            group = &group[count..];
        }
    }
    batches
}

/// Returns the rows' indexes in groups of at most so many months, each in the rows' order.
fn group_by_months(rows: &[EnvelopeRow], months_max: usize) -> Vec<Vec<usize>> {
    let mut finder = MonthFinder::default();
    let mut month = |row: &EnvelopeRow| finder.month_of(row.envelope.occurred_at_ns);
    let mut seen: BTreeMap<Month, usize> = BTreeMap::new();
    let mut last = None;
    for row in rows {
        let month = Some(month(row));
        if month != last {
            seen.extend(month.map(|month| (month, 0)));
            last = month;
        }
    }
    if seen.len() <= months_max {
        return vec![(0..rows.len()).collect()];
    }
    for (n, group) in seen.values_mut().enumerate() {
        *group = n / months_max;
    }
    let mut groups = vec![Vec::new(); seen.len().div_ceil(months_max)];
    for (index, row) in rows.iter().enumerate() {
        groups[seen[&month(row)]].push(index);
    }
    groups
}

/// Returns how many rows from the front fit into one INSERT, at least 1.
fn fitting(rows: &[EnvelopeRow], indexes: &[usize], limits: BatchLimits) -> usize {
    let mut bytes = 0;
    let mut count = 0;
    for &index in indexes.iter().take(limits.rows_max.max(1)) {
        let more = encoded_len(&rows[index]);
        if count > 0 && bytes + more > limits.bytes_max {
            break;
        }
        bytes += more;
        count += 1;
    }
    count
}

fn encode_batch(rows: &[EnvelopeRow], indexes: &[usize]) -> EncodedBatch {
    let RowBytes { body, ends } = encode_rows(rows, indexes);
    EncodedBatch::new(body, ends, indexes.to_vec())
}

fn encode_rows(rows: &[EnvelopeRow], indexes: &[usize]) -> RowBytes {
    let rows = indexes.iter().map(|index| &rows[*index]);
    let bytes = rows.clone().map(encoded_len).sum();
    let mut body = Vec::with_capacity(bytes);
    let mut ends = Vec::with_capacity(indexes.len());
    for row in rows {
        encode_row(row, &mut body);
        ends.push(body.len());
    }
    debug_assert_eq!(body.len(), bytes, "the length is known before");
    RowBytes {
        body: body.into(),
        ends,
    }
}

fn encode_row(row: &EnvelopeRow, body: &mut Vec<u8>) {
    let envelope = &row.envelope;
    put_string(&envelope.organization_id, body);
    put_string(&envelope.end_device_id, body);
    body.extend_from_slice(&envelope.occurred_at_ns.to_le_bytes());
    body.extend_from_slice(&envelope.processed_at_ns.to_le_bytes());
    put_string(&envelope.data_json, body);
    let (upper, lower) = row.event_id.as_u64_pair();
    body.extend_from_slice(&upper.to_le_bytes());
    body.extend_from_slice(&lower.to_le_bytes());
    body.extend_from_slice(&row.published_at_ns.to_le_bytes());
    body.extend_from_slice(&row.stream_sequence.to_le_bytes());
}

/// Three times, a sequence and a UUID.
const FIXED_LEN: usize = 4 * 8 + 16;

fn encoded_len(row: &EnvelopeRow) -> usize {
    let envelope = &row.envelope;
    let strings = [
        &envelope.organization_id,
        &envelope.end_device_id,
        &envelope.data_json,
    ];
    FIXED_LEN
        + strings
            .iter()
            .map(|text| leb128_len(text.len()) + text.len())
            .sum::<usize>()
}

pub(crate) fn put_string(text: &str, body: &mut Vec<u8>) {
    put_length(text.len(), body);
    body.extend_from_slice(text.as_bytes());
}

/// Writes a length as LEB128.
pub(crate) fn put_length(len: usize, body: &mut Vec<u8>) {
    let mut rest = len;
    while rest >= 0x80 {
        body.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
}

fn leb128_len(n: usize) -> usize {
    ((usize::BITS - (n | 1).leading_zeros()) as usize).div_ceil(7)
}

#[cfg(test)]
mod tests;
