//! The names of types, as far as the length of their data goes.

/// How the values of a column are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Every value has this many bytes.
    Fixed(u64),
    /// Every value has its length in front.
    Text,
    /// A version, then texts: JSON as `output_format_native_write_json_as_string` has it.
    Json,
    /// A byte per value, then the values.
    Nullable(Box<Type>),
    /// An end per value, then all elements.
    Array(Box<Type>),
    /// One column after another.
    Tuple(Vec<Type>),
    /// A version, then different values and an index per value.
    LowCardinality(Box<Type>),
}

/// Types in types beyond this are not looked at.
const DEPTH_MAX: usize = 32;

impl Type {
    /// `None` for a type whose layout is not known here.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::parse_at(name, 0)
    }

    fn parse_at(name: &str, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (head, arguments) = match name.split_once('(') {
            Some((head, rest)) => (head, split(rest.strip_suffix(')')?)),
            None => (name, Vec::new()),
        };
        let inner = |at: usize| Self::parse_at(arguments.get(at)?, depth + 1).map(Box::new);
        let columns = || {
            arguments
                .iter()
                .map(|element| Self::parse_at(unnamed(element), depth + 1))
                .collect::<Option<Vec<_>>>()
        };
        let point = || Self::Tuple(vec![Self::Fixed(8), Self::Fixed(8)]);
        let array = |of: Self| Self::Array(Box::new(of));
        Some(match head {
            "String" => Self::Text,
            "JSON" => Self::Json,
            "FixedString" => Self::Fixed(arguments.first()?.parse().ok()?),
            "Decimal" => Self::Fixed(decimal_bytes(arguments.first()?.parse().ok()?)),
            "Nullable" => Self::Nullable(inner(0)?),
            "Array" => Self::Array(inner(0)?),
            "Map" => array(Self::Tuple(vec![*inner(0)?, *inner(1)?])),
            "Tuple" => Self::Tuple(columns()?),
            "Nested" => array(Self::Tuple(columns()?)),
            "SimpleAggregateFunction" => *inner(1)?,
            "LowCardinality" => match *inner(0)? {
                Self::Nullable(inner) => Self::LowCardinality(inner),
                inner => Self::LowCardinality(Box::new(inner)),
            },
            "Point" => point(),
            "Ring" | "LineString" => array(point()),
            "Polygon" | "MultiLineString" => array(array(point())),
            "MultiPolygon" => array(array(array(point()))),
            head => Self::Fixed(bytes_of(head)?),
        })
    }
}

fn bytes_of(name: &str) -> Option<u64> {
    Some(match name {
        "Int8" | "UInt8" | "Bool" | "Enum8" | "Nothing" => 1,
        "Int16" | "UInt16" | "Enum16" | "Date" | "BFloat16" => 2,
        "Int32" | "UInt32" | "Float32" | "Date32" | "DateTime" | "IPv4" | "Time" => 4,
        "Int64" | "UInt64" | "Float64" | "DateTime64" | "Time64" => 8,
        "Int128" | "UInt128" | "UUID" | "IPv6" => 16,
        "Int256" | "UInt256" => 32,
        name if name.starts_with("Interval") => 8,
        _ => return None,
    })
}

fn decimal_bytes(precision: u64) -> u64 {
    match precision {
        ..=9 => 4,
        10..=18 => 8,
        19..=38 => 16,
        _ => 32,
    }
}

/// The arguments of a type, split at the commas outside parentheses and quotes.
fn split(arguments: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in outside(arguments, b',') {
        parts.push(arguments[start..at].trim());
        start = at + 1;
    }
    parts.push(arguments[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// An element of a tuple without its name.
fn unnamed(element: &str) -> &str {
    outside(element, b' ')
        .next()
        .map_or(element, |at| element[at..].trim_start())
}

/// The places of `byte` outside parentheses and quotes.
fn outside(text: &str, byte: u8) -> impl Iterator<Item = usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    text.bytes().enumerate().filter_map(move |(at, found)| {
        match (quote, found) {
            _ if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), found) if open == found => quote = None,
            (None, b'\'' | b'`') => quote = Some(found),
            (None, b'(') => depth += 1,
            (None, b')') => depth = depth.saturating_sub(1),
            (None, found) if found == byte && depth == 0 => return Some(at),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::Type;

    #[test]
    fn types_are_read_with_their_arguments() {
        let fixed = |name: &str| match Type::parse(name) {
            Some(Type::Fixed(bytes)) => bytes,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(fixed("DateTime64(9, 'Europe/Berlin')"), 8);
        assert_eq!(fixed("Enum8('a, (' = 1, 'it\\'s' = 2)"), 1);
        assert_eq!(fixed("Decimal(38, 4)"), 16);
        assert_eq!(fixed("FixedString(5)"), 5);
        assert_eq!(fixed("IntervalDay"), 8);
        assert_eq!(fixed("SimpleAggregateFunction(max, Int32)"), 4);
        let pair = Type::Tuple(vec![Type::Fixed(1), Type::Array(Box::new(Type::Text))]);
        assert_eq!(
            Type::parse("Tuple(a UInt8, `b, c` Array(String))"),
            Some(pair.clone())
        );
        assert_eq!(
            Type::parse("Tuple(UInt8, Array(String))"),
            Some(pair.clone())
        );
        assert_eq!(
            Type::parse("Map(UInt8, Array(String))"),
            Some(Type::Array(Box::new(pair)))
        );
        let low = Type::LowCardinality(Box::new(Type::Text));
        assert_eq!(Type::parse("LowCardinality(Nullable(String))"), Some(low));
        assert_eq!(Type::parse("JSON(a UInt8, SKIP b)"), Some(Type::Json));
    }

    #[test]
    fn what_is_not_known_is_none() {
        for name in [
            "Dynamic",
            "Variant(UInt8)",
            "Array(Dynamic)",
            "AggregateFunction(sum, UInt8)",
            "",
            "Array(",
            "(",
            "Array()",
        ] {
            assert_eq!(Type::parse(name), None, "{name}");
        }
        assert_eq!(
            Type::parse(&format!("{}UInt8{}", "Array(".repeat(100), ")".repeat(100))),
            None
        );
    }
}
