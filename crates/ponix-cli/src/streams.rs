//! `ponix streams`: streams and their consumers as a file.

mod check;
mod document;
mod export;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::Timestamp;
use ponix_all_in_one::Deployment;
use ponix_console::duration;
use ponix_entities::LoadError;
use ponix_nats::topology::{
    Action, Plan, Refusal, Step, StreamOnServer, Target, apply, plan, read,
};
use serde_json::json;
use tokio::time::Instant;

use self::check::Checked;
use crate::print::Colour;
use crate::servers::Servers;
use crate::{End, print};

/// How often a server that is not ready is asked again.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what is wrong with a file, and what may be lost as it declares it. Asks no server.
    Check {
        /// The file, or a folder of such files.
        file: PathBuf,
    },
    /// Show what `apply` would do.
    Plan(Args),
    /// Bring the server to what a file declares. Safe to repeat.
    Apply {
        #[command(flatten)]
        args: Args,
        /// How long to wait for a server that is not there or not ready yet.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
        wait: Duration,
    },
    /// Write what the server has as such a file.
    Export {
        /// The file, which must not be there yet; `-` is standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Print the JSON schema of a file, for editors.
    Schema,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The file, or a folder of such files.
    file: PathBuf,
    /// Remove streams and durable consumers that the file does not declare, with what they hold, and
    /// let lower limits drop messages. Those of the pipelines that are configured here stay.
    #[arg(long)]
    prune: bool,
}

/// Does what needs no server; the rest is for [`run`].
pub(crate) fn run_offline(command: &Command, json: bool) -> Option<End> {
    match command {
        Command::Check { file } => Some(check(file, json)),
        Command::Schema => {
            print::text(&schema());
            Some(End::Done)
        }
        _ => None,
    }
}

pub(crate) async fn run(
    command: Command,
    deployment: Deployment,
    timeout: Duration,
    json: bool,
) -> anyhow::Result<End> {
    let (args, wait) = match command {
        Command::Check { .. } | Command::Schema => bail!("needs no server"),
        Command::Export { file } => {
            let servers = Servers::connect(deployment, timeout).await?;
            let streams = read(&servers.streams.context).await?;
            return export::run(&streams, &file);
        }
        Command::Plan(args) => (args, None),
        Command::Apply { args, wait } => (args, Some(wait)),
    };
    // What is wrong with the file is told before anything is waited for.
    let Some(checked) = load(&args.file, json) else {
        return Ok(End::Wrong);
    };
    let (servers, there) = match wait {
        None => {
            let servers = Servers::connect(deployment, timeout).await?;
            let there = read(&servers.streams.context).await?;
            (servers, there)
        }
        Some(wait) => ready(deployment, timeout, wait).await?,
    };
    let now_ns = Timestamp::now().as_nanosecond();
    let plan = plan(&checked.streams, &there, args.prune, &own(&servers), now_ns);
    if wait.is_none() || !plan.refusals.is_empty() {
        show(&plan, json);
        return Ok(match (plan.refusals.is_empty(), plan.steps.is_empty()) {
            (false, _) => End::Refused,
            (true, true) => End::Done,
            (true, false) => End::InPart,
        });
    }
    carry_out(&plan, &servers, json).await
}

/// Returns the JSON schema of a file.
fn schema() -> String {
    ponix_entities::loader::schema::<document::Document>()
}

fn check(file: &Path, json: bool) -> End {
    let Some(Checked { streams, notes }) = load(file, json) else {
        return End::Wrong;
    };
    for note in &notes {
        tell("note", note, json);
    }
    let consumers: usize = streams.iter().map(|stream| stream.consumers.len()).sum();
    let streams = streams.len();
    if json {
        print::json(&json!({ "streams": streams, "consumers": consumers }));
    } else {
        print::line(&format!(
            "{streams} streams and {consumers} consumers, nothing wrong"
        ));
    }
    End::Done
}

/// Reads a file; tells what is wrong with it, and returns `None`.
fn load(file: &Path, json: bool) -> Option<Checked> {
    let errors = match check::load(file) {
        Ok(checked) => return Some(checked),
        Err(errors) => errors,
    };
    for error in &errors.0 {
        tell("error", error, json);
    }
    None
}

fn tell(kind: &str, said: &LoadError, json: bool) {
    if json {
        let (line, column) = said.place.unzip();
        let file = &said.path;
        print::json(&json!({ kind: said.message, "file": file, "line": line, "column": column }));
        return;
    }
    let mut said = said.clone();
    if kind == "note" {
        said.message.insert_str(0, "note: ");
    }
    print::note(&said.to_string());
}

/// Waits until the server tells what it has.
async fn ready(
    deployment: Deployment,
    timeout: Duration,
    wait: Duration,
) -> anyhow::Result<(Servers, Vec<StreamOnServer>)> {
    let deadline = Instant::now() + wait;
    let servers = Servers::connect_until(deployment, timeout, deadline).await?;
    loop {
        match read(&servers.streams.context).await {
            Ok(there) => return Ok((servers, there)),
            Err(err) if err.is_transient() && Instant::now() + LOOK_PERIOD < deadline => {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
            Err(err) => return Err(err).with_context(|| servers.url.clone()),
        }
    }
}

/// What the pipelines that are configured here use: never removed.
fn own(servers: &Servers) -> BTreeSet<Target> {
    let of_pipeline = |pipeline: &ponix_console::PipelineStreams| {
        [
            Target::Stream(pipeline.stream.clone()),
            Target::Stream(pipeline.dead_letters.clone()),
            Target::Consumer {
                stream: pipeline.stream.clone(),
                consumer: pipeline.consumer.clone(),
            },
        ]
    };
    servers
        .streams
        .pipelines
        .iter()
        .flat_map(of_pipeline)
        .collect()
}

async fn carry_out(plan: &Plan, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let mut done = 0;
    let result = apply(&servers.streams.context, plan, |step| {
        done += 1;
        show_step(step, json);
    })
    .await;
    if let Err(err) = result {
        let open: Vec<_> = plan.steps[done..]
            .iter()
            .map(|step| step.target.to_string())
            .collect();
        return Err(err).with_context(|| format!("not done: {}", open.join(", ")));
    }
    show_left(plan, json);
    if json {
        print::json(&json!({ "done": done }));
    } else if done == 0 {
        print::line("nothing to do: everything is as declared");
    } else {
        print::line(&format!("{done} done"));
    }
    Ok(End::Done)
}

fn show(plan: &Plan, json: bool) {
    for step in &plan.steps {
        show_step(step, json);
    }
    show_left(plan, json);
    for Refusal { target, reason } in &plan.refusals {
        if json {
            print::json(&json!({ "refused": target.to_string(), "reason": reason }));
        } else {
            print::note(&format!("refused: {target}: {reason}"));
        }
    }
    if json {
        return;
    }
    match (plan.refusals.len(), plan.steps.len()) {
        (0, 0) => print::line("nothing to do: everything is as declared"),
        (0, steps) => print::line(&format!("{steps} to do")),
        (refused, _) => print::note(&format!("{refused} refused: nothing is changed")),
    }
}

fn show_left(plan: &Plan, json: bool) {
    if !json && !plan.left.is_empty() {
        let left: Vec<_> = plan.left.iter().map(ToString::to_string).collect();
        print::note(&format!("not in the file, left alone: {}", left.join(", ")));
    }
}

fn show_step(step: &Step, json: bool) {
    if json {
        let changes = step.changes.iter().map(|change| {
            json!({ "setting": change.setting, "is": change.actual, "wanted": change.wanted })
        });
        print::json(&json!({
            "action": format!("{:?}", step.action).to_lowercase(),
            "target": step.target.to_string(),
            "changes": changes.collect::<Vec<_>>(),
        }));
        return;
    }
    let (sign, colour) = match step.action {
        Action::Create => ("+", Colour::Green),
        Action::Update => ("~", Colour::Yellow),
        Action::Delete => ("-", Colour::Red),
    };
    print::coloured(colour, &format!("{sign} {}", step.target));
    for change in &step.changes {
        match &change.actual {
            None => print::coloured(
                colour,
                &format!("+   {}: {}", change.setting, change.wanted),
            ),
            Some(actual) => {
                print::coloured(Colour::Red, &format!("-   {}: {actual}", change.setting));
                let wanted = format!("+   {}: {}", change.setting, change.wanted);
                print::coloured(Colour::Green, &wanted);
            }
        }
    }
}
