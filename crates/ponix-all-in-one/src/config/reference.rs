//! The reference, `docs/configuration.md`, from the declarations.

use std::fmt::Write as _;

use super::variables::Variable;

/// Returns the whole file.
pub(crate) fn markdown(variables: &[Variable]) -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Environment variables alone. Times are in seconds, sizes in bytes. `ponix-all-in-one check-config`\n\
         prints the values that count, and everything that is wrong with them. A secret may also be read\n\
         from a file: set the variable's name with `_FILE` behind it to the path.\n\n\
         This page is written by `ponix-all-in-one check-config --reference`; a test keeps it equal to the code.\n",
    );
    let mut section = "";
    for variable in variables {
        let next = section_of(&variable.name);
        if next != section {
            section = next;
            let _ = write!(
                text,
                "\n## {section}\n\n| variable | default | value | meaning |\n|---|---|---|---|\n"
            );
        }
        let default = if variable.default.is_empty() {
            String::new()
        } else {
            format!("`{}`", variable.default)
        };
        let default = if variable.secret && !variable.default.is_empty() {
            format!("{default} (for local use)")
        } else {
            default
        };
        let _ = writeln!(
            text,
            "| `{}` | {default} | {} | {} |",
            variable.name,
            variable.expected,
            variable.meaning.replace('|', "\\|")
        );
    }
    text
}

fn section_of(name: &str) -> &'static str {
    if name.starts_with("PONIX_NATS_") {
        "NATS"
    } else if name.starts_with("PONIX_CLICKHOUSE_") {
        "ClickHouse"
    } else if name.starts_with("PONIX_INGEST_") {
        "HTTP API"
    } else if name.starts_with("PONIX_MESSAGES_") {
        "Messages"
    } else if name.starts_with("PONIX_POSTGRES_") {
        "PostgreSQL"
    } else {
        "Service"
    }
}
