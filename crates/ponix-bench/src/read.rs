//! `read`: what it costs that readers see every event once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_clickhouse::{Client, Migrator};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::ReadArgs;
use crate::progress::{Progress, say};
use crate::report;
use crate::servers::{Counts, Servers};

/// The events lie in the two months from here on, two partitions of the table.
const FIRST: &str = "2026-01-01 00:00:00";
const DAYS: u64 = 59;

/// One reading of one device on its last day.
const LAST_DAY: &str = "
    SELECT count(), coalesce(sum(data.temperature.:Float64), 0.) FROM {from}
    WHERE organization_id = 'org-7' AND end_device_id = 'sensor-000007'
      AND occurred_at >= (SELECT max(occurred_at) FROM processed_envelopes) - INTERVAL 1 DAY";
/// The average of one reading of all devices in every minute there is.
const PER_MINUTE: &str = "
    SELECT count(), coalesce(sum(average), 0.) FROM (
        SELECT toStartOfMinute(occurred_at) AS minute, avg(data.temperature.:Float64) AS average
        FROM {from} GROUP BY minute)";

/// As in the view; the table without FINAL does not care.
const FINAL_PER_PARTITION: &str = " SETTINGS do_not_merge_across_partitions_select_final = 1";

#[derive(Debug, Serialize)]
struct ReadResult {
    events: u64,
    duplicates: u64,
    fresh: State,
    merged: State,
}

/// What reading takes while the table is in one state.
#[derive(Debug, Serialize)]
struct State {
    parts: u64,
    counts: Counts,
    last_day: Comparison,
    per_minute: Comparison,
}

/// The median of the runs of one query.
#[derive(Debug, Serialize)]
struct Comparison {
    table_ms: f64,
    /// The table with FINAL: what being read once costs, without the view around it.
    final_ms: f64,
    final_ratio: f64,
    view_ms: f64,
    view_ratio: f64,
}

/// Runs the measurement, prints and writes its result.
///
/// # Errors
/// The server fails, or the view does not show every event once.
pub(crate) async fn run(args: &ReadArgs) -> Result<()> {
    let servers = Servers::start().await?;
    Migrator::new(servers.client()).up().await?;
    let database = Database {
        client: servers.client(),
    };
    // The parts stay as they were inserted until they are to be merged.
    database
        .execute("SYSTEM STOP MERGES processed_envelopes")
        .await?;
    let duplicates = database.fill(args).await?;
    say("reading fresh parts");
    let fresh = database.state(&servers, args).await?;
    say("merging");
    database
        .execute("SYSTEM START MERGES processed_envelopes")
        .await?;
    database
        .execute("OPTIMIZE TABLE processed_envelopes FINAL")
        .await?;
    say("reading merged parts");
    let merged = database.state(&servers, args).await?;

    let result = ReadResult {
        events: args.rows,
        duplicates,
        fresh,
        merged,
    };
    for (name, state) in [("fresh", &result.fresh), ("merged", &result.merged)] {
        print(name, state);
        let Counts {
            events,
            distinct_events,
            ..
        } = state.counts;
        ensure!(
            events == args.rows && distinct_events == args.rows,
            "{name}: of {} events {events} are readable, {distinct_events} distinct",
            args.rows
        );
    }
    report::write("read", args.json.as_deref(), &result)
}

#[derive(Debug)]
struct Database<'a> {
    client: &'a Client,
}

impl Database<'_> {
    async fn execute(&self, sql: &str) -> Result<()> {
        let done = self.client.raw().query(sql).execute().await;
        done.with_context(|| sql.chars().take(60).collect::<String>())
    }

    /// Stores the events, then some of them a second time; returns how many.
    async fn fill(&self, args: &ReadArgs) -> Result<u64> {
        let mut progress = Progress::new("rows", args.rows);
        let mut from = 0;
        while from < args.rows {
            let to = args.rows.min(from + args.rows_per_part);
            self.execute(&insert(args, &format!("numbers({from}, {})", to - from)))
                .await?;
            progress.set(to);
            from = to;
        }
        progress.finish();
        let duplicates = args.rows * args.duplicates_percent / 100;
        if let Some(every) = args.rows.checked_div(duplicates) {
            let again = format!("(SELECT number * {every} AS number FROM numbers({duplicates}))");
            self.execute(&insert(args, &again)).await?;
        }
        Ok(duplicates)
    }

    async fn state(&self, servers: &Servers, args: &ReadArgs) -> Result<State> {
        let parts = "SELECT count() FROM system.parts \
                     WHERE active AND database = currentDatabase() AND table = 'processed_envelopes'";
        Ok(State {
            parts: self
                .client
                .raw()
                .query(parts)
                .fetch_one()
                .await
                .context("count the parts")?,
            counts: servers.counts().await?,
            last_day: self.compare(LAST_DAY, args.runs).await?,
            per_minute: self.compare(PER_MINUTE, args.runs).await?,
        })
    }

    /// The sources in turns, so that whatever else the machine does meets all of them.
    async fn compare(&self, sql: &str, runs: u64) -> Result<Comparison> {
        let (mut table, mut table_final, mut view) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            table.push(self.time(sql, "processed_envelopes").await?);
            table_final.push(self.time(sql, "processed_envelopes FINAL").await?);
            view.push(self.time(sql, "envelopes").await?);
        }
        let [table_ms, final_ms, view_ms] = [table, table_final, view].map(median_ms);
        let ratio = |ms: f64| (ms / table_ms * 100.0).round() / 100.0;
        let (final_ratio, view_ratio) = (ratio(final_ms), ratio(view_ms));
        Ok(Comparison {
            table_ms,
            final_ms,
            final_ratio,
            view_ms,
            view_ratio,
        })
    }

    async fn time(&self, sql: &str, from: &str) -> Result<Duration> {
        let start = Instant::now();
        let sql = sql.replace("{from}", from) + FINAL_PER_PARTITION;
        let (rows, _): (u64, f64) = self
            .client
            .raw()
            .query(&sql)
            .fetch_one()
            .await
            .context("read")?;
        ensure!(rows > 0, "the query found nothing in {from}");
        Ok(start.elapsed())
    }
}

/// The INSERT of the events of these numbers. An event is a function of its number, but for what a
/// second publish changes: a copy has the same identity and a later publish time.
fn insert(args: &ReadArgs, numbers: &str) -> String {
    let devices = args.devices;
    let step_ns = DAYS * 86_400_000_000_000 / args.rows;
    format!(
        r#"INSERT INTO processed_envelopes (organization_id, end_device_id, occurred_at, processed_at,
            data, event_id, published_at, stream_sequence)
        SELECT concat('org-', toString(number % {devices} % 10)),
            concat('sensor-', leftPad(toString(number % {devices}), 6, '0')),
            toDateTime64('{FIRST}', 9, 'UTC') + toIntervalNanosecond(number * {step_ns}) AS occurred,
            occurred,
            concat('{{"battery_mv":', toString(2900 + number % 1300), '.0',
                ',"door_open":', if(number % 10 = 0, 'true', 'false'),
                ',"firmware":"2.4.1-rc3+build.77"',
                ',"humidity_percent":', toString(20 + sipHash64(number, 1) % 75), '.25',
                ',"pressure_hpa":', toString(980 + sipHash64(number, 2) % 60), '.31',
                ',"rssi_dbm":-', toString(40 + sipHash64(number, 3) % 80), '.0',
                ',"temperature":', toString(sipHash64(number, 4) % 45), '.', toString(100 + number % 900),
                ',"uptime_seconds":', toString(sipHash64(number, 5) % 31000000), '.0}}'),
            reinterpretAsUUID(sipHash128(number)),
            now64(9),
            number
        FROM {numbers}
        SETTINGS json_type_escape_dots_in_keys = 1, async_insert = 0, insert_deduplicate = 0"#
    )
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median.as_secs_f64() * 100_000.0).round() / 100.0
}

fn print(name: &str, state: &State) {
    report::line(
        name,
        format_args!("{} parts, {} rows", state.parts, state.counts.stored_rows),
    );
    for (query, times) in [
        ("last day of a device", &state.last_day),
        ("average per minute", &state.per_minute),
    ] {
        let Comparison {
            table_ms,
            final_ms,
            final_ratio,
            view_ms,
            view_ratio,
        } = times;
        report::line(query, format_args!("table {table_ms} ms"));
        report::line(
            "  with FINAL",
            format_args!("{final_ms} ms, {final_ratio} times"),
        );
        report::line(
            "  the view",
            format_args!("{view_ms} ms, {view_ratio} times"),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::median_ms;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let times = [9, 1, 5].map(Duration::from_millis).to_vec();
        assert!((median_ms(times) - 5.0).abs() < f64::EPSILON);
        assert!(median_ms(Vec::new()).abs() < f64::EPSILON);
    }
}
