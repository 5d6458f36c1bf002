//! Compares the decoder of envelopes with prost.

mod decode;
mod reference;
mod wire_bytes;
