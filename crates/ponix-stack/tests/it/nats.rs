//! Each operation on a real NATS server.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use ponix_stack::{Mode, Nats, Proxy, eventually};

const SOON: Duration = Duration::from_secs(20);

async fn stream_of(url: &str) -> (jetstream::Context, stream::Stream) {
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    let stream = jetstream.get_or_create_stream(stream::Config {
        name: "events".into(),
        ..Default::default()
    });
    let stream = stream.await.unwrap();
    (jetstream, stream)
}

async fn publish(jetstream: &jetstream::Context) {
    jetstream
        .publish("events", "x".into())
        .await
        .unwrap()
        .await
        .unwrap();
}

async fn messages(stream: &stream::Stream) -> u64 {
    stream.get_info().await.unwrap().state.messages
}

#[tokio::test]
async fn starts_and_stops() {
    let nats = Nats::start().await.unwrap();
    assert!(nats.is_running());
    assert!(
        nats.monitoring("/jsz")
            .await
            .unwrap()
            .contains("\"store_dir\"")
    );
    assert!(nats.memory_peak_bytes().unwrap() > 1_000_000);
    let status = nats.stop().await.unwrap();
    assert!(!nats.is_running());
    assert!(nats.pid().is_none());
    assert!(status.signal().is_none(), "it was killed: {status}");
}

#[tokio::test]
async fn keeps_messages_and_ports_over_kill_stop_and_restart() {
    let nats = Nats::start().await.unwrap();
    let (url, monitoring, pid) = (nats.url(), nats.monitoring_url(), nats.pid());
    publish(&stream_of(&url).await.0).await;
    assert_eq!(nats.kill().await.unwrap().signal(), Some(9));
    nats.start_again().await.unwrap();
    publish(&stream_of(&url).await.0).await;
    nats.stop().await.unwrap();
    nats.start_again().await.unwrap();
    publish(&stream_of(&url).await.0).await;
    nats.restart().await.unwrap();
    assert_eq!(messages(&stream_of(&url).await.1).await, 3);
    assert_eq!((nats.url(), nats.monitoring_url()), (url, monitoring));
    assert_ne!(nats.pid(), pid);
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() {
    let nats = Nats::start().await.unwrap();
    let (jetstream, stream) = stream_of(&nats.url()).await;
    nats.pause().await.unwrap();
    let ack = jetstream.publish("events", "x".into()).await.unwrap();
    let mut ack = Box::pin(ack.into_future());
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut ack).await;
    assert!(waited.is_err(), "a paused server should not answer");
    nats.resume().await.unwrap();
    ack.await.unwrap();
    assert_eq!(messages(&stream).await, 1);
}

#[tokio::test]
async fn a_given_folder_stays_and_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Nats::builder().data_dir(folder.path()).start();
    let first = start().await.unwrap();
    publish(&stream_of(&first.url()).await.0).await;
    drop(first);
    let second = start().await.unwrap();
    assert_eq!(messages(&stream_of(&second.url()).await.1).await, 1);
    assert!(
        second
            .log_path()
            .starts_with(folder.path().canonicalize().unwrap())
    );
}

#[tokio::test]
async fn what_was_built_is_what_the_server_says() {
    let nats = Nats::builder()
        .max_payload(12_345)
        .max_file_store(1_000_000)
        .max_memory_store(500_000)
        .sync_interval("always")
        .config("lame_duck_duration: 77s")
        .start()
        .await
        .unwrap();
    let varz = nats.monitoring("/varz").await.unwrap();
    let varz: serde_json::Value = serde_json::from_str(&varz).unwrap();
    assert_eq!(varz["max_payload"], 12_345);
    let jetstream = &varz["jetstream"]["config"];
    assert_eq!(jetstream["max_storage"], 1_000_000);
    assert_eq!(jetstream["max_memory"], 500_000);
    assert_eq!(jetstream["sync_always"], true);
}

#[tokio::test]
async fn without_jetstream_there_is_none() {
    let nats = Nats::builder().jetstream(false).start().await.unwrap();
    let jsz = nats.monitoring("/jsz").await.unwrap();
    assert!(jsz.contains("\"disabled\": true"), "{jsz}");
}

#[tokio::test]
async fn credentials_are_asked_for() {
    let with_user = Nats::builder()
        .user_password("u", r#"p"\ "#)
        .start()
        .await
        .unwrap();
    async_nats::connect(with_user.url()).await.unwrap_err();
    let options = ConnectOptions::with_user_and_password("u".into(), r#"p"\ "#.into());
    options.connect(with_user.url()).await.unwrap();

    let with_token = Nats::builder().token("t").start().await.unwrap();
    async_nats::connect(with_token.url()).await.unwrap_err();
    let options = ConnectOptions::with_token("t".into());
    options.connect(with_token.url()).await.unwrap();
}

#[tokio::test]
async fn a_failed_start_shows_why() {
    let error = Nats::builder()
        .config("no_such_option: {")
        .start()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nats ended before it was ready (exit status: 1)"),
        "{error}"
    );
    assert!(error.contains("nats.log:\n"), "{error}");
    assert!(
        error.contains("Parse error"),
        "the server's own words: {error}"
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Nats::builder()
        .port(port)
        .start()
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("port {port} is already in use on 127.0.0.1"));
}

#[tokio::test]
async fn many_start_at_once() {
    let starts = (0..8).map(|_| Nats::start());
    let servers = futures::future::try_join_all(starts).await.unwrap();
    let mut ports: Vec<_> = servers.iter().map(|nats| nats.port()).collect();
    ports.dedup();
    assert_eq!(ports.len(), 8);
}

#[tokio::test]
async fn a_swallowed_acknowledgement_leaves_the_message_stored() {
    let nats = Nats::start().await.unwrap();
    let proxy = Proxy::start(nats.addr()).await.unwrap();
    let (_, stream) = stream_of(&nats.url()).await;
    let (jetstream, _) = stream_of(&proxy.url("nats")).await;
    proxy.set(Mode::SwallowResponse).await;
    let ack = jetstream.publish("events", "x".into()).await.unwrap();
    ack.await.unwrap_err();
    proxy.set(Mode::Pass).await;
    eventually("the message", SOON, || async {
        messages(&stream).await == 1
    })
    .await
    .unwrap();
    assert!(proxy.counters().responses_swallowed >= 1);
}
