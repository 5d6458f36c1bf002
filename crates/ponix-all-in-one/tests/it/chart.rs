//! The Helm chart: what is written twice in it is the same. `scripts/test-chart` tests the rest.
//!
//! `PONIX_WRITE_SCHEMA=1` writes what differs.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Between these the values are listed in README.md.
const BEGIN: &str = "<!-- values: written by a test -->\n";
const END: &str = "<!-- end of values -->\n";

fn in_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn is_written(path: &str, expected: &str) {
    let path = in_checkout(path);
    if std::env::var_os("PONIX_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == expected,
        "{} is old: PONIX_WRITE_SCHEMA=1 writes it",
        path.display()
    );
}

/// Name and kind of every variable, as docs/configuration.md has them, which another test keeps true.
fn variables() -> Vec<(String, String)> {
    let document = std::fs::read_to_string(in_checkout("docs/configuration.md")).unwrap();
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `PONIX_"));
    let variables = rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next().unwrap().trim_end_matches('`');
        (format!("PONIX_{name}"), cells.nth(1).unwrap().to_owned())
    });
    variables.collect()
}

/// The schema of a value of this kind. Numbers may be written as texts too.
fn schema_of(kind: &str) -> Value {
    let range = |kind: &str, whole: &str| {
        let (least, most) = whole.split_once(" to ").unwrap();
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        json!({"type": [kind, "string"], "minimum": number(least), "maximum": number(most)})
    };
    let words: Vec<&str> = kind
        .split([' ', ','])
        .filter(|it| !it.is_empty() && *it != "or")
        .collect();
    match kind {
        "true or false" => json!({"enum": [true, false, "true", "false"]}),
        "text or json" | "run, keep or off" => json!({"enum": words}),
        _ => match (
            kind.strip_prefix("a whole number from "),
            kind.strip_prefix("seconds from "),
        ) {
            (Some(whole), _) => range("integer", whole),
            (_, Some(seconds)) => range("number", seconds),
            _ => json!({"type": "string"}),
        },
    }
}

#[test]
fn the_schema_of_the_values_knows_every_variable() {
    let path = "deploy/helm/ponix/values.schema.json";
    let text = std::fs::read_to_string(in_checkout(path)).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    let key = json!({"$ref": "#/$defs/secretKey"});
    let (mut config, mut secrets, mut files) = (Map::new(), Map::new(), Map::new());
    for (name, kind) in variables() {
        if kind == "secret" {
            secrets.insert(name, key.clone());
            continue;
        }
        if kind.starts_with("path") && !name.ends_with("_DIR") {
            files.insert(name.clone(), key.clone());
        }
        config.insert(name, schema_of(&kind));
    }
    assert!(config.len() > 100 && secrets.len() > 4 && files.len() > 6);
    for (name, properties) in [
        ("config", config),
        ("secretConfig", secrets),
        ("secretFiles", files),
    ] {
        schema["$defs"][name] =
            json!({"type": "object", "additionalProperties": false, "properties": properties});
    }
    is_written(
        path,
        &(serde_json::to_string_pretty(&schema).unwrap() + "\n"),
    );
}

/// A row for each value, with the comment above it.
fn values_as_markdown(values: &str) -> String {
    let mut rows = vec!["| value | default | meaning |\n|---|---|---|\n".to_owned()];
    let (mut path, mut meaning): (Vec<(usize, &str)>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in values.lines() {
        let content = line.trim_start();
        if let Some(comment) = content.strip_prefix("# ") {
            meaning.push(comment);
            continue;
        }
        let Some((key, default)) = content.split_once(':') else {
            meaning.clear();
            continue;
        };
        let depth = line.len() - content.len();
        path.retain(|(other, _)| *other < depth);
        path.push((depth, key));
        let (default, meaning) = (default.trim(), std::mem::take(&mut meaning).join(" "));
        if !default.is_empty() || !meaning.is_empty() {
            let path: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
            let default = if default.is_empty() {
                String::new()
            } else {
                format!("`{default}`")
            };
            rows.push(format!(
                "| `{}` | {default} | {meaning} |\n",
                path.join(".")
            ));
        }
    }
    rows.concat()
}

#[test]
fn the_readme_lists_every_value() {
    let path = "deploy/helm/ponix/README.md";
    let readme = std::fs::read_to_string(in_checkout(path)).unwrap();
    let values = std::fs::read_to_string(in_checkout("deploy/helm/ponix/values.yaml")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let rows = values_as_markdown(&values);
    assert!(rows.lines().count() > 90, "{rows}");
    is_written(path, &format!("{before}{BEGIN}{rows}{END}{after}"));
}

/// Alerts and dashboard are those of docker/observability, not copies.
#[test]
fn the_chart_has_the_rules_and_the_dashboard_of_the_project() {
    for (link, target) in [
        ("rules.yaml", "docker/observability/rules.yaml"),
        (
            "dashboard.json",
            "docker/observability/grafana/dashboards/ponix.json",
        ),
    ] {
        let link = in_checkout("deploy/helm/ponix/files").join(link);
        assert_eq!(
            link.canonicalize().unwrap(),
            in_checkout(target).canonicalize().unwrap()
        );
    }
}
