//! Each operation on a real NATS server.

use std::os::unix::process::ExitStatusExt;

use ponix_stack::Nats;

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
    let status = nats.stop().await.unwrap();
    assert!(!nats.is_running());
    assert!(nats.pid().is_none());
    assert!(status.signal().is_none(), "it was killed: {status}");
}

#[tokio::test]
async fn comes_back_after_a_kill_on_the_same_port() {
    let nats = Nats::start().await.unwrap();
    let (port, pid) = (nats.port(), nats.pid());
    let status = nats.kill().await.unwrap();
    assert_eq!(status.signal(), Some(9));
    nats.start_again().await.unwrap();
    assert_eq!(nats.port(), port);
    assert_ne!(nats.pid(), pid);
    nats.restart().await.unwrap();
}
