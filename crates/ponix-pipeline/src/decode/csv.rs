//! `format: csv`: one line of values.

use serde_json::{Number, Value as Json};

use super::bytes::text;
use super::{DecodeError, FieldMap, Reason};
use crate::spec::{CsvColumn, CsvType};

/// Reads lines of values.
#[derive(Debug)]
pub(super) struct Csv {
    columns: Vec<CsvColumn>,
    delimiter: char,
    quote: char,
}

/// A value of a line; one that stood in quotes is there even if it is empty.
#[derive(Debug, PartialEq, Eq)]
struct Cell {
    text: String,
    is_quoted: bool,
}

impl Csv {
    pub(super) fn new(columns: Vec<CsvColumn>, delimiter: u8, quote: u8) -> Self {
        Self {
            columns,
            delimiter: char::from(delimiter),
            quote: char::from(quote),
        }
    }

    pub(super) fn decode(&self, payload: &[u8]) -> Result<FieldMap, DecodeError> {
        let line = text(payload)?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let wrong = |text| DecodeError::new(Reason::Decode, text);
        let cells = self.cells(line).map_err(wrong)?;
        let (found, expected) = (cells.len(), self.columns.len());
        if found != expected {
            return Err(wrong(format!("{found} values, expected {expected}")));
        }
        let mut fields = FieldMap::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            let value = value(column.csv_type, cell).map_err(|what| {
                let text = format!("{} is not {what}", column.name);
                DecodeError::new(Reason::Value, text)
            })?;
            fields.insert(column.name.clone(), value);
        }
        Ok(fields)
    }

    fn cells(&self, line: &str) -> Result<Vec<Cell>, String> {
        let mut cells = Vec::with_capacity(self.columns.len());
        let mut rest = line;
        loop {
            let is_quoted = rest.starts_with(self.quote);
            let (text, after) = if is_quoted {
                self.quoted(&rest[1..])
                    .ok_or_else(|| format!("value {} has no closing quote", cells.len() + 1))?
            } else {
                let end = rest
                    .find([self.delimiter, '\n', '\r'])
                    .unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            };
            if !is_quoted && text.contains(self.quote) {
                return Err(format!(
                    "value {} has a quote inside: put it in quotes",
                    cells.len() + 1
                ));
            }
            cells.push(Cell { text, is_quoted });
            match after.chars().next() {
                None => return Ok(cells),
                Some(next) if next == self.delimiter => rest = &after[1..],
                Some('\n' | '\r') => return Err("more than one line".to_owned()),
                Some(_) => {
                    return Err(format!(
                        "value {} goes on behind its closing quote",
                        cells.len()
                    ));
                }
            }
        }
    }

    /// The text up to the closing quote, and what stands behind it. A quote in it is doubled.
    fn quoted<'a>(&self, text: &'a str) -> Option<(String, &'a str)> {
        let mut found = String::new();
        let mut rest = text;
        loop {
            let (before, after) = rest.split_once(self.quote)?;
            found.push_str(before);
            match after.strip_prefix(self.quote) {
                Some(after) => {
                    found.push(self.quote);
                    rest = after;
                }
                None => return Some((found, after)),
            }
        }
    }

    /// A line with these fields.
    pub(super) fn encode(&self, fields: &Json) -> Result<Vec<u8>, String> {
        let Json::Object(fields) = fields else {
            return Err("the fields of a line are a mapping".to_owned());
        };
        let names = || self.columns.iter().map(|column| &column.name);
        if let Some(unknown) = fields
            .keys()
            .find(|name| !names().any(|known| known == *name))
        {
            return Err(format!("{unknown:?} is no column"));
        }
        let cells = names().map(|name| match fields.get(name) {
            None | Some(Json::Null) => String::new(),
            Some(Json::String(text)) => self.in_quotes(text),
            Some(other) => self.in_quotes(&other.to_string()),
        });
        let cells: Vec<String> = cells.collect();
        Ok(cells.join(&self.delimiter.to_string()).into_bytes())
    }

    fn in_quotes(&self, text: &str) -> String {
        let quote = self.quote;
        if !text.is_empty() && !text.contains([self.delimiter, quote, '\n', '\r']) {
            return text.to_owned();
        }
        let doubled = text.replace(quote, &format!("{quote}{quote}"));
        format!("{quote}{doubled}{quote}")
    }
}

fn value(csv_type: CsvType, cell: Cell) -> Result<Json, &'static str> {
    if cell.text.is_empty() && !cell.is_quoted {
        return Ok(Json::Null);
    }
    let text = cell.text.trim();
    match csv_type {
        CsvType::Text => Ok(Json::String(cell.text)),
        CsvType::Integer => {
            let signed = text.parse::<i64>().map(Json::from);
            let number = signed.or_else(|_| text.parse::<u64>().map(Json::from));
            number.map_err(|_| "a whole number of 64 bits")
        }
        CsvType::Number => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map(Json::Number).ok_or("a finite number")
        }
        CsvType::Boolean => match text {
            "true" => Ok(Json::Bool(true)),
            "false" => Ok(Json::Bool(false)),
            _ => Err("true or false"),
        },
        CsvType::Json => serde_json::from_str(text).map_err(|_| "JSON"),
    }
}
