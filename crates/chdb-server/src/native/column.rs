//! Finds the end of a column's data.

use super::cursor::Cursor;
use super::types::Type;

/// The only version of JSON whose layout is known: texts.
const JSON_AS_TEXT: u64 = 1;
/// Of the flags before the data of a LowCardinality: the size of an index, and whether values come first.
const INDEX_SIZE_MASK: u64 = 0xff;
const HAS_VALUES: u64 = 0x200;

/// Moves `cursor` behind the data of a column with `rows` values; `None` if the data is not of this type.
pub(super) fn skip(cursor: &mut Cursor<'_>, kind: &Type, rows: u64) -> Option<()> {
    skip_prefixes(cursor, kind)?;
    skip_values(cursor, kind, rows)
}

/// Versions of nested types come before all values.
fn skip_prefixes(cursor: &mut Cursor<'_>, kind: &Type) -> Option<()> {
    match kind {
        Type::Fixed(_) | Type::Text => Some(()),
        Type::Json => (cursor.u64()? == JSON_AS_TEXT).then_some(()),
        Type::LowCardinality(_) => cursor.skip(8),
        Type::Nullable(inner) | Type::Array(inner) => skip_prefixes(cursor, inner),
        Type::Tuple(elements) => elements
            .iter()
            .try_for_each(|element| skip_prefixes(cursor, element)),
    }
}

fn skip_values(cursor: &mut Cursor<'_>, kind: &Type, rows: u64) -> Option<()> {
    match kind {
        Type::Fixed(bytes) => cursor.skip(rows.checked_mul(*bytes)?),
        Type::Text | Type::Json => {
            for _ in 0..rows {
                let length = cursor.varint()?;
                cursor.skip(length)?;
            }
            Some(())
        }
        Type::Nullable(inner) => {
            cursor.skip(rows)?;
            skip_values(cursor, inner, rows)
        }
        Type::Array(inner) => {
            let mut elements = 0;
            for _ in 0..rows {
                elements = cursor.u64()?;
            }
            skip_values(cursor, inner, elements)
        }
        Type::Tuple(elements) if elements.is_empty() => cursor.skip(rows),
        Type::Tuple(elements) => elements
            .iter()
            .try_for_each(|element| skip_values(cursor, element, rows)),
        Type::LowCardinality(_) if rows == 0 => Some(()),
        Type::LowCardinality(inner) => {
            let flags = cursor.u64()?;
            if flags & HAS_VALUES != 0 {
                let values = cursor.u64()?;
                skip_values(cursor, inner, values)?;
            }
            let indexes = cursor.u64()?;
            let size = 1_u64.checked_shl(u32::try_from(flags & INDEX_SIZE_MASK).ok()?)?;
            cursor.skip(indexes.checked_mul(size)?)
        }
    }
}
