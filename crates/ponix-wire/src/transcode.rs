//! Writes a `google.protobuf.Struct` as JSON text, straight from its wire bytes.
//!
//! Protobuf lets a message repeat what should be there once: a map key (the last one wins), a
//! single field (the last one wins), a sub-message in pieces (they merge as if their bytes stood
//! behind one another), members of a oneof (the last one wins). None of that needs the tree prost
//! would build. Pieces are kept as slices of the payload, and a map key that comes again cuts its
//! earlier text out once the object is complete.

use std::collections::BTreeSet;
use std::str;

use crate::path::FieldPath;
use crate::wire::{MESSAGE_DEPTH_MAX, Reader, WireError, WireType};

/// How many objects and lists may lie inside one another, `data` itself being the first.
///
/// JSON parsers and prost stop at different depths (prost at 33 objects or 49 lists), so Ponix caps
/// at every edge.
pub const DATA_DEPTH_MAX: u32 = 32;

/// Objects of up to this many members are searched for repeated keys pair by pair, without sorting.
const PAIRWISE_MEMBERS_MAX: usize = 16;

/// Why a Struct has no JSON text, and where.
///
/// Boxed, so that the way without errors passes small results.
#[derive(Debug)]
pub(crate) struct TranscodeError(Box<Place>);

#[derive(Debug)]
struct Place {
    path: FieldPath,
    reason: Reason,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Reason {
    Wire(WireError),
    NotFinite,
    TooDeep,
    NameClash,
}

type Result<T, E = TranscodeError> = std::result::Result<T, E>;

impl TranscodeError {
    /// The path, below the field `root` of the envelope, and the reason.
    pub(crate) fn below(&self, root: &str) -> (String, Reason) {
        (self.0.path.below(root), self.0.reason)
    }

    #[cold]
    fn under_name(mut self, name: &str) -> Self {
        self.0.path = std::mem::take(&mut self.0.path).under_name(name);
        self
    }

    #[cold]
    fn under_index(mut self, index: usize) -> Self {
        self.0.path = std::mem::take(&mut self.0.path).under_index(index);
        self
    }
}

impl From<Reason> for TranscodeError {
    #[cold]
    fn from(reason: Reason) -> Self {
        let path = FieldPath::default();
        Self(Box::new(Place { path, reason }))
    }
}

impl From<WireError> for TranscodeError {
    #[cold]
    fn from(error: WireError) -> Self {
        Reason::Wire(error).into()
    }
}

/// The bytes of a message, in the pieces in which it came; nearly always one.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    first: &'a [u8],
    more: Vec<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(first: &'a [u8]) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, piece: &'a [u8]) {
        self.more.push(piece);
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

/// A `google.protobuf.Value`, as far as it has been read.
#[derive(Debug)]
enum Kind<'a> {
    /// No member of the oneof was there; prost says `None`, JSON text says null.
    Unset,
    Null,
    Number(f64),
    Text(&'a str),
    Bool(bool),
    Object(Pieces<'a>),
    List(Pieces<'a>),
}

/// How much deeper a value may go.
#[derive(Debug, Clone, Copy)]
struct Depth {
    /// Objects and lists still allowed.
    json: u32,
    /// Messages and groups still allowed, in prost's way of counting.
    wire: u32,
}

impl Depth {
    /// Inside an object or list whose message lies `messages` below the last one.
    fn deeper(self, messages: u32) -> Result<Self> {
        let json = self.json.checked_sub(1).ok_or(Reason::TooDeep)?;
        Ok(Self {
            json,
            ..self.inside(messages)
        })
    }

    /// Inside a message that is no JSON level of its own. Within [`DATA_DEPTH_MAX`] levels, prost's
    /// limit is never met.
    fn inside(self, messages: u32) -> Self {
        Self {
            wire: self.wire.saturating_sub(messages),
            ..self
        }
    }
}

/// A member of an object that is being written.
#[derive(Debug, Clone, Copy)]
struct Member<'a> {
    key: &'a str,
    /// Where its text begins.
    start: usize,
}

/// Returns the JSON text of a Struct that is a field of the payload's outermost message.
pub(crate) fn struct_to_json(message: &Pieces<'_>) -> Result<String> {
    let bytes: usize = message.iter().map(<[u8]>::len).sum();
    let mut transcoder = Transcoder {
        json: String::with_capacity(bytes + 16),
        members: Vec::with_capacity(16),
    };
    transcoder.object(
        message,
        Depth {
            json: DATA_DEPTH_MAX,
            wire: MESSAGE_DEPTH_MAX,
        }
        .deeper(1)?,
    )?;
    Ok(transcoder.json)
}

#[derive(Debug)]
struct Transcoder<'a> {
    json: String,
    /// Members of the objects that are open now, the innermost object's last.
    members: Vec<Member<'a>>,
}

impl<'a> Transcoder<'a> {
    /// Writes a Struct. `depth` is that of the Struct's own fields.
    fn object(&mut self, message: &Pieces<'a>, depth: Depth) -> Result<()> {
        let outer_members = self.members.len();
        self.json.push('{');
        for piece in message.iter() {
            let mut reader = Reader::new(piece);
            while let Some(key) = reader.key()? {
                if key.number == 1 {
                    key.expect(WireType::Bytes)?;
                    self.member(reader.bytes()?, depth.inside(1))?;
                } else {
                    reader.skip(key, depth.wire)?;
                }
            }
        }
        if has_repeated_key(&self.members[outer_members..]) {
            self.cut_replaced_members(outer_members);
        }
        if let Some(name) = name_clash(&self.members[outer_members..]) {
            return Err(TranscodeError::from(Reason::NameClash).under_name(name));
        }
        self.members.truncate(outer_members);
        self.close('}');
        Ok(())
    }

    /// Writes one map entry, with a comma behind it. A missing key is the empty string, a missing
    /// value null.
    fn member(&mut self, entry: &'a [u8], depth: Depth) -> Result<()> {
        let mut name = "";
        let mut kind = Kind::Unset;
        let mut reader = Reader::new(entry);
        while let Some(key) = reader.key()? {
            match key.number {
                1 => {
                    key.expect(WireType::Bytes)?;
                    name = reader.str()?;
                }
                2 => {
                    key.expect(WireType::Bytes)?;
                    let piece = reader.bytes()?;
                    self.merge_value(&mut kind, piece, depth.inside(1))
                        .map_err(|error| error.under_name(name))?;
                }
                _ => reader.skip(key, depth.wire)?,
            }
        }
        self.members.push(Member {
            key: name,
            start: self.json.len(),
        });
        self.text(name);
        self.json.push(':');
        self.value(&kind, depth.inside(1))
            .map_err(|error| error.under_name(name))?;
        self.json.push(',');
        Ok(())
    }

    /// Writes a ListValue. `depth` is that of the ListValue's own fields.
    fn list(&mut self, message: &Pieces<'a>, depth: Depth) -> Result<()> {
        let mut index = 0;
        self.json.push('[');
        for piece in message.iter() {
            let mut reader = Reader::new(piece);
            while let Some(key) = reader.key()? {
                if key.number == 1 {
                    key.expect(WireType::Bytes)?;
                    self.element(reader.bytes()?, depth.inside(1))
                        .map_err(|error| error.under_index(index))?;
                    index += 1;
                } else {
                    reader.skip(key, depth.wire)?;
                }
            }
        }
        self.close(']');
        Ok(())
    }

    /// Writes one element of a list, with a comma behind it.
    fn element(&mut self, message: &'a [u8], depth: Depth) -> Result<()> {
        let mut kind = Kind::Unset;
        self.merge_value(&mut kind, message, depth)?;
        self.value(&kind, depth)?;
        self.json.push(',');
        Ok(())
    }

    /// Reads a piece of a Value on top of what was read of it before.
    fn merge_value(&mut self, kind: &mut Kind<'a>, piece: &'a [u8], depth: Depth) -> Result<()> {
        let mut reader = Reader::new(piece);
        while let Some(key) = reader.key()? {
            let read = match key.number {
                1 => {
                    key.expect(WireType::Varint)?;
                    reader.varint()?;
                    Kind::Null
                }
                2 => {
                    key.expect(WireType::Fixed64)?;
                    let number = f64::from_le_bytes(reader.fixed64()?);
                    if !number.is_finite() {
                        return Err(Reason::NotFinite.into());
                    }
                    Kind::Number(number)
                }
                3 => {
                    key.expect(WireType::Bytes)?;
                    Kind::Text(reader.str()?)
                }
                4 => {
                    key.expect(WireType::Varint)?;
                    Kind::Bool(reader.varint()? != 0)
                }
                5 | 6 => {
                    key.expect(WireType::Bytes)?;
                    let message = reader.bytes()?;
                    match kind {
                        Kind::Object(pieces) if key.number == 5 => {
                            pieces.push(message);
                            continue;
                        }
                        Kind::List(pieces) if key.number == 6 => {
                            pieces.push(message);
                            continue;
                        }
                        _ if key.number == 5 => Kind::Object(Pieces::new(message)),
                        _ => Kind::List(Pieces::new(message)),
                    }
                }
                _ => {
                    reader.skip(key, depth.wire)?;
                    continue;
                }
            };
            let replaced = std::mem::replace(kind, read);
            self.check(&replaced, depth)?;
        }
        Ok(())
    }

    /// Refuses what cannot be written, although a later member of the oneof has replaced it.
    fn check(&mut self, kind: &Kind<'a>, depth: Depth) -> Result<()> {
        if matches!(kind, Kind::Object(_) | Kind::List(_)) {
            let end = self.json.len();
            self.value(kind, depth)?;
            self.json.truncate(end);
        }
        Ok(())
    }

    /// Writes a Value. `depth` is that of the Value's own fields.
    fn value(&mut self, kind: &Kind<'a>, depth: Depth) -> Result<()> {
        match kind {
            Kind::Unset | Kind::Null => self.json.push_str("null"),
            // Always with a fraction or an exponent, which ClickHouse reads as Float64: one type
            // per path.
            Kind::Number(number) => self
                .json
                .push_str(zmij::Buffer::new().format_finite(*number)),
            Kind::Text(text) => self.text(text),
            Kind::Bool(true) => self.json.push_str("true"),
            Kind::Bool(false) => self.json.push_str("false"),
            Kind::Object(message) => self.object(message, depth.deeper(1)?)?,
            Kind::List(message) => self.list(message, depth.deeper(1)?)?,
        }
        Ok(())
    }

    /// Writes a string with its quotes, escaping what RFC 8259 asks to be escaped.
    fn text(&mut self, text: &str) {
        self.json.push('"');
        // Folded without a branch, so that it is done for many bytes at a time.
        if text
            .bytes()
            .fold(false, |any, byte| any | needs_escape(byte))
        {
            self.escaped(text);
        } else {
            self.json.push_str(text);
        }
        self.json.push('"');
    }

    fn escaped(&mut self, text: &str) {
        for part in text.split_inclusive(|char: char| char.is_ascii() && needs_escape(char as u8)) {
            let last = part.len() - 1;
            match part.as_bytes()[last] {
                byte if needs_escape(byte) => {
                    self.json.push_str(&part[..last]);
                    self.escape(byte);
                }
                _ => self.json.push_str(part),
            }
        }
    }

    fn escape(&mut self, byte: u8) {
        let letter = match byte {
            b'"' | b'\\' => char::from(byte),
            b'\n' => 'n',
            b'\r' => 'r',
            b'\t' => 't',
            0x08 => 'b',
            0x0c => 'f',
            _ => {
                let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
                self.json.push_str("\\u00");
                self.json.extend([digit(byte >> 4), digit(byte & 0xf)]);
                return;
            }
        };
        self.json.extend(['\\', letter]);
    }

    /// Ends an object or list, without the comma behind its last member.
    fn close(&mut self, bracket: char) {
        if self.json.ends_with(',') {
            self.json.pop();
        }
        self.json.push(bracket);
    }

    /// Cuts out the text of every member of the innermost object whose key comes again later.
    fn cut_replaced_members(&mut self, first: usize) {
        let members = &self.members[first..];
        let mut by_key: Vec<usize> = (0..members.len()).collect();
        by_key.sort_unstable_by_key(|&index| (members[index].key, index));
        let mut stays = vec![true; members.len()];
        for pair in by_key.windows(2) {
            stays[pair[0]] = members[pair[0]].key != members[pair[1]].key;
        }

        let start = members[0].start;
        let written = self.json.split_off(start);
        for (index, member) in members
            .iter()
            .enumerate()
            .filter(|(index, _)| stays[*index])
        {
            let end = members
                .get(index + 1)
                .map_or(written.len(), |next| next.start - start);
            self.json.push_str(&written[member.start - start..end]);
        }
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn has_repeated_key(members: &[Member<'_>]) -> bool {
    if members.len() <= PAIRWISE_MEMBERS_MAX {
        let mut rest = members;
        while let Some((member, later)) = rest.split_first() {
            if later.iter().any(|other| other.key == member.key) {
                return true;
            }
            rest = later;
        }
        return false;
    }
    let mut keys: Vec<&str> = members.iter().map(|member| member.key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// The name of a member that ClickHouse would store under the path of another one.
///
/// It writes a dot in a name as `%2E` to tell it from the dot of nesting, so `a.b` and `a%2Eb` are
/// one path; it refuses the row (code 117, found with 26.7).
fn name_clash<'a>(members: &[Member<'a>]) -> Option<&'a str> {
    clashing_name(members.iter().map(|member| member.key))
}

/// The same for the names of an object.
pub(crate) fn clashing_name<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if !names.clone().any(|name| name.as_bytes().contains(&b'%')) {
        return None;
    }
    let names: BTreeSet<&str> = names.collect();
    let mut paths = BTreeSet::new();
    names
        .into_iter()
        .find(|name| !paths.insert(name.replace('.', "%2E")))
}
