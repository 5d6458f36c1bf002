//! The bodies of requests as schemas, as narrow as a schema can say it.

use std::borrow::Cow;

use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// A text as PostgreSQL can store it.
const WITHOUT_NUL: &str = r"^[^\u0000]*$";

/// One raw message as a line.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    pattern = r"^[^\u0000-\u0008\u000a-\u001f\u007f-\u009f]*[!-~][^\u0000-\u0008\u000a-\u001f\u007f-\u009f]*$",
    example = json!(super::example_customer())
)]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct MessageLine(String);

/// Raw messages as lines; empty ones do not count.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    pattern = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*[!-~][^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$",
    example = json!(super::example_messages())
)]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct MessageLines(String);

/// Raw messages in JSON, one per line; empty lines do not count.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "[!-~]", example = json!(super::example_message_objects()))]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct MessageObjectLines(String);

/// JSON objects, one per line; empty lines do not count.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "[!-~]", example = "{\"n\": 1}\n{\"n\": 2}\n")]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct ObjectLines(String);

/// One `ProcessedEnvelope` of `proto/envelope/v1/envelope.proto`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct ProtobufBody(String);

/// Envelopes in JSON, one per line; empty lines do not count.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    pattern = "[!-~]",
    example = json!(super::example_lines())
)]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct EnvelopeLines(String);

/// Always `accepted`.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the answer")]
pub(crate) enum AcceptedWord {
    Accepted,
}

/// `accepted`, or `persisted` in the synchronous mode.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the answer")]
pub(crate) enum TakenWord {
    Accepted,
    Persisted,
}

/// Always `unknown`.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the answer")]
pub(crate) enum UnknownWord {
    Unknown,
}

/// The readings of an envelope: at most 32 levels deep, without integers beyond ±2^53.
#[derive(Debug)]
pub(crate) struct Readings;

impl PartialSchema for Readings {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .into()
    }
}

impl ToSchema for Readings {
    fn name() -> Cow<'static, str> {
        "Readings".into()
    }
}

/// One raw message in JSON: the fields of its entity, and what the service itself looks at.
#[derive(Debug)]
pub(crate) struct MessageObject;

impl PartialSchema for MessageObject {
    fn schema() -> RefOr<Schema> {
        let text = |pattern: &str| {
            ObjectBuilder::new()
                .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
                .pattern(Some(pattern))
        };
        let id = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
            .description(Some("The message's identity"));
        let entity = text("^[A-Za-z][A-Za-z0-9_]{0,63}$")
            .description(Some("The entity that the message holds"));
        ObjectBuilder::new()
            .property("message_id", id)
            .property("entity_type", entity)
            .property_names(Some(without_nul()))
            .examples([super::example_message()])
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .into()
    }
}

impl ToSchema for MessageObject {
    fn name() -> Cow<'static, str> {
        "MessageObject".into()
    }
}

/// One document of a declared pipeline: what it must hold is the pipeline's to say.
#[derive(Debug)]
pub(crate) struct Document;

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .into()
    }
}

impl ToSchema for Document {
    fn name() -> Cow<'static, str> {
        "Document".into()
    }
}

fn without_nul() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(WITHOUT_NUL))
}
