//! What is going on: at once, and as it goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::Page;
use super::answers::Refusal;
use crate::status::Overview;
use crate::streams::Streams;

/// Time in which the server has to say what it knows.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);

/// Answers with the state of the moment and the last hour.
pub(super) async fn state(State(page): State<Page>) -> Json<Value> {
    let mut state = page.0.state().await;
    state["history"] = json!(page.0.history.moments());
    Json(state)
}

/// Answers with what the pipelines did lately, and asks nobody.
pub(super) async fn moment(State(page): State<Page>) -> Json<Value> {
    Json(json!(page.0.history.latest()))
}

/// Tells each moment as it comes.
pub(super) async fn events(
    State(page): State<Page>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let watchers = Arc::clone(&page.0.watchers);
    let place = watchers
        .try_acquire_owned()
        .map_err(|_| Refusal::later("too many pages watch already"))?;
    let news = page.0.news.subscribe();
    let shutdown = page.0.shutdown.clone();
    let moments = futures::stream::unfold((news, shutdown, place), |state| async move {
        let (mut news, shutdown, place) = state;
        loop {
            let next = shutdown.run_until_cancelled(news.recv()).await;
            return match next? {
                Ok(text) => Some((Ok(Event::default().data(&*text)), (news, shutdown, place))),
                // Nobody needs the moments of before.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => None,
            };
        }
    });
    Ok(Sse::new(moments).keep_alive(KeepAlive::default()))
}

/// Asks the server, not longer than a page would wait.
///
/// # Errors
/// It does not answer; what is wrong.
pub(super) async fn overview(streams: &Streams) -> Result<Overview, String> {
    match tokio::time::timeout(LOOK_TIMEOUT, Overview::look(streams)).await {
        Ok(Ok(overview)) => Ok(overview),
        Ok(Err(err)) => Err(format!("{err:#}")),
        Err(_) => Err("NATS does not answer".to_owned()),
    }
}
