//! The first connect: servers that are not there, not yet there, or not what they should be.

use std::time::Duration;

use ponix_nats::{
    ConnectError, ConnectionRole, NatsAuth, NatsConfig, NatsMetrics, NatsTls, connect,
};
use ponix_stack::Nats;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{SOON, config};

async fn attempt(
    config: &NatsConfig,
    patience: Duration,
) -> Result<ponix_nats::async_nats::Client, ConnectError> {
    let metrics = NatsMetrics::unregistered();
    connect(
        config,
        ConnectionRole::Publish,
        &metrics,
        Instant::now() + patience,
    )
    .await
}

/// A port that nobody listens on.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_was_tried() {
    let port = free_port().await;
    let config = config(&format!("nats://ann:geheim@127.0.0.1:{port}"));
    let err = attempt(&config, Duration::from_millis(2500))
        .await
        .unwrap_err();
    let text = err.to_string();
    let ConnectError::Unreachable { attempts, last, .. } = err else {
        panic!("{err}");
    };
    assert!(attempts >= 2, "{attempts} attempts");
    assert!(last.contains("refused"), "{last}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = config(&format!("nats://127.0.0.1:{port}"));
    let connecting = tokio::spawn(async move { attempt(&config, SOON).await });
    // The first attempt meets something that hangs up.
    drop(listener.accept().await.unwrap());
    drop(listener);
    let nats = Nats::builder().port(port).start().await.unwrap();
    let client = connecting.await.unwrap().unwrap();
    client.flush().await.unwrap();
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_from_one_that_is_not_there() {
    let nats = Nats::builder().jetstream(false).start().await.unwrap();
    let err = attempt(&config(&nats.url()), SOON).await.unwrap_err();
    assert!(matches!(err, ConnectError::NoJetStream { .. }), "{err}");
    let text = err.to_string();
    assert!(text.contains("-js"), "{text}");
    assert!(text.contains(&nats.addr().to_string()), "{text}");
}

/// Greets one client as a NATS server of this version, and answers its ping.
async fn greet_as(version: &str, listener: TcpListener) -> std::io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let mut stream = BufReader::new(stream);
    let greeting = format!(
        "INFO {{\"server_id\":\"x\",\"version\":\"{version}\",\"max_payload\":1048576,\"headers\":true}}\r\n"
    );
    stream.get_mut().write_all(greeting.as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        if line.starts_with("PING") {
            stream.get_mut().write_all(b"PONG\r\n").await?;
        }
        line.clear();
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_too_old_is_told_its_version() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(greet_as("2.9.25", listener));
    let err = attempt(&config(&url), SOON).await.unwrap_err();
    assert!(matches!(err, ConnectError::TooOld { .. }), "{err}");
    let text = err.to_string();
    assert!(text.contains("2.9.25") && text.contains("2.10"), "{text}");
    server.abort();
}

#[tokio::test]
async fn an_account_without_the_jetstream_api_is_told_what_it_lacks() {
    let nats = Nats::builder()
        .config(r#"authorization { users: [ { user: u, password: p, permissions: { publish: "data.>", subscribe: ">" } } ] }"#)
        .start()
        .await
        .unwrap();
    let url = format!("nats://u:p@{}", nats.addr());
    let err = attempt(&config(&url), Duration::from_millis(2500))
        .await
        .unwrap_err();
    assert!(matches!(err, ConnectError::NoPermission { .. }), "{err}");
    assert!(err.to_string().contains("$JS.API"), "{err}");
}

#[tokio::test]
async fn a_bad_url_is_named_by_its_place_and_not_shown() {
    let config = NatsConfig {
        servers: vec![
            "nats://127.0.0.1:1".into(),
            "nats://ann:geheim@host:port".into(),
        ],
        ..NatsConfig::default()
    };
    let err = attempt(&config, SOON).await.unwrap_err();
    let text = format!("{err} {err:?}");
    assert!(text.contains("number 2"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_before_anything_is_tried() {
    let missing = std::path::PathBuf::from("/nowhere/to-be-found.pem");
    let credentials = NatsConfig {
        auth: NatsAuth::CredentialsFile(missing.clone()),
        ..config("nats://127.0.0.1:1")
    };
    let authority = NatsConfig {
        tls: NatsTls {
            ca_file: Some(missing.clone()),
            ..NatsTls::default()
        },
        ..config("nats://127.0.0.1:1")
    };
    for config in [credentials, authority] {
        let err = attempt(&config, SOON).await.unwrap_err();
        assert!(
            matches!(&err, ConnectError::File { path, .. } if *path == missing),
            "{err}"
        );
    }
}

#[tokio::test]
async fn connections_are_counted_with_their_role() {
    let nats = Nats::start().await.unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = NatsMetrics::register(&mut registry);
    let deadline = Instant::now() + SOON;
    let config = config(&nats.url());
    let client = connect(&config, ConnectionRole::Consume, &metrics, deadline)
        .await
        .unwrap();
    nats.restart().await.unwrap();
    ponix_stack::eventually("two connects, one disconnect", SOON, || async {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        for line in [
            r#"ponix_nats_connection_events_total{connection="consume",event="connected"} 2"#,
            r#"ponix_nats_connection_events_total{connection="consume",event="disconnected"} 1"#,
        ] {
            anyhow::ensure!(text.lines().any(|found| found == line), "{text}");
        }
        Ok(())
    })
    .await
    .unwrap();
    client.flush().await.unwrap();
}
