//! ClickHouse, and the tables of the pipelines.

use jiff::Timestamp;
use ponix_pipeline::{ClickhouseSink, Pipeline, Sink};

use super::Findings;
use super::monitoring::{CLOCK_DIFFERENCE_MAX, FREE_MIN};
use crate::clickhouse::{Store, cell, quoted};
use crate::servers::Servers;

/// The oldest version that stores every JSON object whole.
const VERSION_MIN: (u64, u64) = (25, 8);
/// From so many parts of a partition on merging does not keep up.
const PARTS_MAX: u64 = 300;
/// Behind the name of a table of which shards have parts, see `ponix_clickhouse::layout`.
const LOCAL: &str = "_local";

/// Looks at the server and at every table that a pipeline writes to.
pub(super) async fn look(servers: &Servers, findings: &mut Findings) {
    let Some(config) = &servers.clickhouse else {
        return;
    };
    let about = format!("ClickHouse at {}", config.url);
    let store = match Store::new(config) {
        Ok(store) => store,
        Err(err) => return findings.wrong(about, err.to_string(), "see PONIX_CLICKHOUSE_URL"),
    };
    let server = look_at_server(&store, &about, findings).await;
    if let Err(err) = server {
        findings.wrong(
            about,
            format!("cannot be asked: {err:#}"),
            "is it up, and are PONIX_CLICKHOUSE_URL, _USERNAME, _PASSWORD and _DATABASE right?",
        );
        return;
    }
    for pipeline in &servers.documents {
        if let Sink::Clickhouse(sink) = &pipeline.sink {
            let database = sink.database.as_ref().unwrap_or(&config.database);
            let looked = look_at_table(&store, pipeline, sink, database, findings).await;
            if let Err(err) = looked {
                let about = format!("table {database}.{}", sink.table);
                findings.wrong(
                    about,
                    format!("cannot be looked at: {err:#}"),
                    "may the user read system.tables?",
                );
            }
        }
    }
}

async fn look_at_server(store: &Store, about: &str, findings: &mut Findings) -> anyhow::Result<()> {
    let rows = store
        .rows("SELECT concat(version(), '\t', toString(toUnixTimestamp64Milli(now64(3))))")
        .await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let (version, now) = (cell(&row, 0), cell(&row, 1));
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < VERSION_MIN {
        findings.wrong(
            about,
            format!("is version {version}"),
            "Ponix needs 25.8 or later: before, an object with a dot in a key refuses its whole batch",
        );
    }
    let theirs = Timestamp::from_millisecond(now.parse().unwrap_or_default())?;
    let difference = Timestamp::now().duration_since(theirs).unsigned_abs();
    if difference > CLOCK_DIFFERENCE_MAX {
        findings.wrong(
            "clock",
            format!(
                "ClickHouse and this machine differ by {:.1} s",
                difference.as_secs_f64()
            ),
            "set both by NTP",
        );
    }
    look_at_settings(store, about, findings).await?;
    let disks = "SELECT concat(name, '\t', toString(free_space), '\t', toString(total_space)) \
                 FROM system.disks";
    for row in store.rows(disks).await? {
        let number = |index| cell(&row, index).parse::<f64>().unwrap_or_default();
        let (free, total) = (number(1), number(2));
        if total > 0.0 && free < total * FREE_MIN {
            findings.wrong(
                about,
                format!("disk {} has {:.0} % left", cell(&row, 0), free / total * 100.0),
                "free it or drop old partitions: on a full disk INSERTs are held, and the stream fills",
            );
        }
    }
    Ok(())
}

/// Ponix sets these for each of its INSERTs; it must be allowed to, and other writers should know.
async fn look_at_settings(
    store: &Store,
    about: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let settings = "SELECT concat(name, '\t', value, '\t', toString(readonly)) \
                    FROM system.settings WHERE name IN ('async_insert', 'insert_deduplicate', \
                    'deduplicate_insert', 'readonly') ORDER BY name";
    for row in store.rows(settings).await? {
        let (name, value) = (cell(&row, 0), cell(&row, 1));
        if name == "readonly" {
            if value == "1" {
                findings.wrong(
                    about,
                    "the user is read-only",
                    "give it another profile, with readonly 0 or 2",
                );
            }
        } else if cell(&row, 2) == "1" {
            findings.wrong(
                about,
                format!("{name} is {value}, and the user may not change it"),
                "take the constraint from the user's profile: Ponix sets it for its INSERTs",
            );
        } else if !["0", "disable"].contains(&value) {
            findings.note(
                about,
                format!("{name} is {value} for this user; Ponix turns it off for its INSERTs"),
                "nothing for Ponix; other writers into its tables may lose rows that look alike",
            );
        }
    }
    Ok(())
}

async fn look_at_table(
    store: &Store,
    pipeline: &Pipeline,
    sink: &ClickhouseSink,
    database: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let about = format!("table {database}.{}", sink.table);
    let place = |table: &str| {
        let (database, table) = (quoted(database), quoted(table));
        format!("database = '{database}' AND table = '{table}'")
    };
    let ask = async |place: &str| {
        let table = format!(
            "SELECT concat(engine, '\t', sorting_key, '\t', arrayStringConcat(dependencies_table, ', ')) \
             FROM system.tables WHERE {}",
            place.replace("table =", "name =")
        );
        anyhow::Ok(store.rows(&table).await?.into_iter().next())
    };
    let (mut at, behind) = (place(&sink.table), place(&format!("{}{LOCAL}", sink.table)));
    let mut found = ask(&at).await?;
    if found
        .as_deref()
        .is_some_and(|row| cell(row, 0) == "Distributed")
    {
        // The shard of this server stands for the others.
        found = ask(&behind).await?;
        at = behind;
        if found.is_none() {
            findings.note(
                &about,
                "is Distributed, and what is behind it is not on this server under the name that Ponix gives it",
                "ask a server of the cluster; a start of the pipeline checks the sharding key",
            );
            return Ok(());
        }
    }
    let place = at;
    let Some(row) = found else {
        findings.note(
            &about,
            "is not there",
            format!(
                "a first start of pipeline {} makes it where its schema says so",
                pipeline.name
            ),
        );
        return Ok(());
    };
    let (engine, key, views) = (cell(&row, 0), cell(&row, 1), cell(&row, 2));
    let key: Vec<&str> = key
        .split(',')
        .map(|part| part.trim().trim_matches('`'))
        .collect();
    let exactly_once = pipeline.delivery == ponix_pipeline::Delivery::ExactlyOnce;
    if exactly_once && !engine.contains("ReplacingMergeTree") {
        findings.wrong(
            &about,
            format!("engine {engine} keeps every copy of an event that is inserted twice"),
            "make it a ReplacingMergeTree, or say delivery: at_least_once (docs/tables.md)",
        );
    }
    let own = ["event_id".to_owned()];
    let identity = if sink.identity.is_empty() {
        &own[..]
    } else {
        &sink.identity
    };
    let missing: Vec<_> = identity
        .iter()
        .filter(|name| !key.contains(&name.as_str()))
        .collect();
    if exactly_once && !missing.is_empty() {
        findings.wrong(
            &about,
            format!("its sorting key ({}) has no {missing:?}: events that differ become one, or copies do not", key.join(", ")),
            "order the table by the pipeline's identity (docs/tables.md)",
        );
    }
    if !views.is_empty() {
        findings.note(
            &about,
            format!("views are fed by its INSERTs: {views}"),
            "one that fails lets the INSERT fail though the rows are stored, and it sees copies twice: let it read FINAL, or be idempotent",
        );
    }
    look_at_columns(store, sink, &place, &about, findings).await?;
    let parts = format!(
        "SELECT concat(partition, '\t', toString(count())) FROM system.parts WHERE active AND {place} \
         GROUP BY partition HAVING count() > {PARTS_MAX}"
    );
    for row in store.rows(&parts).await? {
        findings.wrong(
            &about,
            format!(
                "partition {} has {} parts: merging does not keep up",
                cell(&row, 0),
                cell(&row, 1)
            ),
            "larger batches (limits.batch_messages, linger), fewer partitions, or a faster disk",
        );
    }
    Ok(())
}

async fn look_at_columns(
    store: &Store,
    sink: &ClickhouseSink,
    place: &str,
    about: &str,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let columns = format!("SELECT name FROM system.columns WHERE {place}");
    let there = store.rows(&columns).await?;
    let is_there = |name: &str| there.iter().any(|row| cell(row, 0) == name);
    let declared = sink.columns.iter().flatten().map(|(name, _)| name);
    let missing: Vec<_> = declared
        .filter(|name| !is_there(name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        findings.wrong(
            about,
            format!("has no column {}", missing.join(", ")),
            "schema: evolve adds it, or ALTER TABLE … ADD COLUMN",
        );
    }
    Ok(())
}
