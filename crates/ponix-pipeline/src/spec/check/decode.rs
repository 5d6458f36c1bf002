//! The format of the messages, and the options that belong to it.

use serde_saphyr::Spanned;

use super::Check;
use crate::spec::document::{Decode, Format};
use crate::spec::{CsvColumn, DecodeFormat, PostgresSink, Sink};

/// Members of an event at most, where the document says nothing.
const MEMBERS_MAX: u32 = 1_000;

impl Check<'_> {
    pub(super) fn decode(&mut self, decode: &Decode, sink: &Sink) -> DecodeFormat {
        self.only_own_options(decode);
        let members_max = self.members_max(decode);
        match decode.format.value {
            Format::Json => DecodeFormat::Json { members_max },
            Format::Envelope => DecodeFormat::Envelope,
            Format::Protobuf => DecodeFormat::Protobuf {
                descriptor: self
                    .needed(decode, decode.descriptor.as_ref(), "descriptor")
                    .map(|file| self.file(file))
                    .unwrap_or_default(),
                message: self
                    .needed(decode, decode.message.as_ref(), "message")
                    .map(|name| name.value.clone())
                    .unwrap_or_default(),
                members_max,
            },
            Format::Csv => self.csv(decode),
            Format::Entity => {
                let of_sink = match sink {
                    Sink::Postgres(PostgresSink::Entities { dir }) => dir.clone(),
                    _ => None,
                };
                let dir = decode
                    .entities
                    .as_ref()
                    .map(|dir| self.file(dir))
                    .or(of_sink);
                if dir.is_none() && !self.is_built_in {
                    self.complaints.at(
                        &decode.format,
                        "entity needs entities, the folder of the entities",
                    );
                }
                DecodeFormat::Entity {
                    dir,
                    entity: decode.entity.as_ref().map(|entity| entity.value.clone()),
                }
            }
            Format::Bytes => DecodeFormat::Bytes {
                encoding: decode
                    .encoding
                    .as_ref()
                    .map(|encoding| encoding.value)
                    .unwrap_or_default(),
            },
        }
    }

    fn csv(&mut self, decode: &Decode) -> DecodeFormat {
        let columns = self.needed(decode, decode.columns.as_ref(), "columns");
        let columns: Vec<CsvColumn> = columns
            .into_iter()
            .flat_map(|columns| &columns.value.0)
            .map(|(name, csv_type)| CsvColumn {
                name: name.value.clone(),
                csv_type: *csv_type,
            })
            .collect();
        if let Some(declared) = &decode.columns
            && columns.is_empty()
        {
            self.complaints.at(declared, "columns are missing");
        }
        let delimiter = self.byte(decode.delimiter.as_ref(), "delimiter", b',');
        let quote = self.byte(decode.quote.as_ref(), "quote", b'"');
        if let Some(at) = decode.quote.as_ref().or(decode.delimiter.as_ref())
            && delimiter == quote
        {
            self.complaints.at(at, "delimiter and quote are the same");
        }
        DecodeFormat::Csv {
            columns,
            delimiter,
            quote,
        }
    }

    fn members_max(&mut self, decode: &Decode) -> usize {
        let Some(most) = &decode.max_members else {
            return MEMBERS_MAX as usize;
        };
        if !(1..=100_000).contains(&most.value) {
            self.complaints.at(
                most,
                format!("max_members is {}, expected 1 to 100000", most.value),
            );
        }
        most.value as usize
    }

    /// Options that belong to another format are mistakes.
    fn only_own_options(&mut self, decode: &Decode) {
        let format = decode.format.value;
        let csv = [Format::Csv].as_slice();
        let protobuf = [Format::Protobuf].as_slice();
        let entity = [Format::Entity].as_slice();
        self.belongs(
            decode.max_members.as_ref(),
            "max_members",
            format,
            &[Format::Json, Format::Protobuf],
        );
        self.belongs(decode.columns.as_ref(), "columns", format, csv);
        self.belongs(decode.delimiter.as_ref(), "delimiter", format, csv);
        self.belongs(decode.quote.as_ref(), "quote", format, csv);
        self.belongs(decode.descriptor.as_ref(), "descriptor", format, protobuf);
        self.belongs(decode.message.as_ref(), "message", format, protobuf);
        self.belongs(decode.entities.as_ref(), "entities", format, entity);
        self.belongs(decode.entity.as_ref(), "entity", format, entity);
        self.belongs(
            decode.encoding.as_ref(),
            "encoding",
            format,
            &[Format::Bytes],
        );
    }

    fn belongs<T>(
        &mut self,
        option: Option<&Spanned<T>>,
        name: &str,
        format: Format,
        to: &[Format],
    ) {
        if let Some(option) = option
            && !to.contains(&format)
        {
            let to: Vec<String> = to
                .iter()
                .map(|format| format!("{format:?}").to_lowercase())
                .collect();
            self.complaints
                .at(option, format!("{name} is for format {}", to.join(", ")));
        }
    }

    fn needed<'d, T>(
        &mut self,
        decode: &Decode,
        option: Option<&'d Spanned<T>>,
        name: &str,
    ) -> Option<&'d Spanned<T>> {
        if option.is_none() {
            let format = format!("{:?}", decode.format.value).to_lowercase();
            self.complaints
                .at(&decode.format, format!("{format} needs {name}"));
        }
        option
    }

    fn byte(&mut self, text: Option<&Spanned<String>>, name: &str, default: u8) -> u8 {
        let Some(text) = text else {
            return default;
        };
        match text.value.as_bytes() {
            [byte] if !byte.is_ascii_alphanumeric() && !b"\r\n\0".contains(byte) => *byte,
            _ => {
                self.complaints.at(
                    text,
                    format!(
                        "{name} {:?} must be one character of ASCII, no letter or digit",
                        text.value
                    ),
                );
                default
            }
        }
    }
}
