//! The Python client clickhouse-connect, where it is installed.

use std::process::Command;

use crate::server::server_or_skip;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_client.py");

#[tokio::test]
async fn it_works_with_clickhouse_connect() {
    let python = std::env::var("PONIX_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let installed = Command::new(&python)
        .args(["-c", "import clickhouse_connect"])
        .output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "skipped: {python} has no module clickhouse_connect; PONIX_PYTHON may name another python"
        );
        return;
    }
    let server = server_or_skip!("--user", "ponix", "--password", "secret", "--database", "x");
    let port = server.address().rsplit(':').next().unwrap().to_owned();
    let run =
        tokio::task::spawn_blocking(move || Command::new(python).args([SCRIPT, &port]).output());
    let output = run.await.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
