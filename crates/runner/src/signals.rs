use std::{fmt, future::pending, io};

use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// A signal that asks the service to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopSignal {
    /// SIGTERM, what init systems, containers and orchestrators send.
    Terminate,
    /// SIGINT, what Ctrl-C in a terminal sends.
    Interrupt,
    /// SIGHUP, what a terminal that closes sends, and what some tools send to have a service reload.
    Hangup,
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Hangup => "SIGHUP",
        })
    }
}

/// The stop signals of this process, kept from the moment of [`install`](Self::install) on.
///
/// Installed in the first line of `main` and handed to the runner, they lose no signal that comes
/// while the configuration is read: it is answered as soon as [`run`](crate::Runner::run) looks.
#[derive(Debug)]
pub struct Signals {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Os {
        terminate: Signal,
        interrupt: Signal,
        hangup: Signal,
    },
    Simulated(mpsc::Receiver<StopSignal>),
}

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP over from the operating system's default of ending the process.
    ///
    /// They stay taken over until the process ends, also after this value is dropped.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    ///
    /// # Panics
    /// Outside a tokio runtime whose IO driver is enabled.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            source: Source::Os {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
            },
        })
    }

    /// Creates signals that come from the returned sender instead of the operating system, for
    /// tests and for services that run inside another program.
    pub fn simulated() -> (mpsc::Sender<StopSignal>, Self) {
        let (sender, receiver) = mpsc::channel(8);
        let source = Source::Simulated(receiver);
        (sender, Self { source })
    }

    /// Waits for the next signal; equal signals that come faster than they are read count as one.
    ///
    /// # Cancel safety
    /// Cancel safe: no signal is lost.
    pub async fn recv(&mut self) -> StopSignal {
        match &mut self.source {
            Source::Os {
                terminate,
                interrupt,
                hangup,
            } => select! {
                Some(()) = terminate.recv() => StopSignal::Terminate,
                Some(()) = interrupt.recv() => StopSignal::Interrupt,
                Some(()) = hangup.recv() => StopSignal::Hangup,
                else => pending().await,
            },
            Source::Simulated(receiver) => match receiver.recv().await {
                Some(signal) => signal,
                None => pending().await,
            },
        }
    }
}
