//! `ponix` against real servers and a real service.

mod dlq;
mod doctor;
mod publish;
mod pulse;
mod status;
mod streams;
mod support;
mod tail;
