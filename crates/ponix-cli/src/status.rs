//! `ponix status`: is it flowing, is it late, what is stuck.

mod tables;

use std::collections::BTreeMap;

use ponix_all_in_one::readiness;
use ponix_console::{ConsumerReport, Overview, Report, reasons};
use serde_json::{Value, json};

use self::tables::Tables;
use crate::servers::Servers;
use crate::{End, http, print};

/// Of each pipeline, so many of its newest dead letters are counted by reason.
const REASONS_OF_MAX: u64 = 1_000;

/// What is known of a pipeline beside what the server says of its streams.
#[derive(Debug, Default)]
struct More {
    /// Its newest dead letters by reason.
    reasons: BTreeMap<String, u64>,
    /// Events stored per second, by the service that was asked.
    stored_per_s: Option<f64>,
}

/// Prints it; the end is in part when something should be looked at.
pub(crate) async fn run(servers: &Servers, json: bool) -> anyhow::Result<End> {
    let addr = servers.admin_addr.to_string();
    let (overview, service, moment, tables) = tokio::join!(
        Overview::look(&servers.streams),
        readiness(servers.admin_addr),
        http::get(&addr, "/page/moment", servers.timeout),
        Tables::look(servers),
    );
    let overview = overview?;
    if !json {
        for pipeline in &overview.without_stream {
            print::note(&format!(
                "pipeline {}: there is no stream {}, it never ran here",
                pipeline.name, pipeline.stream
            ));
        }
    }
    let (reports, mut findings) = (overview.reports, overview.findings);
    let moment: Value = serde_json::from_str(&moment.unwrap_or_default()).unwrap_or_default();
    let mut more = Vec::with_capacity(reports.len());
    for report in &reports {
        more.push(look_at(report, servers, &moment).await?);
    }
    if let Ok((_, body)) = &service {
        findings.extend(said(body));
    }
    if json {
        for (report, more) in reports.iter().zip(&more) {
            let mut report = serde_json::to_value(report)?;
            report["dead_letters_by_reason"] = json!(more.reasons);
            report["stored_per_s"] = json!(more.stored_per_s);
            print::json(&report);
        }
        let service = service.map_or_else(
            |err| json!({ "unseen": err }),
            |(_, body)| serde_json::from_str(&body).unwrap_or_default(),
        );
        print::json(
            &json!({ "service": service, "tables": tables.to_json(), "findings": findings }),
        );
    } else {
        show(servers, &reports, &more);
        tables.show();
        match service {
            Ok((true, _)) => print::line(&format!("service at {addr}: ready")),
            Ok((false, _)) => print::line(&format!("service at {addr}: NOT ready")),
            Err(err) => print::line(&format!("{err} (PONIX_ADMIN_ADDR); rates cannot be seen")),
        }
        for finding in &findings {
            print::line(&format!("! {finding}"));
        }
    }
    Ok(if findings.is_empty() {
        End::Done
    } else {
        End::InPart
    })
}

async fn look_at(report: &Report, servers: &Servers, moment: &Value) -> anyhow::Result<More> {
    let reasons = if report.dead_letters == 0 {
        BTreeMap::new()
    } else {
        let pipeline = servers.pipeline(&report.pipeline)?;
        reasons(pipeline, &servers.streams, REASONS_OF_MAX).await?
    };
    Ok(More {
        reasons,
        stored_per_s: moment["pipelines"][&report.pipeline]["stored_per_s"].as_f64(),
    })
}

/// What the service says of itself.
fn said(body: &str) -> Vec<String> {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let texts = ["reasons", "warnings"]
        .into_iter()
        .filter_map(|key| said[key].as_array());
    let texts = texts.flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// As `3 value, 1 decode`; the newest alone where there are more than are counted.
fn dead_letters(report: &Report, more: &More) -> String {
    let counts = more.reasons.iter();
    let counts: Vec<_> = counts
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    match counts.join(", ") {
        counts if counts.is_empty() => report.dead_letters.to_string(),
        counts if report.dead_letters > REASONS_OF_MAX => {
            let all = report.dead_letters;
            format!("{all}, of the newest {REASONS_OF_MAX}: {counts}")
        }
        counts => counts,
    }
}

fn show(servers: &Servers, reports: &[Report], more: &[More]) {
    let server = servers.streams.context.client().server_info();
    print::line(&format!("NATS {} at {}", server.version, servers.url));
    let mut rows = Vec::new();
    for (report, more) in reports.iter().zip(more) {
        let mut consumers: Vec<_> = report.consumers.iter().map(Some).collect();
        if consumers.is_empty() {
            consumers.push(None);
        }
        for (index, consumer) in consumers.into_iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let of =
                |text: fn(&ConsumerReport) -> String| consumer.map_or_else(|| "-".to_owned(), text);
            let stored = more.stored_per_s.map(|rate| format!("{rate:.1}"));
            rows.push([
                first(report.pipeline.clone()),
                first(stored.unwrap_or_else(|| "-".to_owned())),
                first(report.messages.to_string()),
                first(format!(
                    "{:.1} MiB, {:.0} %",
                    report.bytes as f64 / f64::from(1 << 20),
                    report.share() * 100.0
                )),
                of(|one| one.name.clone()),
                of(|one| {
                    one.pending
                        .map_or_else(|| "cannot see".to_owned(), |count| count.to_string())
                }),
                of(|one| one.ack_pending.to_string()),
                of(|one| one.redelivered.to_string()),
                of(|one| format!("{:.1} s", one.lag_seconds)),
                of(|one| one.last_ack.clone().unwrap_or_else(|| "never".to_owned())),
                first(dead_letters(report, more)),
            ]);
        }
    }
    let head = [
        "PIPELINE",
        "ROWS/S",
        "MESSAGES",
        "BYTES",
        "CONSUMER",
        "PENDING",
        "IN WORK",
        "REDELIVERED",
        "LAG",
        "LAST ACK",
        "DEAD LETTERS",
    ];
    print::table(head, &rows);
}
