//! `ponix` against real servers and a real service.

mod dlq;
mod status;
mod streams;
mod support;
