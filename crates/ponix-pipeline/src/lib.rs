#![doc = include_str!("../README.md")]

pub mod builtin;
mod decode;
mod spec;
mod transform;

pub use crate::decode::{
    Decode, DecodeError, Decoded, EntityDecoder, EnvelopeDecoder, Headers, Message, Reason,
    RecordDecoder,
};
pub use crate::spec::{
    ClickhouseSink, CsvColumn, CsvType, DeadLetters, DecodeFormat, Delivery, Expect, Http, Limits,
    Pipeline, PostgresSink, Schema, Sink, Source, TestCase, TestInput, TextEncoding, Transform,
    UnknownFields, clashes, from_files, load, schema,
};
