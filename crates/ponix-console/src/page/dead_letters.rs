//! Dead letters: listed, put back, removed.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;

use super::answers::Refusal;
use super::{Asker, Page, Shared};
use crate::dead_letters::{self, Choice, Letter, Letters, Selection, letter_json};
use crate::streams::Streams;

/// Of each pipeline, so many of the newest are looked at.
const LOOKED_AT_MAX: u64 = 10_000;
/// So many are shown.
const SHOWN_MAX: usize = 100;
/// Bodies are shown up to this many bytes.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Time in which the workers have to settle what was put back, to be told what became of it.
const WAIT: Duration = Duration::from_secs(5);

/// Which are listed; `+` for several sequences is not needed here.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Wanted(Selection);

/// Answers with the newest of those that are asked for, the newest first, and how many there are by
/// pipeline and reason.
pub(super) async fn list(
    State(page): State<Page>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(Wanted(selection)) = wanted.map_err(|err| Refusal::wrong(&err.body_text()))?;
    let (streams, _place) = look(&page.0)?;
    let mut letters = find(&selection, streams).await?;
    letters.newest(LOOKED_AT_MAX);
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    // The newest of each pipeline; they come by pipeline, the oldest first.
    let mut shown: BTreeMap<String, VecDeque<Value>> = BTreeMap::new();
    let failed = |err| Refusal::failed(&err);
    let mut reading = letters.reading();
    while let Some(letter) = reading.next().await.map_err(failed)? {
        let kind = (letter.pipeline.clone(), letter.kept.reason.clone());
        *counts.entry(kind).or_default() += 1;
        let of_pipeline = shown.entry(letter.pipeline.clone()).or_default();
        if of_pipeline.len() == SHOWN_MAX {
            of_pipeline.pop_front();
        }
        of_pipeline.push_back(as_shown(&letter));
    }
    let mut shown: Vec<_> = shown.into_values().flatten().collect();
    shown.sort_by(|a, b| b["kept_at"].as_str().cmp(&a["kept_at"].as_str()));
    shown.truncate(SHOWN_MAX);
    let counts: Vec<_> = counts
        .iter()
        .map(|((pipeline, reason), count)| {
            json!({ "pipeline": pipeline, "reason": reason, "count": count })
        })
        .collect();
    Ok(Json(json!({
        "counts": counts,
        "letters": shown,
        "looked_at_max": LOOKED_AT_MAX,
    })))
}

/// Puts those that are asked for back, and says what became of them.
pub(super) async fn replay(
    State(page): State<Page>,
    asker: Option<Extension<Asker>>,
    headers: HeaderMap,
    choice: Result<Json<Choice>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let by = address(asker);
    page.0.may_change(&headers, by)?;
    let (streams, _place) = look(&page.0)?;
    let (letters, which) = chosen(choice, streams).await?;
    let replayed = dead_letters::replay(&letters, streams, None, WAIT, || ()).await;
    let replayed = replayed.map_err(|err| Refusal::failed(&err))?;
    let again = replayed.dead_again.iter().map(|(pipeline, letter)| {
        json!({ "pipeline": pipeline, "sequence": letter.sequence, "reason": letter.reason, "error": letter.error })
    });
    tracing::info!(
        count = replayed.put_back,
        %by,
        which,
        "dead letters put back by the page"
    );
    Ok(Json(json!({
        "put_back": replayed.put_back,
        "there_already": replayed.there_already,
        "not_settled": replayed.not_settled,
        "dead_again": again.collect::<Vec<_>>(),
        "missing": replayed.missing,
    })))
}

/// Removes those that are asked for, for ever.
pub(super) async fn discard(
    State(page): State<Page>,
    asker: Option<Extension<Asker>>,
    headers: HeaderMap,
    choice: Result<Json<Choice>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let by = address(asker);
    page.0.may_change(&headers, by)?;
    let (streams, _place) = look(&page.0)?;
    let (letters, which) = chosen(choice, streams).await?;
    let (discarded, missing) = remove_all(&letters).await;
    tracing::info!(count = discarded, %by, which, "dead letters removed by the page");
    let missing = missing.map_err(|err| Refusal::failed(&err))?;
    Ok(Json(json!({ "discarded": discarded, "missing": missing })))
}

/// Returns how many are removed, and the sequences that are none.
async fn remove_all(letters: &Letters) -> (u64, anyhow::Result<Vec<u64>>) {
    let mut removed = 0;
    let mut reading = letters.reading();
    loop {
        let done = match reading.next().await {
            Ok(Some(letter)) => dead_letters::remove(&letter.kept, &letter.dead_letters).await,
            Ok(None) => return (removed, Ok(reading.missing())),
            Err(err) => Err(err),
        };
        match done {
            Ok(()) => removed += 1,
            Err(err) => return (removed, Err(err)),
        }
    }
}

fn as_shown(letter: &Letter) -> Value {
    let mut object = letter_json(letter, false);
    if letter.body.len() > BODY_BYTES_MAX {
        let text = format!("{} bytes; ponix dlq show has them", letter.body.len());
        object["body"] = text.into();
    }
    object
}

/// Returns where the pipelines are, and a place to look.
fn look(page: &Shared) -> Result<(&Streams, SemaphorePermit<'_>), Refusal> {
    let streams = page.streams.get();
    let streams = streams.ok_or_else(|| Refusal::later("the service is starting"))?;
    let place = page.looks.try_acquire();
    let place = place.map_err(|_| Refusal::later("others look at dead letters; try again"))?;
    Ok((streams, place))
}

async fn chosen(
    choice: Result<Json<Choice>, JsonRejection>,
    streams: &Streams,
) -> Result<(Letters, String), Refusal> {
    let Json(choice) = choice.map_err(|err| Refusal::wrong(&err.body_text()))?;
    let selection = choice.selection().map_err(|err| Refusal::wrong(&err))?;
    Ok((find(selection, streams).await?, selection.shown()))
}

/// Where the request comes from; a server that does not say so has all requests from one place.
fn address(asker: Option<Extension<Asker>>) -> IpAddr {
    asker.map_or(IpAddr::from([0, 0, 0, 0]), |Extension(Asker(address))| {
        address
    })
}

async fn find(selection: &Selection, streams: &Streams) -> Result<Letters, Refusal> {
    // A pipeline that is not known is the asker's mistake, the rest is the server's.
    if let Some(name) = &selection.pipeline {
        streams.pipeline(name).map_err(|err| Refusal::wrong(&err))?;
    }
    let letters = Letters::find(selection, streams).await;
    letters.map_err(|err| Refusal::failed(&err))
}
