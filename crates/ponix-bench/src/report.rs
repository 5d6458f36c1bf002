//! Results, on standard output for people and in a file as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::progress::say;
use crate::usage::Usage;

/// A result with what is needed to judge it.
#[derive(Debug, Serialize)]
struct Report<'a, T> {
    command: &'a str,
    version: &'static str,
    /// `debug` numbers mean nothing.
    build: &'static str,
    cpus: usize,
    result: &'a T,
}

/// Writes a result to its file.
pub(crate) fn write<T: Serialize>(command: &str, file: Option<&Path>, result: &T) -> Result<()> {
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    if build == "debug" {
        say("this is a debug build: its numbers mean nothing");
    }
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let report = Report {
        command,
        version: env!("CARGO_PKG_VERSION"),
        build,
        cpus,
        result,
    };
    let file = file.map_or_else(
        || PathBuf::from(format!(".ponix/bench/{command}.json")),
        Path::to_owned,
    );
    let named = || format!("write {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(named)?;
    }
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(&file, json + "\n").with_context(named)?;
    line("result", file.display());
    Ok(())
}

/// Prints one line of the summary.
#[expect(clippy::print_stdout, reason = "the command line's own output")]
pub(crate) fn line(name: &str, value: impl std::fmt::Display) {
    println!("{name:<28} {value}");
}

/// Prints what the processes used.
pub(crate) fn usage(processes: &BTreeMap<&'static str, Usage>) {
    for (name, usage) in processes {
        let memory = usage
            .memory_peak_bytes
            .map_or_else(|| "?".to_owned(), megabytes);
        line(
            name,
            format_args!("{:.2} s CPU, peak {memory}", usage.cpu_seconds),
        );
    }
}

/// Events per second.
pub(crate) fn rate(events: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        (events as f64 / seconds).round()
    } else {
        0.0
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
