//! `ponix tail`: events as they come.

use anyhow::{Context as _, Result, ensure};
use ponix_faults::Event;
use ponix_nats::OutgoingMessage;
use ponix_stack::{Nats, Signal, eventually};
use ponix_testkit::SOON;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::streams::{File, declared, nats_context, ok};
use crate::support::ponix_command;

/// A `ponix tail` that follows.
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    async fn start(url: &str, args: &[&str], env: &[(&str, String)]) -> Result<Self> {
        let args = [&["tail"], args].concat();
        let mut command = ponix_command(url, &args);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("standard error")?).lines();
        let first = said.next_line().await?;
        ensure!(first.as_deref() == Some("following"), "{first:?}");
        let out = child.stdout.take().context("standard output")?;
        let lines = BufReader::new(out).lines();
        Ok(Self { child, lines })
    }

    async fn next(&mut self) -> Result<Value> {
        let line = tokio::time::timeout(SOON, self.lines.next_line()).await??;
        Ok(serde_json::from_str(&line.context("it has ended")?)?)
    }

    async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().context("it has ended")?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.cast_signed()),
            Signal::SIGINT,
        )?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

const DOCUMENT: &str = "
apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: jobs}
spec:
  source: {stream: JOBS, subjects: [jobs.>], consumer: workers}
  dead_letters: {stream: JOBS_DLQ, subject_prefix: jobs_dlq}
  decode: {format: csv, columns: {id: text, level: integer}}
  sink: {clickhouse: {table: jobs}}
";

#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_as_they_come_and_nothing_stays() -> Result<()> {
    let nats = Nats::start().await?;
    let url = nats.url();
    let streams = File::new(&declared(
        "    - { name: processed_envelopes, subjects: [processed_envelopes.>] }\n    \
         - { name: JOBS, subjects: [jobs.>], retention: work, discard: new, consumers: [{ durable: workers }] }\n",
    ))?;
    ok(&url, &["streams", "apply", streams.path()]).await?;
    let context = nats_context(&url).await?;
    let publish = async |subject: &str, body: Vec<u8>| {
        context
            .publish(subject.to_owned(), body.into())
            .await?
            .await?;
        anyhow::Ok(())
    };
    let OutgoingMessage {
        payload, subject, ..
    } = Event::good(7).message();
    publish(&subject, payload.to_vec()).await?;

    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("jobs.yaml"), DOCUMENT)?;
    let env = [("PONIX_PIPELINES_DIR", folder.path().display().to_string())];
    let mut all = Tail::start(&url, &[], &env).await?;
    let mut jobs = Tail::start(&url, &["-p", "jobs", "-s", "jobs.x"], &env).await?;
    publish("jobs.y", b"1,2".to_vec()).await?;
    publish("jobs.x", b"one,2".to_vec()).await?;
    publish("jobs.x", b"one,two".to_vec()).await?;
    publish(&subject, payload.to_vec()).await?;
    let first = jobs.next().await?;
    assert_eq!(
        first["event"],
        serde_json::json!({ "id": "one", "level": 2 }),
        "{first}"
    );
    let second = jobs.next().await?;
    assert_eq!(second["dead_letter"]["reason"], "value", "{second}");
    assert_eq!(second["body"], "one,two");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(all.next().await?);
    }
    let event = seen.iter().find(|event| event["pipeline"] == "envelopes");
    let event = event.context("an envelope")?;
    assert_eq!(
        (&event["subject"], &event["sequence"]),
        (&subject.into(), &2.into())
    );
    assert!(event["event"]["data"].is_object(), "{event}");

    let stream = context.get_stream("processed_envelopes").await?;
    assert_eq!(stream.get_info().await?.state.consumer_count, 1);
    all.stop().await?;
    jobs.stop().await?;
    eventually("no consumer is left", SOON, async || {
        let count = stream.get_info().await?.state.consumer_count;
        ensure!(count == 0, "{count}");
        Ok(())
    })
    .await?;
    let since = ok(&url, &["tail", "--since", "1h", "--count", "2"]).await?;
    assert_eq!(since.objects().len(), 2, "{since:?}");
    assert_eq!(stream.get_info().await?.state.consumer_count, 0);
    Ok(())
}
