//! Standard output and standard error.
//!
//! Nobody need read to the end: what cannot be printed any more is not an error.

use std::io::{IsTerminal as _, Write as _};

/// What a line is printed in on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
}

/// Prints a line of the result.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a text that ends its last line itself.
pub(crate) fn text(text: &str) {
    let _ = write!(std::io::stdout(), "{text}");
}

/// Prints a line of the result, on a terminal in a colour unless `NO_COLOR` is set.
pub(crate) fn coloured(colour: Colour, text: &str) {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_plain || !std::io::stdout().is_terminal() {
        return line(text);
    }
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
    };
    line(&format!("\x1b[{code}m{text}\x1b[0m"));
}

/// Prints an object on a line of its own.
pub(crate) fn json(value: &serde_json::Value) {
    line(&value.to_string());
}

/// Prints an object on a line of its own, and tells whether anybody reads.
pub(crate) fn try_json(value: &serde_json::Value) -> bool {
    let mut out = std::io::stdout();
    writeln!(out, "{value}").and_then(|()| out.flush()).is_ok()
}

/// Prints a line beside the result.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints why a command failed.
pub(crate) fn error(text: &str) {
    note(&format!("ponix: {text}"));
}

/// Prints rows under a head, each column as wide as its widest cell; the last one is not filled up.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let cells = |row: [&str; N]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(index, (cell, width))| {
            let width = if index + 1 == N { 0 } else { width };
            format!("{cell:<width$}")
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    line(&cells(head));
    for row in rows {
        line(&cells(row.each_ref().map(String::as_str)));
    }
}
