//! The description of the API: valid, and true when it is tried.

use std::collections::BTreeSet;

use ponix_ingest::DoorConfig;
use serde_json::Value;

use crate::client::send;
use crate::support::Api;

const METHODS: [&str; 2] = ["get", "post"];

async fn api() -> Api {
    let config = DoorConfig {
        pipeline: "meters".to_owned(),
        stream: "METERS".to_owned(),
        subject_prefix: "meters".to_owned(),
    };
    let doors = [("/v1/meters", config.clone()), ("/v1/meters/raw", config)];
    Api::with_doors(None, &doors, ("METERS", "meters.>")).await
}

async fn description(api: &Api) -> Value {
    send(api.addr, "GET /openapi.json", &[], b"").await.json()
}

fn operations(description: &Value) -> Vec<(String, &'static str, &Value)> {
    let paths = description["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            METHODS
                .iter()
                .filter_map(|method| Some((path.clone(), *method, item.get(method)?)))
        })
        .collect()
}

/// Collects what is referred to, by name.
fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                let name = name.strip_prefix("#/components/schemas/");
                found.insert(name.expect("a schema").to_owned());
            }
            members.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

/// Generators of clients name their functions after the operations, and some drop every operation
/// with a schema that holds itself.
#[tokio::test]
async fn operations_have_names_of_their_own_and_no_schema_holds_itself() {
    let api = api().await;
    let description = description(&api).await;
    let operations = operations(&description);
    let ids: BTreeSet<&str> = operations
        .iter()
        .map(|(path, _, operation)| operation["operationId"].as_str().expect(path))
        .collect();
    assert_eq!(ids.len(), operations.len(), "{ids:?}");
    let schemas = description["components"]["schemas"].as_object().unwrap();
    let mut used = BTreeSet::new();
    references(&description["paths"], &mut used);
    for name in used {
        let (mut open, mut seen) = (vec![name.clone()], BTreeSet::new());
        while let Some(inner) = open.pop() {
            let schema = schemas.get(&inner).unwrap_or_else(|| panic!("no {inner}"));
            let mut within = BTreeSet::new();
            references(schema, &mut within);
            assert!(!within.contains(&name), "{name} holds itself in {inner}");
            open.extend(within.into_iter().filter(|it| seen.insert(it.clone())));
        }
    }
    assert_eq!(schemas["ProtobufBody"]["format"], "binary");
    assert_eq!(
        schemas["Status"]["enum"],
        serde_json::json!([
            "accepted",
            "processing",
            "processed",
            "failed",
            "dead_letter"
        ])
    );
    // What is two types at once can never be.
    let document = description.to_string();
    assert!(!document.contains("\"allOf\""), "{document}");
    assert_eq!(
        schemas["EnvelopeAccepted"]["properties"]["status"]["enum"],
        serde_json::json!(["accepted"])
    );
    // What is left out where it is not is never null.
    let line = &schemas["LineResult"]["properties"];
    assert_eq!(line["event_id"]["type"], "string");
    assert!(line["error"]["$ref"].is_string(), "{line}");
    for (path, _, operation) in &operations {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let kind = &parameter["schema"]["type"];
            assert!(kind.is_string(), "{path}: {parameter}");
        }
    }
    let answers = &schemas["EnvelopesAnswer"]["oneOf"];
    assert_eq!(answers.as_array().map(Vec::len), Some(2), "{answers}");
}

/// What "Execute" of the page at `/docs` sends.
#[tokio::test]
async fn every_example_is_taken() {
    let api = api().await;
    let description = description(&api).await;
    let schemas = &description["components"]["schemas"];
    let mut tried = 0;
    for (path, method, operation) in operations(&description) {
        let Some(content) = operation["requestBody"]["content"].as_object() else {
            continue;
        };
        for (content_type, body) in content {
            let name = body["schema"]["$ref"].as_str().unwrap();
            let schema = &schemas[name.rsplit('/').next().unwrap()];
            if schema["format"] == "binary" {
                continue;
            }
            let example = schema.get("example").or_else(|| schema["examples"].get(0));
            let body = match example.unwrap_or(&Value::Null) {
                Value::String(text) => text.clone(),
                Value::Null => "{}".to_owned(),
                other => other.to_string(),
            };
            let route = format!("{} {path}", method.to_uppercase());
            let headers = [("content-type", content_type.as_str())];
            let answer = send(api.addr, &route, &headers, body.as_bytes()).await;
            let taken = [200, 202].contains(&answer.status);
            assert!(taken, "{route} {content_type} {body}: {answer:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 11);
    // Rows of long ago would be looked for in vain.
    let (_, stored) = api.message(1).await;
    assert!(
        stored.occurred_at_ns > 1_790_000_000_000_000_000,
        "{stored:?}"
    );
}

/// Only where `pip install openapi-spec-validator` has been done, for python3 or for `PONIX_PYTHON`.
#[tokio::test]
async fn the_validator_of_openapi_finds_nothing() {
    let python = std::env::var("PONIX_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = |arguments: &[&str]| std::process::Command::new(&python).args(arguments).output();
    match run(&["-c", "import openapi_spec_validator"]) {
        Ok(found) if found.status.success() => {}
        _ => {
            eprintln!("skipped: {python} has no openapi-spec-validator (pip install it)");
            return;
        }
    }
    let api = api().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, description(&api).await.to_string()).unwrap();
    let checked = run(&["-m", "openapi_spec_validator", file.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
}
