//! JetStream gone, slow or full: an answer in time, and nothing twice when it is sent again.

use std::time::Duration;

use ponix_ingest::IngestConfig;
use ponix_stack::eventually;

use crate::support::{Api, JSON, NDJSON, SOON, json};

fn impatient() -> IngestConfig {
    IngestConfig {
        publish_timeout: Duration::from_millis(500),
        ..IngestConfig::default()
    }
}

#[tokio::test]
async fn a_nats_that_hangs_is_an_outcome_unknown_and_the_retry_is_one_event() {
    let api = Api::with(impatient(), None).await;
    let key = ("idempotency-key", "k");
    let body = json("a", "{}", "");
    api.nats.pause().await.unwrap();
    let answer = api.post(&[JSON, key], &body).await;
    api.nats.resume().await.unwrap();
    assert_eq!(
        answer.error(),
        (
            503,
            "unavailable".to_owned(),
            "outcome unknown: send again with the same Idempotency-Key".to_owned()
        )
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    eventually("the retry is accepted", SOON, async || {
        let answer = api.post(&[JSON, key], &body).await;
        anyhow::ensure!(answer.status == 202, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn a_nats_that_is_gone_is_told_in_time_and_comes_back() {
    let api = Api::with(impatient(), None).await;
    api.nats.kill().await.unwrap();
    let answer = api.post(&[JSON], &json("a", "{}", "")).await;
    assert_eq!(answer.error().0, 503, "{answer:?}");
    api.nats.restart().await.unwrap();
    eventually("it takes envelopes again", SOON, async || {
        let answer = api.post(&[JSON], &json("a", "{}", "")).await;
        anyhow::ensure!(answer.status == 202, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_full_stream_is_told() {
    let api = Api::with_stream_bytes(impatient(), None, 64 << 10).await;
    let data = format!(r#"{{"s":"{}"}}"#, "x".repeat(10_000));
    let mut accepted = 0;
    let refused = loop {
        let answer = api.post(&[JSON], &json("a", &data, "")).await;
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 10, "the stream is never full");
    };
    assert_eq!(
        refused.error(),
        (
            503,
            "unavailable".to_owned(),
            "the stream takes no messages now: send again later".to_owned()
        )
    );
    assert!(refused.header("retry-after").is_some());
    assert_eq!(api.stored().await, accepted);
}

/// What a client sees that looks at the status alone, as `curl -f` and `raise_for_status` do.
#[tokio::test]
async fn lines_that_a_full_stream_refuses_are_no_success() {
    let config = IngestConfig {
        pack_events_max: 2,
        ..impatient()
    };
    let api = Api::with_stream_bytes(config, None, 64 << 10).await;
    let data = format!(r#"{{"s":"{}"}}"#, "x".repeat(10_000));
    let line = [&json("a", &data, "")[..], b"\n"].concat();
    let answer = api.post(&[NDJSON], &line.repeat(20)).await;
    assert_eq!(
        answer.status, 503,
        "some were taken, but not all: {answer:?}"
    );
    assert_eq!(answer.header("retry-after"), Some("5"));
    let told = answer.json();
    assert_eq!(told["accepted"], api.events().await);
    let (accepted, failed) = (told["accepted"].as_u64(), told["failed"].as_u64());
    assert_eq!(accepted.unwrap() + failed.unwrap(), 20);
    assert!(accepted.unwrap() > 0, "{told}");
    // A wrong line beside them changes nothing.
    let none = api.post(&[NDJSON], &[&line[..], b"{\n"].concat()).await;
    assert_eq!((none.status, &none.json()["accepted"]), (503, &0.into()));
}
