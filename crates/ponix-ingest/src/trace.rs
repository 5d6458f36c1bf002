//! The trace of a request, which goes into the headers of every message that it publishes.

use axum::http::HeaderMap;
use ponix_nats::async_nats::{HeaderMap as NatsHeaders, HeaderValue};
use ponix_wire::{TraceParent, header};

tokio::task_local! {
    static TRACE: Trace;
}

/// Longest `tracestate` that is passed on; the standard asks for as much.
const STATE_BYTES_MAX: usize = 512;

/// What a client says of its trace.
#[derive(Debug, Clone)]
struct Trace {
    parent: TraceParent,
    state: Option<String>,
}

/// Does the work of a request in the trace that its headers name, if they name one.
pub(crate) async fn within<F: Future>(headers: &HeaderMap, work: F) -> F::Output {
    match of(headers) {
        Some(trace) => TRACE.scope(trace, work).await,
        None => work.await,
    }
}

/// Puts the trace of the request that is worked on into the headers of a message.
pub(crate) fn put_into(headers: &mut NatsHeaders) {
    // Without a trace there is nothing to put.
    let _ = TRACE.try_with(|trace| {
        headers.insert(header::TRACE_PARENT, trace.parent.as_str());
        if let Some(Ok(state)) = trace.state.as_deref().map(str::parse::<HeaderValue>) {
            headers.insert(header::TRACE_STATE, state);
        }
    });
}

/// Tells whether the client records the trace of the request that is worked on.
pub(crate) fn is_recorded() -> bool {
    TRACE
        .try_with(|trace| trace.parent.is_sampled())
        .unwrap_or(false)
}

/// Returns the id of the trace of the request that is worked on.
pub(crate) fn id() -> Option<String> {
    TRACE
        .try_with(|trace| trace.parent.trace_id().to_owned())
        .ok()
}

/// A header that comes twice, or is wrong, names no trace; that is no error.
fn of(headers: &HeaderMap) -> Option<Trace> {
    let mut parents = headers.get_all(header::TRACE_PARENT).iter();
    let parent = TraceParent::parse(parents.next()?.to_str().ok()?)?;
    if parents.next().is_some() {
        return None;
    }
    let states = headers.get_all(header::TRACE_STATE).iter();
    let states: Vec<_> = states.filter_map(|value| value.to_str().ok()).collect();
    let state = Some(states.join(",")).filter(|state| {
        !state.is_empty()
            && state.len() <= STATE_BYTES_MAX
            && state.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    });
    Some(Trace { parent, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    async fn put(pairs: &[(&'static str, &str)]) -> (Option<String>, Option<String>) {
        within(&headers(pairs), async {
            let mut put = NatsHeaders::new();
            put_into(&mut put);
            let text = |name| put.get(name).map(|value| value.as_str().to_owned());
            (text(header::TRACE_PARENT), text(header::TRACE_STATE))
        })
        .await
    }

    #[tokio::test]
    async fn a_trace_is_passed_on_whole_or_not_at_all() {
        let (parent, state) = ("traceparent", "tracestate");
        assert_eq!(
            put(&[(parent, PARENT), (state, "a=1"), (state, "b=2")]).await,
            (Some(PARENT.into()), Some("a=1,b=2".into()))
        );
        assert_eq!(put(&[]).await, (None, None));
        assert_eq!(
            put(&[(parent, "00-wrong"), (state, "a=1")]).await,
            (None, None)
        );
        assert_eq!(
            put(&[(parent, PARENT), (parent, PARENT)]).await,
            (None, None)
        );
        let long = "x".repeat(STATE_BYTES_MAX + 1);
        assert_eq!(
            put(&[(parent, PARENT), (state, &long)]).await,
            (Some(PARENT.into()), None)
        );
    }
}
