//! `ponix` against real servers and a real service.

mod dlq;
mod doctor;
mod manual;
mod publish;
mod pulse;
mod replay;
mod status;
mod streams;
mod support;
mod tail;
