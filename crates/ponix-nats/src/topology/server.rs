//! What a server has, and carrying a plan out.

use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::{Context, ErrorCode};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::plan::{Action, Plan, Step};
use super::{ServerConfig, StreamLayout, StreamOnServer, Target};
use crate::consumer::DECLARED;
use crate::stream::advice_on;

/// Why streams and consumers cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// The server does not answer.
    #[error("{api} is not answered: is JetStream enabled, and may the user use it?")]
    Request {
        /// What was asked, as a subject of the API.
        api: String,
        /// Why not.
        #[source]
        source: RequestError,
    },
    /// The server refuses.
    #[error("{api} is refused with {code}: {text}{}", advice_on(ErrorCode(*code)))]
    Refused {
        /// What was asked, as a subject of the API.
        api: String,
        /// The server's code.
        code: u64,
        /// The server's words.
        text: String,
    },
    /// The answer is not what the API's documents say.
    #[error("{api} is answered with what is no answer to it")]
    Answer {
        /// What was asked, as a subject of the API.
        api: String,
    },
    /// A cluster's streams without a leader.
    #[error("the cluster knows nothing of these streams at the moment: {}", .0.join(", "))]
    Missing(Vec<String>),
}

impl TopologyError {
    /// Tells whether trying again may help: the server is not there, or not ready yet.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request { source, .. } => source.kind() != RequestErrorKind::Other,
            Self::Refused { code, .. } => matches!(
                ErrorCode(*code),
                ErrorCode::CLUSTER_NOT_AVAILABLE | ErrorCode::INSUFFICIENT_RESOURCES
            ),
            Self::Missing(_) => true,
            Self::Answer { .. } => false,
        }
    }
}

/// Reads every stream of the account, and the consumers of each, in the order of their names.
///
/// # Errors
/// The server does not answer, or refuses.
///
/// # Cancel safety
/// Cancel safe.
pub async fn read(context: &Context) -> Result<Vec<StreamOnServer>, TopologyError> {
    let mut streams = Vec::new();
    for found in list(context, "STREAM.LIST", "streams").await? {
        let config = configuration(&found);
        let name = super::name(&config).to_owned();
        let api = format!("CONSUMER.LIST.{name}");
        let consumers = list(context, &api, "consumers").await?;
        let mut consumers: Vec<_> = consumers.iter().map(configuration).collect();
        consumers.sort_by(|a, b| super::name(a).cmp(super::name(b)));
        let state = &found["state"];
        let number = |key: &str| state[key].as_u64().unwrap_or_default();
        let oldest = state["first_ts"].as_str().unwrap_or_default();
        let oldest = OffsetDateTime::parse(oldest, &Rfc3339).ok();
        streams.push(StreamOnServer {
            layout: StreamLayout { config, consumers },
            messages: number("messages"),
            bytes: number("bytes"),
            subjects: number("num_subjects"),
            oldest_ns: oldest.map_or(0, OffsetDateTime::unix_timestamp_nanos),
        });
    }
    streams.sort_by(|a, b| a.layout.name().cmp(b.layout.name()));
    Ok(streams)
}

/// Carries a plan out, step by step, telling of each when it is done.
///
/// # Errors
/// The server does not answer, or refuses a step: those before it are done, those behind it not.
/// The same plan, made again, goes on from there.
///
/// # Panics
/// When the plan has refusals.
///
/// # Cancel safety
/// Cancel safe: each step is one request that may be repeated.
pub async fn apply(
    context: &Context,
    plan: &Plan,
    mut done: impl FnMut(&Step),
) -> Result<(), TopologyError> {
    assert!(plan.refusals.is_empty(), "the plan is refused");
    for step in &plan.steps {
        let (api, request) = request(step);
        ask(context, &api, &request).await?;
        done(step);
    }
    Ok(())
}

fn request(step: &Step) -> (String, Json) {
    let verb = match step.action {
        Action::Create => "CREATE",
        Action::Update => "UPDATE",
        Action::Delete => "DELETE",
    };
    match &step.target {
        Target::Stream(stream) => (
            format!("STREAM.{verb}.{stream}"),
            step.config.clone().into(),
        ),
        Target::Consumer { stream, consumer } if step.action == Action::Delete => {
            (format!("CONSUMER.DELETE.{stream}.{consumer}"), json!({}))
        }
        Target::Consumer { stream, consumer } => {
            let mut config = Json::from(step.config.clone());
            config["metadata"][DECLARED] = "true".into();
            // A server before 2.10 ignores the action, and metadata.
            let action = verb.to_ascii_lowercase();
            (
                format!("CONSUMER.CREATE.{stream}.{consumer}"),
                json!({ "stream_name": stream, "config": config, "action": action }),
            )
        }
    }
}

fn configuration(found: &Json) -> ServerConfig {
    let config = found["config"].as_object();
    let mut config = config.cloned().unwrap_or_default();
    // A consumer's name stands beside its configuration on servers before 2.9.
    if let Some(name) = found.get("name") {
        config.entry("name").or_insert_with(|| name.clone());
    }
    config
}

/// Reads all pages of a list.
async fn list(context: &Context, api: &str, key: &str) -> Result<Vec<Json>, TopologyError> {
    let mut all = Vec::new();
    loop {
        let page = ask(context, api, &json!({ "offset": all.len() })).await?;
        let total = page["total"].as_u64().unwrap_or_default() as usize;
        let names = |key: &str| {
            let names = page[key].as_array().into_iter().flatten();
            let names = names.filter_map(Json::as_str);
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let missing = names("missing");
        if !missing.is_empty() {
            return Err(TopologyError::Missing(missing));
        }
        let found = page[key].as_array().cloned().unwrap_or_default();
        if found.is_empty() || all.len() + found.len() >= total {
            all.extend(found);
            return Ok(all);
        }
        all.extend(found);
    }
}

async fn ask(context: &Context, api: &str, request: &Json) -> Result<Json, TopologyError> {
    let answer: Result<Json, RequestError> = context.request(api.to_owned(), request).await;
    let answer = answer.map_err(|source| TopologyError::Request {
        api: api.to_owned(),
        source,
    })?;
    let Some(error) = answer.get("error") else {
        return if answer["type"].is_string() {
            Ok(answer)
        } else {
            Err(TopologyError::Answer {
                api: api.to_owned(),
            })
        };
    };
    Err(TopologyError::Refused {
        api: api.to_owned(),
        code: error["err_code"].as_u64().unwrap_or_default(),
        text: error["description"].as_str().unwrap_or_default().to_owned(),
    })
}
