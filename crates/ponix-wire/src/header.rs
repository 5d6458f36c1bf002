//! Names of the headers that messages carry in the streams of Ponix.

/// Of a raw message: `text/plain` or `application/json`.
pub const CONTENT_TYPE: &str = "Ponix-Content-Type";
/// Of a raw message: the entity that the request named, if it did.
pub const ENTITY: &str = "Ponix-Entity";
/// Of a raw message: the client's address.
pub const SOURCE: &str = "Ponix-Source";
/// Of a raw message: when it came in, RFC 3339 in UTC.
pub const RECEIVED_AT: &str = "Ponix-Received-At";
/// How often a message was put back from the dead letters.
pub const RETRY_COUNT: &str = "Ponix-Retry-Count";
/// A message's identity, where the stream knows it by another one: of a raw message, and of what was
/// put back from the dead letters.
pub const MESSAGE_ID: &str = "Ponix-Message-Id";
/// Of a raw message: whose it is.
pub const ORGANIZATION: &str = "Ponix-Organization";

/// Of a message that carries many events: how many.
pub const PACKED: &str = "Ponix-Packed";
/// The trace that a message belongs to, in the words of the W3C.
pub const TRACE_PARENT: &str = "traceparent";
/// What the systems of that trace add to it.
pub const TRACE_STATE: &str = "tracestate";

/// The stream that a publish is meant for; the server refuses it in any other one.
pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// Of a dead letter: the class of the reason.
pub const REASON: &str = "Ponix-Reason";
/// Of a dead letter: the error text.
pub const ERROR: &str = "Ponix-Error";
/// Of a dead letter: the subject the message was published on.
pub const SUBJECT: &str = "Ponix-Subject";
/// Of a dead letter: the stream the message was in.
pub const STREAM: &str = "Ponix-Stream";
/// Of a dead letter: the message's sequence in that stream.
pub const SEQUENCE: &str = "Ponix-Sequence";
/// Of a dead letter that was one event of a packed message: which, counted from 0.
pub const INDEX: &str = "Ponix-Index";
/// Of a dead letter: when the message was published, nanoseconds since 1970.
pub const PUBLISHED_NS: &str = "Ponix-Published-Ns";
/// Of a dead letter: a UUID that tells its event from others with the same id.
pub const FINGERPRINT: &str = "Ponix-Fingerprint";
/// Of a dead letter: how often the message had been delivered.
pub const DELIVERIES: &str = "Ponix-Deliveries";
/// Of a dead letter: the subject that holds the second part of a body too large to stand beside the
/// headers.
pub const REST: &str = "Ponix-Rest";
/// Of a dead letter: set when the original headers were too large to be kept.
pub const HEADERS_DROPPED: &str = "Ponix-Original-Headers-Dropped";
/// Prefix of the headers that a dead letter came with.
pub const ORIGINAL_PREFIX: &str = "Ponix-Original-";
