//! `ponix doctor`: what goes wrong in practice, looked for on the servers.

mod clickhouse;
mod monitoring;
mod service;
mod streams;

use serde_json::json;

use crate::servers::Servers;
use crate::{End, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Monitoring address of NATS; without, port 8222 of its first server.
    #[arg(long, value_name = "HOST:PORT")]
    monitoring: Option<String>,
}

/// Something that is found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// What it is about.
    about: String,
    /// What is found.
    what: String,
    /// What to do.
    advice: String,
    /// Whether it is to be mended; the rest is to be known.
    is_wrong: bool,
}

/// Collects what is found.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Notes what is to be mended.
    fn wrong(
        &mut self,
        about: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(about.into(), what.into(), advice.into(), true);
    }

    /// Notes what is to be known.
    fn note(
        &mut self,
        about: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(about.into(), what.into(), advice.into(), false);
    }

    fn add(&mut self, about: String, what: String, advice: String, is_wrong: bool) {
        self.0.push(Finding {
            about,
            what,
            advice,
            is_wrong,
        });
    }
}

/// Looks, and prints; the end is in part when something is to be mended.
pub(crate) async fn run(args: &Args, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let mut findings = Findings::default();
    let monitoring = args.monitoring.clone();
    let monitoring = monitoring.or_else(|| monitoring::default_address(servers));
    // What is written to a single disk alone hangs on when that is synced.
    let single_copies = streams::look(servers, &mut findings).await;
    monitoring::look(monitoring.as_deref(), single_copies, servers, &mut findings).await;
    clickhouse::look(servers, &mut findings).await;
    service::look(servers, &mut findings).await;
    let Findings(mut findings) = findings;
    findings.sort_by_key(|finding| !finding.is_wrong);
    let wrong = findings.iter().filter(|finding| finding.is_wrong).count();
    for Finding {
        about,
        what,
        advice,
        is_wrong,
    } in &findings
    {
        if json {
            print::json(&json!({
                "about": about, "finding": what, "advice": advice, "wrong": is_wrong,
            }));
        } else {
            let sign = if *is_wrong { "!" } else { "·" };
            print::line(&format!("{sign} {about}: {what}\n    {advice}"));
        }
    }
    if !json {
        let notes = findings.len() - wrong;
        print::line(&format!("{wrong} to be mended, {notes} to be known"));
    }
    Ok(if wrong == 0 { End::Done } else { End::InPart })
}
