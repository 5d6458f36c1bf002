use std::process::Command;

/// Whether it counts right; how fast it is does not matter here.
#[test]
fn every_event_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    for (file, more) in [("both.json", None), ("backlog.json", Some("--backlog"))] {
        let json = folder.path().join(file);
        let output = Command::new(env!("CARGO_BIN_EXE_ponix-bench"))
            .args(["pipeline", "--events", "3000", "--devices", "7", "--json"])
            .arg(&json)
            .args(more)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let result = &report["result"];
        assert_eq!(result["counts"]["distinct_events"], 3000);
        assert_eq!(result["counts"]["events"], 3000);
        assert!(result["inserts"].as_u64().unwrap() > 0);
        assert!(result["processes"]["worker"]["cpu_seconds"].is_number());
    }
}
