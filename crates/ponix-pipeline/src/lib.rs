#![doc = include_str!("../README.md")]

pub mod builtin;
mod crash_isolation;
mod decode;
mod delivered;
mod run;
mod sample;
mod spec;
mod stream_window;
mod testing;
mod transform;
mod unpacked;

pub use ponix_entities::{LoadError, LoadErrors};

pub use crate::crash_isolation::{CrashIsolation, serve_crash_isolation};
pub use crate::decode::{Decode, DecodeError, Decoded, Headers, Message, Reason, RecordDecoder};
pub use crate::run::PipelineProcessor;
pub use crate::sample::sample;
pub use crate::spec::{
    ClickhouseSink, CsvColumn, CsvType, DeadLetters, DecodeFormat, Delivery, Expect, Http, Limits,
    Pipeline, PostgresSink, Schema, Sink, Source, TestCase, TestInput, TextEncoding, Transform,
    UnknownFields, clashes, from_files, load, schema,
};
pub use crate::testing::{Outcome, Store, TestReport, outcome, run_tests};
pub use crate::unpacked::Unpacked;
pub use ponix_wire::PackFormat;
