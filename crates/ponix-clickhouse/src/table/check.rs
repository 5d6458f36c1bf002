//! Whether a table makes copies of an event one.
//!
//! ClickHouse merges rows with the same sorting key in one partition. So the sorting key must hold
//! the identity, or events that differ would become one; and it and the partition key must be
//! functions of the event, or copies would stay apart.

use super::described::{DefaultKind, Described, Distributed};
use super::{EVENT_ID, Identity, PUBLISHED_AT, STREAM_SEQUENCE, TableConfig};

/// Functions whose result may differ between two deliveries, in lower case.
///
/// # Source
/// `system.functions` of ClickHouse 26.7, those that are not `deterministic`, without those that
/// only look at a column's storage.
const VOLATILE: [&str; 44] = [
    "arraypartialshuffle",
    "arrayrandomsample",
    "arrayshuffle",
    "authenticateduser",
    "authuser",
    "blocknumber",
    "blocksize",
    "buildid",
    "catboostevaluate",
    "chdb",
    "connection_id",
    "connectionid",
    "curdate",
    "database",
    "datetimetouuidv7",
    "displayname",
    "file",
    "fqdn",
    "fullhostname",
    "fuzzbits",
    "hostname",
    "localtime",
    "localtimestamp",
    "now",
    "now64",
    "nowinblock",
    "nowinblock64",
    "obfuscatequery",
    "query_id",
    "queryid",
    "revision",
    "schema",
    "servertimezone",
    "serveruuid",
    "session_user",
    "tcpport",
    "timezone",
    "today",
    "transactionid",
    "uptime",
    "user",
    "version",
    "yesterday",
    "zookeepersessionuptime",
];

/// Beginnings of the names of more of them.
const VOLATILE_FAMILIES: [&str; 17] = [
    "current",
    "default",
    "dictget",
    "dicthas",
    "dictisin",
    "enabled",
    "filesystem",
    "generate",
    "get",
    "initial",
    "joinget",
    "naivebayesclassifier",
    "rand",
    "rownumberin",
    "shard",
    "timeseries",
    "utc",
];

/// Returns what keeps a table from making copies of an event one, in sentences; nothing if it can.
pub(super) fn problems(config: &TableConfig, table: &Described) -> Vec<String> {
    let mut problems = Vec::new();
    if !table.merges_copies() {
        problems.push(match &table.distributed {
            Some(Distributed { engine: None, .. }) => {
                "the table behind this Distributed one is not on this server, so it cannot be looked at"
                    .into()
            }
            _ => format!(
                "engine {} keeps copies, it must be ReplacingMergeTree",
                table.storing_engine()
            ),
        });
    }
    if let Some(Distributed { sharding_key, .. }) = &table.distributed
        && let Some(why) = apart(config, table, sharding_key)
    {
        problems.push(format!(
            "the sharding key ({sharding_key}) may send copies of an event to different shards: {why}"
        ));
    }
    let sorting_key = elements(&table.sorting_key);
    for name in identity(config) {
        match table.column(name) {
            None => problems.push(format!("there is no column {name} for the identity")),
            Some(column) if is_nullable(&column.type_text) => {
                problems.push(format!("column {name} of the identity is Nullable"));
            }
            Some(_) if !sorting_key.iter().any(|element| element == name) => {
                problems.push(format!(
                    "column {name} of the identity is not in the sorting key ({}): events that \
                     differ in it would become one",
                    table.sorting_key
                ));
            }
            Some(_) => {}
        }
    }
    for (key, text) in [
        ("sorting", &table.sorting_key),
        ("partition", &table.partition_key),
    ] {
        if let Some(why) = volatile(config, table, text, 0) {
            problems.push(format!(
                "the {key} key ({text}) is no function of the event: {why}"
            ));
        }
    }
    problems
}

/// Says what in a sharding key may differ between copies of an event: whatever is no column of the
/// sorting key, since only rows that agree in that become one.
fn apart(config: &TableConfig, table: &Described, sharding_key: &str) -> Option<String> {
    let sorting_key = elements(&table.sorting_key);
    let in_neither = tokens(sharding_key)
        .into_iter()
        .find_map(|token| match token {
            Token::Name(name) if table.column(&name).is_some() && !sorting_key.contains(&name) => {
                Some(format!("{name} is not in the sorting key"))
            }
            _ => None,
        });
    volatile(config, table, sharding_key, 0).or(in_neither)
}

/// The columns of the identity.
pub(super) fn identity(config: &TableConfig) -> Vec<&str> {
    match &config.identity {
        Identity::Fields(fields) => fields.iter().map(String::as_str).collect(),
        Identity::Message => vec![EVENT_ID],
    }
}

fn is_nullable(type_text: &str) -> bool {
    type_text.starts_with("Nullable(") || type_text.starts_with("LowCardinality(Nullable(")
}

/// Says what in an expression may differ between copies of an event.
fn volatile(
    config: &TableConfig,
    table: &Described,
    expression: &str,
    depth: usize,
) -> Option<String> {
    for token in tokens(expression) {
        match token {
            Token::Function(name) if is_volatile(&name) => {
                return Some(format!("{name}() differs from one INSERT to the next"));
            }
            Token::Function(_) => {}
            Token::Name(name) => {
                let Some(column) = table.column(&name) else {
                    continue;
                };
                let named = identity(config).contains(&name.as_str());
                let ours = [EVENT_ID, PUBLISHED_AT, STREAM_SEQUENCE].contains(&name.as_str());
                if ours && !named && column.default_kind != DefaultKind::Computed {
                    return Some(format!(
                        "{name} differs when an event is published twice, and is not its identity"
                    ));
                }
                if depth < 10 && column.default_kind != DefaultKind::None {
                    let why = volatile(config, table, &column.default_expression, depth + 1);
                    if let Some(why) = why {
                        return Some(format!("column {name}: {why}"));
                    }
                }
            }
        }
    }
    None
}

pub(super) fn is_volatile(function: &str) -> bool {
    let name = function.to_ascii_lowercase();
    VOLATILE.contains(&name.as_str())
        || VOLATILE_FAMILIES
            .iter()
            .any(|family| name.starts_with(family))
}

/// Splits a key at its commas; names lose their quotes.
fn elements(key: &str) -> Vec<String> {
    // A single one may stand in parentheses.
    let whole = key.strip_prefix('(').and_then(|key| key.strip_suffix(')'));
    let key = whole.filter(|key| !key.contains(['(', ')'])).unwrap_or(key);
    let mut elements = vec![String::new()];
    let mut open = 0;
    let mut quote = None;
    for character in key.chars() {
        match (quote, character) {
            (Some(end), _) if character == end => quote = None,
            (None, '`' | '"' | '\'') => quote = Some(character),
            (None, '(' | '[') => open += 1,
            (None, ')' | ']') => open -= 1,
            (None, ',') if open == 0 => {
                elements.push(String::new());
                continue;
            }
            _ => {}
        }
        elements.last_mut().expect("there is one").push(character);
    }
    let bare = |element: &String| {
        let element = element.trim();
        let name = element
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'));
        name.unwrap_or(element).to_owned()
    };
    elements.iter().map(bare).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Function(String),
    Name(String),
}

/// Finds the names in an expression, as far as columns and functions go.
fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        match first {
            '\'' => rest = behind_quote(rest, '\''),
            '`' | '"' => {
                let behind = behind_quote(rest, first);
                let name = &rest[..rest.len() - behind.len()];
                tokens.push(Token::Name(name.trim_matches(first).to_owned()));
                rest = behind;
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
                let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
                let (name, behind) = rest.split_at(len);
                rest = behind;
                if behind.trim_start().starts_with('(') {
                    tokens.push(Token::Function(name.to_owned()));
                } else {
                    tokens.push(Token::Name(name.to_owned()));
                }
            }
            _ => rest = &rest[first.len_utf8()..],
        }
    }
    tokens
}

fn behind_quote(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == quote {
            return &text[at + character.len_utf8()..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::described::DescribedColumn;
    use crate::table::{Delivery, Schema, UnknownFields};

    fn config(identity: &[&str]) -> TableConfig {
        TableConfig {
            database: None,
            table: "t".into(),
            partition_by: None,
            columns: None,
            identity: if identity.is_empty() {
                Identity::Message
            } else {
                Identity::Fields(identity.iter().map(|name| (*name).into()).collect())
            },
            unknown_fields: UnknownFields::Reject,
            schema: Schema::Require,
            delivery: Delivery::ExactlyOnce,
        }
    }

    fn table(engine: &str, sorting_key: &str, partition_key: &str) -> Described {
        let column = |name: &str, type_text: &str, default: &str| DescribedColumn {
            name: name.into(),
            type_text: type_text.into(),
            default_kind: if default.is_empty() {
                DefaultKind::None
            } else {
                DefaultKind::Default
            },
            default_expression: default.into(),
        };
        Described {
            engine: engine.into(),
            distributed: None,
            sorting_key: sorting_key.into(),
            partition_key: partition_key.into(),
            columns: vec![
                column("meter", "String", ""),
                column("read_at", "DateTime", ""),
                column("read at", "DateTime", ""),
                column("note", "LowCardinality(Nullable(String))", ""),
                column("stored_at", "DateTime", "now()"),
                column("month", "UInt32", "toYYYYMM(stored_at)"),
                column("day", "Date", "toDate(read_at, 'now()')"),
                column("event_id", "UUID", ""),
                column("published_at", "DateTime64(9)", ""),
            ],
        }
    }

    #[test]
    fn tables_that_absorb_copies_pass() {
        for (identity, sorting_key, partition_key) in [
            (
                vec!["meter", "read_at"],
                "meter, read_at",
                "toYYYYMM(read_at)",
            ),
            (
                vec!["meter", "read at"],
                "toDate(`read at`), `read at`, meter",
                "day",
            ),
            (vec![], "meter, event_id", ""),
            (vec!["event_id"], "(event_id)", ""),
            (vec!["meter"], "meter, day", "(day, sipHash64(meter) % 8)"),
        ] {
            for engine in [
                "ReplacingMergeTree",
                "ReplicatedReplacingMergeTree",
                "SharedReplacingMergeTree",
            ] {
                let table = table(engine, sorting_key, partition_key);
                assert_eq!(problems(&config(&identity), &table), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn behind_a_distributed_table_copies_must_meet_on_one_shard() {
        let problems = |engine: Option<&str>, sharding_key: &str| {
            let distributed = Distributed {
                engine: engine.map(str::to_owned),
                sharding_key: sharding_key.into(),
            };
            let table = Described {
                distributed: Some(distributed),
                ..table("Distributed", "meter, read_at", "")
            };
            problems(&config(&["meter", "read_at"]), &table)
        };
        let good = Some("ReplicatedReplacingMergeTree");
        for key in ["", "sipHash64(meter)", "sipHash64(meter, read_at)", "1"] {
            assert_eq!(problems(good, key), Vec::<String>::new(), "{key}");
        }
        for (engine, key, problem) in [
            (
                good,
                "rand()",
                "(rand()) may send copies of an event to different shards: rand()",
            ),
            (good, "sipHash64(day)", "day is not in the sorting key"),
            (
                good,
                "sipHash64(meter, published_at)",
                "published_at differs",
            ),
            (Some("MergeTree"), "", "engine MergeTree keeps copies"),
            (None, "", "is not on this server"),
        ] {
            let found = problems(engine, key);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(problem), "{found:?}");
        }
    }

    #[test]
    fn each_reason_for_copies_to_stay_is_told() {
        let good = "ReplacingMergeTree";
        for (identity, engine, sorting_key, partition_key, problem) in [
            (
                vec!["meter"],
                "MergeTree",
                "meter",
                "",
                "engine MergeTree keeps copies",
            ),
            (
                vec!["meter", "read_at"],
                good,
                "meter",
                "",
                "column read_at of the identity is not in the sorting key (meter)",
            ),
            (
                vec!["read_at"],
                good,
                "toDate(read_at)",
                "",
                "column read_at of the identity is not in the sorting key",
            ),
            (
                vec!["note"],
                good,
                "note",
                "",
                "column note of the identity is Nullable",
            ),
            (
                vec!["gone"],
                good,
                "meter",
                "",
                "there is no column gone for the identity",
            ),
            (
                vec![],
                good,
                "meter",
                "",
                "column event_id of the identity is not in the sorting key",
            ),
            (
                vec!["meter"],
                good,
                "meter, rand()",
                "",
                "the sorting key (meter, rand()) is no function of the event: rand() differs",
            ),
            (
                vec!["meter"],
                good,
                "meter",
                "toYYYYMM(now())",
                "the partition key (toYYYYMM(now())) is no function of the event",
            ),
            (
                vec!["meter"],
                good,
                "meter",
                "toDate(stored_at)",
                "column stored_at: now() differs",
            ),
            (
                vec!["meter"],
                good,
                "meter",
                "month",
                "column month: column stored_at: now() differs",
            ),
            (
                vec!["meter"],
                good,
                "meter",
                "toDate(published_at)",
                "published_at differs when an event is published twice",
            ),
            (
                vec!["meter"],
                good,
                "meter, event_id",
                "",
                "event_id differs when an event is published twice",
            ),
        ] {
            let found = problems(
                &config(&identity),
                &table(engine, sorting_key, partition_key),
            );
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(problem), "{found:?}");
        }
    }
}
