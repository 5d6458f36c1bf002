//! JSON objects to a column for each path.

use std::collections::HashMap;

use crate::encode::{put_length, put_string};

/// Bytes of all paths together; names may be as long as a message.
const PATH_BYTES_MAX: usize = 64 << 10;

/// Wire version of JSON and of Dynamic columns that are flattened.
const FLATTENED: u64 = 3;

/// What the values of a path are, and the types under which the server keeps them. A text that it
/// parses itself becomes the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bool,
    Numbers,
    Texts,
    Bools,
}

const KINDS: usize = 6;
const TYPES: [&str; KINDS] = [
    "Float64",
    "String",
    "Bool",
    "Array(Nullable(Float64))",
    "Array(Nullable(String))",
    "Array(Nullable(Bool))",
];
/// In place of a kind, where a row has no value.
const NONE: u8 = u8::MAX;

impl Kind {
    fn list(self) -> Self {
        match self {
            Self::Number | Self::Numbers => Self::Numbers,
            Self::Text | Self::Texts => Self::Texts,
            Self::Bool | Self::Bools => Self::Bools,
        }
    }
}

/// A text that has no columns.
#[derive(Debug)]
pub(super) struct Unfit;

type Result<T, E = Unfit> = std::result::Result<T, E>;

/// The columns of the objects read so far.
#[derive(Debug)]
pub(super) struct Paths<'a> {
    nodes: Vec<Node<'a>>,
    /// Nodes by parent and key, for those that [`Node::next`] does not lead to.
    children: HashMap<(usize, &'a [u8]), usize>,
    columns: Vec<Column>,
    by_path: HashMap<String, usize>,
    most: usize,
    /// Of the nodes' paths.
    path_bytes: usize,
}

/// A member of an object, the same in every row.
#[derive(Debug)]
struct Node<'a> {
    parent: usize,
    /// As in the text, between the quotes.
    key: &'a [u8],
    /// The names from the root, each with its dots escaped.
    path: String,
    column: Option<usize>,
    /// What came behind it when it was met last; most rows are like those before them.
    next: usize,
}

#[derive(Debug, Default)]
struct Column {
    path: String,
    /// The kind of each row's value, up to the last row that has one.
    kinds: Vec<u8>,
    values: [Values; KINDS],
}

/// The values of one kind, dense.
#[derive(Debug, Default)]
struct Values {
    rows: usize,
    bytes: Vec<u8>,
    /// Of lists: where each ends, counted in elements, and which elements are null.
    ends: Vec<u8>,
    nulls: Vec<u8>,
}

const ROOT: usize = 0;

impl<'a> Paths<'a> {
    pub(super) fn new(most: usize) -> Self {
        let root = Node {
            parent: ROOT,
            key: b"",
            path: String::new(),
            column: None,
            next: ROOT,
        };
        Self {
            nodes: vec![root],
            children: HashMap::new(),
            columns: Vec::new(),
            by_path: HashMap::new(),
            most,
            path_bytes: 0,
        }
    }

    /// Reads the object of a row, as `struct_to_json` writes it. Rows come in order.
    ///
    /// # Errors
    /// The object has no columns, or the paths are too many: everything is to be thrown away.
    pub(super) fn add(&mut self, row: usize, json: &'a str) -> Result<()> {
        let mut scan = Scan {
            text: json.as_bytes(),
            at: 0,
        };
        scan.expect(b'{')?;
        let mut last = ROOT;
        self.object(row, ROOT, &mut last, &mut scan)?;
        if scan.at == scan.text.len() {
            Ok(())
        } else {
            Err(Unfit)
        }
    }

    /// Returns how many paths there are.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Returns about how many bytes [`Paths::put`] writes.
    pub(super) fn bytes(&self) -> usize {
        let values = self.columns.iter().flat_map(|column| &column.values);
        let kinds: usize = self.columns.iter().map(|column| column.kinds.len()).sum();
        let values: usize = values
            .map(|one| one.bytes.len() + one.ends.len() + one.nulls.len())
            .sum();
        kinds + values + 128 * self.columns.len()
    }

    /// Writes the column of so many rows.
    pub(super) fn put(mut self, rows: usize, block: &mut Vec<u8>) {
        block.extend(FLATTENED.to_le_bytes());
        put_length(self.columns.len(), block);
        for column in &self.columns {
            put_string(&column.path, block);
        }
        for column in &self.columns {
            block.extend(FLATTENED.to_le_bytes());
            put_length(column.used().count(), block);
            for kind in column.used() {
                put_string(TYPES[kind], block);
            }
        }
        for column in &mut self.columns {
            column.put(rows, block);
        }
    }

    /// Reads the members of an object behind its brace. `last` is the node met last.
    fn object(
        &mut self,
        row: usize,
        parent: usize,
        last: &mut usize,
        scan: &mut Scan<'a>,
    ) -> Result<()> {
        if scan.skip(b'}') {
            return Ok(());
        }
        loop {
            scan.expect(b'"')?;
            let (key, _) = scan.string()?;
            scan.expect(b':')?;
            let node = self.node(parent, key, *last)?;
            self.nodes[*last].next = node;
            *last = node;
            self.value(row, node, last, scan)?;
            if !scan.skip(b',') {
                return scan.expect(b'}');
            }
        }
    }

    fn value(
        &mut self,
        row: usize,
        node: usize,
        last: &mut usize,
        scan: &mut Scan<'a>,
    ) -> Result<()> {
        match scan.peek() {
            b'{' => {
                scan.at += 1;
                self.object(row, node, last, scan)
            }
            b'[' => {
                scan.at += 1;
                let column = self.column(node)?;
                column.list(row, scan)
            }
            b'n' => scan.word(b"null"),
            _ => {
                let scalar = scan.scalar()?;
                let column = self.column(node)?;
                column.begin(row, scalar.kind())?.push(&scalar)
            }
        }
    }

    fn node(&mut self, parent: usize, key: &'a [u8], last: usize) -> Result<usize> {
        let next = self.nodes[last].next;
        let likely = &self.nodes[next];
        if likely.key == key && likely.parent == parent && next != ROOT {
            return Ok(next);
        }
        if let Some(node) = self.children.get(&(parent, key)) {
            return Ok(*node);
        }
        // Objects without values make nodes and no columns; they are bounded all the same.
        if self.nodes.len() > 2 * self.most {
            return Err(Unfit);
        }
        self.path_bytes += self.nodes[parent].path.len() + key.len();
        if self.path_bytes > PATH_BYTES_MAX {
            return Err(Unfit);
        }
        let name = unescaped(key)?.replace('.', "%2E");
        let path = match parent {
            ROOT => name,
            _ => format!("{}.{name}", self.nodes[parent].path),
        };
        let node = self.nodes.len();
        self.nodes.push(Node {
            parent,
            key,
            path,
            column: None,
            next: ROOT,
        });
        self.children.insert((parent, key), node);
        Ok(node)
    }

    fn column(&mut self, node: usize) -> Result<&mut Column> {
        let n = match self.nodes[node].column {
            Some(n) => n,
            None => self.make_column(node)?,
        };
        Ok(&mut self.columns[n])
    }

    /// Finds the column of a node's path, which may be another node's too: a key `a%2Eb` and a key
    /// `a.b` are one path.
    #[cold]
    fn make_column(&mut self, node: usize) -> Result<usize> {
        let path = self.nodes[node].path.clone();
        let n = match self.by_path.get(&path) {
            Some(n) => *n,
            None if self.columns.len() == self.most => return Err(Unfit),
            None => {
                self.by_path.insert(path.clone(), self.columns.len());
                self.columns.push(Column {
                    path,
                    ..Column::default()
                });
                self.columns.len() - 1
            }
        };
        self.nodes[node].column = Some(n);
        Ok(n)
    }
}

impl Column {
    /// The kinds of values that some row has.
    fn used(&self) -> impl Iterator<Item = usize> {
        (0..KINDS).filter(|kind| self.values[*kind].rows > 0)
    }

    /// Notes that a row has a value of a kind, and returns where it goes. A row with two values
    /// under one path has a repeated key.
    fn begin(&mut self, row: usize, kind: Kind) -> Result<&mut Values> {
        if self.kinds.len() > row {
            return Err(Unfit);
        }
        self.kinds.resize(row, NONE);
        self.kinds.push(kind as u8);
        let values = &mut self.values[kind as usize];
        values.rows += 1;
        Ok(values)
    }

    /// Reads a list behind its bracket. One of nothing, or of nulls, is of texts; the server makes it
    /// that, or of what it met before under the path.
    fn list(&mut self, row: usize, scan: &mut Scan<'_>) -> Result<()> {
        let mut nulls = 0;
        let mut list: Option<(Kind, &mut Values)> = None;
        let mut column = Some(self);
        let mut ended = scan.skip(b']');
        while !ended {
            if scan.peek() == b'n' {
                scan.word(b"null")?;
                match &mut list {
                    Some((kind, values)) => values.push_null(*kind),
                    None => nulls += 1,
                }
            } else {
                let scalar = scan.scalar()?;
                if let Some(column) = column.take() {
                    let kind = scalar.kind();
                    let values = column.begin(row, kind.list())?;
                    (0..nulls).for_each(|_| values.push_null(kind));
                    list = Some((kind, values));
                }
                match &mut list {
                    Some((kind, values)) if *kind == scalar.kind() => {
                        values.nulls.push(0);
                        values.push(&scalar)?;
                    }
                    _ => return Err(Unfit),
                }
            }
            ended = !scan.skip(b',');
            if ended {
                scan.expect(b']')?;
            }
        }
        if let Some(column) = column {
            let values = column.begin(row, Kind::Texts)?;
            (0..nulls).for_each(|_| values.push_null(Kind::Text));
            values.end_list();
        } else if let Some((_, values)) = list {
            values.end_list();
        }
        Ok(())
    }

    fn put(&mut self, rows: usize, block: &mut Vec<u8>) {
        self.kinds.resize(rows, NONE);
        let mut places = [0; KINDS];
        let mut none = 0;
        for (place, kind) in self.used().enumerate() {
            places[kind] = place as u8;
            none = place as u8 + 1;
        }
        let place = |kind: &u8| places.get(usize::from(*kind)).copied().unwrap_or(none);
        block.extend(self.kinds.iter().map(place));
        for values in self.values.iter().filter(|values| values.rows > 0) {
            block.extend_from_slice(&values.ends);
            block.extend_from_slice(&values.nulls);
            block.extend_from_slice(&values.bytes);
        }
    }
}

impl Values {
    fn push(&mut self, scalar: &Scalar<'_>) -> Result<()> {
        match scalar {
            Scalar::Number(number) => self.bytes.extend(number.to_le_bytes()),
            Scalar::Bool(value) => self.bytes.push(u8::from(*value)),
            Scalar::Text {
                raw,
                escaped: false,
            } => {
                put_length(raw.len(), &mut self.bytes);
                self.bytes.extend_from_slice(raw);
            }
            Scalar::Text { raw, escaped: true } => put_string(&unescaped(raw)?, &mut self.bytes),
        }
        Ok(())
    }

    /// Adds a null to a list; the value beside it is the type's default.
    fn push_null(&mut self, kind: Kind) {
        self.nulls.push(1);
        let len = if kind == Kind::Number { 8 } else { 1 };
        self.bytes.extend(std::iter::repeat_n(0, len));
    }

    fn end_list(&mut self) {
        self.ends.extend((self.nulls.len() as u64).to_le_bytes());
    }
}

/// A value that is neither an object nor a list nor null.
#[derive(Debug, Clone, Copy)]
enum Scalar<'a> {
    Number(f64),
    Text { raw: &'a [u8], escaped: bool },
    Bool(bool),
}

impl Scalar<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Number(_) => Kind::Number,
            Self::Text { .. } => Kind::Text,
            Self::Bool(_) => Kind::Bool,
        }
    }
}

/// Reads JSON without white space.
#[derive(Debug)]
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// The next byte, 0 at the end.
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.skip(byte) { Ok(()) } else { Err(Unfit) }
    }

    fn word(&mut self, word: &[u8]) -> Result<()> {
        let found = self.text.get(self.at..).unwrap_or_default();
        if !found.starts_with(word) {
            return Err(Unfit);
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads a string behind its quote: what stands between the quotes, and whether there are
    /// escapes in it.
    fn string(&mut self) -> Result<(&'a [u8], bool)> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let found = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            self.at += found.ok_or(Unfit)?;
            if self.text[self.at] == b'"' {
                let raw = &self.text[start..self.at];
                self.at += 1;
                return Ok((raw, escaped));
            }
            escaped = true;
            self.at += 2;
        }
    }

    fn scalar(&mut self) -> Result<Scalar<'a>> {
        match self.peek() {
            b'"' => {
                self.at += 1;
                let (raw, escaped) = self.string()?;
                Ok(Scalar::Text { raw, escaped })
            }
            b't' => self.word(b"true").map(|()| Scalar::Bool(true)),
            b'f' => self.word(b"false").map(|()| Scalar::Bool(false)),
            b'-' | b'0'..=b'9' => self.number().map(Scalar::Number),
            _ => Err(Unfit),
        }
    }

    /// Reads a number with a fraction or an exponent; others the server keeps as integers.
    fn number(&mut self) -> Result<f64> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.iter().take_while(|byte| is_part(byte)).count();
        let digits = &rest[..len];
        if !digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            return Err(Unfit);
        }
        let text = std::str::from_utf8(digits).map_err(|_| Unfit)?;
        let number: f64 = text.parse().map_err(|_| Unfit)?;
        self.at += len;
        if number.is_finite() {
            Ok(number)
        } else {
            Err(Unfit)
        }
    }
}

#[cold]
fn unescaped(raw: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(raw).map_err(|_| Unfit)?;
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    serde_json::from_str(&format!("\"{text}\"")).map_err(|_| Unfit)
}
