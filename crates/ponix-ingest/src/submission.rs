//! From the events of a body to what is answered for them: the one way that all routes share.
//!
//! An [`Encode`] makes a message of each event, a [`Destination`] takes the messages.

use axum::http::StatusCode;
use bytes::Bytes;
use uuid::Uuid;

use crate::error::ApiError;
use crate::limits::Limits;
use crate::memory::{ContentHash, Memory};
use crate::metrics::Tally;

/// An event that may be sent.
#[derive(Debug)]
pub(crate) struct Checked<M> {
    /// What the client knows it by.
    pub(crate) id: Uuid,
    /// What the destination knows it by: the id, or [`own_id`](crate::identity::own_id) of it.
    pub(crate) key: Uuid,
    /// Its content, where the client chose the id: a repeat must have the same.
    pub(crate) content: Option<ContentHash>,
    pub(crate) message: M,
}

/// An event that its destination has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// What the client knows it by.
    pub(crate) id: Uuid,
    /// The destination had it already.
    pub(crate) duplicate: bool,
}

/// The events of a request, each checked when its turn comes.
pub(crate) type Events<'a, M> = Box<dyn Iterator<Item = Result<Checked<M>, ApiError>> + Send + 'a>;

/// Makes messages of what a client sends.
pub(crate) trait Encode: Sync {
    type Message: Send;

    /// Checks one event. `line` counts from 1, and is 0 for a body that is one event.
    fn encode(&self, payload: Bytes, line: usize) -> Result<Checked<Self::Message>, ApiError>;
}

/// Where messages go.
pub(crate) trait Destination<M>: Sync {
    /// What was taken before under the ids that clients chose.
    fn memory(&self) -> &Memory;

    /// Sends events and returns what became of each, in their order; those that are errors already
    /// stay so. With `atomic` it takes all or none, as far as it can.
    fn send(
        &self,
        events: Events<'_, M>,
        atomic: bool,
    ) -> impl Future<Output = Vec<Result<Sent, ApiError>>> + Send;
}

/// The events of one request on their way.
#[derive(Debug)]
pub(crate) struct Submission<'a, E, D> {
    pub(crate) encoder: E,
    pub(crate) destination: &'a D,
    pub(crate) organization: &'a String,
    pub(crate) limits: &'a Limits,
    pub(crate) tally: &'a Tally,
}

/// Why none of some lines is taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// For a reason that concerns all of them.
    Whole(ApiError),
    /// These are wrong; at least one.
    Lines(Vec<(usize, ApiError)>),
}

/// What became of one line; the index counts from 0.
pub(crate) type Line = (usize, Result<Sent, ApiError>);

impl<E: Encode, D: Destination<E::Message>> Submission<'_, E, D> {
    /// Sends a body that is one event.
    pub(crate) async fn one(&self, payload: Bytes) -> Result<Sent, ApiError> {
        self.limits
            .of_organization(self.organization, 1, payload.len())?;
        let event = Box::new(std::iter::once(self.check(payload, 0)));
        let sent = self.destination.send(event, false).await.pop();
        let sent = sent.unwrap_or_else(|| Err(ApiError::outcome_unknown()));
        self.tally.count(&sent);
        sent
    }

    /// Sends lines, each for itself.
    ///
    /// # Errors
    /// The organization sends too much.
    pub(crate) async fn lines(&self, lines: Vec<(usize, Bytes)>) -> Result<Vec<Line>, ApiError> {
        self.count_lines(&lines)?;
        let (indices, payloads): (Vec<usize>, Vec<Bytes>) = lines.into_iter().unzip();
        let numbers = indices.iter().map(|index| index + 1);
        let checked = payloads
            .into_iter()
            .zip(numbers)
            .map(|(payload, line)| self.check(payload, line));
        let sent = self.destination.send(Box::new(checked), false).await;
        for sent in &sent {
            self.tally.count(sent);
        }
        Ok(indices.into_iter().zip(sent).collect())
    }

    /// Sends lines if none is wrong: every one is checked before the first is sent. What breaks
    /// while they are sent is an unknown outcome: the request sent again with its key completes it.
    ///
    /// # Errors
    /// Every line that is wrong, or the organization sends too much.
    pub(crate) async fn all_or_nothing(
        &self,
        lines: Vec<(usize, Bytes)>,
    ) -> Result<Vec<Line>, Refusal> {
        self.count_lines(&lines).map_err(Refusal::Whole)?;
        let mut indices = Vec::with_capacity(lines.len());
        let mut checked = Vec::with_capacity(lines.len());
        for (index, payload) in lines {
            indices.push(index);
            checked.push((index, self.check(payload, index + 1)));
        }
        self.refuse(&checked)?;
        let checked = checked.into_iter().map(|(_, checked)| checked);
        let answered = self.destination.send(Box::new(checked), true).await;
        let sent: Vec<Line> = indices.into_iter().zip(answered).collect();
        self.refuse(&sent)?;
        for (_, sent) in &sent {
            self.tally.count(sent);
        }
        Ok(sent)
    }

    /// Refuses all lines if one is wrong.
    fn refuse<T>(&self, lines: &[(usize, Result<T, ApiError>)]) -> Result<(), Refusal> {
        let errors = lines.iter().filter_map(|(index, result)| {
            let error = result.as_ref().err()?;
            Some((*index, error.clone()))
        });
        let wrong: Vec<(usize, ApiError)> = errors.collect();
        let Some((_, first)) = wrong.first() else {
            return Ok(());
        };
        self.tally.refused.inc();
        // Not the line is what is wrong.
        if first.status() >= StatusCode::INTERNAL_SERVER_ERROR {
            return Err(Refusal::Whole(first.clone()));
        }
        Err(Refusal::Lines(wrong))
    }

    fn count_lines(&self, lines: &[(usize, Bytes)]) -> Result<(), ApiError> {
        let bytes = lines.iter().map(|(_, line)| line.len()).sum();
        self.limits
            .of_organization(self.organization, lines.len(), bytes)
    }

    fn check(&self, payload: Bytes, line: usize) -> Result<Checked<E::Message>, ApiError> {
        let checked = self.encoder.encode(payload, line)?;
        // Before the destination sees it: a stream keeps the first of an id and forgets the rest.
        if let Some(content) = checked.content {
            let memory = self.destination.memory();
            memory.check(checked.key, checked.id, content)?;
        }
        Ok(checked)
    }
}
