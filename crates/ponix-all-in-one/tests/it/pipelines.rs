//! `pipelines`: what is declared, without a server.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::support::ServiceBuilder;

fn meters() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/meters")
}

async fn pipelines(args: &[&str]) -> (i32, String) {
    let all = [&["pipelines"], args].concat();
    ServiceBuilder::new().args(&all).run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_can_be_looked_at() {
    let dir = meters();
    let dir = dir.to_str().unwrap();
    let (code, printed) = pipelines(&["check", dir]).await;
    assert_eq!(code, 0, "{printed}");
    let line = "meter-readings: stream METERS (meters.>), POST /v1/meter-readings to ClickHouse table meter_readings, 4 tests";
    assert!(printed.contains(line), "{printed}");
    let (code, printed) = pipelines(&["test", dir]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("ok      gateway-lines: a line is a row"),
        "{printed}"
    );
    assert!(printed.contains("7 passed, 0 failed"), "{printed}");
    let (code, printed) = pipelines(&["ddl", dir]).await;
    assert_eq!(code, 0, "{printed}");
    for part in [
        "CREATE TABLE IF NOT EXISTS `meter_readings`",
        "ReplacingMergeTree(version)",
        "ORDER BY (`meter_id`, `read_at`)",
        "CREATE VIEW IF NOT EXISTS `meter_readings_final`",
        "-- gateway-lines: declares no columns",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    let (code, printed) = pipelines(&["sample", dir, "meter-readings"]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.starts_with("{\"meter_id\":\"water-17\""),
        "{printed}"
    );
    let (code, printed) = pipelines(&["schema"]).await;
    assert_eq!(
        (code, printed.contains("Ponix pipeline")),
        (0, true),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(meters().join("readings.yaml")).unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, text.replace("format: json", "fromat: json")).unwrap();
    let dir = folder.path().to_str().unwrap();
    for command in ["check", "test", "ddl"] {
        let (code, printed) = pipelines(&[command, dir]).await;
        assert_eq!(code, 64, "{printed}");
        let told = "a.yaml:12:12: decode has no key \"fromat\", did you mean \"format\"?";
        assert!(printed.contains(told), "{printed}");
    }
    std::fs::write(&path, text.replace("Float64", "Float46")).unwrap();
    let (code, printed) = pipelines(&["check", dir]).await;
    assert_eq!(code, 64, "{printed}");
    assert!(printed.contains("a.yaml:15:14: "), "{printed}");
    assert!(printed.contains("Float46"), "{printed}");
    std::fs::write(&path, text.replacen("value: 1042.5", "value: 7", 1)).unwrap();
    let (code, printed) = pipelines(&["test", dir]).await;
    assert_eq!(code, 1, "{printed}");
    for line in [
        "FAILED  meter-readings: a reading is a row",
        "- value: 1042.5",
        "+ value: 7",
        "3 passed, 1 failed",
    ] {
        assert!(printed.contains(line), "{line} is not in {printed}");
    }
    let (code, printed) = pipelines(&["sample", dir, "meters"]).await;
    assert_eq!(code, 64, "{printed}");
    assert!(
        printed.contains("expected one of meter-readings"),
        "{printed}"
    );
    let (code, printed) = pipelines(&["run", "missing.yaml"]).await;
    assert_eq!(code, 64, "{printed}");
    assert!(
        printed.contains("missing.yaml: the file cannot be read"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_can_be_tried_without_a_server() {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_ponix-all-in-one"))
        .args(["pipelines", "run"])
        .arg(meters().join("readings.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let reading =
        r#"{"meter_id":"a","read_at":"2026-03-01T12:00:00Z","value":1,"unit":"m3","x":[7]}"#;
    let misfit = reading.replace("1,", "\"one\",");
    let lines = format!("{reading}\n\n{{\"value\":1,\"value\":2}}\n{misfit}\nx");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<&str> = printed.lines().collect();
    assert!(
        printed[0].starts_with(r#"{"row":{"data":{"x":[7]},"meter_id":"a","read_at":"#),
        "{printed:?}"
    );
    let dead = r#"{"dead_letter":{"error":"value is there twice","line":3,"reason":"decode"}}"#;
    assert_eq!(printed[1], dead);
    for part in ["\"line\":4", "value: ", "one", "Float64"] {
        assert!(printed[2].contains(part), "{part} is not in {printed:?}");
    }
    assert!(printed[3].contains("\"line\":5"), "{printed:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.trim(), "1 rows, 3 dead letters, 0 dropped");
    assert!(output.status.success());
}
