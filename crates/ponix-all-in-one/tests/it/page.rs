//! The page of the admin endpoint: what it answers, and what a browser makes of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use ponix_stack::{Mode, Proxy, eventually, http_exchange};
use ponix_wire::Message as _;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::http::{get, post};
use crate::support::{SOON, World, numbered};

const TOKEN: &str = "correct-horse-battery";

async fn get_json(addr: SocketAddr, path: &str) -> (u16, Value) {
    let (status, body) = get(addr, path).await.unwrap();
    let value = serde_json::from_str(&body);
    (status, value.unwrap_or_else(|_| panic!("{path}: {body}")))
}

/// Says what is to be done with dead letters; returns status and body.
async fn order(addr: SocketAddr, what: &str, token: &str, body: &Value) -> (u16, Value) {
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
    let path = format!("/page/dead-letters/{what}");
    let answer = post(addr, &path, &headers, &body.to_string()).await;
    let (status, body) = answer.unwrap();
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// Waits until there are so many dead letters.
async fn dead(addr: SocketAddr, count: usize) {
    eventually(format!("{count} dead letters"), SOON, || async {
        let (_, body) = get(addr, "/page/dead-letters").await?;
        let body: Value = serde_json::from_str(&body)?;
        let letters = body["letters"].as_array().map(Vec::len);
        ensure!(letters == Some(count), "{body}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_page_that_asks_nobody_else() {
    let world = World::new("page_files").await;
    let service = world.service().start_ready().await;
    let addr = service.admin_addr();
    let request = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        async move { http_exchange(addr, &request).await.unwrap() }
    };
    assert_eq!(request("/", "localhost").await.0, 307);
    for path in ["/page/", "/page/page.js", "/page/page.css"] {
        let (status, body) = request(path, &addr.to_string()).await;
        assert_eq!(status, 200, "{path}");
        for elsewhere in ["http://", "https://"] {
            let known = body.matches("http://www.w3.org/2000/svg").count();
            let all = body.matches(elsewhere).count();
            assert!(all <= known, "{path} names {elsewhere}");
        }
    }
    // A page of somebody else's, under a name that leads to this machine.
    let (status, body) = request("/page/state", "evil.example:9090").await;
    assert_eq!(status, 403, "{body}");
    let (status, state) = get_json(addr, "/page/state").await;
    assert_eq!((status, &state["can_change"]), (200, &json!(false)));
    assert_eq!(state["pipelines"][0]["name"], "envelopes", "{state}");
    assert_eq!(state["overview"]["reports"][0]["stream"], world.name);
    let (status, body) = get_json(addr, "/page/dead-letters?raeson=value").await;
    assert_eq!(status, 400, "{body}");
    let (status, body) = get_json(addr, "/page/dead-letters?pipeline=none").await;
    assert_eq!(status, 400, "{body}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_changed_with_the_token_alone() {
    let world = World::new("page_changes").await;
    let service = world.service().start_ready().await;
    let addr = service.admin_addr();
    let all = json!({"selection": {}, "all": true});
    world.publish_bodies([b"one".to_vec()]).await;
    dead(addr, 1).await;
    let (status, body) = order(addr, "discard", TOKEN, &all).await;
    assert_eq!(status, 403, "{body}");
    service.stop().await;

    let service = world
        .service()
        .env("PONIX_ADMIN_TOKEN", TOKEN)
        .start_ready()
        .await;
    let addr = service.admin_addr();
    world.publish_bodies([b"two".to_vec()]).await;
    dead(addr, 2).await;
    for token in ["", "wrong", "correct-horse-batterx"] {
        assert_eq!(order(addr, "discard", token, &all).await.0, 401, "{token}");
        assert_eq!(order(addr, "replay", token, &all).await.0, 401, "{token}");
    }
    // Everything has to be asked for in words.
    for wrong in [json!({"selection": {}}), json!({}), json!({"all": true})] {
        let (status, body) = order(addr, "discard", TOKEN, &wrong).await;
        assert!((400..500).contains(&status), "{wrong}: {status} {body}");
    }
    let (_, listed) = get_json(addr, "/page/dead-letters").await;
    let first = &listed["letters"][1];
    assert_eq!(first["body"], "one", "the newest is the first: {listed}");
    let chosen = json!({"selection": {"pipeline": "envelopes", "sequences": [first["sequence"]]}});
    let (status, body) = order(addr, "replay", TOKEN, &chosen).await;
    assert_eq!((status, &body["put_back"]), (200, &json!(1)), "{body}");
    assert_eq!(body["dead_again"][0]["reason"], "decode", "{body}");
    let (status, body) = order(addr, "replay", TOKEN, &chosen).await;
    assert_eq!((status, &body["put_back"]), (200, &json!(0)), "{body}");
    assert_eq!(body["missing"], json!([first["sequence"]]));
    let (status, body) = order(addr, "discard", TOKEN, &all).await;
    assert_eq!((status, &body["discarded"]), (200, &json!(2)), "{body}");
    dead(addr, 0).await;
    // Who it was, and which.
    let put_back = format!(
        r#"count=1 by=127.0.0.1 which="sequences {}, pipeline \"envelopes\"""#,
        first["sequence"]
    );
    service.logged(&put_back).await;
    service.logged(r#"count=2 by=127.0.0.1 which="all""#).await;
    // Six wrong tokens were shown before, two of them empty.
    for guess in 0..6 {
        let (status, _) = order(addr, "discard", &guess.to_string(), &all).await;
        assert_eq!(status, 401, "{guess}");
    }
    for token in ["guess", TOKEN] {
        let (status, body) = order(addr, "discard", token, &all).await;
        assert_eq!(status, 429, "{body}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_watch_do_not_keep_the_service_from_stopping() {
    let world = World::new("page_watchers").await;
    let service = world.service().start_ready().await;
    let addr = service.admin_addr();
    let request = format!("GET /page/events HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let watching = tokio::spawn(async move { http_exchange(addr, &request).await });
    service.metrics().await;
    service.stop().await;
    // Ended, and not left open.
    watching.await.unwrap().unwrap();
}

/// Runs a scenario of `scripts/clients/page.mjs`; returns what it said.
async fn browse(addr: SocketAddr, scenario: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("scripts/test-clients"));
    command.args(["--page", &format!("http://{addr}"), scenario, TOKEN]);
    command.args(std::env::var_os("PONIX_TEST_SCREENSHOTS"));
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "{scenario}: {output:#?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Only where there are a browser and what drives it.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_what_flows_what_is_held_and_what_is_dead() {
    let world = World::new("page_browser").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_ADMIN_TOKEN", TOKEN)
        .start_ready()
        .await;
    let addr = service.admin_addr();
    let feeding = async {
        for event in numbered(100_000) {
            world.publish([event]).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        said = browse(addr, "flows") => println!("{said}"),
        () = feeding => panic!("the browser took too long"),
    }
    proxy.set(Mode::Reset).await;
    world.publish(numbered(10)).await;
    println!("{}", browse(addr, "held").await);
    proxy.set(Mode::Pass).await;
    service.ready().await;
    let mut without_device = numbered(1).next().unwrap();
    without_device.end_device_id.clear();
    let bad = ["no protobuf at all", "no protobuf <b>either</b>"].map(Into::into);
    world.publish_bodies(bad).await;
    world.publish_bodies([without_device.encode_to_vec()]).await;
    dead(addr, 3).await;
    println!("{}", browse(addr, "dead-letters").await);
    service.stop().await;
}
