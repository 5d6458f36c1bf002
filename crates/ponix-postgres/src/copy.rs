//! Rows as `COPY … FROM STDIN BINARY` reads them.
//!
//! # Source
//! PostgreSQL documentation, "COPY", section "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use ponix_entities::{Row, Table, Value, quoted};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// A length that says NULL.
const NULL: i32 = -1;
/// A count of fields that says that no row follows.
const END: i16 = -1;
/// The version of the binary form of `jsonb`.
const JSONB_VERSION: u8 = 1;

/// A value that has no form on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unencodable {
    /// The place of the column in the table.
    pub(crate) column: usize,
    pub(crate) reason: String,
}

/// Rows of one table, encoded one after the other.
#[derive(Debug)]
pub(crate) struct CopyRows {
    buffer: BytesMut,
}

impl CopyRows {
    pub(crate) fn new() -> Self {
        let mut buffer = BytesMut::new();
        buffer.put_slice(SIGNATURE);
        // No flags, no extension of the header.
        buffer.put_i32(0);
        buffer.put_i32(0);
        Self { buffer }
    }

    /// Adds a row: its id, then its values in the order of the columns.
    pub(crate) fn push(&mut self, id: Uuid, row: &Row) -> Result<(), Unencodable> {
        self.buffer.put_i16((row.values.len() + 1) as i16);
        self.buffer.put_i32(size_of::<Uuid>() as i32);
        self.buffer.put_slice(id.as_bytes());
        for (column, value) in row.values.iter().enumerate() {
            put(&mut self.buffer, value).map_err(|reason| Unencodable { column, reason })?;
        }
        Ok(())
    }

    /// Ends the rows.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(END);
        self.buffer.freeze()
    }
}

/// Returns the statement that reads the rows of a table.
pub(crate) fn statement(table: &Table) -> String {
    copy_statement(&quoted(&table.name), &table.id_column, &columns(table))
}

/// Returns the names of the columns without the id.
pub(crate) fn columns(table: &Table) -> Vec<&str> {
    table
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect()
}

/// Returns the statement that reads rows into a table, whose name is quoted already.
pub(crate) fn copy_statement(table: &str, id_column: &str, columns: &[&str]) -> String {
    let all = std::iter::once(&id_column).chain(columns);
    let columns: Vec<_> = all.map(|column| quoted(column)).collect();
    format!("COPY {table} ({}) FROM STDIN BINARY", columns.join(", "))
}

fn put(buffer: &mut BytesMut, value: &Value) -> Result<(), String> {
    match value {
        Value::Null => buffer.put_i32(NULL),
        Value::Text(text) => put_bytes(buffer, &[], text.as_bytes())?,
        Value::Json(text) => put_bytes(buffer, &[JSONB_VERSION], text.as_bytes())?,
        Value::Boolean(value) => put_bytes(buffer, &[], &[u8::from(*value)])?,
        Value::Integer(value) => put_bytes(buffer, &[], &value.to_be_bytes())?,
        Value::Float(value) => put_bytes(buffer, &[], &value.to_be_bytes())?,
        Value::Decimal(value) => put_sql(buffer, value, &Type::NUMERIC)?,
        Value::Date(value) => put_sql(buffer, value, &Type::DATE)?,
        Value::DateTime(value) => put_sql(buffer, value, &Type::TIMESTAMPTZ)?,
    }
    Ok(())
}

fn put_bytes(buffer: &mut BytesMut, head: &[u8], bytes: &[u8]) -> Result<(), String> {
    let length = i32::try_from(head.len() + bytes.len());
    buffer.put_i32(length.map_err(|_| "longer than 2 GiB".to_owned())?);
    buffer.put_slice(head);
    buffer.put_slice(bytes);
    Ok(())
}

fn put_sql(buffer: &mut BytesMut, value: &impl ToSql, sql_type: &Type) -> Result<(), String> {
    let start = buffer.len();
    buffer.put_i32(0);
    let put = value.to_sql(sql_type, buffer);
    put.map_err(|error| error.to_string())?;
    let length = (buffer.len() - start - size_of::<i32>()) as i32;
    buffer[start..start + size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use ponix_entities::TableIndex;

    use super::*;

    #[test]
    fn a_row_is_a_count_and_fields_with_lengths() {
        let mut rows = CopyRows::new();
        let row = Row {
            table: TableIndex(0),
            values: vec![Value::Null, Value::Integer(-2), Value::Text("é".into())],
        };
        rows.push(Uuid::max(), &row).expect("it has a form");
        let bytes = rows.finish();
        let body = &bytes[SIGNATURE.len() + 8..];
        let expected = [
            &[0, 4][..],
            &[0, 0, 0, 16],
            &[0xff; 16],
            &[0xff; 4],
            &[0, 0, 0, 8],
            &(-2_i64).to_be_bytes(),
            &[0, 0, 0, 2, 0xc3, 0xa9],
            &[0xff, 0xff],
        ];
        assert_eq!(body, expected.concat());
    }
}
