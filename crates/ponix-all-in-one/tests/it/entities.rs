//! `entities`: what is declared, without a server.

use std::path::{Path, PathBuf};

use crate::support::ServiceBuilder;

fn tpch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tpch")
}

async fn entities(args: &[&str]) -> (i32, String) {
    let all = [&["entities"], args].concat();
    ServiceBuilder::new().args(&all).run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_can_be_looked_at() {
    let dir = tpch();
    let dir = dir.to_str().unwrap();
    let (code, printed) = entities(&["check", dir]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("Order: table orders, 9 fields"),
        "{printed}"
    );
    let (code, printed) = entities(&["ddl", dir]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("CREATE TABLE IF NOT EXISTS \"order_line_items\""),
        "{printed}"
    );
    let (code, printed) = entities(&["sample", dir, "Order"]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.starts_with("O|1|1|O|1|2026-03-01|"), "{printed}");
    assert!(printed.contains("\"line_items\":[{"), "{printed}");
    let (code, printed) = entities(&["schema"]).await;
    assert_eq!(
        (code, printed.contains("Ponix entity")),
        (0, true),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "kind: Entity\nunknown: 1\n").unwrap();
    let dir = folder.path().to_str().unwrap();
    for command in ["check", "ddl"] {
        let (code, printed) = entities(&[command, dir]).await;
        assert_eq!(code, 64, "{printed}");
        assert!(printed.contains("a.yaml:2:1"), "{printed}");
    }
    let dir = tpch();
    let (code, printed) = entities(&["sample", dir.to_str().unwrap(), "Oder"]).await;
    assert_eq!(code, 64, "{printed}");
    assert!(
        printed.contains("expected one of Customer, Order"),
        "{printed}"
    );
}
