//! What the service on this machine says of itself.

use std::time::Duration;

use ponix_all_in_one::readiness;
use ponix_pipeline::Pipeline;
use ponix_wire::quantity::shown_duration;
use serde_json::Value;

use super::Findings;
use crate::http;
use crate::servers::Servers;

const TIMEOUT: Duration = Duration::from_secs(2);
const INSERT_SECONDS: &str = "ponix_clickhouse_insert_seconds";

/// Looks at its readiness, and at how long its INSERTs take.
pub(super) async fn look(servers: &Servers, findings: &mut Findings) {
    let addr = servers.admin_addr;
    let about = format!("service at {addr}");
    let body = match readiness(addr).await {
        Ok((_, body)) => serde_json::from_str::<Value>(&body).unwrap_or_default(),
        Err(err) => {
            let advice = "name its admin address: PONIX_ADMIN_ADDR; others look for themselves";
            return findings.note(about, format!("cannot be seen: {err}"), advice);
        }
    };
    let texts = |key: &str| {
        let texts = body[key].as_array().into_iter().flatten();
        let texts = texts.filter_map(Value::as_str);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    for reason in texts("reasons") {
        findings.wrong(&about, reason, "see By symptom in docs/operations.md");
    }
    for warning in texts("warnings") {
        findings.note(
            &about,
            warning,
            "see Streams and consumers in docs/operations.md",
        );
    }
    if let Ok(metrics) = http::get(&addr.to_string(), "/metrics", TIMEOUT).await {
        look_at_inserts(&metrics, &servers.documents, findings);
    }
}

/// A worker that is cut off in the middle of an INSERT leaves its messages to others after
/// `ack_wait`; when an INSERT takes as long, every pause makes copies.
fn look_at_inserts(metrics: &str, pipelines: &[Pipeline], findings: &mut Findings) {
    for pipeline in pipelines {
        let label = format!("{{pipeline=\"{}\"}} ", pipeline.name);
        let value = |end: &str| {
            let name = format!("{INSERT_SECONDS}_{end}{label}");
            let found = metrics
                .lines()
                .find_map(|line| line.strip_prefix(&name[..]));
            found.and_then(|value| value.trim().parse::<f64>().ok())
        };
        let (Some(sum), Some(count)) = (value("sum"), value("count")) else {
            continue;
        };
        let mean = sum / count.max(1.0);
        let ack_wait = pipeline.limits.ack_wait;
        if mean > ack_wait.as_secs_f64() / 2.0 {
            findings.wrong(
                format!("pipeline {}", pipeline.name),
                format!(
                    "an INSERT takes {mean:.1} s in the mean, and messages are delivered again after {} without a sign of life",
                    shown_duration(ack_wait)
                ),
                "raise ack_wait, lower limits.batch_messages, or give ClickHouse a faster disk",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_that_take_as_long_as_the_ack_are_found() {
        let pipelines = [ponix_pipeline::builtin::envelopes()];
        let found = |sum: &str| {
            let metrics = format!(
                "ponix_clickhouse_insert_seconds_sum{{pipeline=\"other\"}} 9000\n\
                 ponix_clickhouse_insert_seconds_sum{{pipeline=\"envelopes\"}} {sum}\n\
                 ponix_clickhouse_insert_seconds_count{{pipeline=\"envelopes\"}} 10\n"
            );
            let mut findings = Findings::default();
            look_at_inserts(&metrics, &pipelines, &mut findings);
            findings.0
        };
        assert_eq!(found("299.9"), []);
        let wrong = found("301.0");
        assert!(
            wrong[0]
                .what
                .starts_with("an INSERT takes 30.1 s in the mean"),
            "{wrong:?}"
        );
        assert!(wrong[0].what.contains("after 1m"), "{wrong:?}");
    }
}
