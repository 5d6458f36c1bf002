//! The checks of [`decode_envelope`](crate::decode_envelope) on an envelope that is not on the wire
//! yet, for producers.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};

use crate::DecodeError;
use crate::decode::{Time, check_ahead, identifier, identity};
use crate::envelope::v1::ProcessedEnvelope;
use crate::path::FieldPath;
use crate::transcode::{DATA_DEPTH_MAX, clashing_name};

/// Tells whether [`decode_envelope`](crate::decode_envelope) would take the envelope once it is
/// encoded, without encoding it.
///
/// # Errors
///
/// What it would answer.
pub fn check_envelope(
    envelope: &ProcessedEnvelope,
    published_at_ns: i64,
) -> Result<(), DecodeError> {
    envelope_problems(envelope, published_at_ns)
        .into_iter()
        .next()
        .map_or(Ok(()), Err)
}

/// Returns everything for which [`decode_envelope`](crate::decode_envelope) would refuse the envelope
/// once it is encoded, of its data 20 values at most.
pub fn envelope_problems(envelope: &ProcessedEnvelope, published_at_ns: i64) -> Vec<DecodeError> {
    let occurred_at_ns = time("occurred_at", envelope.occurred_at.as_ref());
    let ahead = occurred_at_ns
        .as_ref()
        .map_or(Ok(()), |ns| check_ahead(*ns, published_at_ns));
    let mut found: Vec<DecodeError> = [
        identifier("organization_id", &envelope.organization_id).err(),
        identifier("end_device_id", &envelope.end_device_id).err(),
        occurred_at_ns.err(),
        time("processed_at", envelope.processed_at.as_ref()).err(),
        identity(&envelope.event_id).err(),
        ahead.err(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut problems = Problems::new();
    if let Some(data) = &envelope.data {
        object(data, DATA_DEPTH_MAX, &mut problems);
    }
    found.extend(problems.into_iter().map(|(path, problem)| {
        let field = path.below("data");
        match problem {
            Problem::NotFinite => DecodeError::NotFinite { field },
            Problem::NameClash => DecodeError::NameClash { field },
            Problem::TooDeep => DecodeError::TooDeep {
                field,
                depth_max: DATA_DEPTH_MAX,
            },
        }
    }));
    found
}

fn time(field: &'static str, timestamp: Option<&Timestamp>) -> Result<i64, DecodeError> {
    let time = timestamp.map(|time| Time {
        seconds: time.seconds,
        nanos: time.nanos,
    });
    crate::decode::time(field, time)
}

#[derive(Debug, Clone, Copy)]
enum Problem {
    NotFinite,
    NameClash,
    TooDeep,
}

/// What is wrong below a value, each with its path from there.
type Problems = Vec<(FieldPath, Problem)>;

/// So many are told at most.
const PROBLEMS_MAX: usize = 20;

fn add(problems: &mut Problems, path: FieldPath, problem: Problem) {
    if problems.len() < PROBLEMS_MAX {
        problems.push((path, problem));
    }
}

/// Checks an object that may take up `depth_left` levels, itself counted.
fn object(object: &Struct, depth_left: u32, problems: &mut Problems) {
    let Some(inside) = depth_left.checked_sub(1) else {
        return add(problems, FieldPath::default(), Problem::TooDeep);
    };
    for (name, member) in &object.fields {
        below(
            problems,
            |path| path.under_name(name),
            |problems| {
                value(member, inside, problems);
            },
        );
    }
    if let Some(name) = clashing_name(object.fields.keys().map(String::as_str)) {
        let path = FieldPath::default().under_name(name);
        add(problems, path, Problem::NameClash);
    }
}

fn list(list: &ListValue, depth_left: u32, problems: &mut Problems) {
    let Some(inside) = depth_left.checked_sub(1) else {
        return add(problems, FieldPath::default(), Problem::TooDeep);
    };
    for (index, element) in list.values.iter().enumerate() {
        below(
            problems,
            |path| path.under_index(index),
            |problems| {
                value(element, inside, problems);
            },
        );
    }
}

fn value(value: &Value, depth_left: u32, problems: &mut Problems) {
    match &value.kind {
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            add(problems, FieldPath::default(), Problem::NotFinite);
        }
        Some(Kind::StructValue(members)) => object(members, depth_left, problems),
        Some(Kind::ListValue(elements)) => list(elements, depth_left, problems),
        _ => {}
    }
}

/// Checks what lies in a value, and lets the paths of what is found begin at the value.
fn below(
    problems: &mut Problems,
    path: impl Fn(FieldPath) -> FieldPath,
    check: impl FnOnce(&mut Problems),
) {
    let before = problems.len();
    check(problems);
    for (found, _) in problems.iter_mut().skip(before) {
        *found = path(std::mem::take(found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json_to_struct, timestamp_from_ns};

    const NOW_NS: i64 = 1_772_366_400_000_000_000;

    #[test]
    fn everything_that_is_wrong_is_told_with_its_path() {
        let data = serde_json::json!({"a.b": 1, "a%2Eb": 2, "list": [0, {"n": 1}]});
        let mut data = json_to_struct(data.as_object().unwrap()).unwrap();
        let nan = || Value::from(Kind::NumberValue(f64::NAN));
        data.fields.insert("first".to_owned(), nan());
        data.fields.insert("x y".to_owned(), nan());
        let envelope = ProcessedEnvelope {
            organization_id: String::new(),
            end_device_id: "x".repeat(257),
            occurred_at: Some(timestamp_from_ns(NOW_NS * 2)),
            processed_at: None,
            data: Some(data),
            event_id: "7".to_owned(),
        };
        let found = envelope_problems(&envelope, NOW_NS);
        let fields: Vec<_> = found.iter().filter_map(DecodeError::field).collect();
        assert_eq!(
            fields,
            [
                "organization_id",
                "end_device_id",
                "processed_at",
                "event_id",
                "occurred_at",
                "data.first",
                "data[\"x y\"]",
                "data[\"a.b\"]",
            ]
        );
        assert_eq!(check_envelope(&envelope, NOW_NS), Err(found[0].clone()));
    }
}
