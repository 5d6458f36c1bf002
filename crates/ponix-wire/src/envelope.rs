//! Package `envelope`.

/// Package `envelope.v1`, generated from `proto/envelope/v1/envelope.proto`.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/envelope.v1.rs"));
}
