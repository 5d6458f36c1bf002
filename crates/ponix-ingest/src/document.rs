//! The JSON documents of declared pipelines.

use bytes::Bytes;
use ponix_nats::OutgoingMessage;
use ponix_nats::async_nats::HeaderMap as NatsHeaders;
use ponix_wire::{JsonReader, JsonRules, header};
use uuid::Uuid;

use crate::error::ApiError;
use crate::identity::id_of_key;
use crate::memory::content_hash;
use crate::submission::{Checked, Encode};

/// Makes messages of documents, which stay as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DocumentEncoder<'a> {
    pub(crate) subject: &'a str,
    /// A stream of another name is not published into.
    pub(crate) stream: &'a str,
    pub(crate) organization: &'a str,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) keys_max: usize,
}

impl Encode for DocumentEncoder<'_> {
    type Message = OutgoingMessage;

    fn encode(&self, payload: Bytes, line: usize) -> Result<Checked<OutgoingMessage>, ApiError> {
        // What a document may hold is for the pipeline to say; these hold for all.
        let rules = JsonRules {
            members_max: self.keys_max,
            large_integers: true,
            nul: true,
        };
        let read = JsonReader::new(rules).object::<()>(&payload);
        read.map_err(|first| {
            let (_, all) = JsonReader::thorough(rules).object_all::<()>(&payload);
            ApiError::from(first).with_all(all.into_iter().map(ApiError::from).collect())
        })?;
        let by_key = |key| id_of_key(self.organization, key, line as u64);
        let given = self.idempotency_key.map(by_key);
        let id = given.unwrap_or_else(Uuid::now_v7);
        let mut headers = NatsHeaders::new();
        headers.insert(header::EXPECTED_STREAM, self.stream);
        // A header cannot hold line ends; keys with such an organization are refused when read.
        let organization = self.organization.replace(char::is_control, "");
        headers.insert(header::ORGANIZATION, organization.as_str());
        Ok(Checked {
            id,
            key: id,
            content: given.map(|_| content_hash(&payload)),
            message: OutgoingMessage {
                subject: self.subject.to_owned(),
                id: Some(id),
                headers,
                payload,
            },
        })
    }
}
