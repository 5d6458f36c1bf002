use secrecy::ExposeSecret as _;

use super::{Environment, Reading, markdown, variables};

fn reading(pairs: &[(&str, &str)]) -> Reading {
    let environment: Environment = pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    Reading::new(&environment)
}

fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    reading(pairs)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_empty_environment_gives_the_documented_defaults() {
    let config = reading(&[]).into_config().expect("the defaults are valid");
    assert_eq!(config.nats.batch_size, 20_000);
    assert_eq!(
        config.nats.batch_wait_secs,
        std::time::Duration::from_secs(1)
    );
    assert_eq!(config.service.admin_addr.port(), 9090);
    let clickhouse = ponix_clickhouse::ClickHouseConfig::default();
    assert_eq!(
        format!("{:?}", config.clickhouse.client()),
        format!("{clickhouse:?}")
    );
    assert_eq!(
        config.clickhouse.client().password.expose_secret(),
        clickhouse.password.expose_secret()
    );
    assert_eq!(
        config.nats.envelopes().source.subjects,
        ["processed_envelopes.>"]
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = problems(&[
        ("PONIX_LOG_LEVEL", "inof"),
        ("PONIX_INTERVAL_SECS", "often"),
        ("PONIX_ADMIN_ADDR", "localhost"),
        ("PONIX_NATS_BATCH_SIZE", "0"),
        ("PONIX_NATS_BATCH_WAIT_SECS", "-1"),
        ("PONIX_CLICKHOUSE_INSERT_ROWS_MAX", "many"),
    ]);
    assert_eq!(
        problems,
        [
            "PONIX_LOG_LEVEL is \"inof\", expected off, error, warn, info, debug, trace, or directives",
            "PONIX_INTERVAL_SECS is \"often\", expected seconds from 0 to 86400",
            "PONIX_ADMIN_ADDR is \"localhost\", expected an address and port such as 127.0.0.1:9090",
            "PONIX_NATS_BATCH_SIZE is \"0\", expected a whole number from 1 to 100000",
            "PONIX_NATS_BATCH_WAIT_SECS is \"-1\", expected seconds from 0.01 to 3600",
            "PONIX_CLICKHOUSE_INSERT_ROWS_MAX is \"many\", expected a whole number from 1 to 1000000",
        ]
    );
}

#[test]
fn values_that_contradict_each_other_are_problems() {
    let problems = problems(&[
        ("PONIX_NATS_USER", "ann"),
        ("PONIX_NATS_TOKEN", "geheim"),
        ("PONIX_NATS_MAX_ACK_PENDING", "1000"),
        ("PONIX_NATS_STREAM", "a.b"),
        ("PONIX_CLICKHOUSE_URL", "tcp://host:9000"),
        ("PONIX_INGEST_CLOSE_DELAY_SECS", "5"),
        ("PONIX_NATS_DEAD_LETTER_KEEP_SECS", "60"),
    ]);
    assert_eq!(problems.len(), 7, "{problems:#?}");
    assert!(
        problems.iter().all(|p| !p.contains("geheim")),
        "{problems:#?}"
    );
    assert!(problems[4].contains("at least 120000"), "{problems:#?}");
    assert!(
        problems[6].starts_with("PONIX_INGEST_CLOSE_DELAY_SECS is 5 s, expected less than half"),
        "{problems:#?}"
    );
}

#[test]
fn a_batch_does_not_wait_until_its_messages_are_delivered_again() {
    let problems = problems(&[
        ("PONIX_NATS_BATCH_WAIT_SECS", "31"),
        ("PONIX_MESSAGES_BATCH_WAIT_SECS", "600"),
    ]);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].contains("at most half of PONIX_NATS_ACK_WAIT_SECS, which is 60 s"),
        "{problems:#?}"
    );
}

#[test]
fn secrets_never_print() {
    let pairs = [
        ("PONIX_NATS_URL", "nats://ann:geheim@h:4222,nats://h2"),
        ("PONIX_NATS_TOKEN", "geheim"),
        ("PONIX_CLICKHOUSE_PASSWORD", "geheim"),
        ("PONIX_NATS_USER", "ann"),
        ("PONIX_NATS_PASSWORD", "geheim"),
    ];
    let told = reading(&pairs);
    let shown = format!("{told:?} {:?}", told.problems);
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(shown.contains("nats://ann:***@h:4222,nats://h2"), "{shown}");
    // NATS takes URLs without a scheme, too.
    let bare = reading(&[("PONIX_NATS_URL", "ann:geheim@h:4222,geheim@h2")]);
    let shown = format!("{:?}", bare.settings);
    assert!(!shown.contains("geheim"), "{shown}");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "geheim\n").unwrap();
    let path = file.path().to_str().unwrap();
    let config = reading(&[("PONIX_CLICKHOUSE_PASSWORD_FILE", path)])
        .into_config()
        .unwrap();
    assert_eq!(
        config.clickhouse.password.unwrap().expose_secret(),
        "geheim"
    );
    let twice = problems(&[
        ("PONIX_CLICKHOUSE_PASSWORD_FILE", path),
        ("PONIX_CLICKHOUSE_PASSWORD", "x"),
    ]);
    assert!(twice[0].contains("is set twice"), "{twice:?}");
    let missing = problems(&[("PONIX_CLICKHOUSE_PASSWORD_FILE", "/nowhere/at/all")]);
    assert!(missing[0].contains("/nowhere/at/all"), "{missing:?}");
}

#[test]
fn an_unknown_name_is_told_with_the_nearest_known_one() {
    let warnings = reading(&[
        ("PONIX_NATS_BATCHSIZE", "1"),
        ("PONIX_LIBCHDB", "x"),
        ("HOME", "/"),
    ])
    .warnings;
    assert_eq!(
        warnings,
        ["PONIX_NATS_BATCHSIZE is not a variable of ponix; did you mean PONIX_NATS_BATCH_SIZE?"]
    );
}

#[test]
fn the_reference_is_equal_to_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        written,
        markdown(&variables()),
        "docs/configuration.md is out of date: cargo run -p ponix-all-in-one -- check-config --reference > docs/configuration.md"
    );
}

#[test]
fn settings_that_no_server_could_run_with_say_what_to_set() {
    let problems = problems(&[
        ("PONIX_NATS_SUBJECT", "processed.envelopes.>"),
        ("PONIX_INGEST_ADDR", "127.0.0.1:9090"),
        ("PONIX_POSTGRES_URL", "postgres://ann@host/db"),
        ("PONIX_ENTITIES_DIR", "entities"),
        ("PONIX_MESSAGES_STREAM", "processed_envelopes"),
    ]);
    assert_eq!(
        problems,
        [
            "PONIX_INGEST_ADDR is 127.0.0.1:9090, as PONIX_ADMIN_ADDR is",
            "PONIX_NATS_SUBJECT is \"processed.envelopes.>\", which stream processed_envelopes (PONIX_NATS_STREAM) does not take in: set PONIX_NATS_SUBJECT=processed_envelopes.> for all of it, or a part of that",
            "PONIX_MESSAGES_STREAM is \"processed_envelopes\", as PONIX_NATS_STREAM is: raw messages need a stream of their own",
        ]
    );
}

#[test]
fn names_of_other_programs_are_told_with_ours() {
    let warnings = |pairs| reading(pairs).warnings;
    assert_eq!(
        warnings(&[
            ("DATABASE_URL", "postgres://ann:geheim@host/db"),
            ("HOST", "0.0.0.0"),
            ("ENABLE_NATS", "false"),
        ]),
        [
            "DATABASE_URL is not read, ponix reads PONIX_POSTGRES_URL: set that",
            "ENABLE_NATS is not read, ponix reads PONIX_INGEST_NATS_ENABLED: set that",
            "HOST is not read, ponix reads PONIX_INGEST_ADDR: set that",
        ]
    );
    // Ours is said, or it is the name of the machine.
    let quiet = warnings(&[
        ("NATS_URL", "nats://a"),
        ("PONIX_NATS_URL", "nats://b"),
        ("HOST", "laptop"),
    ]);
    assert_eq!(quiet, [""; 0]);
}
