//! The bodies of requests as schemas, as narrow as a schema can say it.

use std::borrow::Cow;

use ponix_wire::INTEGER_EXACT_MAX;
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{KnownFormat, Ref, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// A text as PostgreSQL can store it.
const WITHOUT_NUL: &str = r"^[^\u0000]*$";

/// One raw message as a line.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    pattern = r"^[^\u0000-\u0008\u000a-\u001f\u007f-\u009f]*[!-~][^\u0000-\u0008\u000a-\u001f\u007f-\u009f]*$",
    example = "C|370|Customer#370|Street 1|12|22-524|171.42|MACHINERY|regular"
)]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct MessageLine(String);

/// Raw messages as lines; empty ones do not count.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    pattern = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*[!-~][^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$",
    example = "O|1|370|O|172799.49|1996-01-02|5-LOW|Clerk#000000951|0|\nC|370|Customer#370|Street 1|12|22-524|171.42|MACHINERY|"
)]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct MessageLines(String);

/// JSON objects, one per line; empty lines do not count.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "[!-~]")]
#[expect(dead_code, reason = "describes the body; it is read without this")]
pub(crate) struct ObjectLines(String);

/// The readings of an envelope: at most 32 levels deep, without integers beyond ±2^53.
#[derive(Debug)]
pub(crate) struct Readings;

impl PartialSchema for Readings {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(JsonValue::reference()))
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
            .additional_properties(Some(JsonValue::reference()))
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
            .additional_properties(Some(JsonValue::reference()))
            .into()
    }
}

impl ToSchema for Document {
    fn name() -> Cow<'static, str> {
        "Document".into()
    }
}

/// What may lie in readings and messages.
#[derive(Debug)]
pub(crate) struct JsonValue;

impl JsonValue {
    fn reference() -> AdditionalProperties<Schema> {
        Ref::from_schema_name(Self::name()).into()
    }
}

impl PartialSchema for JsonValue {
    fn schema() -> RefOr<Schema> {
        let most = INTEGER_EXACT_MAX as f64;
        let of = |kind: Type| ObjectBuilder::new().schema_type(kind);
        AnyOfBuilder::new()
            .item(of(Type::Null))
            .item(of(Type::Boolean))
            .item(of(Type::Number).minimum(Some(-most)).maximum(Some(most)))
            .item(without_nul())
            .item(ArrayBuilder::new().items(Ref::from_schema_name(Self::name())))
            .item(
                of(Type::Object)
                    .property_names(Some(without_nul()))
                    .additional_properties(Some(Self::reference())),
            )
            .into()
    }
}

impl ToSchema for JsonValue {
    fn name() -> Cow<'static, str> {
        "JsonValue".into()
    }
}

fn without_nul() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(WITHOUT_NUL))
}
