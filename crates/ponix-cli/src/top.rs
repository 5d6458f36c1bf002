//! `ponix top`: what flows, live.

mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::bail;
use ponix_console::{Overview, Sample, duration};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::screen::{After, Row, Screen};
use crate::servers::Servers;
use crate::{End, http, print};

/// How often the keyboard's thread looks whether anybody still listens.
const KEYS_PERIOD: Duration = Duration::from_millis(200);
/// Less would only ask the servers for the same.
const PERIOD_MIN: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Time between two looks.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    every: Duration,
    /// End after so many looks.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Looks at the servers and the service again and again.
struct Looks<'a> {
    servers: &'a Servers,
    before: Option<(Instant, Sample)>,
}

/// What one look has seen.
#[derive(Debug, Default)]
struct Seen {
    rows: Vec<Row>,
    findings: Vec<String>,
}

pub(crate) async fn run(args: &Args, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let every = args.every.max(PERIOD_MIN);
    let mut looks = Looks {
        servers,
        before: None,
    };
    if json {
        return objects(args, every, &mut looks).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!(
            "top needs a terminal; --json prints an object at each look, and `ponix status` looks once"
        );
    }
    // Puts the terminal back, also when something panics.
    let mut terminal = ratatui::try_init()?;
    let ended = live(args, every, &mut looks, &mut terminal).await;
    ratatui::restore();
    ended
}

/// Prints an object for each pipeline at each look; the first one has no rates.
async fn objects(args: &Args, every: Duration, looks: &mut Looks<'_>) -> anyhow::Result<End> {
    let mut done = 0;
    loop {
        let seen = looks.look().await;
        let rows: Vec<_> = seen.rows.iter().map(Row::to_json).collect();
        if !print::try_json(&json!({ "pipelines": rows, "findings": seen.findings })) {
            return Ok(End::Done);
        }
        done += 1;
        if args.count.is_some_and(|count| done >= count) {
            return Ok(End::Done);
        }
        tokio::time::sleep(every).await;
    }
}

async fn live(
    args: &Args,
    every: Duration,
    looks: &mut Looks<'_>,
    terminal: &mut ratatui::DefaultTerminal,
) -> anyhow::Result<End> {
    let mut keys = keys();
    let mut screen = Screen::new(&looks.servers.url, looks.servers.admin_addr);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut done = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let seen = looks.look().await;
                screen.update(seen.rows, seen.findings);
                done += 1;
            }
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if screen.key(key) == After::End {
                        return Ok(End::Done);
                    }
                }
                // Drawn anew in the new size.
                Some(_) => {}
                None => bail!("the keyboard cannot be read"),
            }
        }
        terminal.draw(|frame| screen.draw(frame))?;
        if args.count.is_some_and(|count| done >= count) {
            return Ok(End::Done);
        }
    }
}

/// Reads the keyboard in a thread of its own, for it can only be waited for there.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEYS_PERIOD) {
                Ok(false) => {}
                Ok(true) => {
                    let sent = event::read().is_ok_and(|event| sender.blocking_send(event).is_ok());
                    if !sent {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}

impl Looks<'_> {
    /// Asks NATS and the service. What does not answer is a finding, for it may come back.
    async fn look(&mut self) -> Seen {
        let servers = self.servers;
        let addr = servers.admin_addr.to_string();
        let (overview, metrics) = tokio::join!(
            Overview::look(&servers.streams),
            http::get(&addr, "/metrics", servers.timeout),
        );
        let mut findings = Vec::new();
        let overview = overview.unwrap_or_else(|err| {
            findings.push(format!("NATS: {err:#}"));
            Overview::default()
        });
        let now = Instant::now();
        let sample = match metrics {
            Ok(text) => Some(Sample::read(&text, &servers.streams.pipelines)),
            Err(err) => {
                findings.push(format!(
                    "service at {addr}: {err:#} (PONIX_ADMIN_ADDR); rates cannot be seen"
                ));
                None
            }
        };
        findings.extend(overview.findings.iter().cloned());
        let rows = overview.reports.iter().map(|report| {
            let consumer = servers.pipeline(&report.pipeline).ok();
            let consumer = consumer.and_then(|pipeline| {
                let own = |one: &&ponix_console::ConsumerReport| one.name == pipeline.consumer;
                report.consumers.iter().find(own)
            });
            let rates = sample.as_ref().zip(self.before.as_ref());
            let rates = rates.and_then(|(sample, (since, before))| {
                sample.since(before, now.duration_since(*since), &report.pipeline)
            });
            Row {
                pipeline: report.pipeline.clone(),
                rates,
                pending: consumer.and_then(|one| one.pending),
                in_work: consumer.map(|one| one.ack_pending),
                lag_s: consumer.map(|one| one.lag_seconds),
                dead_letters: report.dead_letters,
                share: report.share(),
            }
        });
        let rows = rows.collect();
        self.before = sample.map(|sample| (now, sample));
        Seen { rows, findings }
    }
}
