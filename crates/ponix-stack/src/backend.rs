//! Where a server runs: a child process, or a container.

use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Result, bail};

use crate::Process;
#[cfg(feature = "containers")]
use crate::container::Container;

const VARIABLE: &str = "PONIX_TEST_SERVERS";

/// The kind of servers that `PONIX_TEST_SERVERS` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Local,
    #[cfg(feature = "containers")]
    Containers,
}

impl Kind {
    pub(crate) fn from_env() -> Result<Self> {
        let asked = std::env::var_os(VARIABLE).unwrap_or_default();
        Self::from_name(&asked.to_string_lossy())
    }

    fn from_name(name: &str) -> Result<Self> {
        match name {
            "" | "local" => Ok(Self::Local),
            #[cfg(feature = "containers")]
            "containers" => Ok(Self::Containers),
            #[cfg(not(feature = "containers"))]
            "containers" => bail!(
                "{VARIABLE}=containers takes the feature `containers` of ponix-stack: \
                 run the tests with --features ponix-stack/containers"
            ),
            other => bail!("{VARIABLE} is {other:?}; it can be `local` or `containers`"),
        }
    }
}

/// A server, without what makes it one of a kind.
#[derive(Debug)]
pub(crate) enum Backend {
    Process(Box<Process>),
    #[cfg(feature = "containers")]
    Container(Box<Container>),
}

impl Backend {
    /// Starts it; a container that has just been made runs already.
    #[cfg_attr(
        not(feature = "containers"),
        expect(clippy::unused_async, reason = "a container is started by its daemon")
    )]
    pub(crate) async fn start(&self) -> Result<()> {
        match self {
            Self::Process(process) => process.start(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.start().await,
        }
    }

    pub(crate) async fn stop(&self) -> Result<ExitStatus> {
        match self {
            Self::Process(process) => process.stop().await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.stop().await,
        }
    }

    pub(crate) async fn kill(&self) -> Result<ExitStatus> {
        match self {
            Self::Process(process) => process.kill().await,
            #[cfg(feature = "containers")]
            Self::Container(container) => container.kill().await,
        }
    }

    #[cfg_attr(
        not(feature = "containers"),
        expect(clippy::unused_async, reason = "a container is paused by its daemon")
    )]
    pub(crate) async fn pause(&self) -> Result<()> {
        match self {
            Self::Process(process) => process.pause(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.pause().await,
        }
    }

    #[cfg_attr(
        not(feature = "containers"),
        expect(clippy::unused_async, reason = "a container is resumed by its daemon")
    )]
    pub(crate) async fn resume(&self) -> Result<()> {
        match self {
            Self::Process(process) => process.resume(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.resume().await,
        }
    }

    /// Whether it has ended by itself or by a signal; asked while it becomes ready.
    #[cfg_attr(
        not(feature = "containers"),
        expect(
            clippy::unused_async,
            reason = "a container is asked for at its daemon"
        )
    )]
    pub(crate) async fn has_ended(&self) -> bool {
        match self {
            Self::Process(process) => process.exit_status().is_some(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.has_ended().await,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        match self {
            Self::Process(process) => process.is_running(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.is_running(),
        }
    }

    /// The process, where there is one of ours.
    #[cfg_attr(
        not(feature = "containers"),
        expect(
            clippy::unnecessary_wraps,
            reason = "a container is no process of ours"
        )
    )]
    pub(crate) fn process(&self) -> Option<&Process> {
        match self {
            Self::Process(process) => Some(process),
            #[cfg(feature = "containers")]
            Self::Container(_) => None,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Process(process) => process.folder(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.folder(),
        }
    }

    pub(crate) fn log_path(&self) -> &Path {
        match self {
            Self::Process(process) => process.log_path(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.log_path(),
        }
    }

    pub(crate) fn log_tail(&self) -> String {
        match self {
            Self::Process(process) => process.log_tail(),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.log_tail(),
        }
    }

    /// An error about this server, with its last lines.
    pub(crate) fn failure(&self, what: impl std::fmt::Display) -> anyhow::Error {
        match self {
            Self::Process(process) => process.failure(what),
            #[cfg(feature = "containers")]
            Self::Container(container) => container.failure(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_the_default() {
        assert_eq!(Kind::from_name("").unwrap(), Kind::Local);
        assert_eq!(Kind::from_name("local").unwrap(), Kind::Local);
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        let error = Kind::from_name("docker").unwrap_err().to_string();
        assert!(error.contains("`local` or `containers`"), "{error}");
    }

    #[cfg(not(feature = "containers"))]
    #[test]
    fn containers_without_their_feature_say_how_to_get_them() {
        let error = Kind::from_name("containers").unwrap_err().to_string();
        assert!(
            error.contains("--features ponix-stack/containers"),
            "{error}"
        );
    }
}
