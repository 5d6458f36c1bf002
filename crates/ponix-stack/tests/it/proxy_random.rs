//! Whatever slows bytes down or holds them, they arrive whole and in order.

use std::time::Duration;

use ponix_stack::{Mode, Proxy};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const SEEDS: u64 = 8;
const BYTES: usize = 300_000;
const LONG: Duration = Duration::from_mins(1);

fn harmless(random: &mut StdRng) -> Mode {
    match random.random_range(0..5) {
        0 => Mode::Pass,
        1 => Mode::Latency(Duration::from_millis(random.random_range(0..20))),
        2 => Mode::Rate(random.random_range(1..500_000)),
        3 => Mode::Stall,
        _ => Mode::HoldResponses,
    }
}

async fn inject_faults(proxy: &Proxy, mut random: StdRng) {
    for _ in 0..60 {
        proxy.set(harmless(&mut random)).await;
        sleep(Duration::from_millis(random.random_range(0..5))).await;
    }
    proxy.set(Mode::Pass).await;
}

async fn send(mut to: impl AsyncWriteExt + Unpin, bytes: &[u8], mut random: StdRng) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.random_range(1..=rest.len().min(40_000)));
        to.write_all(piece).await.unwrap();
        rest = after;
    }
    to.shutdown().await.unwrap();
}

async fn one_run(seed: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let random = |part| StdRng::seed_from_u64(seed * 10 + part);
    let mut request = vec![0; BYTES];
    random(0).fill(&mut request[..]);
    let mut answer = vec![0; BYTES];
    random(1).fill(&mut answer[..]);

    let (mut request_read, mut answer_read) = (Vec::new(), Vec::new());
    let (mut from_server, to_server) = client.split();
    let (mut from_client, to_client) = server.split();
    let ((), (), (), asked, answered) = tokio::join!(
        inject_faults(&proxy, random(2)),
        send(to_server, &request, random(3)),
        send(to_client, &answer, random(4)),
        from_client.read_to_end(&mut request_read),
        from_server.read_to_end(&mut answer_read),
    );
    asked.and(answered).unwrap();
    assert!(
        request == request_read,
        "seed {seed}: the server read something else"
    );
    assert!(
        answer == answer_read,
        "seed {seed}: the client read something else"
    );
    assert_eq!(proxy.counters().bytes_to_server, BYTES as u64);
    assert_eq!(proxy.counters().bytes_to_client, BYTES as u64);
}

#[tokio::test]
async fn slowed_bytes_arrive_whole_and_in_order() {
    for seed in 0..SEEDS {
        timeout(LONG, one_run(seed))
            .await
            .unwrap_or_else(|_| panic!("seed {seed}: it hangs"));
    }
}
