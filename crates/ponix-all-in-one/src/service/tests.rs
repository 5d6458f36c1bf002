//! `docs/metrics.md` is what the service registers.

use std::collections::BTreeMap;
use std::path::Path;

use prometheus_client::registry::Registry;

use super::Metrics;

/// What is registered, by its full name without what a counter's ends with: its help, and what it is
/// where it has no labels.
///
/// Families without a value are not encoded, so the names are taken from how the registry shows
/// itself: `prefix: Some(Prefix("…"))`, then a `Descriptor` for each.
fn registered() -> BTreeMap<String, (String, String)> {
    let mut registry = Registry::default();
    let _metrics = Metrics::register(&mut registry);
    let shown = format!("{registry:?}");
    let mut prefix = String::new();
    let mut found = BTreeMap::new();
    for (index, text) in shown.split("Descriptor { ").enumerate() {
        if index > 0 {
            let field = |name: &str| {
                let rest = text
                    .split_once(&format!("{name}: \""))
                    .map(|(_, rest)| rest);
                let value = rest.and_then(|rest| rest.split_once('"'));
                value.map(|(value, _)| value.to_owned()).unwrap_or_default()
            };
            let unit = if text.contains("unit: Some(Seconds)") {
                "_seconds"
            } else {
                ""
            };
            let metric = text.split_once(" }, ").map(|(_, rest)| rest);
            let kind = metric.and_then(|rest| rest.split([' ', '{', '(']).next());
            let help = field("help");
            let help = help.strip_suffix('.').unwrap_or(&help).to_owned();
            let kind = kind.unwrap_or_default().to_lowercase();
            found.insert(format!("{prefix}{}{unit}", field("name")), (help, kind));
        }
        // The registries below begin behind the last metric of the one above.
        if let Some((_, rest)) = text.rsplit_once("prefix: ") {
            let name = rest.strip_prefix("Some(Prefix(\"");
            let name = name.and_then(|rest| rest.split('"').next());
            prefix = name.map(|name| format!("{name}_")).unwrap_or_default();
        }
    }
    found
}

#[test]
fn the_document_lists_every_metric_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let mut registered = registered();
    assert!(registered.len() > 50, "{registered:#?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, what] = cells[..] else {
            panic!("four cells: {row}");
        };
        let name = name.trim_matches('`');
        let suffix = if kind == "info" { "_info" } else { "_total" };
        let base = name.strip_suffix(suffix).unwrap_or(name);
        let found = registered.remove(base);
        let (help, shown) = found.unwrap_or_else(|| panic!("{name} is not registered"));
        assert_eq!(what, help, "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        // An info's labels are its value.
        let is_family = !labels.is_empty() && kind != "info";
        let expected = if is_family { "family" } else { kind };
        assert_eq!(shown, expected, "{name}");
    }
    assert!(
        registered.is_empty(),
        "not in the document: {registered:#?}"
    );
}

/// The dashboard asks for what there is; `promtool` reads its queries where it is installed.
#[test]
fn the_queries_of_the_dashboard_are_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docker/observability/grafana/dashboards/ponix.json");
    let dashboard = std::fs::read_to_string(path).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries: Vec<&str> = targets.map(|it| it["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 20, "{queries:#?}");
    let registered = registered();
    for query in &queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("ponix_")) {
            let base = name.strip_suffix("_total").unwrap_or(name);
            let base = base.strip_suffix("_bucket").unwrap_or(base);
            assert!(registered.contains_key(base), "{name}");
        }
    }
    // What Grafana puts in their place.
    let rules = queries.iter().map(|query| {
        let query = query.replace("$__rate_interval", "1m");
        serde_json::json!({"record": "query", "expr": query.replace("$pipeline", ".*")})
    });
    let rules: Vec<_> = rules.collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), rules.to_string()).unwrap();
    promtool(&["check", "rules", "--lint=none"], file.path());
}

fn promtool(args: &[&str], file: &Path) {
    let mut promtool = std::process::Command::new("promtool");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/observability");
    match promtool.args(args).arg(file).current_dir(folder).output() {
        Ok(said) => assert!(said.status.success(), "{said:?}"),
        Err(err) => println!("skipped: promtool cannot be run: {err}"),
    }
}

/// The rules for alerts name what there is; `promtool` tests the rest where it is installed.
#[test]
fn the_rules_for_alerts_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/observability");
    let rules = std::fs::read_to_string(folder.join("rules.yaml")).unwrap();
    let registered = registered();
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut used = 0;
    for name in words.filter(|word| word.starts_with("ponix_")) {
        let base = name.strip_suffix("_total").unwrap_or(name);
        assert!(registered.contains_key(base), "{name}");
        used += 1;
    }
    assert!(used > 5, "{rules}");
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let runbook = std::fs::read_to_string(runbook).unwrap().to_lowercase();
    let anchors = rules
        .lines()
        .filter_map(|line| line.split_once("operations.md#"));
    for (_, anchor) in anchors {
        let title = anchor.trim().replace('-', " ");
        assert!(runbook.contains(&format!("## {title}\n")), "{title}");
    }
    promtool(&["check", "config"], Path::new("prometheus.yaml"));
    promtool(&["test", "rules"], Path::new("rules.test.yaml"));
}
