use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use ponix_nats::{
    ConnectionRole, NatsConfig, NatsMetrics, StreamSettings, connect, jetstream_context,
};
use ponix_stack::Nats;
use ponix_wire::decode_envelope;
use prometheus_client::registry::Registry;
use tokio::time::{Duration, Instant};

const STREAM: &str = "fed";

/// Runs `ponix-bench feed -` on a text; on a thread of its own, since it blocks.
async fn feed(nats: &Nats, text: String) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ponix-bench"));
    command
        .args(["feed", "-", "--stream", STREAM, "--nats-url", &nats.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        anyhow::Ok(child.wait_with_output()?)
    };
    tokio::task::spawn_blocking(run).await?
}

fn line(device: &str, data: &str) -> String {
    format!(
        r#"{{"organization_id":"org","end_device_id":"{device}","occurred_at":"2026-03-01T12:00:00Z","data":{data}}}"#
    )
}

#[tokio::test]
async fn good_lines_are_published_and_bad_ones_named() {
    let nats = Nats::start().await.unwrap();
    let config = NatsConfig {
        servers: vec![nats.url()],
        ..NatsConfig::default()
    };
    let metrics = NatsMetrics::register(&mut Registry::default());
    let deadline = Instant::now() + Duration::from_secs(10);
    let client = connect(&config, ConnectionRole::Consume, &metrics, deadline)
        .await
        .unwrap();
    let context = jetstream_context(client, &config);
    let settings = StreamSettings::new(STREAM, vec![format!("{STREAM}.>")]);
    let mut stream = settings.reconcile(&context).await.unwrap();

    let lines = [
        line("a.b", r#"{"n":72}"#),
        String::new(),
        "no JSON".to_owned(),
        line("c", r#"{"n":9007199254740993}"#),
        line("d", "{}"),
    ];
    let output = feed(&nats, lines.join("\n")).await.unwrap();

    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("line 3: not an event in JSON"), "{said}");
    assert!(
        said.contains("line 4: data.n is an integer beyond ±2^53"),
        "{said}"
    );
    assert!(
        said.contains("2 events published, 2 lines refused"),
        "{said}"
    );
    assert_eq!(stream.info().await.unwrap().state.messages, 2);
    let first = stream.get_raw_message(1).await.unwrap();
    assert_eq!(first.subject.as_str(), "fed.a%2Eb");
    let published_at_ns = i64::try_from(first.time.unix_timestamp_nanos()).unwrap();
    let decoded = decode_envelope(&first.payload, published_at_ns).unwrap();
    assert_eq!(
        (decoded.end_device_id.as_str(), decoded.data_json.as_str()),
        ("a.b", r#"{"n":72.0}"#)
    );
    let id = first
        .headers
        .get("Nats-Msg-Id")
        .unwrap()
        .as_str()
        .to_owned();
    assert_eq!(decoded.event_id.unwrap().to_string(), id);

    let output = feed(&nats, line("e", "{}") + "\n").await.unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn without_a_stream_it_says_what_is_missing() {
    let nats = Nats::start().await.unwrap();
    let output = feed(&nats, line("a", "{}")).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("start ponix-all-in-one first"), "{said}");
    assert!(said.contains("no stream takes subject fed.a"), "{said}");
}
