//! The tests of a document, run without any server.

use ponix_sink::Record;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::decode::{Decode as _, DecodeError, Decoded, Message, Reason, RecordDecoder};
use crate::spec::{Expect, Pipeline, TestCase};

/// The header that carries an identity.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The identity of a message that brings none.
const IDENTITY: Uuid = Uuid::from_u128(0x8000_8000_0000_0000_0001);

/// What a message becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A row of these fields.
    Row(Map<String, Json>),
    /// A dead letter.
    DeadLetter(DecodeError),
    /// Nothing.
    Dropped,
}

/// How one test of a document went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestReport {
    /// The test's name.
    pub name: String,
    /// Line and column of the name in the document, counted from 1.
    pub place: Option<(u64, u64)>,
    /// What is not as expected, a line each; nothing when the test passes.
    pub differences: Vec<String>,
}

impl TestReport {
    /// Tells whether everything is as expected.
    pub fn is_passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Tells what a store makes of a record: the row, or why it would be rejected.
pub type Store<'a> = &'a dyn Fn(&Record) -> Result<Map<String, Json>, String>;

/// Runs the tests of a document. What the store would reject is a dead letter; the fields of a
/// row are compared as they come out of the transform.
pub fn run_tests(
    pipeline: &Pipeline,
    decoder: &RecordDecoder,
    store: Store<'_>,
) -> Vec<TestReport> {
    let tests = pipeline.tests.iter();
    let reports = tests.map(|test| TestReport {
        name: test.name.clone(),
        place: test.place,
        differences: match run(test, decoder, store) {
            Ok(outcome) => differences(&test.expect, &outcome),
            Err(text) => vec![format!("the input cannot be written: {text}")],
        },
    });
    reports.collect()
}

fn run(test: &TestCase, decoder: &RecordDecoder, store: Store<'_>) -> Result<Outcome, String> {
    let payload = decoder.encode(&test.input)?;
    let identity = test.headers.get(MESSAGE_ID);
    let identity = identity.and_then(|id| Uuid::try_parse(id).ok());
    let message = Message {
        payload: &payload,
        subject: &test.subject,
        headers: &test.headers,
        identity: identity.unwrap_or(IDENTITY),
        published_at_ns: test.published_at_ns,
        stream_sequence: 1,
        deliveries: 1,
    };
    let keep = |record: &Record| store(record).map(|_| record.fields.clone());
    Ok(outcome(decoder, &message, &keep))
}

/// Decodes a message as the service does, and shows the row that the store makes of it.
pub fn outcome(decoder: &RecordDecoder, message: &Message<'_>, store: Store<'_>) -> Outcome {
    match decoder.decode(message) {
        Ok(Decoded::Row { row, .. }) => match store(&row) {
            Ok(row) => Outcome::Row(row),
            Err(text) => Outcome::DeadLetter(DecodeError::new(Reason::Value, text)),
        },
        Ok(Decoded::Dropped) => Outcome::Dropped,
        Err(err) => Outcome::DeadLetter(err),
    }
}

fn differences(expected: &Expect, found: &Outcome) -> Vec<String> {
    match (expected, found) {
        (Expect::Dropped, Outcome::Dropped) => Vec::new(),
        (Expect::Row(expected), Outcome::Row(found)) => of_rows(expected, found),
        (Expect::DeadLetter(part), Outcome::DeadLetter(err))
            if *part == err.reason.as_str() || err.text.contains(part.as_str()) =>
        {
            Vec::new()
        }
        (expected, found) => vec![
            format!("- {}", expected_in_words(expected)),
            format!("+ {}", found_in_words(found)),
        ],
    }
}

fn of_rows(expected: &Map<String, Json>, found: &Map<String, Json>) -> Vec<String> {
    let mut names: Vec<&String> = expected.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let mut lines = Vec::new();
    for name in names {
        let (expected, found) = (expected.get(name), found.get(name));
        if let (Some(expected), Some(found)) = (expected, found)
            && is_same(expected, found)
        {
            continue;
        }
        lines.extend(expected.map(|value| format!("- {name}: {value}")));
        lines.extend(found.map(|value| format!("+ {name}: {value}")));
    }
    lines
}

/// Whether two values are the same to a column: `1` and `1.0` are.
fn is_same(one: &Json, two: &Json) -> bool {
    match (one, two) {
        (Json::Number(a), Json::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            let has_same = |(name, a): (&String, &Json)| b.get(name).is_some_and(|b| is_same(a, b));
            a.len() == b.len() && a.iter().all(has_same)
        }
        (a, b) => a == b,
    }
}

fn expected_in_words(expected: &Expect) -> String {
    match expected {
        Expect::Row(fields) => format!("a row: {}", Json::Object(fields.clone())),
        Expect::DeadLetter(part) => format!("a dead letter: {part}"),
        Expect::Dropped => "dropped".to_owned(),
    }
}

fn found_in_words(found: &Outcome) -> String {
    match found {
        Outcome::Row(fields) => format!("a row: {}", Json::Object(fields.clone())),
        Outcome::DeadLetter(err) => {
            format!("a dead letter: {}: {}", err.reason.as_str(), err.text)
        }
        Outcome::Dropped => "dropped".to_owned(),
    }
}
