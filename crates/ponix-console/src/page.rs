//! The page of the admin endpoint: what is going on, what is stuck, and the dead letters.
//!
//! It reads. With a token it puts dead letters back and removes them too.

mod answers;
mod dead_letters;
mod events;
mod guesses;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use self::answers::{Refusal, refused};
use self::guesses::Guesses;
use crate::history::{History, PERIOD};
use crate::sample::Sample;
use crate::streams::Streams;

/// Requests that read or change dead letters at the same time.
const LOOKS_MAX: usize = 4;
/// Pages that are told at the same time what is new.
const WATCHERS_MAX: usize = 16;
/// Moments that a slow reader may be behind.
const BEHIND_MAX: usize = 4;
/// What a browser may do with the page: nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const FILES: [(&str, &str, &str); 3] = [
    (
        "/page/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
];

/// What a service says of itself at the moment.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Why it is not ready; empty when it is.
    pub reasons: Vec<String>,
    /// What an operator should know all the same.
    pub warnings: Vec<String>,
}

/// Who asks, as an extension of a request: where its connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Asker(pub IpAddr);

/// What the page asks of the service that serves it.
pub trait Service: Send + Sync + 'static {
    /// Returns the text of `/metrics`.
    fn metrics(&self) -> String;

    /// Returns whether it is ready.
    fn said(&self) -> Said;
}

/// The page. Clones share what it knows.
#[derive(Clone)]
pub struct Page(Arc<Shared>);

struct Shared {
    service: Box<dyn Service>,
    version: &'static str,
    /// What has to be shown for a change; without one nothing can be changed.
    token: Option<String>,
    /// Whether only programs of this machine can ask, so that names of hosts are not trusted.
    local: bool,
    streams: OnceLock<Streams>,
    history: History,
    news: broadcast::Sender<Arc<str>>,
    looks: Semaphore,
    watchers: Arc<Semaphore>,
    guesses: Guesses,
    /// Ends what is being told.
    shutdown: CancellationToken,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// Makes the page of a service that listens on `ip`. Dead letters are put back and removed for
    /// those who show `token`; without one it only reads.
    pub fn new(
        service: impl Service,
        version: &'static str,
        ip: IpAddr,
        token: Option<String>,
    ) -> Self {
        Self(Arc::new(Shared {
            service: Box::new(service),
            version,
            token,
            local: ip.is_loopback(),
            streams: OnceLock::new(),
            history: History::default(),
            news: broadcast::channel(BEHIND_MAX).0,
            looks: Semaphore::new(LOOKS_MAX),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            guesses: Guesses::default(),
            shutdown: CancellationToken::new(),
        }))
    }

    /// Says where the pipelines are; until then the page shows none.
    pub fn connected(&self, streams: Streams) {
        // Told once: a service has one start.
        let _ = self.0.streams.set(streams);
    }

    /// Takes a sample now and then, and tells those who watch, until the shutdown.
    pub async fn watch(&self, shutdown: CancellationToken) {
        self.sample(&shutdown).await;
        // What is being told ends; otherwise it would be waited for.
        self.0.shutdown.cancel();
    }

    async fn sample(&self, shutdown: &CancellationToken) {
        let shared = &self.0;
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(streams) = shared.streams.get() else {
                continue;
            };
            let sample = Sample::read(&shared.service.metrics(), &streams.pipelines);
            let moment = shared.history.add(sample);
            if let Some(moment) = moment
                && shared.news.receiver_count() > 0
            {
                let mut news = shared.state().await;
                news["moment"] = json!(moment);
                // Fails only when the last one has gone meanwhile.
                let _ = shared.news.send(news.to_string().into());
            }
        }
    }

    /// Returns the routes: `/`, and what lies below `/page`.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let mut router = Router::new()
            .route("/", get(|| async { Redirect::temporary("/page/") }))
            .route("/page", get(|| async { Redirect::temporary("/page/") }))
            .route("/page/state", get(events::state))
            .route("/page/moment", get(events::moment))
            .route("/page/events", get(events::events))
            .route("/page/dead-letters", get(dead_letters::list))
            .route("/page/dead-letters/replay", post(dead_letters::replay))
            .route("/page/dead-letters/discard", post(dead_letters::discard));
        for (path, kind, text) in FILES {
            router = router.route(
                path,
                get(move || async move { ([(CONTENT_TYPE, kind)], text) }),
            );
        }
        router
            .layer(from_fn_with_state(self.clone(), guard))
            .with_state(self.clone())
    }
}

impl Shared {
    /// What is told of the moment.
    async fn state(&self) -> serde_json::Value {
        let said = self.service.said();
        let mut state = json!({
            "version": self.version,
            "can_change": self.token.is_some(),
            "reasons": said.reasons,
            "warnings": said.warnings,
        });
        if let Some(streams) = self.streams.get() {
            state["pipelines"] = json!(streams.pipelines);
            match events::overview(streams).await {
                Ok(overview) => state["overview"] = json!(overview),
                Err(err) => state["unseen"] = json!(err),
            }
        }
        state
    }

    /// # Errors
    /// Changes are not allowed, or not for whoever asks, or it has guessed too often.
    fn may_change(&self, headers: &HeaderMap, asker: IpAddr) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "this page only reads: PONIX_ADMIN_TOKEN is not set".into(),
            ));
        };
        // Before it is looked at: a right guess must not be told from a wrong one.
        if let Some(time) = self.guesses.refused_for(asker) {
            return Err(Refusal(
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    "too many wrong tokens from {asker}: try again in {} s",
                    time.as_secs() + 1
                ),
            ));
        }
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        match shown {
            Some(shown) if bool::from(shown.as_bytes().ct_eq(token.as_bytes())) => Ok(()),
            _ => {
                // A page that asks whether there is need for one guesses nothing.
                if shown.is_some() {
                    self.guesses.wrong(asker);
                    tracing::warn!(by = %asker, "a wrong token was shown to the page");
                }
                Err(Refusal(
                    StatusCode::UNAUTHORIZED,
                    "the token is missing or wrong (PONIX_ADMIN_TOKEN)".into(),
                ))
            }
        }
    }
}

/// Lets nobody from elsewhere in, and tells the browser what the page may do.
async fn guard(State(page): State<Page>, request: Request, next: Next) -> Response {
    let mut response = if page.0.local && !is_local(request.headers(), request.uri()) {
        // A page of somebody whose name leads here, read by the browser of this machine's user.
        let text = "this address answers to an IP address or localhost only";
        refused(&Refusal(StatusCode::FORBIDDEN, text.into()))
    } else {
        next.run(request).await
    };
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}

/// Tells whether whoever asks knows this machine by address, and not by a name of anybody's.
fn is_local(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(HOST).map(HeaderValue::to_str);
    let host = match (&host, uri.authority()) {
        (Some(Ok(host)), _) => host,
        (None, Some(authority)) => authority.as_str(),
        // HTTP/1.0 needs none; no browser is that old.
        (None, None) => return true,
        (Some(Err(_)), _) => return false,
    };
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_elsewhere_are_not_local() {
        let asked = |host: &'static str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            is_local(&headers, &Uri::from_static("/"))
        };
        for host in ["127.0.0.1:9090", "localhost", "[::1]:9090", "LOCALHOST:80"] {
            assert!(asked(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:9090", "", "a b"] {
            assert!(!asked(host), "{host}");
        }
    }
}
