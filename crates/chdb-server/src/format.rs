//! What a format means for the response: its content type, and whether its pieces can be joined.
//!
//! The engine writes each block of a streamed result as a document of its own, header included. Formats without a
//! header are joined as they are; of formats with one, the header is cut off from the second block on; all others
//! (JSON, Parquet, Pretty, …) are fetched whole.

/// How the blocks of a streamed result become one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Put one behind the other.
    Plain,
    /// Cut this header from all but the first.
    Header(Header),
    /// Not at all.
    Whole,
}

/// The header a block begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// That many lines; line ends within names are escaped.
    Lines(usize),
    /// That many lines of CSV, where a quoted name may hold a line end.
    CsvLines(usize),
    /// RowBinary: the number of columns, then that many strings, this many times over.
    BinaryStrings(usize),
}

/// How blocks of `format` are joined.
pub(crate) fn joining(format: &str) -> Joining {
    match format.to_ascii_lowercase().as_str() {
        "tabseparated"
        | "tsv"
        | "tabseparatedraw"
        | "tsvraw"
        | "raw"
        | "csv"
        | "jsoneachrow"
        | "jsonlines"
        | "ndjson"
        | "jsonstringseachrow"
        | "jsoncompacteachrow"
        | "jsoncompactstringseachrow"
        | "rowbinary"
        | "native"
        | "tskv"
        | "lineasstring"
        | "msgpack" => Joining::Plain,
        "tabseparatedwithnames"
        | "tsvwithnames"
        | "jsoncompacteachrowwithnames"
        | "jsoncompactstringseachrowwithnames" => Joining::Header(Header::Lines(1)),
        "tabseparatedwithnamesandtypes"
        | "tsvwithnamesandtypes"
        | "jsoncompacteachrowwithnamesandtypes"
        | "jsoncompactstringseachrowwithnamesandtypes" => Joining::Header(Header::Lines(2)),
        "csvwithnames" => Joining::Header(Header::CsvLines(1)),
        "csvwithnamesandtypes" => Joining::Header(Header::CsvLines(2)),
        "rowbinarywithnames" => Joining::Header(Header::BinaryStrings(1)),
        "rowbinarywithnamesandtypes" => Joining::Header(Header::BinaryStrings(2)),
        _ => Joining::Whole,
    }
}

impl Header {
    /// The header's length in `block`, in bytes; the whole block when the header does not end in it.
    pub(crate) fn length(self, block: &[u8]) -> usize {
        match self {
            Self::Lines(count) => lines_length(block, count, false),
            Self::CsvLines(count) => lines_length(block, count, true),
            Self::BinaryStrings(times) => binary_length(block, times).unwrap_or(block.len()),
        }
    }
}

fn lines_length(block: &[u8], count: usize, quotes: bool) -> usize {
    let (mut lines, mut quoted) = (0, false);
    for (at, byte) in block.iter().enumerate() {
        match byte {
            b'"' if quotes => quoted = !quoted,
            b'\n' if !quoted => {
                lines += 1;
                if lines == count {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    block.len()
}

fn binary_length(block: &[u8], times: usize) -> Option<usize> {
    let mut at = 0;
    let columns = varint(block, &mut at)?;
    for _ in 0..columns.checked_mul(times as u64)? {
        let length = usize::try_from(varint(block, &mut at)?).ok()?;
        at = at.checked_add(length).filter(|at| *at <= block.len())?;
    }
    Some(at)
}

fn varint(block: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *block.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The `Content-Type` ClickHouse gives a result in `format`.
///
/// # Source
/// `setContentType` and `getContentType` of the output formats in ClickHouse's `src/Processors/Formats/Impl`.
pub(crate) fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    match format.as_str() {
        "json"
        | "jsoncompact"
        | "jsonstrings"
        | "jsoncompactstrings"
        | "jsoncolumns"
        | "jsoncompactcolumns"
        | "jsoncolumnswithmetadata"
        | "jsonobjecteachrow" => "application/json; charset=UTF-8",
        "jsoneachrow"
        | "jsonlines"
        | "ndjson"
        | "jsonstringseachrow"
        | "jsoncompacteachrow"
        | "jsoneachrowwithprogress"
        | "jsonstringseachrowwithprogress" => "application/x-ndjson; charset=UTF-8",
        "xml" => "application/xml; charset=UTF-8",
        "csv" => "text/csv; charset=UTF-8; header=absent",
        "csvwithnames" | "csvwithnamesandtypes" => "text/csv; charset=UTF-8; header=present",
        "rowbinary"
        | "rowbinarywithnames"
        | "rowbinarywithnamesandtypes"
        | "native"
        | "parquet"
        | "orc"
        | "arrow"
        | "arrowstream"
        | "avro"
        | "msgpack"
        | "protobuf"
        | "protobufsingle"
        | "npy"
        | "capnproto" => "application/octet-stream",
        other
            if other.starts_with("tabseparated") || other.starts_with("tsv") || other == "tskv" =>
        {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, Joining, content_type, joining};

    #[test]
    fn a_header_ends_where_the_rows_begin() {
        assert_eq!(Header::Lines(2).length(b"a\tb\nUInt8\tString\n1\tx\n"), 17);
        assert_eq!(
            Header::CsvLines(1).length(b"\"a\nb\",\"say \"\"x\"\"\"\n1,2\n"),
            18
        );
        assert_eq!(
            Header::BinaryStrings(2).length(b"\x02\x01a\x02bc\x05UInt8\x06String\x07\x03xyz"),
            19
        );
        assert_eq!(Header::BinaryStrings(1).length(b"\x02\x01a\x02bc\x05"), 6);
    }

    #[test]
    fn a_header_that_does_not_end_is_the_whole_block() {
        assert_eq!(Header::Lines(2).length(b"a\tb\nUInt8"), 9);
        assert_eq!(
            Header::BinaryStrings(2).length(b"\x02\x01a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            12
        );
        assert_eq!(Header::BinaryStrings(2).length(b""), 0);
    }

    #[test]
    fn formats_are_known_in_any_case() {
        assert_eq!(joining("rowbinary"), Joining::Plain);
        assert_eq!(
            joining("RowBinaryWithNamesAndTypes"),
            Joining::Header(Header::BinaryStrings(2))
        );
        assert_eq!(joining("JSON"), Joining::Whole);
        assert_eq!(
            content_type("JSONCompact"),
            "application/json; charset=UTF-8"
        );
        assert_eq!(
            content_type("TSVWithNames"),
            "text/tab-separated-values; charset=UTF-8"
        );
        assert_eq!(content_type("PrettyCompact"), "text/plain; charset=UTF-8");
    }

    proptest::proptest! {
        #[test]
        fn a_header_is_never_longer_than_its_block(
            block in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            for header in [Header::Lines(2), Header::CsvLines(1), Header::BinaryStrings(1), Header::BinaryStrings(2)] {
                assert!(header.length(&block) <= block.len());
            }
        }
    }
}
