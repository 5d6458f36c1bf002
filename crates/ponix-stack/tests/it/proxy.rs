//! Each mode of the proxy, in front of a server that echoes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ponix_stack::{Mode, Proxy, Side, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
/// Long enough to notice bytes that should not come, were they to come.
const NOTHING_FOR: Duration = Duration::from_millis(200);

/// A server that echoes, tells what it has read, and says `bye` at the end of the stream.
struct Echo {
    addr: SocketAddr,
    read: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tell, read) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, tell.clone()));
            }
        });
        Self { addr, read }
    }
}

async fn echo(mut stream: TcpStream, tell: mpsc::UnboundedSender<Vec<u8>>) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        let _ = tell.send(buffer[..count].to_vec());
        if count == 0 {
            return stream.write_all(b"bye").await;
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn setup() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.addr).await.unwrap();
    (echo, proxy)
}

/// A connection that has proved to be whole.
async fn connected(proxy: &Proxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(asked(&mut client, b"hello").await.unwrap(), b"hello");
    client
}

/// Sends a question and reads as many bytes back.
async fn asked(client: &mut TcpStream, question: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(question).await?;
    let mut answer = vec![0; question.len()];
    client.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn assert_reset(client: &mut TcpStream) {
    let error = timeout(SOON, client.read(&mut [0; 64]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn assert_silent(client: &mut TcpStream) {
    let read = timeout(NOTHING_FOR, client.read(&mut [0; 64])).await;
    assert!(read.is_err(), "nothing should come, but {read:?} did");
}

#[tokio::test]
async fn passes_bytes_and_counts_them() {
    let (_echo, proxy) = setup().await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut reader, mut writer) = client.split();
    let mut got = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut got));
    wrote.unwrap();
    read.unwrap();
    assert!(got == sent, "the bytes differ");
    let counters = proxy.counters();
    assert_eq!(counters.bytes_to_server, sent.len() as u64);
    assert_eq!(counters.bytes_to_client, sent.len() as u64);
    assert_eq!(
        (counters.accepted, counters.open, counters.resets),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn passes_the_end_of_a_stream() {
    let (_echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bye");
    eventually("the connection to be closed", SOON, || async {
        proxy.counters().open == 0
    })
    .await
    .unwrap();
    assert_eq!(proxy.counters().resets, 0);
}

#[tokio::test]
async fn latency_delays_both_directions_and_ends_with_its_mode() {
    let (_echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    proxy.set(Mode::Latency(Duration::from_millis(100))).await;
    let start = Instant::now();
    asked(&mut client, b"late").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));

    proxy.set(Mode::Latency(Duration::from_hours(1))).await;
    client.write_all(b"waits").await.unwrap();
    assert_silent(&mut client).await;
    proxy.set(Mode::Pass).await;
    let mut answer = [0; 5];
    timeout(SOON, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"waits");
}

#[tokio::test]
async fn a_rate_holds_across_chunks() {
    let (_echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    proxy.set(Mode::Rate(100_000)).await;
    let start = Instant::now();
    for _ in 0..10 {
        asked(&mut client, &[7; 2_000]).await.unwrap();
    }
    // 18 kB at 100 kB/s before the last question; the way back overlaps the way there.
    assert!(
        start.elapsed() >= Duration::from_millis(180),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_stall_accepts_and_moves_nothing_until_it_is_over() {
    let (mut echo, proxy) = setup().await;
    let mut old = connected(&proxy).await;
    echo.read.recv().await.unwrap();
    proxy.set(Mode::Stall).await;
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    for client in [&mut old, &mut new] {
        client.write_all(b"later").await.unwrap();
        assert_silent(client).await;
    }
    assert!(
        echo.read.try_recv().is_err(),
        "the server should have read nothing"
    );
    proxy.set(Mode::Pass).await;
    for client in [&mut old, &mut new] {
        let mut answer = [0; 5];
        timeout(SOON, client.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer, b"later");
    }
}

#[tokio::test]
async fn held_responses_come_later() {
    let (mut echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    echo.read.recv().await.unwrap();
    proxy.set(Mode::HoldResponses).await;
    client.write_all(b"insert").await.unwrap();
    assert_eq!(
        timeout(SOON, echo.read.recv()).await.unwrap().unwrap(),
        b"insert"
    );
    assert_silent(&mut client).await;
    proxy.set(Mode::Pass).await;
    let mut answer = [0; 6];
    timeout(SOON, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"insert");
}

#[tokio::test]
async fn a_swallowed_response_was_answered_and_ends_in_a_reset() {
    let (mut echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    let mut idle = connected(&proxy).await;
    proxy.set(Mode::SwallowResponse).await;
    client.write_all(b"insert").await.unwrap();
    assert_reset(&mut client).await;
    proxy.set(Mode::Pass).await;

    let mut seen = Vec::new();
    while let Ok(bytes) = echo.read.try_recv() {
        seen.push(bytes);
    }
    assert!(
        seen.contains(&b"insert".to_vec()),
        "the server should have read it"
    );
    let counters = proxy.counters();
    assert_eq!(
        (counters.responses_swallowed, counters.bytes_swallowed),
        (1, 6)
    );
    assert_eq!(
        asked(&mut idle, b"still here").await.unwrap(),
        b"still here"
    );
}

#[tokio::test]
async fn only_the_response_to_what_is_named_is_swallowed() {
    let (mut echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    let mut other = connected(&proxy).await;
    proxy.set(Mode::SwallowResponseTo("COMMIT")).await;
    assert_eq!(asked(&mut client, b"BEGIN").await.unwrap(), b"BEGIN");
    // In two pieces, the first of which is as good as any other request.
    assert_eq!(asked(&mut client, b"COM").await.unwrap(), b"COM");
    client.write_all(b"MIT").await.unwrap();
    assert_reset(&mut client).await;
    assert_eq!(asked(&mut other, b"BEGIN").await.unwrap(), b"BEGIN");

    let mut seen = Vec::new();
    while let Ok(bytes) = echo.read.try_recv() {
        seen.extend(bytes);
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains("COMMIT"), "the server read {seen:?}");
    let counters = proxy.counters();
    assert_eq!(
        (counters.responses_swallowed, counters.bytes_swallowed),
        (1, 3)
    );
}

#[tokio::test]
async fn half_closed_towards_the_client_requests_still_arrive() {
    let (mut echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    echo.read.recv().await.unwrap();
    proxy.set(Mode::HalfClose(Side::Client)).await;
    assert_eq!(
        timeout(SOON, client.read(&mut [0; 8]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    client.write_all(b"more").await.unwrap();
    assert_eq!(
        timeout(SOON, echo.read.recv()).await.unwrap().unwrap(),
        b"more"
    );
    eventually("the echo to be thrown away", SOON, || async {
        proxy.counters().bytes_swallowed == 4
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn half_closed_towards_the_server_answers_still_arrive() {
    let (mut echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    echo.read.recv().await.unwrap();
    proxy.set(Mode::HalfClose(Side::Server)).await;
    assert_eq!(timeout(SOON, echo.read.recv()).await.unwrap().unwrap(), b"");
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"bye");
}

#[tokio::test]
async fn reset_ends_open_connections_and_new_ones() {
    let (_echo, proxy) = setup().await;
    let mut old = connected(&proxy).await;
    proxy.set(Mode::Reset).await;
    assert_reset(&mut old).await;
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_reset(&mut new).await;
    proxy.set(Mode::Pass).await;
    connected(&proxy).await;
}

#[tokio::test]
async fn refuse_keeps_what_is_open_and_the_port() {
    let (_echo, proxy) = setup().await;
    let mut open = connected(&proxy).await;
    for _ in 0..20 {
        proxy.set(Mode::Refuse).await;
        let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        asked(&mut open, b"still here").await.unwrap();
        proxy.set(Mode::Pass).await;
        connected(&proxy).await;
    }
}

#[tokio::test]
async fn cut_ends_what_is_open_and_nothing_else() {
    let (_echo, proxy) = setup().await;
    let mut clients = [connected(&proxy).await, connected(&proxy).await];
    proxy.cut();
    for client in &mut clients {
        assert_reset(client).await;
    }
    connected(&proxy).await;
    assert_eq!(proxy.counters().resets, 2);
}

#[tokio::test]
async fn without_a_server_connections_are_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(nobody).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_reset(&mut client).await;
    assert_eq!(proxy.counters().unreachable, 1);
}

#[tokio::test]
async fn many_settings_at_once_all_return() {
    let (_echo, proxy) = setup().await;
    let set = |mode| timeout(SOON, proxy.set(mode));
    let (a, b, c) = tokio::join!(set(Mode::Stall), set(Mode::Refuse), set(Mode::Pass));
    a.and(b).and(c).unwrap();
    connected(&proxy).await;
}

#[tokio::test]
async fn a_dropped_proxy_listens_no_more() {
    let (_echo, proxy) = setup().await;
    let mut client = connected(&proxy).await;
    let addr = proxy.addr();
    drop(proxy);
    eventually("the port to be free", SOON, || async {
        TcpStream::connect(addr).await.is_err()
    })
    .await
    .unwrap();
    let read = timeout(SOON, client.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
