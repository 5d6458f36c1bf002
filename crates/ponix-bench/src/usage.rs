//! What the processes of a measurement use of the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use ponix_stack::{Process, Server};
use serde::Serialize;

/// Processor time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// User and system time during the measurement, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The most memory in RAM since its start, in bytes.
    pub(crate) memory_peak_bytes: Option<u64>,
}

/// Something whose use can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// The bench itself, which publishes.
    Bench,
    Server(&'a Server),
    Process(&'a Process),
}

impl Part<'_> {
    pub(crate) fn cpu_time(self) -> Duration {
        match self {
            Self::Bench => own_cpu_time(),
            Self::Server(server) => server.cpu_time().unwrap_or_default(),
            Self::Process(process) => process.cpu_time().unwrap_or_default(),
        }
    }

    fn memory_peak_bytes(self) -> Option<u64> {
        match self {
            Self::Bench => own_memory_peak_bytes(),
            Self::Server(server) => server.memory_peak_bytes(),
            Self::Process(process) => process.memory_peak_bytes(),
        }
    }
}

/// Reads what the parts use from its making on.
#[derive(Debug)]
pub(crate) struct UsageMeter<'a> {
    parts: Vec<(&'static str, Part<'a>, Duration)>,
}

impl<'a> UsageMeter<'a> {
    /// Begins now.
    pub(crate) fn start(parts: impl IntoIterator<Item = (&'static str, Part<'a>)>) -> Self {
        let parts = parts
            .into_iter()
            .map(|(name, part)| (name, part, part.cpu_time()));
        Self {
            parts: parts.collect(),
        }
    }

    /// Adds a part that was started after the meter.
    pub(crate) fn add(&mut self, name: &'static str, part: Part<'a>) {
        self.parts.push((name, part, Duration::ZERO));
    }

    /// What each part has used so far.
    pub(crate) fn read(&self) -> BTreeMap<&'static str, Usage> {
        let usage = |(name, part, start): &(&'static str, Part<'_>, Duration)| {
            let cpu_time = part.cpu_time().saturating_sub(*start);
            let memory_peak_bytes = part.memory_peak_bytes();
            (
                *name,
                Usage {
                    cpu_seconds: cpu_time.as_secs_f64(),
                    memory_peak_bytes,
                },
            )
        };
        self.parts.iter().map(usage).collect()
    }
}

fn own_cpu_time() -> Duration {
    let duration =
        |time: TimeVal| Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec() as u32 * 1000);
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        duration(usage.user_time()) + duration(usage.system_time())
    })
}

fn own_memory_peak_bytes() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok().map(|kib| kib * 1024)
}
