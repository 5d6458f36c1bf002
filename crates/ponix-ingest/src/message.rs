//! One raw message: what it may be, and what travels with it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::Utf8Error;

use axum::http::StatusCode;
use bytes::Bytes;
use ponix_nats::OutgoingMessage;
use ponix_nats::async_nats::HeaderMap as NatsHeaders;
use ponix_wire::message::Format;
use ponix_wire::{JsonError, JsonReader, JsonRules, JsonTree, header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::error::{ApiError, FieldProblem};
use crate::identity::{id_of_key, own_id};
use crate::memory::{ContentHash, content_hash};
use crate::state::{Check, Identify, Misfit};
use crate::submission::{Checked, Encode};

/// Last token of the subject of messages whose entity is not known.
const DEFAULT_ENTITY: &str = "default";
/// Longest name of an entity, in bytes.
const ENTITY_BYTES_MAX: usize = 64;

/// A raw message as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Its identity: a repeat has the same.
    pub message_id: Uuid,
    /// Whose it is.
    pub organization: String,
    /// The entity it seems to hold.
    pub entity_type: Option<String>,
    /// The entity that the request named.
    pub hint: Option<String>,
    /// How the payload is written.
    pub format: Format,
    /// The message as it was sent, without the line's end.
    pub payload: Bytes,
    /// When it came in.
    pub received_at: OffsetDateTime,
    /// The client's address.
    pub source: String,
}

impl RawMessage {
    /// Returns the time it came in, RFC 3339 in UTC.
    pub(crate) fn received_at_text(&self) -> String {
        // Only a year beyond 9999 has no such text.
        self.received_at.format(&Rfc3339).unwrap_or_default()
    }

    /// What a repeat must be the same in: also the organization, because an id is one for all of
    /// them.
    fn content(&self) -> ContentHash {
        let hint = self.hint.as_deref().unwrap_or_default();
        let head = [self.organization.as_bytes(), hint.as_bytes(), b""].join(&0);
        content_hash(&[&head, &self.payload[..]].concat())
    }

    /// Makes the message for the stream. No header of the client's is among its headers.
    ///
    /// `stream_id` is what the stream knows the message by, see [`own_id`](own_id).
    pub(crate) fn outgoing(&self, subject_prefix: &str, stream_id: Uuid) -> OutgoingMessage {
        let entity = self.entity_type.as_deref().map(snake_case);
        let entity = entity.as_deref().unwrap_or(DEFAULT_ENTITY);
        let mut headers = NatsHeaders::new();
        headers.insert(header::CONTENT_TYPE, self.format.content_type());
        if let Some(hint) = &self.hint {
            headers.insert(header::ENTITY, hint.as_str());
        }
        headers.insert(header::SOURCE, self.source.as_str());
        headers.insert(header::RECEIVED_AT, self.received_at_text().as_str());
        headers.insert(header::RETRY_COUNT, "0");
        if stream_id != self.message_id {
            headers.insert(header::MESSAGE_ID, self.message_id.to_string().as_str());
        }
        // A header cannot hold line ends; keys with such an organization are refused when read.
        let organization = self.organization.replace(char::is_control, "");
        headers.insert(header::ORGANIZATION, organization.as_str());
        OutgoingMessage {
            subject: format!("{subject_prefix}.{entity}"),
            id: Some(stream_id),
            headers,
            payload: self.payload.clone(),
        }
    }
}

/// Makes messages of lines and JSON objects, as far as that needs no entity.
pub(crate) struct MessageEncoder<'a> {
    pub(crate) identify: &'a Identify,
    /// Checks all of a message, where a wrong one must not be taken.
    pub(crate) check: Option<&'a Check>,
    pub(crate) organization: &'a str,
    pub(crate) source: String,
    pub(crate) idempotency_key: Option<&'a str>,
    /// The entity that the request names.
    pub(crate) hint: Option<&'a str>,
    pub(crate) format: Format,
    pub(crate) keys_max: usize,
    pub(crate) received_at: OffsetDateTime,
}

impl Encode for MessageEncoder<'_> {
    type Message = RawMessage;

    fn encode(&self, payload: Bytes, line: usize) -> Result<Checked<RawMessage>, ApiError> {
        let described = describe(self.format, &payload, self.keys_max)
            .map_err(|first| first.with_all(self.problems(&payload)))?;
        let by_key = |key| id_of_key(self.organization, key, line as u64);
        let given = described
            .message_id
            .or_else(|| self.idempotency_key.map(by_key));
        let named = self.hint.or(described.entity_type.as_deref());
        let unknown = |reason| {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let error = ApiError::new(status, "unknown_entity", reason);
            match (self.hint, self.format) {
                (Some(_), _) => error.at("entity"),
                (None, Format::Json) => error.at("entity_type"),
                (None, Format::Line) => error,
            }
        };
        let entity = (self.identify)(self.format, &payload, named).map_err(unknown)?;
        if let Some(check) = self.check {
            check(self.format, &payload, named)?;
        }
        let message = RawMessage {
            message_id: given.unwrap_or_else(Uuid::now_v7),
            organization: self.organization.to_owned(),
            // The name as it is declared, in whatever case the request has it.
            hint: self.hint.is_some().then(|| entity.clone()),
            entity_type: Some(entity),
            format: self.format,
            payload,
            received_at: self.received_at,
            source: self.source.clone(),
        };
        let own = |id| own_id(self.organization, id);
        Ok(Checked {
            id: message.message_id,
            key: described.message_id.map_or(message.message_id, own),
            content: given.map(|_| message.content()),
            message,
        })
    }
}

impl MessageEncoder<'_> {
    /// Everything that is wrong with a message in JSON, which is looked at again for it; what its entity
    /// says too, where that is asked for.
    fn problems(&self, payload: &[u8]) -> Vec<ApiError> {
        if self.format != Format::Json {
            return Vec::new();
        }
        let (top, wrong) = JsonReader::thorough(rules(self.keys_max)).object_all::<Seen>(payload);
        let mut found: Vec<ApiError> = wrong.into_iter().map(ApiError::from).collect();
        let Some(top) = top else {
            return found;
        };
        found.extend(message_id(&top).err());
        let named = entity_type(&top);
        let Ok(named) = named.map_err(|err| found.push(err)) else {
            return found;
        };
        let named = self.hint.or(named);
        if let Some(check) = self.check
            && (self.identify)(self.format, payload, named).is_ok()
            && let Err(misfit) = check(self.format, payload, named)
        {
            let first = misfit.field.map(|field| FieldProblem {
                field,
                message: misfit.reason,
            });
            let all = first.into_iter().chain(misfit.others);
            found.extend(all.map(|FieldProblem { field, message }| {
                ApiError::bad("invalid_message", message).at(field)
            }));
        }
        found
    }
}

impl From<Misfit> for ApiError {
    fn from(misfit: Misfit) -> Self {
        let Misfit {
            field,
            reason,
            others,
        } = misfit;
        let Some(field) = field else {
            return Self::bad("invalid_message", reason);
        };
        let error = Self::bad("invalid_message", format!("{field}: {reason}"));
        let first = FieldProblem {
            field: field.clone(),
            message: reason,
        };
        let errors = if others.is_empty() {
            others
        } else {
            std::iter::once(first).chain(others).collect()
        };
        error.at(field).with_errors(errors)
    }
}

/// What a payload says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    message_id: Option<Uuid>,
    entity_type: Option<String>,
}

/// Checks a payload as far as that needs no entity.
///
/// # Errors
/// What is wrong, with the field.
fn describe(format: Format, payload: &[u8], keys_max: usize) -> Result<Described, ApiError> {
    match format {
        Format::Line => {
            let text = std::str::from_utf8(payload);
            let not_utf8 = |err: Utf8Error| JsonError::NotUtf8 {
                at: err.valid_up_to(),
            };
            line(text.map_err(not_utf8)?).map(|()| Described::default())
        }
        Format::Json => object(payload, keys_max),
    }
}

fn line(text: &str) -> Result<(), ApiError> {
    if text.contains('\n') {
        let message = "the body has more than one line: send it to /ingest/batch";
        return Err(ApiError::bad("several_lines", message));
    }
    match text.find(|c: char| c.is_control() && c != '\t') {
        Some(at) => {
            let message = format!("the line has a control character at byte {at}");
            Err(ApiError::bad("invalid_value", message))
        }
        None => Ok(()),
    }
}

fn rules(keys_max: usize) -> JsonRules {
    JsonRules {
        members_max: keys_max,
        large_integers: true,
        nul: false,
    }
}

fn object(payload: &[u8], keys_max: usize) -> Result<Described, ApiError> {
    let top = JsonReader::new(rules(keys_max)).object::<Seen>(payload)?;
    Ok(Described {
        message_id: message_id(&top)?,
        entity_type: entity_type(&top)?.map(str::to_owned),
    })
}

fn message_id(top: &Members) -> Result<Option<Uuid>, ApiError> {
    match top.text("message_id")?.map(Uuid::try_parse) {
        None => Ok(None),
        Some(Ok(id)) if !id.is_nil() => Ok(Some(id)),
        Some(_) => {
            let error = ApiError::bad("invalid_value", "message_id is not a UUID");
            Err(error.at("message_id"))
        }
    }
}

fn entity_type(top: &Members) -> Result<Option<&str>, ApiError> {
    let named = top.text("entity_type")?;
    if let Some(name) = named {
        check_entity(name, "entity_type")?;
    }
    Ok(named)
}

/// A value as far as it may say something of the message.
enum Seen {
    Null,
    Text(String),
    Other,
}

/// Members that were read; of most of them only the name is kept.
#[derive(Default)]
struct Members(HashMap<String, Seen>);

impl Members {
    fn text(&self, field: &'static str) -> Result<Option<&str>, ApiError> {
        match self.0.get(field) {
            None | Some(Seen::Null) => Ok(None),
            Some(Seen::Text(text)) => Ok(Some(text)),
            Some(Seen::Other) => {
                let message = format!("{field} is not a text, or too long");
                Err(ApiError::bad("invalid_value", message).at(field))
            }
        }
    }
}

impl JsonTree for Seen {
    type Members = Members;

    fn null() -> Self {
        Self::Null
    }

    fn text(text: Cow<'_, str>) -> Self {
        // Longer than any id or name.
        if text.len() > 2 * ENTITY_BYTES_MAX {
            return Self::Other;
        }
        Self::Text(text.into_owned())
    }

    fn boolean(_: bool) -> Self {
        Self::Other
    }

    fn unsigned(_: u64) -> Self {
        Self::Other
    }

    fn signed(_: i64) -> Self {
        Self::Other
    }

    fn double(_: f64) -> Self {
        Self::Other
    }

    fn list(_: Vec<Self>) -> Self {
        Self::Other
    }

    fn object(_: Members) -> Self {
        Self::Other
    }

    fn has(members: &Members, name: &str) -> bool {
        members.0.contains_key(name)
    }

    fn insert(members: &mut Members, name: String, value: Self) {
        members.0.insert(name, value);
    }
}

/// Checks the name of an entity: it becomes part of a subject and a header.
pub(crate) fn check_entity(name: &str, field: &'static str) -> Result<(), ApiError> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if begins && name.len() <= ENTITY_BYTES_MAX && name.bytes().all(plain) {
        return Ok(());
    }
    let message = format!(
        "{field} must be a letter and then at most {} letters, digits or '_'",
        ENTITY_BYTES_MAX - 1
    );
    Err(ApiError::bad("invalid_value", message).at(field))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut chars = name.chars().peekable();
    let mut before: Option<char> = None;
    while let Some(c) = chars.next() {
        if c.is_ascii_uppercase() {
            let word_ends = before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let word_begins = before.is_some_and(|b| b.is_ascii_uppercase())
                && chars.peek().is_some_and(char::is_ascii_lowercase);
            if word_ends || word_begins {
                snake.push('_');
            }
        }
        snake.push(c.to_ascii_lowercase());
        before = Some(c);
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_tokens_of_a_subject() {
        for (name, token) in [
            ("Order", "order"),
            ("OrderLineItem", "order_line_item"),
            ("HTTPCall2Go", "http_call2_go"),
            ("line_item", "line_item"),
        ] {
            assert_eq!(snake_case(name), token);
        }
        for wrong in ["", "a.b", "*", ">", "1a", "a b", "ä", "a\r\n"] {
            assert!(check_entity(wrong, "entity").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_payload_says_what_it_is() {
        let id = "0190f3a8-0000-7000-8000-000000000001";
        let text = format!(r#"{{"message_id":"{id}","entity_type":"Order","n":[{{"a":1}}]}}"#);
        let described = describe(Format::Json, text.as_bytes(), 100).unwrap();
        assert_eq!(described.message_id, Some(id.parse().unwrap()));
        assert_eq!(described.entity_type.as_deref(), Some("Order"));
        assert!(describe(Format::Line, b"O|1|\xc3\xa4|", 100).is_ok());
    }

    #[test]
    fn payloads_that_no_entity_could_have() {
        let says = |format, text: &[u8]| {
            let error = describe(format, text, 40).unwrap_err();
            (error.body().code, error.body().message)
        };
        let keys: Vec<String> = (0..41).map(|n| format!("\"{n}\":0")).collect();
        let keys = format!("{{{}}}", keys.join(","));
        let deep = |levels| format!("{}{}", r#"{"a":"#.repeat(levels), "1") + &"}".repeat(levels);
        assert!(describe(Format::Json, deep(32).as_bytes(), 100).is_ok());
        for (text, message) in [
            (
                "[1]",
                "invalid type: sequence, expected an object at line 1 column 0",
            ),
            (
                &deep(33),
                "is nested deeper than 32 levels at line 1 column 161",
            ),
            (&keys, "has more than 40 members at line 1 column 275"),
        ] {
            let (code, said) = says(Format::Json, text.as_bytes());
            assert_eq!((code.as_str(), said.as_str()), ("invalid_json", message));
        }
        let nul = says(Format::Json, br#"{"a":["\u0000"]}"#);
        assert_eq!(nul.0, "invalid_value");
        assert_eq!(nul.1, "a.0 has a NUL character, which cannot be stored");
        let number = says(Format::Json, br#"{"message_id":7}"#);
        assert_eq!(number.1, "message_id is not a text, or too long");
        assert_eq!(says(Format::Line, b"O|\xff").0, "invalid_utf8");
        assert_eq!(says(Format::Line, b"O|\0").0, "invalid_value");
        assert_eq!(says(Format::Line, b"O|1\nO|2").0, "several_lines");
        let id = says(Format::Json, br#"{"message_id":"7"}"#);
        assert_eq!(id.1, "message_id is not a UUID");
    }
}
