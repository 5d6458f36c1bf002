//! Answers one request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use crate::auth::{Sender, Users};
use crate::body::{self, Limits};
use crate::encoding::Encoding;
use crate::engine::Engine;
use crate::exception::{Exception, codes};
use crate::execute::{self, Gone, Job};
use crate::form;
use crate::request::Parameters;
use crate::response::{self, Body, Identity, Wishes};
use crate::spool::{Room, Spool};

/// Pieces of a result that wait for the client; a piece is one block of the engine, 65,409 rows at most.
const EVENTS_MAX: usize = 2;

/// What every request of a server shares.
#[derive(Debug)]
pub(crate) struct Service {
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// Who may send statements.
    pub(crate) users: Users,
    /// Places for running statements.
    pub(crate) places: Arc<Semaphore>,
    /// Time a statement waits for a place.
    pub(crate) queue_timeout: Duration,
    /// Time a client may take for a piece of its result.
    pub(crate) send_timeout: Duration,
    /// Limits on bodies.
    pub(crate) limits: Limits,
    /// Where bodies are kept.
    pub(crate) room: Arc<Room>,
    /// What all responses say.
    pub(crate) identity: Arc<Identity>,
}

impl Service {
    /// Answers `request`. Never fails: what goes wrong is told to the client.
    ///
    /// # Cancel safety
    /// Dropped before the body was complete, nothing has happened. Dropped later, an INSERT runs to its end and a
    /// SELECT stops.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        Ok(match (parts.uri.path(), &parts.method) {
            ("/ping" | "/replicas_status", &Method::GET | &Method::HEAD) => {
                response::text(StatusCode::OK, "Ok.\n")
            }
            ("/", &Method::GET | &Method::HEAD) if parts.uri.query().is_none_or(str::is_empty) => {
                response::text(StatusCode::OK, "Ok.\n")
            }
            ("/" | "/query", &Method::GET | &Method::HEAD | &Method::POST) => {
                self.statement(parts, body).await
            }
            ("/", _) => response::text(
                StatusCode::METHOD_NOT_ALLOWED,
                "Only GET, HEAD and POST are served\n",
            ),
            (path, _) => response::text(
                StatusCode::NOT_FOUND,
                &format!(
                    "There is no handle {path}\n\nUse / or /ping for health checks.\n\
                     Send queries from your program with POST method or GET /?query=...\n"
                ),
            ),
        })
    }

    async fn statement(&self, parts: Parts, body: Incoming) -> Response<Body> {
        let parameters = Parameters::new(parts.uri.query().unwrap_or_default(), &parts.headers);
        let query_id = match &parameters {
            Ok(Parameters {
                query_id: Some(id), ..
            }) => id.clone(),
            _ => Uuid::new_v4().to_string(),
        };
        let answer = match parameters {
            Ok(parameters) => self.run(&parts, parameters, body, query_id.clone()).await,
            Err(exception) => Err(exception),
        };
        answer.unwrap_or_else(|exception| {
            tracing::debug!(%query_id, code = exception.code(), "request refused");
            response::failure(&exception, &query_id, &self.identity)
        })
    }

    async fn run(
        &self,
        parts: &Parts,
        mut parameters: Parameters,
        body: Incoming,
        query_id: String,
    ) -> Result<Response<Body>, Exception> {
        let sender = self.users.check(&parameters, &parts.headers)?;
        if sender == Sender::Reader {
            parameters.of_reader();
        }
        let started_at = Instant::now();
        let wishes = Wishes {
            query_id,
            frames: parameters.compress,
            encoding: Encoding::for_response(&parts.headers)
                .filter(|_| parameters.http_compression != Some(false)),
            buffer_bytes: parameters.buffer_bytes,
            wait_end_of_query: parameters.wait_end_of_query,
        };
        let encoding = Encoding::of_request(&parts.headers)?;
        let mut body = body::receive(
            body,
            encoding,
            parameters.decompress,
            &self.limits,
            Spool::new(Arc::clone(&self.room)),
        )
        .await?;
        if let Some(boundary) = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| form::boundary(value.to_str().ok()?))
        {
            body = self.read_form(body, &boundary, &mut parameters)?;
        }
        let job = Job {
            parameters,
            read_only: parts.method != Method::POST || sender == Sender::Reader,
            body,
        };
        let place = self.place().await?;
        let events = self.start(job, wishes.frames, place);
        let held = Spool::new(Arc::clone(&self.room));
        Ok(
            response::from_events(events, wishes, Arc::clone(&self.identity), held, started_at)
                .await,
        )
    }

    fn read_form(
        &self,
        body: Spool,
        boundary: &str,
        parameters: &mut Parameters,
    ) -> Result<Spool, Exception> {
        let malformed = || {
            Exception::new(
                codes::BAD_ARGUMENTS,
                "BAD_ARGUMENTS",
                "The multipart form is malformed",
            )
        };
        let bytes = usize::try_from(body.len()).map_err(|_| malformed())?;
        let form = body
            .into_pieces()
            .and_then(|mut pieces| pieces.read_at_least(bytes))
            .map_err(|_| malformed())?;
        for (name, value) in form::fields(&form, boundary).ok_or_else(malformed)? {
            parameters.set_form_field(&name, String::from_utf8_lossy(value).into_owned())?;
        }
        Ok(Spool::new(Arc::clone(&self.room)))
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Exception> {
        let place =
            tokio::time::timeout(self.queue_timeout, Arc::clone(&self.places).acquire_owned())
                .await;
        place.ok().and_then(Result::ok).ok_or_else(|| {
            Exception::new(
                codes::TOO_MANY_SIMULTANEOUS_QUERIES,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                format_args!(
                    "Too many simultaneous queries: none ended within {} s",
                    self.queue_timeout.as_secs()
                ),
            )
        })
    }

    /// Runs the statement on a thread that may block; its place is free again when it has ended.
    fn start(
        &self,
        job: Job,
        frames: bool,
        place: OwnedSemaphorePermit,
    ) -> mpsc::Receiver<execute::Event> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let (engine, send_timeout, runtime) = (
            Arc::clone(&self.engine),
            self.send_timeout,
            Handle::current(),
        );
        tokio::task::spawn_blocking(move || {
            let mut tell = |event: execute::Event| {
                let event = if frames {
                    execute::compressed(event)
                } else {
                    event
                };
                let sent = runtime.block_on(async {
                    tokio::time::timeout(send_timeout, sender.send(event)).await
                });
                sent.ok().and_then(Result::ok).ok_or(Gone)
            };
            let session = job.parameters.session.clone();
            let last = engine
                .with_connection(session.as_ref(), |connection| {
                    execute::run(connection, job, &mut tell)
                })
                .unwrap_or_else(|exception| Some(execute::Event::Failed(exception)));
            // Told when the session is free again: the client may go on in it at once.
            if let Some(last) = last {
                // Nothing is left to stop when this is not heard.
                drop(tell(last));
            }
            drop(place);
        });
        receiver
    }
}
