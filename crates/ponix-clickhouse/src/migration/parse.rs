//! The format of goose's SQL files.
//!
//! # Source
//! `internal/sqlparser` of goose 3. Three things goose lets pass are errors here: an empty
//! statement, a statement outside any section, and `ENVSUB ON`, because what a migration does must
//! not depend on the environment of who applies it.

use std::fmt;

/// One statement of a migration, without its closing semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The SQL, comments inside it included.
    pub sql: String,
    /// The line of the file it begins on, from 1.
    pub line: usize,
}

/// The two sections of a migration, each in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// What applies it; may be empty.
    pub up: Vec<Statement>,
    /// What reverts it; may be empty.
    pub down: Vec<Statement>,
}

/// A migration file that goose's format does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {kind}")]
pub struct ParseError {
    /// The file's name.
    pub file: String,
    /// The line, from 1; the last one if something is missing at the end.
    pub line: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a migration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The file's name is not digits, an underscore, a description and `.sql`.
    FileName,
    /// Two files have the same version.
    DuplicateVersion,
    /// `-- +goose` with something unknown after it.
    UnknownAnnotation,
    /// An annotation that does not begin in the first column.
    IndentedAnnotation,
    /// `-- +goose ENVSUB ON`.
    EnvironmentSubstitution,
    /// No `-- +goose Up` at all, or something before it.
    UpMissing,
    /// A second `-- +goose Up`, or one after `Down`.
    UpRepeated,
    /// A `-- +goose Down` before `Up`, or a second one.
    DownMisplaced,
    /// A `StatementBegin` outside a section, inside a statement or inside another one.
    BeginMisplaced,
    /// A `StatementEnd` without its begin.
    EndMisplaced,
    /// A `StatementBegin` without its end.
    EndMissing,
    /// A statement without a closing semicolon.
    SemicolonMissing,
    /// A statement with nothing in it.
    EmptyStatement,
}

impl fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileName => "the name must be YYYYMMDDHHMMSS_description.sql",
            Self::DuplicateVersion => "another file has the same version",
            Self::UnknownAnnotation => "unknown annotation after -- +goose",
            Self::IndentedAnnotation => "an annotation must begin in the first column",
            Self::EnvironmentSubstitution => "environment substitution is not supported",
            Self::UpMissing => "-- +goose Up must come first",
            Self::UpRepeated => "-- +goose Up is repeated",
            Self::DownMisplaced => "-- +goose Down must follow -- +goose Up, once",
            Self::BeginMisplaced => "-- +goose StatementBegin is not between two statements",
            Self::EndMisplaced => "-- +goose StatementEnd without StatementBegin",
            Self::EndMissing => "-- +goose StatementEnd is missing",
            Self::SemicolonMissing => "the statement does not end with a semicolon",
            Self::EmptyStatement => "the statement is empty",
        })
    }
}

/// Reads one migration file.
///
/// A statement ends at a line whose last word, comments aside, ends with a semicolon, or is what
/// stands between `StatementBegin` and `StatementEnd`. `NO TRANSACTION` and `ENVSUB OFF` are
/// accepted and mean nothing here. Never panics, whatever the text.
///
/// # Errors
/// The first thing that is wrong, with its line; `file` only names the file in it.
pub fn parse(file: &str, text: &str) -> Result<Section, ParseError> {
    let mut parser = Parser::default();
    for (n, line) in text.lines().enumerate() {
        parser.line = n + 1;
        parser.read(line).map_err(|kind| ParseError {
            file: file.into(),
            line: parser.line,
            kind,
        })?;
    }
    parser.finish().map_err(|(line, kind)| ParseError {
        file: file.into(),
        line,
        kind,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeUp,
    Up,
    Down,
}

#[derive(Default)]
struct Parser {
    section: Section,
    place: Option<Place>,
    /// Inside `StatementBegin`, with its line.
    block: Option<usize>,
    /// The statement so far; empty between two.
    sql: String,
    sql_line: usize,
    line: usize,
}

#[derive(Clone, Copy)]
enum Annotation {
    Up,
    Down,
    StatementBegin,
    StatementEnd,
    Ignored,
}

impl Parser {
    fn place(&self) -> Place {
        self.place.unwrap_or(Place::BeforeUp)
    }

    fn read(&mut self, line: &str) -> Result<(), ParseErrorKind> {
        let is_comment = line.trim_start().starts_with("--");
        if is_comment && line.contains("+goose") {
            return self.annotate(annotation(line)?);
        }
        if self.sql.is_empty() && (is_comment || line.trim().is_empty()) {
            return Ok(());
        }
        if self.place() == Place::BeforeUp {
            return Err(ParseErrorKind::UpMissing);
        }
        if self.sql.is_empty() {
            self.sql_line = self.line;
        }
        self.sql.push_str(line);
        self.sql.push('\n');
        if self.block.is_none() && ends_with_semicolon(line) {
            return self.end_statement();
        }
        Ok(())
    }

    fn annotate(&mut self, annotation: Annotation) -> Result<(), ParseErrorKind> {
        let inside = self.block.is_some();
        match annotation {
            Annotation::Ignored => {}
            Annotation::Up if self.place() != Place::BeforeUp => {
                return Err(ParseErrorKind::UpRepeated);
            }
            Annotation::Up => self.place = Some(Place::Up),
            Annotation::Down if inside || self.place() != Place::Up => {
                return Err(ParseErrorKind::DownMisplaced);
            }
            Annotation::Down if !self.sql.is_empty() => {
                return Err(ParseErrorKind::SemicolonMissing);
            }
            Annotation::Down => self.place = Some(Place::Down),
            Annotation::StatementBegin
                if inside || !self.sql.is_empty() || self.place() == Place::BeforeUp =>
            {
                return Err(ParseErrorKind::BeginMisplaced);
            }
            Annotation::StatementBegin => self.block = Some(self.line),
            Annotation::StatementEnd if !inside => return Err(ParseErrorKind::EndMisplaced),
            Annotation::StatementEnd => {
                self.block = None;
                return self.end_statement();
            }
        }
        Ok(())
    }

    fn end_statement(&mut self) -> Result<(), ParseErrorKind> {
        let sql = self.sql.trim().trim_end_matches(';').trim_end();
        if sql.is_empty() {
            return Err(ParseErrorKind::EmptyStatement);
        }
        let statement = Statement {
            sql: sql.to_owned(),
            line: self.sql_line,
        };
        match self.place() {
            Place::Down => self.section.down.push(statement),
            _ => self.section.up.push(statement),
        }
        self.sql.clear();
        Ok(())
    }

    fn finish(self) -> Result<Section, (usize, ParseErrorKind)> {
        if let Some(begin) = self.block {
            return Err((begin, ParseErrorKind::EndMissing));
        }
        if !self.sql.is_empty() {
            return Err((self.sql_line, ParseErrorKind::SemicolonMissing));
        }
        if self.place() == Place::BeforeUp {
            return Err((self.line.max(1), ParseErrorKind::UpMissing));
        }
        Ok(self.section)
    }
}

fn annotation(line: &str) -> Result<Annotation, ParseErrorKind> {
    if !line.starts_with("--") {
        return Err(ParseErrorKind::IndentedAnnotation);
    }
    let words = line.replace("--", "").replacen("+goose", "", 1);
    let words = words.trim();
    let is = |name: &str| words.eq_ignore_ascii_case(name);
    if is("Up") {
        Ok(Annotation::Up)
    } else if is("Down") {
        Ok(Annotation::Down)
    } else if is("StatementBegin") {
        Ok(Annotation::StatementBegin)
    } else if is("StatementEnd") {
        Ok(Annotation::StatementEnd)
    } else if is("NO TRANSACTION") || is("ENVSUB OFF") {
        Ok(Annotation::Ignored)
    } else if is("ENVSUB ON") {
        Err(ParseErrorKind::EnvironmentSubstitution)
    } else {
        Err(ParseErrorKind::UnknownAnnotation)
    }
}

fn ends_with_semicolon(line: &str) -> bool {
    line.split_whitespace()
        .take_while(|word| !word.starts_with("--"))
        .last()
        .is_some_and(|word| word.ends_with(';'))
}

#[cfg(test)]
mod tests;
