//! `ponix status`: is it flowing, is it late, what is stuck.

use ponix_all_in_one::readiness;
use ponix_console::{ConsumerReport, Overview, Report};
use serde_json::{Value, json};

use crate::servers::Servers;
use crate::{End, print};

/// Prints it; the end is in part when something should be looked at.
pub(crate) async fn run(servers: &Servers, json: bool) -> anyhow::Result<End> {
    let overview = Overview::look(&servers.streams).await?;
    if !json {
        for pipeline in &overview.without_stream {
            print::note(&format!(
                "pipeline {}: there is no stream {}, it never ran here",
                pipeline.name, pipeline.stream
            ));
        }
    }
    let (reports, mut findings) = (overview.reports, overview.findings);
    let service = readiness(servers.admin_addr).await;
    if let Ok((_, body)) = &service {
        findings.extend(said(body));
    }
    if json {
        for report in &reports {
            print::json(&serde_json::to_value(report)?);
        }
        let service = service.map_or_else(
            |err| json!({ "unseen": err }),
            |(_, body)| serde_json::from_str(&body).unwrap_or_default(),
        );
        print::json(&json!({ "service": service, "findings": findings }));
    } else {
        show(servers, &reports);
        match service {
            Ok((true, _)) => print::line(&format!("service at {}: ready", servers.admin_addr)),
            Ok((false, _)) => print::line(&format!("service at {}: NOT ready", servers.admin_addr)),
            Err(err) => print::line(&format!("{err} (PONIX_ADMIN_ADDR)")),
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

/// What the service says of itself.
fn said(body: &str) -> Vec<String> {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let texts = ["reasons", "warnings"]
        .into_iter()
        .filter_map(|key| said[key].as_array());
    let texts = texts.flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn show(servers: &Servers, reports: &[Report]) {
    let server = servers.streams.context.client().server_info();
    print::line(&format!("NATS {} at {}", server.version, servers.url));
    let mut rows = Vec::new();
    for report in reports {
        let mut consumers: Vec<_> = report.consumers.iter().map(Some).collect();
        if consumers.is_empty() {
            consumers.push(None);
        }
        for (index, consumer) in consumers.into_iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let of =
                |text: fn(&ConsumerReport) -> String| consumer.map_or_else(|| "-".to_owned(), text);
            rows.push([
                first(report.pipeline.clone()),
                first(report.messages.to_string()),
                first(format!(
                    "{:.1} MiB, {:.0} %",
                    report.bytes as f64 / f64::from(1 << 20),
                    report.share() * 100.0
                )),
                of(|one| one.name.clone()),
                of(|one| one.pending.to_string()),
                of(|one| one.ack_pending.to_string()),
                of(|one| one.redelivered.to_string()),
                of(|one| format!("{:.1} s", one.lag_seconds)),
                of(|one| one.last_ack.clone().unwrap_or_else(|| "never".to_owned())),
                first(report.dead_letters.to_string()),
            ]);
        }
    }
    let head = [
        "PIPELINE",
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
