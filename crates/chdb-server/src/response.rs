//! Turns what a statement tells into an HTTP response.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::sync::mpsc;

use crate::blocks;
use crate::encoding::{Encoding, Pieces};
use crate::engine::Greeting;
use crate::exception::Exception;
use crate::execute::Event;
use crate::ffi::Counts;
use crate::format::content_type;
use crate::spool::Spool;
use crate::summary::summary;

/// A body of this server.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Bytes of result held back before the headers go out, so that a statement that fails soon still gets its status;
/// ClickHouse's default of `http_response_buffer_size`.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Time for the last bytes of a broken result to reach the socket before the connection is cut.
const CUT_DELAY: Duration = Duration::from_millis(50);

/// What is the same for all responses of a server.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// What the engine says about itself.
    pub(crate) greeting: Greeting,
    /// How long an idle connection is kept.
    pub(crate) keep_alive: Duration,
}

/// How the client wants its response.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// The id of the statement.
    pub(crate) query_id: String,
    /// Compressed frames.
    pub(crate) frames: bool,
    /// HTTP compression.
    pub(crate) encoding: Option<Encoding>,
    /// Bytes to hold back before the headers go out; `None` for ClickHouse's default.
    pub(crate) buffer_bytes: Option<usize>,
    /// Hold back everything.
    pub(crate) wait_end_of_query: bool,
}

/// A plain text.
pub(crate) fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=UTF-8"),
    );
    response
}

/// An exception, as the whole response.
pub(crate) fn failure(
    exception: &Exception,
    query_id: &str,
    identity: &Identity,
) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(
        exception.to_body(&identity.greeting.version),
    )));
    *response.status_mut() = exception.status();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    headers.insert(
        "X-ClickHouse-Exception-Code",
        HeaderValue::from(exception.code()),
    );
    if exception.status() == StatusCode::UNAUTHORIZED {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"ClickHouse server HTTP API\""),
        );
    }
    identify(headers, query_id, identity);
    response
}

/// Waits until the statement has ended or told enough, then answers; the rest of the result follows as it comes.
///
/// # Cancel safety
/// The statement notices that nobody listens and stops.
pub(crate) async fn from_events(
    mut events: mpsc::Receiver<Event>,
    wishes: Wishes,
    identity: Arc<Identity>,
    mut held: Spool,
    started_at: Instant,
) -> Response<Body> {
    let mut format = None;
    let mut counts = Counts::default();
    let mut ended = false;
    let hold_bytes = wishes.buffer_bytes.unwrap_or(BUFFER_BYTES) as u64;
    while wishes.wait_end_of_query || held.len() <= hold_bytes {
        match events.recv().await {
            Some(Event::Started { format: name }) => format = Some(name),
            Some(Event::Data(data, piece)) => {
                counts += piece;
                if let Err(error) = held.push(data) {
                    return failure(&not_held(&error), &wishes.query_id, &identity);
                }
            }
            Some(Event::Ended(rest)) => {
                counts += rest;
                ended = true;
                break;
            }
            Some(Event::Failed(exception)) => {
                return failure(&exception, &wishes.query_id, &identity);
            }
            None => return failure(&lost(), &wishes.query_id, &identity),
        }
    }
    let tag = tag();
    let mut headers = HeaderMap::new();
    let kind = format
        .as_deref()
        .map_or("text/plain; charset=UTF-8", content_type);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(format) = &format {
        insert(&mut headers, "X-ClickHouse-Format", format);
    }
    insert(
        &mut headers,
        "X-ClickHouse-Summary",
        &summary(&counts, started_at.elapsed()),
    );
    insert(&mut headers, "X-ClickHouse-Exception-Tag", &tag);
    identify(&mut headers, &wishes.query_id, &identity);

    let held = match held.into_pieces() {
        Ok(pieces) => pieces,
        Err(error) => return failure(&not_held(&error), &wishes.query_id, &identity),
    };
    let failed = Arc::new(OnceLock::new());
    let rest = Rest {
        events,
        ended,
        failed: Arc::clone(&failed),
    };
    let mut pieces: Pieces = Box::pin(stream::iter(held).chain(rest.into_stream()));
    let encoding = wishes.encoding.filter(|_| format.is_some());
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        pieces = encoding.encode(pieces);
    }
    let ending = Ending {
        failed,
        tag,
        version: identity.greeting.version.clone(),
        frames: wishes.frames,
        encoding,
    };
    let body = StreamBody::new(pieces.chain(ending.into_stream()).map_ok(Frame::data));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    *response.headers_mut() = headers;
    response
}

/// The part of a result that comes after the headers.
struct Rest {
    events: mpsc::Receiver<Event>,
    ended: bool,
    /// Where the reason goes if it ends too soon.
    failed: Arc<OnceLock<Exception>>,
}

impl Rest {
    fn into_stream(self) -> impl stream::Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, async |mut rest| {
            if rest.ended {
                return None;
            }
            loop {
                let exception = match rest.events.recv().await {
                    Some(Event::Started { .. }) => continue,
                    Some(Event::Data(data, _)) => return Some((Ok(data), rest)),
                    Some(Event::Ended(_)) => return None,
                    Some(Event::Failed(exception)) => exception,
                    None => lost(),
                };
                // Nobody else sets it.
                drop(rest.failed.set(exception));
                return None;
            }
        })
    }
}

/// What follows a result that failed on its way: the block that says so, and then no proper end of the response, as
/// in ClickHouse, so that no client takes it for a whole one.
struct Ending {
    failed: Arc<OnceLock<Exception>>,
    tag: String,
    version: String,
    frames: bool,
    encoding: Option<Encoding>,
}

impl Ending {
    fn into_stream(self) -> impl stream::Stream<Item = io::Result<Bytes>> + Send {
        stream::once(async move { self.pieces() }).flatten()
    }

    fn pieces(self) -> Pieces {
        let Some(exception) = self.failed.get() else {
            return Box::pin(stream::empty());
        };
        let block = Bytes::from(exception.to_block(&self.version, &self.tag));
        let block = if self.frames {
            blocks::encode(&block)
        } else {
            block
        };
        // A compressed stream of its own, so that clients see the block in one piece.
        let mut pieces: Pieces = Box::pin(stream::iter([Ok(block)]));
        if let Some(encoding) = self.encoding {
            pieces = encoding.encode(pieces);
        }
        Box::pin(pieces.chain(stream::once(async {
            tokio::time::sleep(CUT_DELAY).await;
            Err(io::Error::other(
                "the statement failed after its result had begun",
            ))
        })))
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn identify(headers: &mut HeaderMap, query_id: &str, identity: &Identity) {
    insert(
        headers,
        "X-ClickHouse-Server-Display-Name",
        &identity.greeting.display_name,
    );
    insert(headers, "X-ClickHouse-Query-Id", query_id);
    // A second less than the server waits, so that the client is the first to give up an idle connection.
    let seconds = identity.keep_alive.as_secs().saturating_sub(1);
    insert(headers, "Keep-Alive", &format!("timeout={seconds}"));
    insert(
        headers,
        "X-ClickHouse-Timezone",
        &identity.greeting.timezone,
    );
}

/// Adds a header whose value a client may have chosen: left out if HTTP does not allow it.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// Sixteen letters no result holds by chance.
fn tag() -> String {
    uuid::Uuid::new_v4()
        .as_bytes()
        .iter()
        .map(|byte| char::from(b'a' + byte % 26))
        .collect()
}

fn not_held(error: &io::Error) -> Exception {
    Exception::from_engine(format!("the result cannot be kept on disk: {error}"))
}

fn lost() -> Exception {
    Exception::from_engine("the statement ended without a word".to_owned())
}
