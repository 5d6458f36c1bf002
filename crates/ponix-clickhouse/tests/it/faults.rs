//! The server goes away, comes back, or does not answer.

use std::time::Duration;

use ponix_clickhouse::{
    ClickHouseConfig, Client, ErrorKind, InsertResult, MigrateError, Migrator, RequestError,
    VersionError,
};
use ponix_sink::{ErrorClass, Sink as _, WriteError};
use ponix_stack::{ClickHouse, Mode, Proxy, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{self, Store, rows};

async fn until_retried(store: &Store) {
    eventually("retries", Duration::from_secs(30), || async {
        store.metrics.inserts(InsertResult::Transient) >= 3
    })
    .await
    .expect("failures that may pass are retried");
}

#[tokio::test]
async fn a_killed_server_is_waited_for() {
    let server = ClickHouse::start().await.expect("it starts");
    let client = Client::new(&support::config(&server, "killed")).expect("valid");
    let store = Store::with(client).await;
    store.write(&rows(10)).await.expect("stored");
    server.kill().await.expect("it is gone");
    let write = tokio::spawn({
        let store = store.clone();
        async move { store.write_patiently(&rows(100)).await }
    });
    until_retried(&store).await;
    server.restart().await.expect("it comes back");
    write.await.expect("it is stored in the end");
    assert_eq!(store.envelopes().await, 100);
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_at_once() {
    let server = ClickHouse::start().await.expect("it starts");
    let client = Client::new(&support::config(&server, "gone")).expect("valid");
    let store = Store::with(client).await;
    server.stop().await.expect("it stops");
    let error = store.write(&rows(10)).await.expect_err("nobody listens");
    let WriteError::Unusable {
        stored,
        class: ErrorClass::Transient,
        source,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(stored.count(), 0);
    let source = source.downcast_ref::<RequestError>();
    assert!(
        matches!(source, Some(RequestError::Network(_))),
        "{source:?}"
    );
}

#[tokio::test]
async fn giving_up_ends_the_search_between_two_inserts() {
    let store = Store::new("giving_up").await;
    let give_up = CancellationToken::new();
    give_up.cancel();
    let stored = store.write_unless(&rows(10), &give_up).await;
    stored.expect("one attempt is always made");
    let mut bad = rows(10);
    bad[3].envelope.data_json = support::REFUSED_JSON.into();
    let error = store.write_unless(&bad, &give_up).await;
    let error = error.expect_err("the search takes more than one attempt");
    assert!(matches!(error, WriteError::GaveUp { .. }), "{error:?}");
    assert_eq!(error.stored().count(), 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_a_copy_that_no_reader_sees() {
    let server = support::server().await;
    let proxy = Proxy::start(server.addr()).await.expect("it listens");
    let config = ClickHouseConfig {
        url: proxy.url("http"),
        ..support::config(server, "lost_answer")
    };
    let store = Store::with(Client::new(&config).expect("valid")).await;
    store.stop_merges().await;
    proxy.set(Mode::SwallowResponseTo("INSERT")).await;
    let write = tokio::spawn({
        let store = store.clone();
        async move { store.write_patiently(&rows(100)).await }
    });
    eventually("a lost answer", Duration::from_secs(30), || async {
        proxy.counters().responses_swallowed >= 1
    })
    .await
    .expect("the server answers");
    proxy.set(Mode::Pass).await;
    write.await.expect("it is stored");
    assert_eq!(store.envelopes().await, 100);
    assert!(
        store.copies().await >= 200,
        "the first INSERT was stored too"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_after_the_timeout() {
    let server = support::server().await;
    let proxy = Proxy::start(server.addr()).await.expect("it listens");
    let config = ClickHouseConfig {
        url: proxy.url("http"),
        response_timeout: Duration::from_millis(200),
        ..support::config(server, "default")
    };
    let client = Client::new(&config).expect("valid");
    proxy.set(Mode::Stall).await;
    let error = client.ping().await.expect_err("no answer");
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error:?}");
    let store = Store::without_tables(client);
    let encoded = store.sink.encode(rows(1)).await;
    let batch = encoded.expect("encoded").remove(0);
    let error = store.sink.insert(&batch).await.expect_err("no answer");
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn a_socket_that_takes_no_more_is_left_after_the_timeout() {
    let server = support::server().await;
    let proxy = Proxy::start(server.addr()).await.expect("it listens");
    let config = ClickHouseConfig {
        url: proxy.url("http"),
        send_timeout: Duration::from_millis(300),
        ..support::config(server, "default")
    };
    let store = Store::without_tables(Client::new(&config).expect("valid"));
    store.client.check_version().await.expect("it answers");
    // More than the sockets' buffers take.
    let data = format!(r#"{{"noise":"{}"}}"#, support::noise(20 << 20));
    let encoded = store.sink.encode(vec![support::row(0, data)]).await;
    let batch = encoded.expect("encoded").remove(0);
    proxy.set(Mode::Stall).await;
    let error = store.sink.insert(&batch).await.expect_err("nobody reads");
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error:?}");
}

/// Answers the question for the version with one, and every other request with something else;
/// hands out the request lines of the latter.
async fn fake_server(
    version: &'static str,
    answer: impl Into<String>,
) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (asked, requests) = mpsc::unbounded_channel();
    let answer = answer.into();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 64 << 10];
            let len = connection.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..len]).into_owned();
            let answer = if request.contains("SELECT version()") {
                let len = char::from(version.len() as u8);
                let body = format!("\x01\x09version()\x06String{len}{version}");
                let len = body.len();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}")
            } else {
                let line = request.lines().next().unwrap_or_default();
                let _ = asked.send(line.to_owned());
                answer.clone()
            };
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (url, requests)
}

/// Sends one row to a server that is none.
async fn insert_into(url: String) -> Result<(), RequestError> {
    let config = ClickHouseConfig {
        url,
        ..ClickHouseConfig::default()
    };
    let store = Store::without_tables(Client::new(&config).expect("valid"));
    let encoded = store.sink.encode(rows(2)).await;
    let batch = encoded.expect("encoded").remove(0);
    store.sink.insert(&batch).await
}

#[tokio::test]
async fn a_page_that_anybody_could_have_sent_stores_nothing() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBack soon.\n";
    let (url, _) = fake_server("26.7.2.1", page).await;
    let error = insert_into(url.clone()).await.expect_err("no proof");
    assert_eq!(error.kind(), ErrorKind::Transient);
    let RequestError::NotClickHouse { text } = error else {
        panic!("{error:?}")
    };
    assert_eq!(text, "200 without X-ClickHouse-Summary: Back soon.");
    let config = ClickHouseConfig {
        url,
        ..ClickHouseConfig::default()
    };
    let client = Client::new(&config).expect("valid");
    client.ping().await.expect_err("nor is it there");
}

#[tokio::test]
async fn a_summary_of_fewer_rows_stores_nothing() {
    for (written, stored) in [(1, false), (2, true), (4, true)] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {{\"written_rows\":\"{written}\"}}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let (url, _) = fake_server("26.7.2.1", answer).await;
        match insert_into(url).await {
            Ok(()) => assert!(stored, "{written} of 2"),
            Err(error) => {
                assert!(!stored, "{written} of 2: {error:?}");
                assert_eq!(error.to_string(), "clickhouse wrote 1 of 2 rows");
                assert_eq!(error.kind(), ErrorKind::Transient);
            }
        }
    }
}

#[tokio::test]
async fn only_servers_that_know_the_setting_are_sent_it() {
    for (version, knows) in [
        ("25.8.4.13", false),
        ("26.1.9.9", false),
        ("26.2.1.1", true),
    ] {
        let (url, mut requests) = fake_server(version, "HTTP/1.1 503 Busy\r\n\r\n").await;
        insert_into(url).await.expect_err("busy");
        let line = requests.recv().await.expect("the INSERT");
        assert!(line.contains("insert_deduplicate=0"), "{line}");
        let sent = line.contains("deduplicate_insert=disable");
        assert_eq!(sent, knows, "{version}: {line}");
    }
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_before_anything_is_changed() {
    let config = ClickHouseConfig {
        url: fake_server("24.3.5.46", "").await.0,
        ..ClickHouseConfig::default()
    };
    let client = Client::new(&config).expect("valid");
    let error = Migrator::new(&client).up().await.expect_err("24.3");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let MigrateError::Server(error @ VersionError::TooOld { .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        error.to_string(),
        "clickhouse 24.3 is too old, the oldest that is supported is 25.8"
    );
}

#[tokio::test]
async fn nobody_there_is_transient() {
    // Bound and closed: nobody listens there now.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    for scheme in ["https", "http"] {
        let url = format!("{scheme}://{address}");
        let config = ClickHouseConfig {
            url,
            ..Default::default()
        };
        let client = Client::new(&config).expect("valid");
        let error = client.ping().await.expect_err("nobody listens");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Transient, None));
        let error = Migrator::new(&client)
            .up()
            .await
            .expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::Transient);
    }
}
