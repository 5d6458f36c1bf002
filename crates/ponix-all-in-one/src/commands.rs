//! What the program does besides running the service.

pub(crate) mod crash_isolation;
pub(crate) mod entities;
pub(crate) mod migrate;
pub(crate) mod pipelines;
pub(crate) mod probe;
pub(crate) mod reconcile;
