//! `docs/first-hour.md`, typed again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ponix_stack::{Signal, eventually, workspace_binary};

use crate::up::{SOON, builder, free_addr};

/// A command, and what it prints.
#[derive(Debug)]
struct Step {
    typed: String,
    seen: String,
}

/// Reads the blocks of a page that show a terminal, but for those that need a program that is not here.
fn steps(page: &str, is_here: impl Fn(&str) -> bool) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        if block.starts_with("$ nats ") && !is_here("nats") {
            println!("skipped: there is no nats here (scripts/test-clients --setup)");
            continue;
        }
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(typed), _) => steps.push(Step {
                    typed: typed.to_owned(),
                    seen: String::new(),
                }),
                (None, Some(step)) => {
                    step.seen.push_str(line);
                    step.seen.push('\n');
                }
                (None, None) => panic!("{line} is before the first command"),
            }
        }
    }
    steps
}

/// Whether lines are what was expected, in which `…` stands for anything.
fn is_like(found: &str, expected: &str) -> bool {
    let (found, expected) = (found.trim_end(), expected.trim_end());
    let same =
        |(found, expected): (&str, &str)| line_is_like(found.trim_end(), expected.trim_end());
    found.lines().count() == expected.lines().count()
        && found.lines().zip(expected.lines()).all(same)
}

fn line_is_like(found: &str, expected: &str) -> bool {
    let parts: Vec<&str> = expected.split('…').collect();
    let [first, between @ .., last] = &parts[..] else {
        return found == expected;
    };
    let Some(mut rest) = found.strip_prefix(first) else {
        return false;
    };
    for part in between {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(is_like("a 17 b\n", "a … b"));
    assert!(is_like("a 17", "a …"));
    assert!(!is_like("a 17 c", "a … b"));
    assert!(!is_like("a\nb", "a"));
}

#[tokio::test]
async fn what_the_first_hour_shows_is_seen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/first-hour.md")).unwrap();
    let (up, data) = builder();
    // PostgreSQL may run as another user.
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (nats, clickhouse, postgres) = (free_addr(), free_addr(), free_addr());
    let (api, admin) = (free_addr(), free_addr());
    let up = up
        .env("PONIX_UP_NATS_PORT", nats.port().to_string())
        .env("PONIX_UP_CLICKHOUSE_PORT", clickhouse.port().to_string())
        .env("PONIX_UP_POSTGRES_PORT", postgres.port().to_string())
        .env("PONIX_INGEST_ADDR", api.to_string())
        .env("PONIX_ADMIN_ADDR", admin.to_string())
        .env("PONIX_ENTITIES_DIR", root.join("examples/tpch"))
        .env("PONIX_INTERVAL_SECS", "0")
        .arg("--with-ingest")
        .start()
        .unwrap();
    eventually("ponix to be up", SOON, || async {
        let log = up.log().unwrap();
        let is_up = log.lines().any(|line| line.starts_with("ponix is up"));
        if is_up { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();

    let programs = workspace_binary("ponix").unwrap();
    let path = format!(
        "{}:{}:{}",
        programs.parent().unwrap().display(),
        std::env::var("PATH").unwrap(),
        root.join(".ponix/clients/bin").display(),
    );
    let is_here = |program: &str| {
        let mut folders = std::env::split_paths(&path);
        folders.any(|folder| folder.join(program).is_file())
    };
    let here = |text: &str| {
        let addrs = [
            ("127.0.0.1:8080", api),
            ("127.0.0.1:9090", admin),
            ("127.0.0.1:8123", clickhouse),
            ("127.0.0.1:5432", postgres),
            ("127.0.0.1:4222", nats),
        ];
        addrs.iter().fold(text.to_owned(), |text, (shown, addr)| {
            text.replace(shown, &addr.to_string())
        })
    };
    let steps = steps(&page, is_here);
    assert!(steps.len() > 22, "{steps:?}");
    for step in steps {
        let (typed, expected) = (here(&step.typed), here(&step.seen));
        let run = async || {
            let output = tokio::process::Command::new("bash")
                .args(["-c", &format!("{typed} 2>&1")])
                .env("PATH", &path)
                .env("PONIX_NATS_URL", format!("nats://{nats}"))
                .env("PONIX_CLICKHOUSE_URL", format!("http://{clickhouse}"))
                // Of the command `nats`.
                .env("NATS_URL", format!("nats://{nats}"))
                .env("HOME", data.path())
                .env("PONIX_ADMIN_ADDR", admin.to_string())
                .output()
                .await
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        // Who only looks may have to look again.
        let looks = [
            "SELECT",
            "readyz",
            "status?",
            "status/",
            "ponix dlq",
            "ponix status",
        ];
        if looks.iter().any(|look| typed.contains(look)) {
            eventually(&typed, SOON, || async {
                let found = run().await;
                if is_like(&found, &expected) {
                    return Ok(());
                }
                Err(format!("{found}\nexpected\n{expected}"))
            })
            .await
            .unwrap();
            continue;
        }
        let found = run().await;
        assert!(
            is_like(&found, &expected),
            "{typed}\n{found}\nexpected\n{expected}"
        );
    }
    up.send_signal(Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(SOON, up.wait()).await;
    assert_eq!(
        ended.unwrap().unwrap().code(),
        Some(0),
        "{}",
        up.log().unwrap()
    );
}
