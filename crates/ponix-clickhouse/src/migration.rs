//! Migrations: goose files in the binary, recorded in goose's own table.
//!
//! The files and the table `goose_db_version` are those of the
//! [goose](https://github.com/pressly/goose) command line, so that it and [`Migrator`] can take
//! turns on one database. What goose does not keep, the checksum of what was applied, is in a
//! table beside it, `ponix_migration_checksums`, which goose never looks at. A migration applied
//! by goose gets its checksum the next time a [`Migrator`] sees it.
//!
//! ClickHouse has neither transactions nor locks. A migration is applied one statement at a time
//! and recorded after its last one, so every statement must be safe to repeat (`IF NOT EXISTS`,
//! `IF EXISTS`), also by two instances at once. Names are unqualified: they belong to the
//! configured database.

mod file;
mod migrator;
mod parse;
mod plan;
mod records;

pub use file::MigrationFile;
pub use migrator::{MigrateError, MigrationState, MigrationStatus, Migrator};
pub use parse::{ParseError, ParseErrorKind, Section, Statement, parse};
pub use plan::Refusal;
