#![doc = include_str!("../README.md")]

mod clickhouse;
mod dlq;
mod doctor;
mod http;
mod manual;
mod print;
mod publish;
mod replay;
mod servers;
mod status;
mod streams;
mod tail;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use ponix_all_in_one::Deployment;
use ponix_console::duration;

use crate::servers::Servers;

/// Look at a deployment of Ponix, and mend it.
#[derive(Debug, Parser)]
#[command(
    name = "ponix",
    version,
    after_help = "Reads the same PONIX_* variables as the services. Exit codes: 0 done; 1 failed; \
                  3 done, but not everything is as asked; 64 wrong command line, configuration or file."
)]
struct Cli {
    /// Print JSON, an object on each line.
    #[arg(long, global = true)]
    json: bool,
    /// Time in which NATS has to answer.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the streams, consumers and dead letters of every pipeline, and what is wrong.
    Status,
    /// Show rates, lag and dead letters of every pipeline as they change.
    Top(top::Args),
    /// Look at dead letters, put them back, discard or export them.
    Dlq {
        #[command(subcommand)]
        command: Box<dlq::Command>,
    },
    /// Look for what goes wrong in practice, and say what to do about it.
    Doctor(doctor::Args),
    /// Print events as they come, decoded, a JSON object on each line.
    Tail(tail::Args),
    /// Send history through its pipeline again; into the same table it changes nothing that is there.
    Replay(replay::Args),
    /// Publish one event per line of a file of JSON objects.
    ///
    /// Each has `organization_id`, `end_device_id`, `occurred_at` (RFC 3339), `data` (an object) and,
    /// if the event has one already, `event_id` (a UUID). Ends with 3 if a line was refused.
    Publish(publish::Args),
    /// Streams and their consumers as a file: check it, compare it, bring the server to it.
    Streams {
        #[command(subcommand)]
        command: streams::Command,
    },
    /// Print what completes commands in a shell: `source <(ponix completions bash)`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a folder.
    Man {
        /// The folder, which is made: `ponix man /usr/local/share/man/man1`.
        dir: Option<PathBuf>,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    /// Done, but not everything is as asked.
    InPart,
    /// Nothing is done: it must not be, or cannot. Why has been said.
    Refused,
    /// What was given is wrong. In what has been said.
    Wrong,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Fails only when the terminal is gone. Help and version are no errors.
            let _ = err.print();
            return code(if err.use_stderr() {
                End::Wrong
            } else {
                End::Done
            });
        }
    };
    let offline = match &cli.command {
        Command::Streams { command } => streams::run_offline(command, cli.json),
        Command::Completions { shell } => Some(manual::completions::<Cli>(*shell)),
        Command::Man { dir } => Some(manual::pages::<Cli>(dir.as_deref())),
        _ => None,
    };
    if let Some(end) = offline {
        return code(end);
    }
    let deployment = match Deployment::of_process() {
        Ok(deployment) => deployment,
        Err(err) => {
            print::error(&err.to_string());
            return code(End::Wrong);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli, deployment)));
    ended.map_or_else(
        |err| {
            print::error(&format!("{err:#}"));
            code(End::Refused)
        },
        code,
    )
}

fn code(end: End) -> ExitCode {
    ExitCode::from(match end {
        End::Done => 0,
        End::Refused => 1,
        End::InPart => 3,
        End::Wrong => 64,
    })
}

async fn run(cli: Cli, deployment: Deployment) -> anyhow::Result<End> {
    let (timeout, json) = (cli.timeout, cli.json);
    let connect = |deployment| Servers::connect(deployment, timeout);
    match cli.command {
        Command::Status => status::run(&connect(deployment).await?, json).await,
        Command::Top(args) => top::run(&args, &connect(deployment).await?, json).await,
        Command::Dlq { command } => dlq::run(*command, &connect(deployment).await?, json).await,
        Command::Doctor(args) => doctor::run(&args, &connect(deployment).await?, json).await,
        Command::Tail(args) => tail::run(&args, &connect(deployment).await?).await,
        Command::Replay(args) => replay::run(&args, &connect(deployment).await?, json).await,
        Command::Publish(args) => publish::run(&args, &connect(deployment).await?, json).await,
        Command::Streams { command } => streams::run(command, deployment, timeout, json).await,
        // Done before any configuration was read.
        Command::Completions { .. } | Command::Man { .. } => Ok(End::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits as a shell does, as far as the documents go: quotes, and what ends a command.
    fn commands(line: &str) -> Vec<Vec<String>> {
        let line = line.split(" #").next().unwrap_or_default();
        let (mut commands, mut quote) = (vec![Vec::new()], None);
        let mut word = String::new();
        for c in line.chars().chain([' ']) {
            match (quote, c) {
                (Some(mark), c) if c == mark => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, ' ') if word.is_empty() => {}
                (None, ' ') if ["&&", "|", ">"].contains(&&word[..]) => {
                    word.clear();
                    commands.push(Vec::new());
                }
                (None, ' ') => commands
                    .last_mut()
                    .expect("there is one")
                    .push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        commands
    }

    #[test]
    fn every_command_of_the_documents_exists() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut count = 0;
        for document in ["docs/operations.md", "examples/pulse/README.md"] {
            let text = std::fs::read_to_string(root.join(document)).expect("the document");
            let lines = text.lines().flat_map(commands);
            for words in lines {
                let words = words.iter().skip_while(|word| word.starts_with("PONIX_"));
                let words: Vec<_> = words.collect();
                if words.first().is_none_or(|word| *word != "ponix") || words.len() < 2 {
                    continue;
                }
                if let Err(err) = Cli::try_parse_from(&words) {
                    panic!("{document}: {words:?}: {err}");
                }
                count += 1;
            }
        }
        assert!(count > 30, "only {count} were found");
    }
}
