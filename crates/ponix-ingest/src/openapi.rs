//! `/openapi.json`, and a page to try it in.

mod schemas;

use std::sync::Arc;

use axum::Router;
use ponix_wire::now_ns;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::OpenApi;
use utoipa::openapi::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_swagger_ui::SwaggerUi;

pub(crate) use self::schemas::{
    AcceptedWord, Document, EnvelopeLines, MessageLine, MessageLines, MessageObject, ObjectLines,
    ProtobufBody, Readings, TakenWord, UnknownWord,
};
use crate::answer::{BatchAnswer, LineResult};
use crate::doors::{DocumentAccepted, DocumentsAnswer, Door};
use crate::envelopes::{EnvelopeAccepted, EnvelopeBody, EnvelopesAnswer};
use crate::error::ErrorBody;
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
        ObjectLines,
        Readings
    ))
)]
struct ApiDoc;

/// The part that concerns raw messages.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(crate::messages::post, crate::messages::batch, crate::messages::status),
    components(schemas(
        MessageAccepted,
        MessageLine,
        MessageLines,
        MessageObject,
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

/// The path that stands for all doors.
const DOOR: &str = "/v1/{door}";

/// The description of what is served: with API keys or without, with raw messages or without.
pub(crate) fn document(
    keys: bool,
    messages: bool,
    doors: &[Arc<Door>],
) -> utoipa::openapi::OpenApi {
    let mut document = ApiDoc::openapi();
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
    if keys {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("api_key", scheme);
        return document;
    }
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.security = None;
            operation.responses.responses.remove("401");
        }
    }
    document
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

fn example_lines() -> String {
    let line = example_envelope();
    format!("{line}\n{line}\n")
}

pub(crate) fn routes(openapi: utoipa::openapi::OpenApi) -> Router<IngestState> {
    SwaggerUi::new("/docs").url("/openapi.json", openapi).into()
}
