//! `/openapi.json`, and a page to try it in.

mod schemas;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use ponix_wire::now_ns;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{PathItem, RefOr, Schema};
use utoipa_swagger_ui::SwaggerUi;

pub(crate) use self::schemas::{
    AcceptedWord, Document, EnvelopeLines, MessageLine, MessageLines, MessageObject,
    MessageObjectLines, ObjectLines, ProtobufBody, Readings, TakenWord, UnknownWord,
};
use crate::answer::{BatchAnswer, LineResult};
use crate::doors::{DocumentAccepted, DocumentsAnswer, Door};
use crate::envelopes::{EnvelopeAccepted, EnvelopeBody, EnvelopesAnswer};
use crate::error::{ErrorBody, FieldProblem};
use crate::messages::list::{StatusQuestion, StatusesAnswer};
use crate::messages::{MessageAccepted, StatusBody, StatusName, UnknownStatus};
use crate::state::IngestState;

/// The description of the API.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Ponix",
        description = "Events in, exactly once in ClickHouse."
    ),
    paths(crate::envelopes::post),
    components(schemas(
        EnvelopeBody,
        EnvelopeAccepted,
        EnvelopesAnswer,
        EnvelopeLines,
        ProtobufBody,
        BatchAnswer,
        LineResult,
        ErrorBody,
        FieldProblem,
        ObjectLines,
        Readings
    ))
)]
struct ApiDoc;

/// The part that concerns raw messages.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(
        crate::messages::post,
        crate::messages::batch,
        crate::messages::status,
        crate::messages::list::of_these,
        crate::messages::list::all
    ),
    components(schemas(
        StatusQuestion,
        StatusesAnswer,
        MessageAccepted,
        MessageLine,
        MessageLines,
        MessageObject,
        MessageObjectLines,
        StatusBody,
        StatusName,
        UnknownStatus
    ))
)]
struct MessagesDoc;

/// The part that concerns doors; what is said of one holds for all.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(crate::doors::post),
    components(schemas(Document, DocumentAccepted, DocumentsAnswer))
)]
struct DoorsDoc;

/// What starts the page.
const INITIALIZER: &str = include_str!("openapi/initializer.js");

/// The path that stands for all doors.
const DOOR: &str = "/v1/{door}";

/// The path of envelopes.
pub(crate) const ENVELOPES: &str = "/v1/envelopes";

/// The description of what is served: with API keys or without, with envelopes or without, with raw messages or
/// without.
pub(crate) fn document(
    keys: bool,
    envelopes: bool,
    messages: bool,
    doors: &[Arc<Door>],
) -> utoipa::openapi::OpenApi {
    let mut document = ApiDoc::openapi();
    if !envelopes {
        document.paths.paths.remove(ENVELOPES);
    }
    if messages {
        document.merge(MessagesDoc::openapi());
    }
    if !doors.is_empty() {
        document.merge(DoorsDoc::openapi());
        if let Some(any) = document.paths.paths.remove(DOOR) {
            let described = doors
                .iter()
                .map(|door| (door.path.clone(), of_door(&any, door)));
            document.paths.paths.extend(described);
        }
    }
    for operation in operations(&mut document) {
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter {
                parameter.schema.iter_mut().for_each(not_null);
            }
        }
    }
    if keys {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("api_key", scheme);
        return document;
    }
    for operation in operations(&mut document) {
        operation.security = None;
        operation.responses.responses.remove("401");
    }
    document
}

fn operations(document: &mut utoipa::openapi::OpenApi) -> impl Iterator<Item = &mut Operation> {
    let items = document.paths.paths.values_mut();
    items.flat_map(|item| [&mut item.get, &mut item.post].into_iter().flatten())
}

/// A header or a parameter is there or not, and never null.
fn not_null(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema
        && let SchemaType::Array(types) = &mut object.schema_type
    {
        types.retain(|one| *one != Type::Null);
        if types.len() == 1 {
            object.schema_type = SchemaType::Type(types.remove(0));
        }
    }
}

fn of_door(any: &PathItem, door: &Door) -> PathItem {
    let mut item = any.clone();
    if let Some(operation) = &mut item.post {
        let name = door.path.replace(['/', '-'], "_");
        operation.operation_id = Some(format!("post{name}"));
        let summary = format!("Send documents to the pipeline {}.", door.config.pipeline);
        operation.summary = Some(summary);
    }
    item
}

/// An envelope of now: what is sent to try the API should be found among the latest events.
pub(crate) fn example_envelope() -> serde_json::Value {
    let now = OffsetDateTime::from_unix_timestamp(now_ns() / 1_000_000_000);
    let now = now.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    serde_json::json!({
        "end_device_id": "sensor-1",
        "occurred_at": now.format(&Rfc3339).unwrap_or_default(),
        "data": {"temperature": 21.5},
    })
}

/// A number that no other example had: tables take a key once.
fn example_key(example: i64) -> i64 {
    now_ns() / 1_000_000_000 * 10 + example
}

fn example_customer() -> String {
    customer(example_key(0))
}

fn example_messages() -> String {
    let (order, customer) = (example_key(0), customer(example_key(1)));
    format!("O|{order}|370|O|172799.49|1996-01-02|5-LOW|Clerk#000000951|0|\n{customer}")
}

fn customer(key: i64) -> String {
    format!("C|{key}|Customer#370|Street 1|12|22-524|171.42|MACHINERY|regular")
}

fn example_message() -> serde_json::Value {
    message_of(example_key(2))
}

fn example_message_objects() -> String {
    let lines = [3, 4].map(|example| message_of(example_key(example)).to_string());
    lines.join("\n")
}

fn message_of(key: i64) -> serde_json::Value {
    serde_json::json!({
        "entity_type": "Customer", "customer_key": key, "name": "Customer#000000370",
        "address": "Street 1", "nation_key": 12, "phone": "22-524-218-7466",
        "account_balance": 171.42, "market_segment": "MACHINERY", "comment": "regular",
    })
}

fn example_lines() -> String {
    let line = example_envelope();
    format!("{line}\n{line}\n")
}

pub(crate) fn routes(openapi: utoipa::openapi::OpenApi) -> Router<IngestState> {
    let page: Router<IngestState> = SwaggerUi::new("/docs").url("/openapi.json", openapi).into();
    page.route(
        "/docs/swagger-initializer.js",
        get(|| async { ([(CONTENT_TYPE, "text/javascript")], INITIALIZER) }),
    )
}
