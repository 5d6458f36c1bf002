//! Several tasks break one server at once; it can be used afterwards, and nothing is left over.

use std::path::Path;

use ponix_stack::Nats;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const TASKS: u64 = 3;
const STEPS: usize = 12;

/// Errors are right here: a server that another task has ended cannot be paused.
async fn step(nats: &Nats, random: &mut StdRng, pids: &mut Vec<u32>) {
    match random.random_range(0..6) {
        0 => drop(nats.kill().await),
        1 => drop(nats.stop().await),
        2 => drop(nats.pause().await),
        3 => drop(nats.resume().await),
        // Another task may pause what should become ready; then this waits for the next one.
        _ => drop(nats.start_again().await),
    }
    pids.extend(nats.pid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_survives_faults_from_all_sides() {
    let nats = Nats::builder()
        .start_timeout(std::time::Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let inject = |task| {
        let mut random = StdRng::seed_from_u64(task);
        let nats = &nats;
        async move {
            let mut pids = Vec::new();
            for _ in 0..STEPS {
                step(nats, &mut random, &mut pids).await;
            }
            pids
        }
    };
    let mut pids: Vec<u32> = futures::future::join_all((0..TASKS).map(inject))
        .await
        .concat();
    nats.kill().await.unwrap();
    nats.start_again().await.unwrap();
    nats.monitoring("/jsz").await.unwrap();
    pids.extend(nats.pid());
    drop(nats);
    for pid in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} is still there"
        );
    }
}
