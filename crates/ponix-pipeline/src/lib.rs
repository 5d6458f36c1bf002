#![doc = include_str!("../README.md")]

pub mod builtin;
mod spec;

pub use crate::spec::{
    ClickhouseSink, CsvColumn, CsvType, DeadLetters, DecodeFormat, Delivery, Expect, Http, Limits,
    Pipeline, PostgresSink, Schema, Sink, Source, TestCase, TestInput, TextEncoding, Transform,
    UnknownFields, clashes, from_files, load, schema,
};
