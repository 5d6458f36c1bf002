//! Fields and their constraints.

use regex::Regex;
use rust_decimal::Decimal;
use serde_saphyr::Spanned;

use super::Complaints;
use crate::document::{self, TypeName};
use crate::field::Field;
use crate::load::identifier;
use crate::scalar::decimal;
use crate::table::{Column, FieldType};

/// Members of JSON messages that are not fields.
const RESERVED: [&str; 2] = ["entity_type", "message_id"];
/// Digits that fit a [`Decimal`] whatever they are.
const PRECISION_MAX: u8 = 28;
/// Characters that fit a `varchar`.
const LENGTH_MAX: u32 = 10_485_760;

/// Compiles one field.
pub(super) fn field(field: &document::Field, complaints: &mut Complaints<'_>) -> Field {
    let (name, constraints) = (&field.name, &field.constraints);
    identifier::column(name, "field", complaints);
    if RESERVED.contains(&name.value.as_str()) {
        complaints.at(
            name,
            format!("{:?} is a member of every message and no field", name.value),
        );
    }
    let field_type = field_type(field, complaints);
    let (minimum, maximum) = bounds(field, complaints);
    let mut compiled = Field {
        column: Column {
            name: name.value.clone(),
            field_type,
            nullable: field.nullable,
            doc: field.doc.clone(),
        },
        minimum,
        maximum,
        pattern: pattern(field, complaints),
        one_of: None,
        default: None,
    };
    compiled.one_of = one_of(field, &compiled, complaints);
    if let Some(default) = &constraints.default {
        match compiled.read_json(&default.value) {
            Ok(value) => compiled.default = Some(value),
            Err(reason) => complaints.at(default, format!("default {reason}")),
        }
    }
    compiled
}

fn field_type(field: &document::Field, complaints: &mut Complaints<'_>) -> FieldType {
    let digits = [&field.precision, &field.scale];
    if field.kind != TypeName::Decimal
        && let Some(given) = digits.into_iter().flatten().next()
    {
        complaints.at(given, "precision and scale are for a Decimal");
    }
    let max_length = field.constraints.max_length.as_ref();
    if let Some(length) = max_length
        && (field.kind != TypeName::String || !(1..=LENGTH_MAX).contains(&length.value))
    {
        complaints.at(
            length,
            format!("max_length is for a String, and 1 to {LENGTH_MAX}"),
        );
    }
    match field.kind {
        TypeName::String => FieldType::String {
            max_length: max_length.map(|most| most.value),
        },
        TypeName::Integer => FieldType::Integer,
        TypeName::Float => FieldType::Float,
        TypeName::Decimal => decimal_type(field, complaints),
        TypeName::Boolean => FieldType::Boolean,
        TypeName::Date => FieldType::Date,
        TypeName::DateTime => FieldType::DateTime,
        TypeName::Json => FieldType::Json,
    }
}

fn decimal_type(field: &document::Field, complaints: &mut Complaints<'_>) -> FieldType {
    let precision = field.precision.as_ref().map_or(18, |digits| digits.value);
    let scale = field.scale.as_ref().map_or(2, |digits| digits.value);
    if !(1..=PRECISION_MAX).contains(&precision) || scale > precision {
        complaints.at(
            &field.name,
            format!(
                "a Decimal has 1 to {PRECISION_MAX} digits (precision), and not more of them behind the point (scale)"
            ),
        );
    }
    FieldType::Decimal {
        precision,
        scale: scale.min(precision),
    }
}

fn bounds(
    field: &document::Field,
    complaints: &mut Complaints<'_>,
) -> (Option<Decimal>, Option<Decimal>) {
    let is_number = matches!(
        field.kind,
        TypeName::Integer | TypeName::Float | TypeName::Decimal
    );
    let mut bound = |bound: &Option<Spanned<serde_json::Value>>| {
        let bound = bound.as_ref()?;
        let number = match &bound.value {
            serde_json::Value::Number(number) => decimal(&number.to_string()),
            serde_json::Value::String(text) => decimal(text),
            _ => None,
        };
        if number.is_none() || !is_number {
            complaints.at(
                bound,
                "minimum and maximum are numbers, for a field that is one",
            );
        }
        number
    };
    let minimum = bound(&field.constraints.minimum);
    let maximum = bound(&field.constraints.maximum);
    if let (Some(least), Some(most), Some(at)) = (minimum, maximum, &field.constraints.maximum)
        && least > most
    {
        complaints.at(at, format!("maximum {most} is less than minimum {least}"));
    }
    (minimum, maximum)
}

/// The expression that the whole of a text must match.
fn pattern(field: &document::Field, complaints: &mut Complaints<'_>) -> Option<Regex> {
    let pattern = field.constraints.pattern.as_ref()?;
    if field.kind != TypeName::String {
        complaints.at(pattern, "pattern is for a String");
    }
    // On its own first: as part of another one, `a)|(b` would be sound.
    let whole = Regex::new(&pattern.value)
        .and_then(|pattern| Regex::new(&format!("^(?:{})$", pattern.as_str())));
    match whole {
        Ok(whole) => Some(whole),
        Err(err) => {
            let text = err.to_string();
            let last = text.lines().last().unwrap_or_default();
            complaints.at(pattern, format!("pattern is no regular expression: {last}"));
            None
        }
    }
}

/// The only texts of a field, each of which must keep to its other constraints.
fn one_of(
    field: &document::Field,
    compiled: &Field,
    complaints: &mut Complaints<'_>,
) -> Option<Vec<String>> {
    let one_of = field.constraints.one_of.as_ref()?;
    if field.kind != TypeName::String || one_of.value.is_empty() {
        complaints.at(one_of, "enum is for a String, and has at least one value");
        return None;
    }
    for text in &one_of.value {
        if let Err(reason) = compiled.read_json(&serde_json::Value::from(text.as_str())) {
            complaints.at(one_of, format!("enum: {text:?} {reason}"));
        }
    }
    Some(one_of.value.clone())
}
