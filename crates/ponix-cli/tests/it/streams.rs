//! `ponix streams`: a file checked, compared with a server, and the server brought to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_stack::{Nats, free_addr, oldest_nats_server};
use tempfile::TempDir;

use crate::support::{Said, ponix_at};

/// A file with every kind of thing in it.
const WHOLE: &str = r#"
apiVersion: ponix.dev/v1
kind: Streams
metadata: { name: whole }
spec:
  server: { max_file_store: 4GiB, max_memory_store: 64MiB }
  streams:
    - name: TELEMETRY
      description: "what devices say: all of it"
      subjects: [telemetry.>]
      max_age: 1h
      max_bytes: 1GiB
      max_msgs_per_subject: 100000
      max_msg_size: 64KiB
      compression: s2
      metadata: { team: "on" }
      consumers:
        - durable: ingest-workers
          filters: [telemetry.>]
          max_deliver: 3
          max_ack_pending: 1000
        - durable: both
          filters: [telemetry.b, telemetry.a]
          deliver: { start_seq: 7 }
          ack: all
          inactive_threshold: 1d
    - name: ROUTES
      subjects: [routes.>]
      retention: work
      discard: new
      max_bytes: 512MiB
      consumers:
        - durable: route-delivery
          ack_wait: 45s
    - name: FAST
      subjects: [fast.*]
      storage: memory
      retention: interest
      max_msgs: 10
      max_age: 1500ms
      discard: new
      allow_direct: false
      allow_rollup: true
      subject_transform: { from: "fast.*", to: "slow.{{wildcard(1)}}" }
      consumers:
        - durable: later
          deliver: { start_time: "2026-01-01T00:00:00Z" }
    - name: COPY
      mirror: { stream: TELEMETRY, filter: telemetry.a }
    - name: ALL
      max_bytes: 1MiB
      deny_delete: true
      sources:
        - { stream: ROUTES, start_seq: 1 }
        - stream: TELEMETRY
          start_time: "2026-01-01T00:00:00Z"
          subject_transforms: [{ from: telemetry.>, to: all.> }]
"#;

/// A file in a folder of its own.
pub(crate) struct File {
    folder: TempDir,
    path: PathBuf,
}

impl File {
    pub(crate) fn new(text: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("streams.yaml");
        std::fs::write(&path, text)?;
        Ok(Self { folder, path })
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().expect("a path of ours")
    }

    fn beside(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A file of some streams.
pub(crate) fn declared(streams: &str) -> String {
    format!(
        "apiVersion: ponix.dev/v1\nkind: Streams\nmetadata: {{ name: t }}\nspec:\n  streams:\n{streams}"
    )
}

pub(crate) async fn ok(url: &str, args: &[&str]) -> Result<Said> {
    let said = ponix_at(url, args).await?;
    ensure!(said.code == Some(0), "{args:?}: {said:?}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_read_back_and_applied_once() -> Result<()> {
    let nats = Nats::start().await?;
    let url = nats.url();
    let file = File::new(WHOLE)?;
    let planned = ponix_at(&url, &["streams", "plan", file.path()]).await?;
    assert_eq!(planned.code, Some(3), "{planned:?}");
    assert!(
        planned.out.contains("+ stream TELEMETRY\n+   description"),
        "{planned:?}"
    );
    let first = ok(&url, &["streams", "apply", file.path()]).await?;
    assert!(first.out.ends_with("9 done\n"), "{first:?}");
    for verb in ["apply", "plan"] {
        let second = ok(&url, &["streams", verb, file.path()]).await?;
        assert_eq!(second.out, "nothing to do: everything is as declared\n");
    }
    let infos = nats
        .monitoring("/jsz?streams=1&consumers=1&config=1")
        .await?;
    for part in [
        "\"max_age\":3600000000000",
        "\"duplicate_window\":1500000000",
        "\"max_ack_pending\":1000",
    ] {
        assert!(
            infos.replace([' ', '\n'], "").contains(part),
            "{part}: {infos}"
        );
    }

    let exported = file.beside("exported.yaml");
    ok(&url, &["streams", "export", &exported]).await?;
    let again = ponix_at(&url, &["streams", "export", &exported]).await?;
    assert_eq!(again.code, Some(1), "a file that is there stays: {again:?}");
    let none = ok(&url, &["streams", "apply", &exported, "--prune"]).await?;
    assert_eq!(none.out, "nothing to do: everything is as declared\n");
    // Another server becomes the same by it.
    let other = Nats::start().await?;
    ok(&other.url(), &["streams", "apply", &exported]).await?;
    let theirs = ok(&other.url(), &["streams", "export"]).await?;
    assert_eq!(theirs.out, std::fs::read_to_string(&exported)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_shown_and_made() -> Result<()> {
    let nats = Nats::start().await?;
    let url = nats.url();
    let before = File::new(&declared(
        "    - { name: A, subjects: [a.>], max_age: 1h, consumers: [{ durable: c, ack_wait: 30s }] }\n",
    ))?;
    ok(&url, &["streams", "apply", before.path()]).await?;
    let after = File::new(&declared(
        "    - { name: A, subjects: [a.>, b], max_age: 2h, consumers: [{ durable: c, ack_wait: 1m, filters: [b, a.x] }] }\n",
    ))?;
    let expected = "~ stream A\n-   subjects: [a.>]\n+   subjects: [a.>, b]\n-   max_age: 1h\n+   max_age: 2h\n\
                    ~ consumer A/c\n-   filters: []\n+   filters: [a.x, b]\n-   ack_wait: 30s\n+   ack_wait: 1m\n";
    let planned = ponix_at(&url, &["streams", "plan", after.path()]).await?;
    assert_eq!(
        (planned.code, &planned.out),
        (Some(3), &format!("{expected}2 to do\n"))
    );
    let applied = ok(&url, &["streams", "apply", after.path()]).await?;
    assert_eq!(applied.out, format!("{expected}2 done\n"));
    let planned = ok(&url, &["streams", "plan", "--json", after.path()]).await?;
    assert_eq!(planned.out, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_when_anything_is_refused() -> Result<()> {
    let nats = Nats::start().await?;
    let url = nats.url();
    let before = File::new(&declared("    - { name: A, subjects: [a.>] }\n"))?;
    ok(&url, &["streams", "apply", before.path()]).await?;
    let context = nats_context(&url).await?;
    for n in 0..20 {
        context
            .publish(format!("a.{}", n % 2), "x".into())
            .await?
            .await?;
    }
    for (stream, reason) in [
        (
            "name: A, subjects: [a.>], storage: memory",
            "storage cannot be changed from file to memory",
        ),
        (
            "name: A, subjects: [a.>], retention: work, discard: new",
            "retention cannot be changed from limits to work",
        ),
        ("name: A, subjects: [a.>], max_msgs: 19", "drops messages"),
        (
            "name: A, subjects: [a.>], max_msgs_per_subject: 9",
            "drops messages",
        ),
        (
            "name: C, subjects: [a.b]",
            "subject a.b overlaps with a.> of stream A",
        ),
    ] {
        let text = format!("    - {{ name: B, subjects: [b] }}\n    - {{ {stream} }}\n");
        let file = File::new(&declared(&text))?;
        for verb in ["plan", "apply"] {
            let said = ponix_at(&url, &["streams", verb, file.path()]).await?;
            assert_eq!(said.code, Some(1), "{stream}: {said:?}");
            assert!(
                said.err.contains(reason) && said.err.contains("nothing is changed"),
                "{said:?}"
            );
        }
        assert!(context.get_stream("B").await.is_err(), "{stream}");
    }
    assert_eq!(
        context.get_stream("A").await?.cached_info().state.messages,
        20
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_does_not_have_stays_until_it_is_pruned() -> Result<()> {
    let nats = Nats::start().await?;
    let url = nats.url();
    let before = File::new(&declared(
        "    - { name: A, subjects: [a.>], consumers: [{ durable: c }, { durable: d }] }\n    \
         - { name: B, subjects: [b] }\n    - { name: processed_envelopes, subjects: [processed_envelopes.>] }\n",
    ))?;
    ok(&url, &["streams", "apply", before.path()]).await?;
    let context = nats_context(&url).await?;
    for _ in 0..20 {
        context.publish("a.x", "x".into()).await?.await?;
    }
    let bucket = ponix_nats::async_nats::jetstream::stream::Config {
        name: "KV_bucket".to_owned(),
        subjects: vec!["$KV.bucket.>".to_owned()],
        ..Default::default()
    };
    context.create_stream(bucket).await?;
    let text = "    - { name: A, subjects: [a.>], max_msgs: 10, consumers: [{ durable: c }] }\n";
    let after = File::new(&declared(text))?;
    let lossless = File::new(&declared(&text.replace("max_msgs: 10, ", "")))?;
    let kept = ok(&url, &["streams", "apply", lossless.path()]).await?;
    assert!(
        kept.err
            .contains("left alone: consumer A/d, stream B, stream processed_envelopes"),
        "{kept:?}"
    );
    let pruned = ok(&url, &["streams", "apply", "--prune", after.path()]).await?;
    let expected =
        "- stream B\n~ stream A\n-   max_msgs: none\n+   max_msgs: 10\n- consumer A/d\n3 done\n";
    assert_eq!(pruned.out, expected, "{pruned:?}");
    // What a pipeline of Ponix reads stays, and what is no stream of events.
    for name in ["processed_envelopes", "KV_bucket"] {
        context.get_stream(name).await.context(name)?;
    }
    assert_eq!(
        context.get_stream("A").await?.cached_info().state.messages,
        10
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_waits_for_its_server() -> Result<()> {
    let addr = free_addr()?;
    let url = format!("nats://{addr}");
    let file = File::new(&declared("    - { name: A, subjects: [a] }\n"))?;
    let impatient = ponix_at(&url, &["streams", "apply", "--wait", "500ms", file.path()]).await?;
    assert_eq!(impatient.code, Some(1), "{impatient:?}");
    let args = ["streams", "apply", "--wait", "30s", file.path()];
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Nats::builder().port(addr.port()).start().await
    };
    let (said, nats) = tokio::join!(ok(&url, &args), later);
    assert_eq!(said?.out, "+ stream A\n+   subjects: [a]\n1 done\n");
    drop(nats?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_said_with_what_is_not_done() -> Result<()> {
    let nats = Nats::builder().max_file_store(1 << 20).start().await?;
    let url = nats.url();
    let two = |bytes: &str| {
        declared(&format!(
            "    - {{ name: A, subjects: [a], max_bytes: 512KiB }}\n    \
             - {{ name: B, subjects: [b], max_bytes: {bytes} }}\n    - {{ name: C, subjects: [c], max_bytes: 1kB }}\n"
        ))
    };
    let file = File::new(&two("1MiB"))?;
    let said = ponix_at(&url, &["streams", "apply", file.path()]).await?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("+ stream A"), "{said:?}");
    for text in [
        "not done: stream B, stream C",
        "STREAM.CREATE.B",
        "less store space",
    ] {
        assert!(said.err.contains(text), "{text}: {said:?}");
    }
    let file = File::new(&two("256KiB"))?;
    let said = ok(&url, &["streams", "apply", file.path()]).await?;
    assert!(said.out.ends_with("2 done\n"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_server_understands_it() -> Result<()> {
    let Some(program) = oldest_nats_server() else {
        println!("skipped: there is no oldest nats-server");
        return Ok(());
    };
    let nats = Nats::builder().program(program).start().await?;
    let file = File::new(&declared(
        "    - { name: A, subjects: [a.>], max_age: 1h, consumers: [{ durable: c, filters: [a.b] }] }\n",
    ))?;
    for expected in ["2 done\n", "nothing to do: everything is as declared\n"] {
        let said = ok(&nats.url(), &["streams", "apply", file.path()]).await?;
        assert!(said.out.ends_with(expected), "{said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn each_mistake_is_told_with_its_place() -> Result<()> {
    // The streams begin in line 6.
    for (streams, expected) in [
        (
            "- { name: A, subject: [a] }",
            &["6:18: streams has no key \"subject\", did you mean \"subjects\"?"][..],
        ),
        (
            "- { name: A, subjects: [a], retention: worker }",
            &["retention is \"worker\", did you mean \"work\"?"],
        ),
        (
            "- { name: A, subjects: [a], max_age: 1 fortnight }",
            &["6:42: max_age is \"1 fortnight\", expected a time such as"],
        ),
        (
            "- { name: A, subjects: [a], max_bytes: 1 gig }",
            &["max_bytes is \"1 gig\", expected bytes such as"],
        ),
        (
            "- { name: a.b, subjects: [a] }",
            &["name \"a.b\" must not be empty or have"],
        ),
        ("- { name: A }", &["stream A has no subjects"]),
        (
            "- { name: A, subjects: [a.>, a.b] }",
            &["subject a.b overlaps with a.> of the same stream"],
        ),
        (
            "- { name: A, subjects: [a b] }",
            &["subject \"a b\" must have no white space"],
        ),
        (
            "- { name: A, subjects: [$JS.x] }",
            &["must not take in the server's own"],
        ),
        (
            "- { name: A, subjects: [a.>] }\n    - { name: B, subjects: [x, a.b] }\n    - { name: A, subjects: [c] }",
            &[
                "7:32: subject a.b overlaps with a.> of stream A",
                "8:15: stream \"A\" is there twice",
            ],
        ),
        (
            "- { name: A, subjects: [a], retention: work }",
            &["6:44: a work queue with discard: old drops jobs"],
        ),
        (
            "- { name: A, subjects: [a], drops_unread: true }",
            &["drops_unread is for retention: work"],
        ),
        (
            "- { name: A, subjects: [a], discard_per_subject: true }",
            &["needs discard: new and max_msgs_per_subject"],
        ),
        (
            "- { name: A, subjects: [a], max_age: 1m, duplicate_window: 2m }",
            &["longer than max_age"],
        ),
        (
            "- { name: A, subjects: [a.>], dead_letters: a.dead }",
            &["dead letters on a.dead.> would come back into the stream"],
        ),
        (
            "- { name: A, subjects: [a], mirror: { stream: B } }",
            &["a mirror takes in nothing else"],
        ),
        (
            "- { name: A, subjects: [a], replicas: 6 }",
            &["replicas is 6, expected 1 to 5"],
        ),
        (
            "- { name: A, subjects: [a], metadata: { ponix-target: x } }",
            &["metadata \"ponix-target\" is not for files"],
        ),
        (
            "- { name: A, subjects: [a.>], consumers: [{ durable: c, filters: [b.x] }] }",
            &["filter \"b.x\" is outside the stream's subjects, a.>"],
        ),
        (
            "- { name: A, subjects: [a.>], consumers: [{ durable: c, filters: [a.*, a.b] }] }",
            &["filter a.b overlaps with a.*"],
        ),
        (
            "- { name: A, subjects: [a], consumers: [{ durable: c }, { durable: c }] }",
            &["consumer \"c\" is there twice"],
        ),
        (
            "- { name: A, subjects: [a], consumers: [{ durable: c, replicas: 3 }] }",
            &["more than the 1 of the stream"],
        ),
        (
            "- { name: A, subjects: [a], consumers: [{ durable: c, ack: none, ack_wait: 1s }] }",
            &["ack_wait has no meaning"],
        ),
        (
            "- { name: A, subjects: [a], retention: work, discard: new, consumers: [{ durable: c, ack: all }, { durable: d, deliver: new }] }",
            &[
                "needs ack: explicit",
                "needs deliver: all",
                "consumer d reads what c reads",
            ],
        ),
    ] {
        let file = File::new(&declared(&format!("    {streams}\n")))?;
        let said = ponix_at("nats://127.0.0.1:1", &["streams", "check", file.path()]).await?;
        assert_eq!(said.code, Some(64), "{streams}: {said:?}");
        for text in expected {
            let place = format!("{}:", file.path());
            let line = said.err.lines().find(|line| line.contains(text));
            assert!(
                line.is_some_and(|line| line.starts_with(&place)),
                "{text}: {said:?}"
            );
        }
        assert_eq!(
            said.err.lines().count(),
            expected.len(),
            "{streams}: {said:?}"
        );
    }
    let small = WHOLE.replace("max_file_store: 4GiB", "max_file_store: 1GiB");
    let file = File::new(&small)?;
    let said = ponix_at("", &["streams", "check", file.path()]).await?;
    assert!(
        said.err.contains("max_bytes are 1537MiB together"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_may_be_lost_is_noted() -> Result<()> {
    let file = File::new(WHOLE)?;
    let said = ponix_at("", &["streams", "check", file.path()]).await?;
    assert_eq!(
        said.out, "5 streams and 4 consumers, nothing wrong\n",
        "{said:?}"
    );
    for text in [
        ":8:13: note: an event of TELEMETRY is dropped after 1h, read or not",
        "a full TELEMETRY drops its oldest events",
        "TELEMETRY keeps 100000 events of a subject",
        "after 3 deliveries the server gives an event of ingest-workers up",
        "both and its place are removed when nobody asks for 1d",
        "FAST is in memory",
        "FAST keeps an event only while there is a consumer",
    ] {
        assert!(said.err.contains(text), "{text}: {said:?}");
    }
    assert!(!said.err.contains("ROUTES"), "{said:?}");
    Ok(())
}

/// With `PONIX_WRITE_SCHEMA=1` the file is written instead.
#[tokio::test]
async fn the_schema_for_editors_is_that_of_the_code() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("streams.schema.json");
    let said = ponix_at("", &["streams", "schema"]).await?;
    if std::env::var_os("PONIX_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &said.out)?;
    }
    assert_eq!(std::fs::read_to_string(&path)?, said.out);
    Ok(())
}

pub(crate) async fn nats_context(url: &str) -> Result<ponix_nats::async_nats::jetstream::Context> {
    let client = ponix_nats::async_nats::connect(url).await?;
    Ok(ponix_nats::async_nats::jetstream::new(client))
}
