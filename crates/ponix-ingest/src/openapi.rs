//! `/openapi.json`, and a page to try it in.

use axum::Router;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use crate::envelopes::{EnvelopeAccepted, EnvelopeBody, EnvelopesAccepted, LineResult};
use crate::error::ErrorBody;
use crate::messages::{BatchAccepted, BatchLine, MessageAccepted, UnknownStatus};
use crate::state::IngestState;
use crate::store::MessageStatus;

/// The description of the API.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "Ponix", description = "Events in, exactly once in ClickHouse."),
    paths(crate::envelopes::post),
    components(schemas(
        EnvelopeBody,
        EnvelopeAccepted,
        EnvelopesAccepted,
        LineResult,
        ErrorBody
    )),
    modifiers(&ApiKey)
)]
pub(crate) struct ApiDoc;

/// The part that concerns raw messages.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(crate::messages::post, crate::messages::batch, crate::messages::status),
    components(schemas(
        MessageAccepted,
        BatchAccepted,
        BatchLine,
        MessageStatus,
        UnknownStatus
    ))
)]
pub(crate) struct MessagesDoc;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("api_key", scheme);
    }
}

pub(crate) fn routes(openapi: utoipa::openapi::OpenApi) -> Router<IngestState> {
    SwaggerUi::new("/docs").url("/openapi.json", openapi).into()
}
