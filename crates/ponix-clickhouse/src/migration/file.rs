//! Migration files, embedded and given.

use super::parse::{ParseError, ParseErrorKind, Section, parse};

/// Name and text of every file in `migrations/`, in the order of their names.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// One migration: a goose file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationFile {
    name: String,
    version: i64,
    checksum: String,
    section: Section,
}

impl MigrationFile {
    /// Reads a file of the name `YYYYMMDDHHMMSS_description.sql`.
    ///
    /// # Errors
    /// A name without a version above zero, or a text that is not goose's format.
    pub fn read(name: &str, text: &str) -> Result<Self, ParseError> {
        let version = version_of(name).ok_or_else(|| ParseError {
            file: name.into(),
            line: 1,
            kind: ParseErrorKind::FileName,
        })?;
        let section = parse(name, text)?;
        Ok(Self {
            name: name.into(),
            version,
            checksum: checksum_of(text),
            section,
        })
    }

    /// Returns the migrations that are part of this crate, oldest first.
    pub fn embedded() -> Vec<Self> {
        EMBEDDED
            .iter()
            .map(|(name, text)| Self::read(name, text))
            .collect::<Result<_, _>>()
            .expect("a unit test reads every embedded file")
    }

    /// Returns the file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number the name begins with.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Returns the BLAKE3 of the text in hexadecimal; CR LF counts as LF.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Returns the statements.
    pub fn section(&self) -> &Section {
        &self.section
    }
}

/// Sorts by version and refuses two files with the same one.
pub(crate) fn in_order(mut files: Vec<MigrationFile>) -> Result<Vec<MigrationFile>, ParseError> {
    files.sort_by_key(MigrationFile::version);
    for pair in files.windows(2) {
        if pair[0].version == pair[1].version {
            return Err(ParseError {
                file: pair[1].name.clone(),
                line: 1,
                kind: ParseErrorKind::DuplicateVersion,
            });
        }
    }
    Ok(files)
}

fn version_of(name: &str) -> Option<i64> {
    let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
    let is_number = !description.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    version
        .parse()
        .ok()
        .filter(|version| is_number && *version > 0)
}

fn checksum_of(text: &str) -> String {
    blake3::hash(text.replace("\r\n", "\n").as_bytes())
        .to_hex()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "-- +goose Up\nSELECT 1;\n";

    #[test]
    fn every_embedded_file_can_be_read_and_reverted() {
        let files = in_order(MigrationFile::embedded()).expect("distinct versions");
        assert!(!files.is_empty());
        for file in files {
            assert!(!file.section().up.is_empty(), "{}", file.name());
            assert!(!file.section().down.is_empty(), "{}", file.name());
        }
    }

    #[test]
    fn the_name_gives_the_version() {
        assert_eq!(
            version_of("20261120000000_create_it.sql"),
            Some(20_261_120_000_000)
        );
        for bad in [
            "x.sql", "1.sql", "1_.sql", "0_a.sql", "-1_a.sql", "+1_a.sql", "1_a.txt", "_a.sql",
        ] {
            assert_eq!(version_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_checksum_is_of_the_text_but_not_of_its_line_ends() {
        let read = |text: &str| MigrationFile::read("1_a.sql", text).expect("a good file");
        assert_eq!(
            read(TEXT).checksum(),
            read(&TEXT.replace('\n', "\r\n")).checksum()
        );
        assert_ne!(
            read(TEXT).checksum(),
            read("-- +goose Up\nSELECT 2;\n").checksum()
        );
    }

    #[test]
    fn two_files_of_one_version_are_refused() {
        let read = |name| MigrationFile::read(name, TEXT).expect("a good file");
        let ordered = in_order(vec![read("2_b.sql"), read("1_a.sql")]).expect("distinct versions");
        assert_eq!(ordered[0].name(), "1_a.sql");
        let error = in_order(vec![read("1_a.sql"), read("1_b.sql")]).expect_err("twice 1");
        assert_eq!(
            error.to_string(),
            "1_b.sql:1: another file has the same version"
        );
    }
}
