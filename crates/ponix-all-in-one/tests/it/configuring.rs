//! Configurations, right and wrong, and what is said of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use anyhow::ensure;
use ponix_stack::eventually;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{SOON, ServiceBuilder, World, http, numbered};

fn check_config() -> ServiceBuilder {
    ServiceBuilder::new().args(&["check-config"])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_program_speaks_of_itself() {
    let ingest = || ServiceBuilder::new().binary(env!("CARGO_BIN_EXE_ponix-ingest"));
    let (code, help) = ingest().args(&["--help"]).run().await;
    assert_eq!(code, 0, "{help}");
    assert!(help.contains("Usage: ponix-ingest"), "{help}");
    assert!(help.contains("HTTP API alone"), "{help}");
    let (_, version) = ingest().args(&["--version"]).run().await;
    assert!(version.starts_with("ponix-ingest "), "{version}");
    let (_, help) = ServiceBuilder::new().args(&["--help"]).run().await;
    assert!(help.contains("Usage: ponix-all-in-one"), "{help}");
    let (code, log) = ingest().env("PONIX_ADMIN_ADDR", "here").run().await;
    assert_eq!(code, 64, "{log}");
    assert!(
        log.contains("ponix-ingest: the configuration is wrong:"),
        "{log}"
    );
}

/// As in an image, where one file has both names.
#[tokio::test(flavor = "multi_thread")]
async fn the_name_says_which_program_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ponix-ingest");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ponix-all-in-one"), &link).unwrap();
    let link: &'static str = link.display().to_string().leak();
    let (code, printed) = ServiceBuilder::new()
        .binary(link)
        .args(&["check-config"])
        .run()
        .await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("PONIX_CLICKHOUSE_ENABLED=false"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_prints_the_effective_values_without_secrets() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "geheim\n").unwrap();
    let (code, printed) = check_config()
        .env("PONIX_NATS_URL", "nats://ann:geheim@one:4222,two:4222")
        .env("PONIX_CLICKHOUSE_PASSWORD_FILE", file.path().display())
        .env("PONIX_NATS_BATCH_SIZE", 30)
        .run()
        .await;
    assert_eq!(code, 0, "{printed}");
    for line in [
        "PONIX_NATS_URL=nats://ann:***@one:4222,two:4222 (environment)",
        "PONIX_CLICKHOUSE_PASSWORD=*** (file)",
        "PONIX_NATS_BATCH_SIZE=30 (environment)",
        "PONIX_NATS_BATCH_WAIT_SECS=1 (default)",
        "PONIX_NATS_PASSWORD= (default)",
    ] {
        assert!(
            printed.lines().any(|l| l == line),
            "{line} is not in\n{printed}"
        );
    }
    assert!(!printed.contains("geheim"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_is_listed_and_the_exit_code_is_64() {
    let wrong = |service: ServiceBuilder| {
        service
            .env("PONIX_ADMIN_ADDR", "localhost")
            .env("PONIX_INTERVAL_SECS", "NaN")
            .env("PONIX_NATS_TOKEN_FILE", "/nowhere/token")
            .env("PONIX_NATS_MAX_ACK_PENDING", 0)
            .env("PONIX_CLICKHOUSE_URL", "http://ann:geheim@host:8123")
            .env("PONIX_CLICKHOUSE_PASSWORD", "geheim")
    };
    let problems = [
        "PONIX_INTERVAL_SECS is \"NaN\", expected seconds from 0 to 86400",
        "PONIX_ADMIN_ADDR is \"localhost\", expected an address and port such as 127.0.0.1:9090",
        "PONIX_NATS_TOKEN_FILE names /nowhere/token, which cannot be read: No such file or directory (os error 2)",
        "PONIX_NATS_MAX_ACK_PENDING is \"0\", expected a whole number from 1 to 10000000",
        "PONIX_CLICKHOUSE_URL must not hold credentials, they are fields of their own",
    ];
    let (code, log) = wrong(ServiceBuilder::new()).run().await;
    assert_eq!(code, 64, "{log}");
    let mut lines = log.lines();
    assert_eq!(
        lines.next(),
        Some("ponix-all-in-one: the configuration is wrong:")
    );
    assert_eq!(
        lines.collect::<Vec<_>>(),
        problems.map(|p| format!("  {p}"))
    );

    let (code, log) = wrong(check_config()).run().await;
    assert_eq!(code, 64, "{log}");
    let told = log
        .lines()
        .filter_map(|line| line.strip_prefix("problem: "));
    assert_eq!(told.collect::<Vec<_>>(), problems);
    assert!(!log.contains("geheim"), "{log}");

    let (code, log) = wrong(ServiceBuilder::new()).args(&["migrate"]).run().await;
    assert_eq!(code, 64, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_not_utf_8_is_a_problem_and_not_the_default() {
    let output = check_config()
        .into_command()
        .env("PONIX_CLICKHOUSE_PASSWORD", OsStr::from_bytes(b"gr\xfcn"))
        .output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "problem: PONIX_CLICKHOUSE_PASSWORD is not UTF-8\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_variable_is_told_and_does_not_stop_the_service() {
    let world = World::new("configuring_unknown").await;
    let told =
        "PONIX_NATS_BATCHSIZE is not a variable of ponix; did you mean PONIX_NATS_BATCH_SIZE?";
    let service = world
        .service()
        .env("PONIX_NATS_BATCHSIZE", 7)
        .start_ready()
        .await;
    let lines = service.log_lines(told);
    assert!(
        lines.len() == 1 && lines[0].contains("WARN"),
        "{}",
        service.log()
    );
    service.stop().await;

    let (code, printed) = check_config().env("PONIX_NATS_BATCHSIZE", 7).run().await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed
            .lines()
            .any(|line| line == format!("warning: {told}")),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_a_wrong_configuration_and_help_is_not() {
    let (code, printed) = ServiceBuilder::new().args(&["nonsense"]).run().await;
    assert_eq!(code, 64, "{printed}");
    let (code, printed) = ServiceBuilder::new().args(&["--help"]).run().await;
    assert_eq!(code, 0, "{printed}");
    for command in ["migrate", "check-config", "probe"] {
        assert!(printed.contains(command), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_may_be_json() {
    let world = World::new("configuring_json").await;
    // Without the address, which is read from the text otherwise.
    let service = world.service().env("PONIX_LOG_FORMAT", "json").start();
    service.logged("consumer created").await;
    service.stop().await;
    for line in service.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(
            line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_reads_is_no_error() {
    let mut printing = check_config()
        .into_command()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(printing.stdout.take());
    assert_eq!(printing.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_does_not_end_the_service() {
    let world = World::new("configuring_log").await;
    let mut service = world
        .service()
        .into_command()
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(service.stderr.take().unwrap()).lines();
    let first = log.next_line().await.unwrap().unwrap();
    let addr = first.split("addr=").nth(1).unwrap().parse().unwrap();
    drop(log);
    world.create_stream().await;
    world.publish(numbered(5)).await;
    eventually("readiness", SOON, || async {
        let (status, body) = http::get(addr, "/readyz").await?;
        ensure!(status == 200, "{body}");
        Ok(())
    })
    .await
    .unwrap();
    world.stored(5).await;
    assert_eq!(service.try_wait().unwrap(), None);
}

/// A variable, its value, and what must be said about it.
type Wrong = (&'static str, String, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_would_find_without_servers_is_found_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let here = || folder.path().display().to_string();
    let gone = || folder.path().join("gone").display().to_string();
    file("entities/a.yaml", "kind: Nonsense\n");
    file("pipelines/a.yaml", "kind: Pipeline\nspec: {}\n");
    let wrong: [Wrong; 10] = [
        ("PONIX_NATS_URL", "http://x".into(), "invalid scheme"),
        ("PONIX_NATS_URL", "wss://x".into(), "websockets"),
        ("PONIX_NATS_CREDENTIALS", gone(), "No such file"),
        ("PONIX_NATS_TLS_CA", gone(), "No such file"),
        ("PONIX_INGEST_API_KEYS_FILE", gone(), "No such file"),
        ("PONIX_INGEST_API_KEYS_FILE", here(), "Is a directory"),
        (
            "PONIX_INGEST_API_KEYS_FILE",
            file("keys", "no json\n"),
            "line 1",
        ),
        ("PONIX_ENTITIES_DIR", gone(), "gone"),
        (
            "PONIX_ENTITIES_DIR",
            format!("{}/entities", here()),
            "a.yaml",
        ),
        (
            "PONIX_PIPELINES_DIR",
            format!("{}/pipelines", here()),
            "a.yaml",
        ),
    ];
    for (variable, value, text) in wrong {
        let (code, printed) = check_config().env(variable, &value).run().await;
        assert_eq!(code, 64, "{variable}={value}: {printed}");
        let first = printed.lines().find(|line| line.starts_with("problem: "));
        assert!(
            first.is_some_and(|line| line.contains(variable)),
            "{printed}"
        );
        assert!(printed.contains(text), "{text} is not in {printed}");
        // A start says the same, before it looks for any server.
        let (code, log) = ServiceBuilder::new().env(variable, &value).run().await;
        assert_eq!(code, 64, "{variable}={value}: {log}");
        assert!(
            log.contains(text) && !log.contains("no connection"),
            "{log}"
        );
    }
    let (code, printed) = check_config()
        .env("PONIX_INGEST_TLS_CERT", file("cert", "no certificate"))
        .env("PONIX_INGEST_TLS_KEY", file("key", "no key"))
        .run()
        .await;
    assert_eq!(code, 64, "{printed}");
    assert!(
        printed.contains("PONIX_INGEST_TLS_CERT, or _TLS_KEY, cannot be used"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_from_the_defaults_can_be_had_alone() {
    let (code, printed) = check_config()
        .args(&["--changed"])
        .env("PONIX_NATS_BATCH_SIZE", 30)
        .env("PONIX_NATS_BATCH_WAIT_SECS", 1)
        .run()
        .await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("PONIX_NATS_BATCH_SIZE=30 (environment)"),
        "{printed}"
    );
    assert!(!printed.contains("BATCH_WAIT_SECS"), "{printed}");
    assert!(
        printed.lines().all(|line| line.ends_with("(environment)")),
        "{printed}"
    );
}
