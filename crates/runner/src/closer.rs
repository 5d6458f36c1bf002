use std::{fmt, future::Future, time::Duration};

use tokio::time::timeout;
use tracing::{debug, error};

use crate::{
    process::{Ending, Work},
    run::{RunResult, chain},
};

/// A named piece of work that runs after every process has ended.
pub(crate) struct Closer {
    name: String,
    begin: Box<dyn FnOnce() -> Work + Send>,
}

impl Closer {
    pub(crate) fn new<F, Fut>(name: impl Into<String>, begin: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        Self {
            name: name.into(),
            begin: Box::new(|| Box::pin(async { begin().await.into_result() })),
        }
    }

    /// Runs the closer as a task of its own, so that neither its panic nor its blocking the thread
    /// keeps the closers after it from running.
    pub(crate) async fn close(self, time: Duration, result: &mut RunResult) {
        let Self { name, begin } = self;
        let mut task = tokio::spawn(async { begin().await });
        match timeout(time, &mut task).await {
            Ok(Ok(Ok(()))) => debug!(closer = name, "closed"),
            Ok(Ok(Err(error))) => {
                result.failed = true;
                error!(closer = name, error = chain(&*error), "closer failed");
            }
            Ok(Err(error)) => {
                result.failed = true;
                error!(closer = name, %error, "closer panicked");
            }
            Err(_) => {
                result.cut_off = true;
                task.abort();
                let timeout_ms = time.as_millis() as u64;
                error!(closer = name, timeout_ms, "closer took too long");
            }
        }
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closer").field(&self.name).finish()
    }
}
