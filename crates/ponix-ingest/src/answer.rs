//! The answer for a body of many lines.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ErrorBody;
use crate::submission::Line;

/// What became of the lines of a body.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// Lines that are taken.
    accepted: usize,
    /// Lines that are not, or of which nobody knows.
    failed: usize,
    /// One result per line that is not empty, in the order of the lines.
    results: Vec<LineResult>,
}

/// What became of one line.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct LineResult {
    /// The line, counted from 1.
    line: usize,
    /// Of an envelope that is taken: its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
    /// Of a message that is taken: its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Uuid>,
    /// Why it is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

impl BatchAnswer {
    pub(crate) fn of_events(lines: Vec<Line>) -> Self {
        Self::new(lines, |result, id| result.event_id = Some(id))
    }

    pub(crate) fn of_messages(lines: Vec<Line>) -> Self {
        Self::new(lines, |result, id| result.message_id = Some(id))
    }

    fn new(lines: Vec<Line>, name: fn(&mut LineResult, Uuid)) -> Self {
        let result = |(index, sent): Line| {
            let mut result = LineResult {
                line: index + 1,
                ..LineResult::default()
            };
            match sent {
                Ok(sent) => name(&mut result, sent.id),
                Err(err) => result.error = Some(err.body()),
            }
            result
        };
        let results: Vec<LineResult> = lines.into_iter().map(result).collect();
        let failed = results.iter().filter(|line| line.error.is_some()).count();
        Self {
            accepted: results.len() - failed,
            failed,
            results,
        }
    }
}
