//! `ponix publish`: events from a file.

use anyhow::Result;
use ponix_nats::StreamSettings;
use ponix_stack::Nats;
use ponix_wire::decode_envelope;

use crate::streams::nats_context;
use crate::support::{Said, run};

const STREAM: &str = "processed_envelopes";

async fn publish(nats: &Nats, text: &str) -> Result<Said> {
    run(&nats.url(), &["publish", "-"], text, &[]).await
}

fn line(device: &str, data: &str) -> String {
    format!(
        r#"{{"organization_id":"org","end_device_id":"{device}","occurred_at":"2026-03-01T12:00:00Z","data":{data}}}"#
    )
}

#[tokio::test]
async fn many_lines_go_into_few_messages_where_that_is_asked_for() -> Result<()> {
    let nats = Nats::start().await?;
    let context = nats_context(&nats.url()).await?;
    let settings = StreamSettings {
        bytes_max: 1 << 20,
        ..StreamSettings::new(STREAM, vec![format!("{STREAM}.>")])
    };
    let stream = settings.reconcile(&context).await?;
    let mut lines: Vec<String> = (0..7).map(|n| line(&format!("d{n}"), "{}")).collect();
    lines.insert(2, "no JSON".to_owned());
    let args = ["publish", "-", "--pack", "3"];
    let said = run(&nats.url(), &args, &lines.join("\n"), &[]).await?;
    assert_eq!(
        said.out, "7 events published, 1 lines refused\n",
        "{said:?}"
    );
    assert_eq!(stream.get_info().await?.state.messages, 3);
    let packed = async |sequence| {
        let message = stream.get_raw_message(sequence).await?;
        let said = message.headers.get(ponix_wire::header::PACKED);
        anyhow::Ok(said.map(ToString::to_string))
    };
    assert_eq!(packed(1).await?.as_deref(), Some("3"));
    assert_eq!(packed(3).await?, None, "the last one is alone");
    Ok(())
}

#[tokio::test]
async fn good_lines_are_published_and_bad_ones_named() -> Result<()> {
    let nats = Nats::start().await?;
    let context = nats_context(&nats.url()).await?;
    let settings = StreamSettings {
        bytes_max: 1 << 20,
        ..StreamSettings::new(STREAM, vec![format!("{STREAM}.>")])
    };
    let stream = settings.reconcile(&context).await?;

    let lines = [
        line("a:b", r#"{"n":72}"#),
        String::new(),
        "no JSON".to_owned(),
        line("c", r#"{"n":9007199254740993}"#),
        line("d", "{}"),
        line("e.f", "{}"),
    ];
    let said = publish(&nats, &lines.join("\n")).await?;
    assert_eq!(said.code, Some(3), "{said:?}");
    for text in [
        "line 3: not an event in JSON",
        "line 4: data.n is an integer beyond ±2^53",
        "line 6: end_device_id must have 1 to 64 ASCII letters",
    ] {
        assert!(said.err.contains(text), "{said:?}");
    }
    assert_eq!(said.out, "2 events published, 3 lines refused\n");
    assert_eq!(stream.get_info().await?.state.messages, 2);
    let first = stream.get_raw_message(1).await?;
    assert_eq!(first.subject.as_str(), "processed_envelopes.a%3Ab");
    let published_at_ns = i64::try_from(first.time.unix_timestamp_nanos())?;
    let decoded = decode_envelope(&first.payload, published_at_ns).unwrap();
    assert_eq!(
        (&decoded.end_device_id[..], &decoded.data_json[..]),
        ("a:b", r#"{"n":72.0}"#)
    );
    let id = first.headers.get("Nats-Msg-Id").map(ToString::to_string);
    assert_eq!(decoded.event_id.map(|id| id.to_string()), id);

    let said = publish(&nats, &(line("e", "{}") + "\n")).await?;
    assert_eq!(said.code, Some(0), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_full_stream_is_told_and_not_waited_for_without_end() -> Result<()> {
    let nats = Nats::start().await?;
    let context = nats_context(&nats.url()).await?;
    let settings = StreamSettings {
        bytes_max: 2_000,
        ..StreamSettings::new(STREAM, vec![format!("{STREAM}.>")])
    };
    settings.reconcile(&context).await?;
    let lines = vec![line("a", "{}"); 20].join("\n");
    let said = run(
        &nats.url(),
        &["--timeout", "2s", "publish", "-"],
        &lines,
        &[],
    )
    .await?;
    assert_eq!(said.code, Some(1), "{said:?}");
    for text in [
        "the stream is full",
        "PONIX_NATS_STREAM_BYTES_MAX",
        "published before",
    ] {
        assert!(said.err.contains(text), "{said:?}");
    }
    assert!(
        !said.err.contains('\u{1b}'),
        "no colours in a pipe: {said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_stream_it_says_what_is_missing() -> Result<()> {
    let nats = Nats::start().await?;
    let said = publish(&nats, &line("a", "{}")).await?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("start ponix-all-in-one first"),
        "{said:?}"
    );
    Ok(())
}
