//! Programs in VRL, the language of Vector's `remap`.

mod bounds;
mod event;
mod functions;
mod json;

use std::cell::Cell;
use std::ops::ControlFlow;

use uuid::Uuid;
use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::{ExternalEnv, LocalEnv};
use vrl::compiler::{CompileConfig, Compiler, TimeZone, TypeState};
use vrl::diagnostic::{Diagnostic, DiagnosticList, Note, Severity};
use vrl::path::OwnedTargetPath;
use vrl::value::kind::Collection;
use vrl::value::{Kind, Value};

use self::event::{Event, Limit};
use super::Problem;
use crate::decode::{DecodeError, FieldMap, Message, Reason};
use crate::spec::{Place, Transform};

/// Steps of a program on one event at most: some hundred times what a long program takes.
const STEPS_MAX: u32 = 1_000_000;
/// Bytes of an event that are always allowed for, besides four times its message.
const OUTPUT_BYTES: usize = 1 << 20;
/// Largest index that a program may name: the compiler keeps a type for each item before it.
const INDEX_MAX: u64 = 1_000;
/// Bytes of a program at most.
const PROGRAM_BYTES_MAX: usize = 256 << 10;

/// A program, compiled.
#[derive(Debug)]
pub(crate) struct Program {
    compiled: vrl::compiler::Program,
    source: String,
    output_bytes_max: Option<usize>,
    time_zone: TimeZone,
}

impl Program {
    /// Compiles a program; everything that is wrong with it is told.
    pub(crate) fn compile(transform: &Transform) -> Result<Self, Vec<Problem>> {
        let source = &transform.program;
        let single = |message: String| Problem {
            place: None,
            message,
        };
        if source.len() > PROGRAM_BYTES_MAX {
            let message = format!("the program has more than {PROGRAM_BYTES_MAX} bytes");
            return Err(vec![single(message)]);
        }
        if source.trim().is_empty() {
            return Err(vec![single("the program is empty".to_owned())]);
        }
        if let Some(at) = far_index(source) {
            return Err(vec![Problem {
                place: place(source, at),
                message: format!("an index may be {INDEX_MAX} at most: a list is filled up to it"),
            }]);
        }
        let parsed = vrl::parser::parse(source).map_err(|err| {
            problems(
                source,
                DiagnosticList::from(vec![Diagnostic::from(boxed(err))]),
            )
        })?;
        let bounded = bounds::bounded(parsed);
        let mut config = CompileConfig::default();
        config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
        let state = TypeState {
            local: LocalEnv::default(),
            external: ExternalEnv::new_with_kind(
                Kind::object(Collection::any()),
                event::metadata_kind(),
            ),
        };
        let compiled = Compiler::compile(&functions::all(), bounded, &state, config);
        let compiled = compiled.map_err(|found| problems(source, found))?;
        // A zone of the machine would make the rows depend on it.
        let utc = TimeZone::parse("UTC");
        Ok(Self {
            compiled: compiled.program,
            source: source.clone(),
            output_bytes_max: transform.output_bytes_max,
            time_zone: utc.ok_or_else(|| vec![single("there is no time zone UTC".to_owned())])?,
        })
    }

    /// Runs the program on the fields of an event; `None` when it drops the event.
    pub(crate) fn run(
        &self,
        fields: FieldMap,
        message: &Message<'_>,
        identity: Uuid,
    ) -> Result<Option<FieldMap>, DecodeError> {
        let default = message
            .payload
            .len()
            .saturating_mul(4)
            .saturating_add(OUTPUT_BYTES);
        let limit = Limit::new(self.output_bytes_max.unwrap_or(default));
        let mut event = Event::new(fields, message, identity, &limit);
        let steps = Cell::new(0_u32);
        let mut control = || {
            steps.set(steps.get() + 1);
            if limit.is_exceeded() || steps.get() > STEPS_MAX {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let mut runtime = Runtime::default();
        let ended =
            runtime.resolve_with_control(&mut event, &self.compiled, &self.time_zone, &mut control);
        if limit.is_exceeded() {
            return Err(failed(format!(
                "the event grows beyond {} bytes",
                limit.bytes_max()
            )));
        }
        match ended {
            Ok(_) => json::fields(event.into_value(), limit.bytes_max()),
            Err(Terminate::Interrupted) => Err(failed(format!(
                "the program takes more than {STEPS_MAX} steps"
            ))),
            Err(ended) => {
                let is_abort = matches!(ended, Terminate::Abort(_));
                let text =
                    vrl::diagnostic::DiagnosticMessage::message(&ended.get_expression_error());
                match text {
                    text if is_abort && text == functions::DROPPED => Ok(None),
                    text if is_abort => Err(failed(text)),
                    text => Err(failed(with_lines(&self.source, &text))),
                }
            }
        }
    }
}

/// Where a program names an item of a list beyond what is allowed.
fn far_index(source: &str) -> Option<usize> {
    source.match_indices('[').map(|(at, _)| at).find(|at| {
        let inner = source[at + 1..].split(']').next().unwrap_or_default();
        let digits = inner.trim().trim_start_matches('-').replace('_', "");
        // One that no integer holds is not an index either.
        let is_far = |index: u64| index > INDEX_MAX;
        !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse().ok().is_none_or(is_far)
    })
}

fn failed(text: String) -> DecodeError {
    DecodeError::new(Reason::Transform, text)
}

fn boxed(err: vrl::parser::Error) -> Box<dyn vrl::diagnostic::DiagnosticMessage> {
    Box::new(err)
}

/// What is wrong with a program, each on one line.
fn problems(source: &str, found: DiagnosticList) -> Vec<Problem> {
    let is_wrong = |found: &Diagnostic| matches!(found.severity, Severity::Error | Severity::Bug);
    let wrong = found.into_iter().filter(is_wrong);
    wrong.map(|found| problem(source, &found)).collect()
}

fn problem(source: &str, found: &Diagnostic) -> Problem {
    let mut labels: Vec<_> = found.labels.iter().collect();
    labels.sort_by_key(|label| !label.primary);
    // Whoever writes programs need not know that functions are compiled.
    let nested = found.message.strip_prefix("function compilation error: ");
    let told = nested
        .and_then(|nested| nested.split_once("] "))
        .map(|(_, told)| told);
    let mut parts = vec![told.unwrap_or(&found.message).to_owned()];
    for label in &labels {
        let is_told = label.message.is_empty() || parts.contains(&label.message);
        parts.extend((!is_told).then(|| label.message.clone()));
    }
    for note in &found.notes {
        if let Note::Hint(_) | Note::Example(_) | Note::Basic(_) | Note::CoerceValue = note {
            let note = note.to_string();
            parts.extend((!note.trim().is_empty()).then(|| note.trim().to_owned()));
        }
    }
    let code = if found.code > 0 {
        format!("E{:03} ", found.code)
    } else {
        String::new()
    };
    let message = parts
        .join(", ")
        .replace(":, ", ": ")
        .replace(['\n', '\r'], " ");
    Problem {
        place: labels
            .first()
            .and_then(|label| place(source, label.span.start())),
        message: format!("vrl: {code}{message}"),
    }
}

/// Line and column of a byte.
fn place(source: &str, at: usize) -> Place {
    let before = source.get(..at.min(source.len()))?;
    let line = before.matches('\n').count() as u64 + 1;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    Some((line, before[start..].chars().count() as u64 + 1))
}

/// An error at run time names bytes of the program, `at (9:27)`: the line is more use.
fn with_lines(source: &str, text: &str) -> String {
    let found = text.split_once(" at (").and_then(|(before, rest)| {
        let (bytes, after) = rest.split_once(')')?;
        let start = bytes.split(':').next()?.parse().ok()?;
        let (line, _) = place(source, start)?;
        Some(format!("{before} in line {line}{after}"))
    });
    found.unwrap_or_else(|| text.to_owned())
}

/// The size of a value, about what it has as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len() + 2,
        Value::String(text) => text.len() + 2,
        Value::Regex(regex) => regex.as_str().len() + 2,
        Value::Timestamp(_) => 32,
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Null => 8,
        Value::Object(members) => {
            members
                .iter()
                .map(|(name, value)| name.len() + 4 + size(value))
                .sum::<usize>()
                + 2
        }
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
    }
}
