//! Reads just enough of a statement to send it down the right C function.
//!
//! The engine parses SQL; this module only finds what the C interface wants apart: where the data of an INSERT
//! begins and in which format it is, and which output format a query names.

mod lexer;
#[cfg(test)]
mod tests;

use lexer::{Lexer, Token, TokenKind};

/// What a text is, as far as the choice of the C function goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// An INSERT that brings its own data.
    Insert(Insert),
    /// A query whose result can be fetched block by block: SELECT, also after WITH or in parentheses.
    Select(Output),
    /// Everything else: DDL, SHOW, INSERT … SELECT, also what does not parse.
    Other(Output),
    /// A clause that makes the server read or write files named by the client.
    Refused(Refusal),
}

/// An INSERT taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Insert {
    /// The statement without FORMAT clause and data.
    pub(crate) sql: Vec<u8>,
    /// The format of the data.
    pub(crate) format: String,
    /// Where the data begins in the text; at most the text's length.
    pub(crate) data_at: usize,
}

/// What a query says about its own result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// The format of its FORMAT clause.
    pub(crate) format: Option<String>,
    /// `true` when rows of another kind follow the result (WITH TOTALS), so that it cannot be fetched by block.
    pub(crate) totals: bool,
}

/// Clauses that have no place in a request over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `INSERT … FROM INFILE`
    Infile,
    /// `SELECT … INTO OUTFILE`
    Outfile,
    /// `INSERT … SELECT … FROM input(…) FORMAT …`: libchdb has no way to give it its data.
    Input,
}

/// Looks at `text`, which may hold binary data after the head of an INSERT.
pub(crate) fn inspect(text: &[u8]) -> Statement {
    let mut lexer = Lexer::new(text);
    match lexer.next() {
        Some(first) if first.is_word(text, "INSERT") => inspect_insert(text, lexer),
        Some(first) => {
            let reads = first.kind == TokenKind::Open
                || ["SELECT", "WITH", "FROM"]
                    .iter()
                    .any(|word| first.is_word(text, word));
            match inspect_output(text) {
                Ok(output) if reads => Statement::Select(output),
                Ok(output) => Statement::Other(output),
                Err(refusal) => Statement::Refused(refusal),
            }
        }
        None => Statement::Other(Output::default()),
    }
}

fn inspect_insert(text: &[u8], mut lexer: Lexer<'_>) -> Statement {
    let mut depth = 0_usize;
    let mut previous: Option<Token> = None;
    while let Some(token) = lexer.next() {
        // A table or a database may be called `values` or `format`.
        let is_name = previous.is_some_and(|previous| {
            previous.kind == TokenKind::Dot
                || previous.is_word(text, "INTO")
                || previous.is_word(text, "TABLE")
        });
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            TokenKind::Word if is_name => {}
            TokenKind::Word if token.is_word(text, "SELECT") || token.is_word(text, "WITH") => {
                let opens =
                    depth == 0 || previous.is_some_and(|previous| previous.kind == TokenKind::Open);
                if opens {
                    return inspect_insert_select(text);
                }
            }
            TokenKind::Word if depth > 0 => {}
            TokenKind::Word if token.is_word(text, "INFILE") => {
                return Statement::Refused(Refusal::Infile);
            }
            TokenKind::Word if token.is_word(text, "VALUES") => {
                return Statement::Insert(Insert {
                    sql: text[..token.start].to_vec(),
                    format: "Values".to_owned(),
                    data_at: token.end,
                });
            }
            TokenKind::Word if token.is_word(text, "FORMAT") => {
                return inspect_insert_format(text, token, lexer);
            }
            _ => {}
        }
        previous = Some(token);
    }
    Statement::Other(Output::default())
}

fn inspect_insert_format(text: &[u8], keyword: Token, mut lexer: Lexer<'_>) -> Statement {
    let Some(name) = lexer.next().filter(|token| token.is_name()) else {
        return Statement::Other(Output::default());
    };
    let mut sql = text[..keyword.start].to_vec();
    let mut end = name.end;
    // `FORMAT x SETTINGS a = 1 <data>`: the clause belongs to the statement, not to the data.
    if let Some(settings) = settings_clause(text, name.end) {
        sql.extend_from_slice(&text[settings.0..settings.1]);
        end = settings.1;
    }
    Statement::Insert(Insert {
        sql,
        format: token_text(text, name),
        data_at: data_start(text, end),
    })
}

/// The span of a SETTINGS clause that begins at or after `from`, if there is one.
fn settings_clause(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut lexer = Lexer::starting_at(text, from);
    let keyword = lexer
        .next()
        .filter(|token| token.is_word(text, "SETTINGS"))?;
    let mut end = None;
    loop {
        let name = lexer.next()?;
        let equals = lexer.next()?;
        let value = lexer.next()?;
        if name.kind != TokenKind::Word || &text[equals.start..equals.end] != b"=" {
            return end.map(|end| (keyword.start, end));
        }
        end = Some(value.end);
        match lexer.next() {
            Some(comma) if &text[comma.start..comma.end] == b"," => {}
            _ => return end.map(|end| (keyword.start, end)),
        }
    }
}

/// Skips what separates the format's name from the data: blanks, one semicolon, one line end.
fn data_start(text: &[u8], from: usize) -> usize {
    let mut at = from;
    let skip = |at: &mut usize, bytes: &[u8]| {
        while text.get(*at).is_some_and(|byte| bytes.contains(byte)) {
            *at += 1;
        }
    };
    skip(&mut at, b" \t\x0c");
    if text.get(at) == Some(&b';') {
        at += 1;
        skip(&mut at, b" \t\x0c");
    }
    if text.get(at) == Some(&b'\r') {
        at += 1;
    }
    if text.get(at) == Some(&b'\n') {
        at += 1;
    }
    at
}

fn inspect_insert_select(text: &[u8]) -> Statement {
    let mut previous: Option<Token> = None;
    for token in Lexer::new(text) {
        if token.kind == TokenKind::Open
            && previous.is_some_and(|previous| previous.is_word(text, "INPUT"))
        {
            return Statement::Refused(Refusal::Input);
        }
        previous = Some(token);
    }
    Statement::Other(Output::default())
}

fn inspect_output(text: &[u8]) -> Result<Output, Refusal> {
    let mut output = Output::default();
    let mut depth = 0_usize;
    // The last words outside parentheses: FORMAT counts only when its name ends the query or SETTINGS follows.
    let mut format_at: Option<Token> = None;
    let mut name: Option<Token> = None;
    let mut previous: Option<Token> = None;
    let mut in_settings = false;
    for token in Lexer::new(text) {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            TokenKind::Semicolon => continue,
            _ => {}
        }
        if token.is_word(text, "TOTALS") {
            output.totals = true;
        }
        if depth > 0 {
            previous = Some(token);
            continue;
        }
        if token.is_word(text, "OUTFILE")
            && previous.is_some_and(|previous| previous.is_word(text, "INTO"))
        {
            return Err(Refusal::Outfile);
        }
        if token.is_word(text, "SETTINGS") {
            in_settings = true;
        } else if token.is_word(text, "FORMAT") {
            (format_at, name, in_settings) = (Some(token), None, false);
        } else if format_at.is_some() && name.is_none() && token.is_name() {
            name = Some(token);
        } else if !in_settings {
            (format_at, name) = (None, None);
        }
        previous = Some(token);
    }
    output.format = name.map(|name| token_text(text, name));
    Ok(output)
}

fn token_text(text: &[u8], token: Token) -> String {
    let raw = String::from_utf8_lossy(&text[token.start..token.end]);
    raw.trim_matches(['`', '"']).to_owned()
}
