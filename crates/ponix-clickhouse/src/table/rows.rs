//! Records to the rows of a table: which column takes what, and the bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ponix_sink::Record;
use serde_json::{Map, Value};

use super::UnknownFields;
use super::types::ColumnType;
use super::value::{Misfit, Writer};
use crate::encode::{BatchLimits, EncodedBatch, put_length};
use crate::layout::quoted;

/// The most columns with a default that events may leave out.
pub(super) const OMITTABLE_MAX: usize = 64;

/// A column that rows are written into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type as the server writes it.
    pub(super) type_text: String,
    pub(super) value_type: ColumnType,
    pub(super) source: Source,
    pub(super) missing: Missing,
}

/// Where the values of a column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The event's field of the same name.
    Field,
    /// The message's identity alone; the event may say the same.
    MessageIdentity,
    /// The event's field, else the message's identity.
    FieldOrIdentity,
    /// The event's field, else when the message was published, in ticks of so many digits.
    FieldOrPublishedAt(u8),
    /// The event's field, else the message's sequence.
    FieldOrSequence,
    /// The event's field `n.a`, else all `a` of the objects in its field `n`.
    Nested,
    /// All that no other column takes.
    Rest,
}

/// What becomes of an event that has no value for a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// These bytes are stored: NULL, or a default that is a literal.
    Value(Bytes),
    /// The column's default is stored; the column is left out of the INSERT.
    Omit,
    /// The event is rejected.
    Reject,
}

/// How records become rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    columns: Vec<Column>,
    /// Positions of the columns that may be left out; one bit of an [`Omitted`] each.
    omittable: Vec<usize>,
    /// The fields that [`Source::Nested`] looks into, and what it finds there.
    nested: BTreeMap<String, Vec<String>>,
    unknown: UnknownFields,
}

/// Which of the columns with a default a row leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Omitted(u64);

/// Records as rows.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Rows by the columns they leave out; a group is never empty.
    pub(super) groups: Vec<Group>,
    /// Records that do not fit, by position.
    pub(super) misfits: Vec<(usize, Misfit)>,
    /// Whether a record has a field that no column takes.
    pub(super) unknown: bool,
}

/// Rows that go into the same columns.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) omitted: Omitted,
    /// Which record each row is.
    pub(super) indexes: Vec<usize>,
    /// As few INSERTs as the limits allow, with the positions in `indexes`.
    pub(super) batches: Vec<EncodedBatch>,
}

/// What an INSERT needs besides its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The columns as SQL lists them.
    pub(super) columns: Arc<str>,
    /// Names and types in front of the rows, which the server compares with the table's.
    pub(super) head: Bytes,
}

impl Rows {
    /// At most [`OMITTABLE_MAX`] of the columns may be [`Missing::Omit`].
    pub(super) fn new(columns: Vec<Column>, unknown: UnknownFields) -> Self {
        let omittable =
            |(n, column): (usize, &Column)| (column.missing == Missing::Omit).then_some(n);
        let omittable = columns.iter().enumerate().filter_map(omittable).collect();
        let mut nested: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for column in &columns {
            if let (Source::Nested, Some((parent, child))) =
                (column.source, column.name.split_once('.'))
            {
                nested.entry(parent.into()).or_default().push(child.into());
            }
        }
        Self {
            columns,
            omittable,
            nested,
            unknown,
        }
    }

    /// Encodes records; those that do not fit are told apart, by position.
    pub(super) fn encode(&self, records: &[Record], limits: BatchLimits) -> Encoded {
        let mut unknown = false;
        let mut open: Vec<Open> = Vec::new();
        let mut misfits = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let omitted = self.omitted(record);
            let known = open.iter().position(|open| open.omitted == omitted);
            let n = known.unwrap_or_else(|| {
                open.push(Open::new(omitted, self.unknown == UnknownFields::Ignore));
                open.len() - 1
            });
            let open = &mut open[n];
            let begin = open.writer.bytes.len();
            match self.put(record, omitted, &mut open.writer, &mut unknown) {
                Ok(()) => {
                    open.ends.push(open.writer.bytes.len());
                    open.indexes.push(index);
                }
                Err(misfit) => {
                    open.writer.bytes.truncate(begin);
                    misfits.push((index, misfit));
                }
            }
        }
        let full = open.into_iter().filter(|open| !open.ends.is_empty());
        Encoded {
            groups: full.map(|open| open.close(limits)).collect(),
            misfits,
            unknown,
        }
    }

    /// Returns the rows of some of the columns, for records of which the rest does not count.
    pub(super) fn only(&self, names: &[&str]) -> Self {
        let named = |column: &&Column| names.contains(&column.name.as_str());
        let columns = self.columns.iter().filter(named).cloned().collect();
        Self::new(columns, UnknownFields::Ignore)
    }

    /// Returns the bytes of one record, `None` if it does not fit or leaves a column to its default.
    pub(super) fn bytes_of(&self, record: &Record) -> Option<Vec<u8>> {
        let mut writer = Writer::new(true);
        let omitted = self.omitted(record);
        if omitted != Omitted::default() {
            return None;
        }
        self.put(record, omitted, &mut writer, &mut false).ok()?;
        Some(writer.bytes)
    }

    /// Returns the columns that events may leave to their default.
    pub(super) fn omittable(&self) -> impl Iterator<Item = &str> {
        let omittable = self.omittable.iter();
        omittable.map(|n| self.columns[*n].name.as_str())
    }

    /// Returns names and types of the columns.
    pub(super) fn columns(&self) -> Vec<(String, String)> {
        let columns = self.columns.iter();
        columns
            .map(|column| (column.name.clone(), column.type_text.clone()))
            .collect()
    }

    /// Returns the values that a record has for the columns, for people to look at.
    pub(super) fn shown(&self, record: &Record) -> Map<String, Value> {
        let value = |column: &Column| match (column.source, record.fields.get(&column.name)) {
            (Source::Rest, _) => {
                let rest = self.unknown_fields(record);
                let rest = rest.map(|(name, value)| (name.to_owned(), value.clone()));
                Value::Object(rest.collect())
            }
            (_, Some(value)) => value.clone(),
            (Source::MessageIdentity | Source::FieldOrIdentity, None) => {
                record.identity.to_string().into()
            }
            (Source::FieldOrPublishedAt(precision), None) => {
                ticks(record.published_at_ns, precision).into()
            }
            (Source::FieldOrSequence, None) => record.stream_sequence.into(),
            (Source::Field | Source::Nested, None) => Value::Null,
        };
        let columns = self.columns.iter();
        columns
            .map(|column| (column.name.clone(), value(column)))
            .collect()
    }

    /// Tells whether a row says which message it was.
    pub(super) fn keeps_sequences(&self) -> bool {
        let has = |source| self.columns.iter().any(|column| column.source == source);
        has(Source::FieldOrSequence) && has(Source::FieldOrPublishedAt(9))
    }

    /// Returns what an INSERT of rows needs that leave out some columns.
    pub(super) fn target(&self, omitted: Omitted) -> Target {
        let left: Vec<&Column> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(n, _)| !self.is_omitted(*n, omitted))
            .map(|(_, column)| column)
            .collect();
        let names: Vec<String> = left.iter().map(|column| quoted(&column.name)).collect();
        let mut head = Vec::new();
        put_length(left.len(), &mut head);
        let texts = left
            .iter()
            .map(|column| &column.name)
            .chain(left.iter().map(|column| &column.type_text));
        for text in texts {
            put_length(text.len(), &mut head);
            head.extend_from_slice(text.as_bytes());
        }
        Target {
            columns: names.join(", ").into(),
            head: head.into(),
        }
    }

    fn is_omitted(&self, column: usize, omitted: Omitted) -> bool {
        let bit = self.omittable.iter().position(|n| *n == column);
        bit.is_some_and(|bit| omitted.0 >> bit & 1 == 1)
    }

    fn omitted(&self, record: &Record) -> Omitted {
        let mut omitted = 0;
        for (bit, n) in self.omittable.iter().enumerate() {
            let column = &self.columns[*n];
            let missing = match record.fields.get(&column.name) {
                None => true,
                Some(value) => value.is_null() && !column.value_type.is_nullable(),
            };
            omitted |= u64::from(missing) << bit;
        }
        Omitted(omitted)
    }

    fn put(
        &self,
        record: &Record,
        omitted: Omitted,
        writer: &mut Writer,
        unknown: &mut bool,
    ) -> Result<(), Misfit> {
        let mut taken = 0;
        let mut bit = 0;
        for column in &self.columns {
            let mut value = match column.source {
                Source::Rest => None,
                _ => record.fields.get(&column.name),
            };
            taken += usize::from(value.is_some());
            if column.missing == Missing::Omit {
                let left_out = omitted.0 >> bit & 1 == 1;
                bit += 1;
                if left_out {
                    continue;
                }
            }
            if matches!(column.missing, Missing::Value(_)) && !column.value_type.is_nullable() {
                value = value.filter(|value| !value.is_null());
            }
            put_column(column, value, record, self, writer)
                .map_err(|misfit| misfit.within(&column.name))?;
        }
        for (parent, children) in &self.nested {
            let Some(value) = record.fields.get(parent) else {
                continue;
            };
            taken += 1;
            if self.unknown != UnknownFields::Ignore {
                only_children(value, children).map_err(|misfit| misfit.within(parent))?;
            }
        }
        if taken < record.fields.len() {
            *unknown = true;
            let mut fields = self.unknown_fields(record);
            if let (UnknownFields::Reject, Some((name, value))) = (self.unknown, fields.next()) {
                return Err(Misfit::unknown(value).within(name));
            }
        }
        Ok(())
    }

    /// The fields of a record that no column takes.
    pub(super) fn unknown_fields<'a>(
        &'a self,
        record: &'a Record,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let known = |name: &str| {
            let mut columns = self.columns.iter();
            columns.any(|column| column.source != Source::Rest && column.name == name)
                || self.nested.contains_key(name)
        };
        record
            .fields
            .iter()
            .filter(move |(name, _)| !known(name))
            .map(|(name, value)| (name.as_str(), value))
    }
}

fn put_column(
    column: &Column,
    value: Option<&Value>,
    record: &Record,
    rows: &Rows,
    writer: &mut Writer,
) -> Result<(), Misfit> {
    match (column.source, value) {
        (Source::Rest, _) => writer.put_fields(rows.unknown_fields(record)),
        (Source::MessageIdentity, Some(value)) => {
            let text = value
                .as_str()
                .and_then(|text| uuid::Uuid::try_parse(text).ok());
            if text != Some(record.identity) {
                let why = format!("the message's identity is {}", record.identity);
                return Err(Misfit::new(value, &column.value_type, why));
            }
            writer.put_uuid(record.identity);
        }
        (Source::MessageIdentity | Source::FieldOrIdentity, None) => {
            writer.put_uuid(record.identity);
        }
        (Source::FieldOrPublishedAt(precision), None) => {
            let ticks = ticks(record.published_at_ns, precision);
            writer.bytes.extend_from_slice(&ticks.to_le_bytes());
        }
        (Source::FieldOrSequence, None) => {
            let sequence = record.stream_sequence.to_le_bytes();
            writer.bytes.extend_from_slice(&sequence);
        }
        (_, Some(value)) => writer.put(&column.value_type, value)?,
        (Source::Nested, None) => put_nested(column, record, writer)?,
        (Source::Field, None) => match &column.missing {
            Missing::Value(bytes) => writer.bytes.extend_from_slice(bytes),
            Missing::Omit | Missing::Reject => return Err(Misfit::missing(&column.value_type)),
        },
    }
    Ok(())
}

/// Writes what the objects of a field have under one name.
fn put_nested(column: &Column, record: &Record, writer: &mut Writer) -> Result<(), Misfit> {
    let missing = || Misfit::missing(&column.value_type);
    let (parent, child) = column.name.split_once('.').ok_or_else(missing)?;
    match (record.fields.get(parent), &column.value_type) {
        (Some(Value::Array(objects)), ColumnType::Array(inner)) => {
            let values = objects.iter().map(|object| object.get(child));
            writer.put_elements(inner, values.map(|value| value.unwrap_or(&Value::Null)))
        }
        (Some(object), column_type) => match object.get(child) {
            Some(value) => writer.put(column_type, value),
            None => Err(missing()),
        },
        (None, _) => Err(missing()),
    }
}

/// Checks that a field that is looked into holds nothing else.
fn only_children(value: &Value, children: &[String]) -> Result<(), Misfit> {
    let objects = match value {
        Value::Array(objects) => objects.as_slice(),
        object => std::slice::from_ref(object),
    };
    for object in objects {
        let Value::Object(fields) = object else {
            return Err(Misfit::unknown(object));
        };
        let mut fields = fields.iter();
        if let Some((name, value)) = fields.find(|(name, _)| !children.contains(name)) {
            return Err(Misfit::unknown(value).within(name));
        }
    }
    Ok(())
}

/// A group that rows are still added to.
struct Open {
    omitted: Omitted,
    writer: Writer,
    ends: Vec<usize>,
    indexes: Vec<usize>,
}

impl Open {
    fn new(omitted: Omitted, ignore_unknown: bool) -> Self {
        Self {
            omitted,
            writer: Writer::new(ignore_unknown),
            ends: Vec::new(),
            indexes: Vec::new(),
        }
    }

    fn close(self, limits: BatchLimits) -> Group {
        let mut cuts = vec![0];
        let mut begin = 0;
        for (row, end) in self.ends.iter().enumerate() {
            let first = *cuts.last().expect("there is a first");
            if row > first && (row - first >= limits.rows_max || end - begin > limits.bytes_max) {
                cuts.push(row);
                begin = self.ends[row - 1];
            }
        }
        cuts.push(self.ends.len());
        let positions = (0..self.indexes.len()).collect();
        let whole = EncodedBatch::new(self.writer.bytes.into(), self.ends, positions);
        let batches = cuts.windows(2).map(|cut| whole.part(cut[0]..cut[1]));
        Group {
            omitted: self.omitted,
            indexes: self.indexes,
            batches: batches.collect(),
        }
    }
}

/// Nanoseconds in the units of a precision.
fn ticks(ns: i64, precision: u8) -> i64 {
    ns.div_euclid(10_i64.pow(9 - u32::from(precision)))
}

#[cfg(test)]
mod tests;
