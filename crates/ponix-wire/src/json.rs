//! Strict JSON: what would be ambiguous or could not be stored is refused, with its place.
//!
//! One reader for all edges; what it builds is a [`JsonTree`], and `()` for a mere check.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{DATA_DEPTH_MAX, INTEGER_EXACT_MAX};

/// More of a name than this is not shown in an error, in characters: names come from outside.
const NAME_SHOWN_CHARS_MAX: usize = 60;

/// What serde reads as a double even where it is written as an integer: below -2^63 or from 2^64 on.
const BEYOND_64_BITS: f64 = 9_223_372_036_854_775_808.0;
/// Fewest digits of such a number.
const LONG_INTEGER_DIGITS: usize = 19;
const INTEGER_TOO_LARGE: &str = "is an integer beyond ±2^53: send it as a text";
/// So many things that are wrong are told of one text at most.
const PROBLEMS_MAX: usize = 20;
const TWICE: &str = "is there twice";

/// The reason of a member that is not there.
pub const MISSING: &str = "is missing";

/// What a text may hold, beyond being JSON of at most [`DATA_DEPTH_MAX`] levels in which no object
/// has two members of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonRules {
    /// Members of objects at most, in the whole text.
    pub members_max: usize,
    /// Integers beyond ±2^53, which a double may not hold.
    pub large_integers: bool,
    /// NUL characters in texts and names, which PostgreSQL cannot store.
    pub nul: bool,
}

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The bytes are no UTF-8.
    #[error("is not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// The first byte that is none, counted from 0.
        at: usize,
    },
    /// The text is not JSON, not of the expected form, or has too many levels or members.
    #[error("{message}")]
    Text {
        /// What is wrong, with line and column.
        message: String,
    },
    /// A member has a name that is not known.
    #[error("{field} is not known, did you mean {nearest}?")]
    Unknown {
        /// The name, cut where it is long.
        field: String,
        /// The known one that is most like it.
        nearest: &'static str,
    },
    /// A value cannot be taken.
    #[error("{field} {reason}")]
    Value {
        /// The path of the value: `line_items.2.quantity`.
        field: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What a reader makes of JSON.
pub trait JsonTree: Sized {
    /// The members of an object that is being read.
    type Members: Default;

    /// `null`.
    fn null() -> Self;
    /// A truth value.
    fn boolean(value: bool) -> Self;
    /// An integer that is not negative.
    fn unsigned(value: u64) -> Self;
    /// A negative integer.
    fn signed(value: i64) -> Self;
    /// A number with a fraction or an exponent, or beyond 64 bits.
    fn double(value: f64) -> Self;
    /// A text.
    fn text(value: Cow<'_, str>) -> Self;
    /// A list.
    fn list(values: Vec<Self>) -> Self;
    /// An object.
    fn object(members: Self::Members) -> Self;
    /// Tells whether there is a member of this name.
    fn has(members: &Self::Members, name: &str) -> bool;
    /// Adds a member.
    fn insert(members: &mut Self::Members, name: String, value: Self);
}

/// Reads a text, or values of one that is read with serde.
#[derive(Debug)]
pub struct JsonReader {
    rules: JsonRules,
    members_left: Cell<usize>,
    problem: RefCell<Option<JsonError>>,
    /// Numbers so large that they may have been written as integers, with their paths.
    huge: RefCell<Vec<(String, f64)>>,
    /// What is wrong, where reading goes on behind it.
    found: Option<RefCell<Vec<JsonError>>>,
}

impl JsonReader {
    /// Makes a reader for one text, which it refuses for the first thing that is wrong.
    pub fn new(rules: JsonRules) -> Self {
        Self {
            rules,
            members_left: Cell::new(rules.members_max),
            problem: RefCell::default(),
            huge: RefCell::default(),
            found: None,
        }
    }

    /// Makes a reader for one text, of which [`JsonReader::read_all`] tells everything that is wrong.
    pub fn thorough(rules: JsonRules) -> Self {
        Self {
            found: Some(RefCell::default()),
            ..Self::new(rules)
        }
    }

    /// Reads a text as [`JsonReader::read`] does, and tells what is wrong, 20 things at most: each
    /// member or value once, and last what kept it from reading on, if something did.
    ///
    /// The value is there when the text could be read to its end; what was wrong in it is left out.
    pub fn read_all<'de, S: DeserializeSeed<'de>>(
        &self,
        text: &'de [u8],
        seed: S,
    ) -> (Option<S::Value>, Vec<JsonError>) {
        let read = self.read(text, seed);
        let mut found = self.found.as_ref().map(RefCell::take).unwrap_or_default();
        match read {
            Ok(value) => (Some(value), found),
            Err(err) => {
                found.push(err);
                (None, found)
            }
        }
    }

    /// Reads an object as [`JsonReader::object`] does, and tells everything that is wrong with it, see
    /// [`JsonReader::read_all`].
    pub fn object_all<T: JsonTree>(&self, text: &[u8]) -> (Option<T::Members>, Vec<JsonError>) {
        self.read_all(text, Object(At::<T>::new(self, None)))
    }

    /// Reads one value.
    ///
    /// # Errors
    /// See [`JsonError`].
    pub fn value<T: JsonTree>(&self, text: &[u8]) -> Result<T, JsonError> {
        self.read(text, At::<T>::new(self, None))
    }

    /// Reads one object, and returns its members.
    ///
    /// # Errors
    /// See [`JsonError`].
    pub fn object<T: JsonTree>(&self, text: &[u8]) -> Result<T::Members, JsonError> {
        self.read(text, Object(At::<T>::new(self, None)))
    }

    /// Reads a text with a seed, which may read parts of it with [`JsonReader::member`].
    ///
    /// # Errors
    /// See [`JsonError`].
    pub fn read<'de, S: DeserializeSeed<'de>>(
        &self,
        text: &'de [u8],
        seed: S,
    ) -> Result<S::Value, JsonError> {
        let text = std::str::from_utf8(text).map_err(|err| JsonError::NotUtf8 {
            at: err.valid_up_to(),
        })?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = seed
            .deserialize(&mut deserializer)
            .and_then(|value| deserializer.end().map(|()| value));
        // An error of serde's has no place for a path.
        let read = read.map_err(|err| {
            self.problem.take().unwrap_or_else(|| JsonError::Text {
                message: err.to_string(),
            })
        })?;
        self.check_huge(text)?;
        Ok(read)
    }

    /// Refuses an integer beyond 64 bits, which serde hands on as a double: one rule for all sizes.
    fn check_huge(&self, text: &str) -> Result<(), JsonError> {
        let huge = self.huge.take();
        if huge.is_empty() {
            return Ok(());
        }
        let written = long_integers(text).into_iter();
        let written = written.filter_map(|text| text.parse().ok());
        let written: HashSet<u64> = written.map(f64::to_bits).collect();
        for (field, value) in huge {
            if written.contains(&value.to_bits()) {
                let reason = INTEGER_TOO_LARGE;
                self.complain(JsonError::Value { field, reason })?;
            }
        }
        Ok(())
    }

    /// Returns a seed that reads one member of the outermost object.
    pub fn member<'a, 'de, T: JsonTree + 'a>(
        &'a self,
        name: &'static str,
    ) -> impl DeserializeSeed<'de, Value = T> + 'a {
        At::<T>::new(self, Some(Segment::Member(name)))
    }

    /// Refuses a member that is none of the known ones.
    pub(crate) fn unknown<E: serde::de::Error>(
        &self,
        name: &str,
        known: &[&'static str],
    ) -> Result<(), E> {
        // What is told is cut, and nothing more is told.
        if self
            .found
            .as_ref()
            .is_some_and(|found| found.borrow().len() >= PROBLEMS_MAX)
        {
            return Ok(());
        }
        let end = name.floor_char_boundary(NAME_SHOWN_CHARS_MAX);
        let likeness = |known: &&&str| strsim::damerau_levenshtein(known, &name[..end]);
        let nearest = known.iter().min_by_key(likeness).copied();
        let field = name.chars().take(NAME_SHOWN_CHARS_MAX);
        self.refuse_with(JsonError::Unknown {
            field: field
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect(),
            nearest: nearest.unwrap_or_default(),
        })
    }

    /// Refuses the text for one of its members.
    pub(crate) fn refuse<E: serde::de::Error>(
        &self,
        member: &'static str,
        reason: &'static str,
    ) -> Result<(), E> {
        At::<()>::new(self, Some(Segment::Member(member))).refuse(reason)
    }

    /// Refuses a member that has come before.
    pub(crate) fn twice<E: serde::de::Error>(&self, member: &'static str) -> Result<(), E> {
        self.refuse(member, TWICE)
    }

    /// Ends the reading with an error, for which serde's own has no place.
    fn refuse_with<E: serde::de::Error>(&self, error: JsonError) -> Result<(), E> {
        self.complain(error).map_err(|error| {
            let text = E::custom(&error);
            self.problem.replace(Some(error));
            text
        })
    }

    /// Keeps an error, where reading goes on behind it, and returns it otherwise.
    fn complain(&self, error: JsonError) -> Result<(), JsonError> {
        let Some(found) = &self.found else {
            return Err(error);
        };
        let mut found = found.borrow_mut();
        let is_told = found.iter().any(|other| other.field() == error.field());
        if !is_told && found.len() < PROBLEMS_MAX {
            found.push(error);
        }
        Ok(())
    }
}

impl JsonError {
    /// Returns the path of the member or the value that is wrong, where it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Unknown { field, .. } | Self::Value { field, .. } => Some(field),
            Self::NotUtf8 { .. } | Self::Text { .. } => None,
        }
    }
}

/// The integers of a JSON text that may be beyond 64 bits, with their signs.
fn long_integers(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut in_text) = (0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => at += 1,
            b'-' | b'0'..=b'9' if !in_text => {
                let number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let rest = &bytes[at..];
                let length = rest.iter().position(|byte| !number(byte));
                let end = at + length.unwrap_or(rest.len());
                let is_integer = !text[at..end].contains(['.', 'e', 'E']);
                if is_integer && end - at >= LONG_INTEGER_DIGITS {
                    found.push(&text[at..end]);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Where a value lies, from the inside out.
#[derive(Clone, Copy)]
struct Path<'a> {
    outer: Option<&'a Path<'a>>,
    segment: Option<Segment<'a>>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Member(&'a str),
    Item(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            outer.fmt(f)?;
            if outer.segment.is_some() {
                f.write_str(".")?;
            }
        }
        match self.segment {
            None => Ok(()),
            Some(Segment::Item(index)) => write!(f, "{index}"),
            Some(Segment::Member(name)) => {
                let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
                let shown = name.chars().take(NAME_SHOWN_CHARS_MAX).map(printable);
                f.write_str(&shown.collect::<String>())
            }
        }
    }
}

/// A value that lies in so many objects and lists.
struct At<'a, T> {
    reader: &'a JsonReader,
    path: Path<'a>,
    depth: u32,
    tree: std::marker::PhantomData<fn() -> T>,
}

impl<'a, T> At<'a, T> {
    fn new(reader: &'a JsonReader, segment: Option<Segment<'a>>) -> Self {
        let (outer, tree) = (None, std::marker::PhantomData);
        Self {
            reader,
            path: Path { outer, segment },
            depth: 0,
            tree,
        }
    }

    /// The place of a value in this one.
    fn inside<'b>(&'b self, segment: Segment<'b>) -> At<'b, T> {
        let path = Path {
            outer: Some(&self.path),
            segment: Some(segment),
        };
        At {
            reader: self.reader,
            path,
            depth: self.depth + 1,
            tree: self.tree,
        }
    }

    /// Refuses the text for what this value is.
    #[cold]
    fn refuse<E: serde::de::Error>(&self, reason: &'static str) -> Result<(), E> {
        let mut field = self.path.to_string();
        if field.is_empty() {
            "the value".clone_into(&mut field);
        }
        self.reader.refuse_with(JsonError::Value { field, reason })
    }

    /// Refuses the text for its size.
    #[cold]
    fn too_much<E: serde::de::Error>(&self, what: &str) -> E {
        let mut root = &self.path;
        while let Some(outer) = root.outer {
            root = outer;
        }
        match root.segment {
            Some(_) => E::custom(format_args!("{root} {what}")),
            None => E::custom(what),
        }
    }

    /// Checks that anything may lie in this value.
    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < DATA_DEPTH_MAX {
            return Ok(());
        }
        let what = format!("is nested deeper than {DATA_DEPTH_MAX} levels");
        Err(self.too_much(&what))
    }

    fn count_member<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = &self.reader.members_left;
        if let Some(fewer) = left.get().checked_sub(1) {
            left.set(fewer);
            return Ok(());
        }
        let what = format!("has more than {} members", self.reader.rules.members_max);
        Err(self.too_much(&what))
    }

    fn check_text<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        if !self.reader.rules.nul && text.contains('\0') {
            return self.refuse("has a NUL character, which cannot be stored");
        }
        Ok(())
    }

    fn check_integer<E: serde::de::Error>(&self, magnitude: u64) -> Result<(), E> {
        if !self.reader.rules.large_integers && magnitude > INTEGER_EXACT_MAX {
            return self.refuse(INTEGER_TOO_LARGE);
        }
        Ok(())
    }
}

impl<'de, T: JsonTree> DeserializeSeed<'de> for At<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: JsonTree> Visitor<'de> for At<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::null())
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::boolean(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        self.check_integer(value)?;
        Ok(T::unsigned(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        self.check_integer(value.unsigned_abs())?;
        Ok(T::signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        if !self.reader.rules.large_integers && value.abs() >= BEYOND_64_BITS {
            let place = (self.path.to_string(), value);
            self.reader.huge.borrow_mut().push(place);
        }
        Ok(T::double(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<T, E> {
        self.check_text(value)?;
        Ok(T::text(Cow::Borrowed(value)))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<T, E> {
        self.check_text(&value)?;
        Ok(T::text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        self.check_depth::<A::Error>()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.inside(Segment::Item(values.len())))? {
            values.push(value);
        }
        Ok(T::list(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        self.members(map).map(T::object)
    }
}

impl<T: JsonTree> At<'_, T> {
    fn members<'de, A: MapAccess<'de>>(&self, mut map: A) -> Result<T::Members, A::Error> {
        self.check_depth::<A::Error>()?;
        let mut members = T::Members::default();
        while let Some(name) = map.next_key::<String>()? {
            self.count_member::<A::Error>()?;
            self.check_text::<A::Error>(&name)?;
            let inside = self.inside(Segment::Member(&name));
            let is_there = T::has(&members, &name);
            if is_there {
                inside.refuse::<A::Error>(TWICE)?;
            }
            let value = map.next_value_seed(inside)?;
            if !is_there {
                T::insert(&mut members, name, value);
            }
        }
        Ok(members)
    }
}

/// A value that must be an object.
struct Object<'a, T>(At<'a, T>);

impl<'de, T: JsonTree> DeserializeSeed<'de> for Object<'_, T> {
    type Value = T::Members;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Members, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: JsonTree> Visitor<'de> for Object<'_, T> {
    type Value = T::Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T::Members, A::Error> {
        self.0.members(map)
    }
}

/// Nothing is built: the text is only checked.
impl JsonTree for () {
    type Members = HashSet<String>;

    fn null() {}
    fn boolean(_: bool) {}
    fn unsigned(_: u64) {}
    fn signed(_: i64) {}
    fn double(_: f64) {}
    fn text(_: Cow<'_, str>) {}
    fn list(_: Vec<()>) {}
    fn object(_: HashSet<String>) {}
    fn has(members: &HashSet<String>, name: &str) -> bool {
        members.contains(name)
    }
    fn insert(members: &mut HashSet<String>, name: String, (): ()) {
        members.insert(name);
    }
}

impl JsonTree for serde_json::Value {
    type Members = serde_json::Map<String, Self>;

    fn null() -> Self {
        Self::Null
    }

    fn boolean(value: bool) -> Self {
        Self::Bool(value)
    }

    fn unsigned(value: u64) -> Self {
        value.into()
    }

    fn signed(value: i64) -> Self {
        value.into()
    }

    fn double(value: f64) -> Self {
        value.into()
    }

    fn text(value: Cow<'_, str>) -> Self {
        Self::String(value.into_owned())
    }

    fn list(values: Vec<Self>) -> Self {
        Self::Array(values)
    }

    fn object(members: Self::Members) -> Self {
        Self::Object(members)
    }

    fn has(members: &Self::Members, name: &str) -> bool {
        members.contains_key(name)
    }

    fn insert(members: &mut Self::Members, name: String, value: Self) {
        members.insert(name, value);
    }
}

/// A value of the data of an envelope.
impl JsonTree for prost_types::Value {
    type Members = BTreeMap<String, Self>;

    fn null() -> Self {
        Kind::NullValue(0).into()
    }

    fn boolean(value: bool) -> Self {
        Kind::BoolValue(value).into()
    }

    fn unsigned(value: u64) -> Self {
        Kind::NumberValue(value as f64).into()
    }

    fn signed(value: i64) -> Self {
        Kind::NumberValue(value as f64).into()
    }

    fn double(value: f64) -> Self {
        Kind::NumberValue(value).into()
    }

    fn text(value: Cow<'_, str>) -> Self {
        Kind::StringValue(value.into_owned()).into()
    }

    fn list(values: Vec<Self>) -> Self {
        Kind::ListValue(ListValue { values }).into()
    }

    fn object(fields: Self::Members) -> Self {
        Kind::StructValue(Struct { fields }).into()
    }

    fn has(members: &Self::Members, name: &str) -> bool {
        members.contains_key(name)
    }

    fn insert(members: &mut Self::Members, name: String, value: Self) {
        members.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: JsonRules = JsonRules {
        members_max: 40,
        large_integers: false,
        nul: false,
    };

    fn read(text: &str) -> Result<serde_json::Value, String> {
        let read = JsonReader::new(RULES).value(text.as_bytes());
        read.map_err(|err| err.to_string())
    }

    fn deep(levels: usize) -> String {
        format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn what_is_not_refused_is_what_serde_reads() {
        for text in [
            r#"{"a":[1,-2,3.5,"x\ny",true,null,{}],"b":{"":[]},"A":9007199254740992}"#,
            "17",
            "[[]]",
            &deep(32),
        ] {
            assert_eq!(read(text), Ok(serde_json::from_str(text).unwrap()));
        }
    }

    #[test]
    fn what_is_refused_is_told_with_its_place() {
        let many: Vec<String> = (0..41).map(|n| format!("\"{n}\":0")).collect();
        let long = format!(r#"{{"{}":1e400}}"#, "x".repeat(1000));
        for (text, told) in [
            ("{\"a\":", "EOF while parsing a value at line 1 column 5"),
            (r#"{"a":[{"b":1,"b":2}]}"#, "a.0.b is there twice"),
            (
                r#"{"a":[0,-9007199254740993]}"#,
                "a.1 is an integer beyond ±2^53: send it as a text",
            ),
            (
                r#"{"a\n":"\u0000"}"#,
                "a\u{fffd} has a NUL character, which cannot be stored",
            ),
            (
                r#"{"a":{"\u0000":1}}"#,
                "a has a NUL character, which cannot be stored",
            ),
            (
                r#""\u0000""#,
                "the value has a NUL character, which cannot be stored",
            ),
            (
                &deep(33),
                "is nested deeper than 32 levels at line 1 column 161",
            ),
            (
                &deep(100_000),
                "is nested deeper than 32 levels at line 1 column 161",
            ),
            (
                &format!("{{{}}}", many.join(",")),
                "has more than 40 members at line 1 column 275",
            ),
            (&long, "number out of range at line 1 column 1009"),
            ("{} {}", "trailing characters at line 1 column 4"),
            (r#"{"a":NaN}"#, "expected value at line 1 column 6"),
        ] {
            assert_eq!(read(text), Err(told.to_owned()), "{text}");
        }
        let not_utf8 = JsonReader::new(RULES).value::<()>(b"{\xff").unwrap_err();
        assert_eq!(not_utf8, JsonError::NotUtf8 { at: 1 });
    }

    #[test]
    fn a_thorough_reader_tells_all_that_is_wrong() {
        let all = |text: &str| -> Vec<String> {
            let found = JsonReader::thorough(RULES)
                .object_all::<()>(text.as_bytes())
                .1;
            found.iter().map(ToString::to_string).collect()
        };
        let text = r#"{"a":[9007199254740993,{"b":1,"b":2,"b":3}],"c":"\u0000","d":99999999999999999999,"e":1}"#;
        assert_eq!(
            all(text),
            [
                "a.0 is an integer beyond ±2^53: send it as a text",
                "a.1.b is there twice",
                "c has a NUL character, which cannot be stored",
                "d is an integer beyond ±2^53: send it as a text",
            ]
        );
        // What is behind a mistake in the text itself is not known.
        assert_eq!(
            all(r#"{"a":9007199254740993,"b":}"#),
            [
                "a is an integer beyond ±2^53: send it as a text",
                "expected value at line 1 column 27",
            ]
        );
        let many: Vec<String> = (0..30)
            .map(|n| format!("\"{n}\":9007199254740993"))
            .collect();
        assert_eq!(all(&format!("{{{}}}", many.join(","))).len(), PROBLEMS_MAX);
        assert!(all(r#"{"a":1}"#).is_empty());
    }

    #[test]
    fn rules_may_be_looser() {
        let rules = JsonRules {
            large_integers: true,
            nul: true,
            ..RULES
        };
        let text = br#"{"a":18446744073709551615,"b":"\u0000"}"#;
        assert_eq!(JsonReader::new(rules).value::<()>(text), Ok(()));
    }
}
