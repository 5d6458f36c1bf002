use std::path::Path;
use std::process::{Command, Output};

/// Runs a measurement, as small as it can be; returns what it wrote.
fn measure(args: &[&str]) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("result.json");
    let output = run(args, &json)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    Ok(report["result"].clone())
}

fn run(args: &[&str], json: &Path) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_ponix-bench"))
        .args(args)
        .arg("--json")
        .arg(json)
        .output()
}

/// Whether it counts right; how fast it is does not matter here.
#[test]
fn every_event_is_counted_once() {
    for more in [None, Some("--backlog")] {
        let mut args = vec!["pipeline", "--events", "3000", "--devices", "7"];
        args.extend(more);
        let result = measure(&args).unwrap();
        assert_eq!(result["counts"]["distinct_events"], 3000);
        assert_eq!(result["counts"]["events"], 3000);
        assert!(result["inserts"].as_u64().unwrap() > 0);
        assert!(result["processes"]["worker"]["cpu_seconds"].is_number());
    }
}

#[test]
fn every_latency_is_measured() {
    let args = [
        "latency",
        "--seconds",
        "2",
        "--rate",
        "10",
        "--idle-seconds",
        "1",
    ];
    let result = measure(&args).unwrap();
    assert_eq!(result["events"], 20);
    assert!(result["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
    assert!(result["inserts"].as_u64().unwrap() > 0);
}

#[test]
fn every_ceiling_is_measured() {
    let result = measure(&["ceilings", "--events", "2000", "--insert-rows", "500"]).unwrap();
    for ceiling in ["publish", "consume", "decode", "insert"] {
        assert!(
            result[ceiling]["events_per_second"].as_f64().unwrap() > 0.0,
            "{ceiling}"
        );
    }
}

#[test]
fn copies_of_events_are_in_the_table_and_not_in_the_view() {
    let args = [
        "read",
        "--rows",
        "20000",
        "--rows-per-part",
        "5000",
        "--runs",
        "1",
        "--devices",
        "10",
    ];
    let result = measure(&args).unwrap();
    assert_eq!(result["fresh"]["counts"]["stored_rows"], 20_200);
    assert_eq!(result["merged"]["counts"]["stored_rows"], 20_000);
    for state in ["fresh", "merged"] {
        assert_eq!(result[state]["counts"]["distinct_events"], 20_000);
    }
}

#[test]
fn a_declared_pipeline_is_measured_beside_envelopes() {
    let spec = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../bench/pipelines/json.yaml"
    );
    let args = [
        "pipeline",
        "--events",
        "3000",
        "--devices",
        "7",
        "--spec",
        spec,
    ];
    let result = measure(&args).unwrap();
    for name in ["envelopes", "bench-json"] {
        let measured = &result["pipelines"][name];
        assert_eq!(measured["distinct_events"], 3000, "{name}");
        assert!(measured["rows_per_insert"].as_f64().unwrap() > 0.0);
        assert!(measured["microseconds_per_event"]["worker"].is_number());
    }
}
