//! Runs Ponix with its servers on this machine until a signal; `scripts/up` builds and starts it.
//!
//! `ponix-up check` only looks whether the ports are free. `--with-ingest` adds PostgreSQL and the
//! pipeline of raw messages.

mod holder;
mod settings;
mod stack;

use std::fmt::Display;
use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use crate::settings::Settings;

const WRONG_USE: u8 = 64;
const HELP: &str = "\
Runs Ponix with its servers on this machine until a signal; scripts/up builds and starts it.

Usage: ponix-up [check] [--with-ingest]

  check          Only look whether the ports are free
  --with-ingest  PostgreSQL and the pipeline of raw messages as well
  -h, --help     Print this
  -V, --version  Print the version

Ports and folders are variables of the environment: see scripts/up --help.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (mut only_check, mut with_ingest) = (false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "check" => only_check = true,
            "--with-ingest" => with_ingest = true,
            "-h" | "--help" => {
                say(HELP);
                return ExitCode::SUCCESS;
            }
            "-V" | "--version" => {
                say(concat!("ponix-up ", env!("CARGO_PKG_VERSION")));
                return ExitCode::SUCCESS;
            }
            other => {
                let known = "there are only `check`, `--with-ingest`, `--help` and `--version`";
                return wrong_use(&format!("unknown argument {other}; {known}"));
            }
        }
    }
    let settings = match Settings::from_vars(std::env::vars_os(), with_ingest) {
        Ok(settings) => settings,
        Err(error) => return wrong_use(&format!("{error:#}")),
    };
    if let Err(error) = settings.ports_are_free() {
        return failed(&error);
    }
    if only_check {
        return ExitCode::SUCCESS;
    }
    match stack::run(&settings).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    }
}

fn wrong_use(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(WRONG_USE)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    complain(format_args!("{error:#}"));
    ExitCode::FAILURE
}

/// Prints a line, also when nobody reads it any more.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints a line about what went wrong.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(stderr(), "ponix-up: {text}");
}
