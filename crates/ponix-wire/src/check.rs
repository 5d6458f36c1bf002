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
    identifier("organization_id", &envelope.organization_id)?;
    identifier("end_device_id", &envelope.end_device_id)?;
    let occurred_at_ns = time("occurred_at", envelope.occurred_at.as_ref())?;
    time("processed_at", envelope.processed_at.as_ref())?;
    identity(&envelope.event_id)?;
    check_ahead(occurred_at_ns, published_at_ns)?;
    let Some(data) = &envelope.data else {
        return Ok(());
    };
    object(data, DATA_DEPTH_MAX).map_err(|(path, problem)| {
        let field = path.below("data");
        match problem {
            Problem::NotFinite => DecodeError::NotFinite { field },
            Problem::NameClash => DecodeError::NameClash { field },
            Problem::TooDeep => DecodeError::TooDeep {
                field,
                depth_max: DATA_DEPTH_MAX,
            },
        }
    })
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

type Checked = Result<(), (FieldPath, Problem)>;

fn wrong(problem: Problem) -> (FieldPath, Problem) {
    (FieldPath::default(), problem)
}

/// Checks an object that may take up `depth_left` levels, itself counted.
fn object(object: &Struct, depth_left: u32) -> Checked {
    let inside = depth_left.checked_sub(1).ok_or(wrong(Problem::TooDeep))?;
    for (name, member) in &object.fields {
        value(member, inside).map_err(|(path, problem)| (path.under_name(name), problem))?;
    }
    match clashing_name(object.fields.keys().map(String::as_str)) {
        Some(name) => Err((FieldPath::default().under_name(name), Problem::NameClash)),
        None => Ok(()),
    }
}

fn list(list: &ListValue, depth_left: u32) -> Checked {
    let inside = depth_left.checked_sub(1).ok_or(wrong(Problem::TooDeep))?;
    let mut elements = list.values.iter().enumerate();
    elements.try_for_each(|(index, element)| {
        value(element, inside).map_err(|(path, problem)| (path.under_index(index), problem))
    })
}

fn value(value: &Value, depth_left: u32) -> Checked {
    match &value.kind {
        Some(Kind::NumberValue(number)) if !number.is_finite() => Err(wrong(Problem::NotFinite)),
        Some(Kind::StructValue(members)) => object(members, depth_left),
        Some(Kind::ListValue(elements)) => list(elements, depth_left),
        _ => Ok(()),
    }
}
