use std::{
    any::Any,
    collections::HashMap,
    error::Error,
    fmt,
    future::{Future, pending},
    pin::Pin,
};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::Shutdown;

/// An error of whatever type a process or closer fails with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a process, start-up or closer may return: nothing, or a result.
pub trait Ending {
    /// Turns the value into a result with a boxed error.
    ///
    /// # Errors
    /// When the value is an error.
    fn into_result(self) -> Result<(), BoxError>;
}

impl Ending for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Ending for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

pub(crate) type Work = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A named piece of work that has not begun.
pub(crate) struct Process {
    name: String,
    begin: Box<dyn FnOnce(Shutdown) -> Work + Send>,
}

impl Process {
    pub(crate) fn new<F, Fut>(name: impl Into<String>, begin: F) -> Self
    where
        F: FnOnce(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        Self {
            name: name.into(),
            // `begin` itself runs inside the task, so that its panic is caught as well.
            begin: Box::new(|shutdown| Box::pin(async { begin(shutdown).await.into_result() })),
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.name).finish()
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It returned without an error, after it had been asked to.
    Finished,
    /// It returned without an error, and nobody had asked it to.
    Early,
    /// It returned an error.
    Failed(BoxError),
    /// It panicked with this message.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

impl End {
    pub(crate) fn of_panicked_or_aborted(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(payload) => Self::Panicked(panic_message(&*payload)),
            Err(_) => Self::Aborted,
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no text)".to_owned()
    }
}

/// Running processes that are asked to stop together.
#[derive(Debug)]
pub(crate) struct Group {
    shutdown: Shutdown,
    tasks: JoinSet<End>,
    running: HashMap<Id, (String, AbortHandle)>,
}

impl Group {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    pub(crate) fn spawn(&mut self, process: Process) {
        let Process { name, begin } = process;
        let shutdown = self.shutdown.clone();
        let handle = self.tasks.spawn(async move {
            let soft = shutdown.soft().clone();
            match begin(shutdown).await {
                Err(error) => End::Failed(error),
                Ok(()) if soft.is_cancelled() => End::Finished,
                Ok(()) => End::Early,
            }
        });
        self.running.insert(handle.id(), (name, handle));
    }

    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.soft().cancel();
    }

    /// Waits for the next process to end; for ever when none is running. Cancel safe.
    pub(crate) async fn next_end(&mut self) -> (String, End) {
        let (id, end) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, end))) => (id, end),
            Some(Err(error)) => (error.id(), End::of_panicked_or_aborted(error)),
            None => pending().await,
        };
        let name = self.running.remove(&id).map(|(name, _)| name);
        (name.unwrap_or_default(), end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &str> {
        self.running.values().map(|(name, _)| name.as_str())
    }

    /// Cuts every process that is still running off at its next await.
    pub(crate) fn abort(&self) {
        for (_, handle) in self.running.values() {
            handle.abort();
        }
    }
}
