use std::future::Future;

use tracing::error;

use crate::Outcome;

/// Runs a service to its end on a multi-threaded tokio runtime of its own.
///
/// Does what `#[tokio::main]` does, but leaves without waiting for threads that are stuck, such as
/// a name look-up that does not return: they would keep the exit code from being delivered.
///
/// # Panics
/// Inside another tokio runtime, or when `service` itself panics.
pub fn block_on(service: impl Future<Output = Outcome>) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the tokio runtime");
            return Outcome::Failed;
        }
    };
    let outcome = runtime.block_on(service);
    runtime.shutdown_background();
    outcome
}
