#![doc = include_str!("../README.md")]

mod dead_letters;
mod history;
mod page;
pub mod payload;
mod sample;
mod status;
mod streams;
mod time;

pub use crate::dead_letters::{
    Choice, Letter, Letters, Reading, Replayed, Selection, letter_json, letter_text, reasons,
    remove, replay,
};
pub use crate::history::{History, Moment, PERIOD};
pub use crate::page::{Asker, Page, Said, Service};
pub use crate::sample::{Rates, Sample};
pub use crate::status::{ConsumerReport, Overview, Report};
pub use crate::streams::{PipelineStreams, Streams};
pub use crate::time::{duration, time_or_ago};
