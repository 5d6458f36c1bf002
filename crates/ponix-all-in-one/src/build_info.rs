//! Which version runs, as a metric.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Names `ponix_build_info` in `registry`: always 1, the version is a label.
pub(crate) fn register(registry: &mut Registry) {
    let labels = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("ponix_build", "The version that runs", Info::new(labels));
}
