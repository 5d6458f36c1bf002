//! The Native format as clients of ClickHouse's own protocol want it over HTTP.
//!
//! `client_protocol_version` asks for blocks with what newer revisions added: an info in front of each block, and a
//! byte in front of each column's data. The engine has no way to be told of it, so both are put in here. That takes
//! knowing where each column ends, hence the types.
//!
//! # Source
//! `src/Formats/NativeWriter.cpp` and the `Serialization*.cpp` of ClickHouse.

mod column;
mod cursor;
mod types;

use crate::exception::{Exception, codes};
use cursor::Cursor;
use types::Type;

/// `DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION`
const REVISION_WITH_CUSTOM_SERIALIZATION: u64 = 54454;
/// No overflow row, no bucket, end.
const BLOCK_INFO: [u8; 8] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];

/// `true` if a client of `revision` gets a byte in front of each column's data, for which the types must be known.
pub(crate) fn needs_types(revision: u64) -> bool {
    revision >= REVISION_WITH_CUSTOM_SERIALIZATION
}

/// Rewrites exactly one block of revision 0 for a client of `revision`, which is not 0.
///
/// Up to the revision that needs types, columns may be of any type.
pub(crate) fn block_with_revision(block: &[u8], revision: u64) -> Result<Vec<u8>, Exception> {
    if needs_types(revision) {
        with_revision(block, revision)
    } else {
        Ok([&BLOCK_INFO, block].concat())
    }
}

/// Rewrites blocks of revision 0 for a client of `revision`, which is not 0.
///
/// A column of a type whose length cannot be told (Dynamic, Variant, states of aggregate functions) must be the last
/// of a single block.
pub(crate) fn with_revision(blocks: &[u8], revision: u64) -> Result<Vec<u8>, Exception> {
    let mut cursor = Cursor::new(blocks);
    let mut out = Vec::with_capacity(blocks.len() + 256);
    while !cursor.is_at_end() {
        rewrite_block(&mut cursor, revision, &mut out)?;
    }
    Ok(out)
}

fn rewrite_block(
    cursor: &mut Cursor<'_>,
    revision: u64,
    out: &mut Vec<u8>,
) -> Result<(), Exception> {
    out.extend_from_slice(&BLOCK_INFO);
    let start = cursor.position();
    let columns = cursor.varint().ok_or_else(malformed)?;
    let rows = cursor.varint().ok_or_else(malformed)?;
    out.extend_from_slice(cursor.since(start));
    for column in 1..=columns {
        let start = cursor.position();
        let name = cursor.text().ok_or_else(malformed)?;
        let type_name = cursor.text().ok_or_else(malformed)?;
        out.extend_from_slice(cursor.since(start));
        if needs_types(revision) {
            out.push(0);
        }
        let start = cursor.position();
        match Type::parse(type_name) {
            _ if rows == 0 => {}
            Some(kind) => column::skip(cursor, &kind, rows).ok_or_else(malformed)?,
            None if column == columns => cursor.skip_to_end(),
            None => return Err(unknown(name, type_name)),
        }
        out.extend_from_slice(cursor.since(start));
    }
    Ok(())
}

fn malformed() -> Exception {
    Exception::from_engine("a block in Native format is not as expected".to_owned())
}

fn unknown(name: &str, type_name: &str) -> Exception {
    Exception::new(
        codes::NOT_IMPLEMENTED,
        "NOT_IMPLEMENTED",
        format_args!(
            "Column {name} of type {type_name} can be sent to this client only as the last one: put it last or cast it \
             to String"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_INFO, block_with_revision, with_revision};

    /// `SELECT 1::UInt8 a, 'x' b`, from the engine.
    const PLAIN: &[u8] = b"\x02\x01\x01a\x05UInt8\x01\x01b\x06String\x01x";

    #[test]
    fn a_block_gets_its_info_and_each_column_its_byte() {
        let expected = [
            &BLOCK_INFO,
            b"\x02\x01\x01a\x05UInt8\0\x01\x01b\x06String\0\x01x".as_slice(),
        ]
        .concat();
        assert_eq!(with_revision(PLAIN, 54460).unwrap(), expected);
        assert_eq!(
            with_revision(PLAIN, 54405).unwrap(),
            [&BLOCK_INFO, PLAIN].concat()
        );
        let two = with_revision(&[PLAIN, PLAIN].concat(), 54460).unwrap();
        assert_eq!(two, [expected.as_slice(), &expected].concat());
        assert!(with_revision(b"", 54460).unwrap().is_empty());
    }

    #[test]
    fn the_last_column_may_be_of_any_type_and_the_others_not() {
        let dynamic = b"\x01\x01\x01d\x07Dynamic\x01\0\0\0\0\0\0\0\x01\x01\x06String";
        assert_eq!(
            with_revision(dynamic, 54405).unwrap(),
            [&BLOCK_INFO, dynamic.as_slice()].concat()
        );
        let first = b"\x02\x01\x01d\x07Dynamic\x01\0\x01b\x06String\x01x";
        assert_eq!(block_with_revision(first, 54460).unwrap_err().code(), 48);
        assert_eq!(
            block_with_revision(first, 54405).unwrap(),
            [&BLOCK_INFO, first.as_slice()].concat()
        );
    }

    #[test]
    fn no_data_without_rows() {
        let empty = b"\x02\x00\x01a\x17LowCardinality(Dynamic)\x01b\x06String";
        assert_eq!(
            with_revision(empty, 54405).unwrap(),
            [&BLOCK_INFO, empty.as_slice()].concat()
        );
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for length in 1..PLAIN.len() {
            assert!(with_revision(&PLAIN[..length], 54460).is_err(), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            type_name in "(Array\\(|Nullable\\(|LowCardinality\\(|Tuple\\(a |, |String|UInt8|JSON|\\)|.){0,8}",
            data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
            rows in 0_u8..4,
        ) {
            let type_name: String = type_name.chars().take(30).collect();
            let mut block = vec![1, rows, 1, b'a', type_name.len() as u8];
            block.extend(type_name.as_bytes());
            block.extend(&data);
            drop(with_revision(&block, 54460));
            drop(with_revision(&data, 54460));
        }
    }
}
