//! The tables of ClickHouse that the pipelines write to: parts and merges.

use ponix_clickhouse::ClickHouseConfig;
use ponix_pipeline::Sink;
use serde_json::{Value, json};

use crate::clickhouse::{Store, cell, quoted};
use crate::print;
use crate::servers::Servers;

/// What ClickHouse says of the tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    tables: Vec<Table>,
    /// Why it says nothing, or not of all.
    unseen: Option<String>,
}

#[derive(Debug)]
struct Table {
    name: String,
    rows: u64,
    bytes: u64,
    parts: u64,
    /// Of the partition that has the most.
    parts_of_partition: u64,
    merges: u64,
}

impl Tables {
    /// Asks; nothing where nothing is stored there.
    pub(super) async fn look(servers: &Servers) -> Self {
        let mut tables = Self::default();
        if let Some(config) = &servers.clickhouse
            && let Err(err) = tables.ask(config, servers).await
        {
            let url = &config.url;
            tables.unseen = Some(format!(
                "ClickHouse at {url} cannot be asked: {err:#} (PONIX_CLICKHOUSE_URL)"
            ));
        }
        tables
    }

    async fn ask(&mut self, config: &ClickHouseConfig, servers: &Servers) -> anyhow::Result<()> {
        let store = Store::new(config)?;
        for pipeline in &servers.documents {
            let Sink::Clickhouse(sink) = &pipeline.sink else {
                continue;
            };
            let database = sink.database.as_ref().unwrap_or(&config.database);
            let name = format!("{database}.{}", sink.table);
            if self.tables.iter().all(|table| table.name != name) {
                let asked = table(&store, name, database, &sink.table);
                let asked = tokio::time::timeout(servers.timeout, asked).await;
                self.tables.push(asked??);
            }
        }
        Ok(())
    }

    pub(super) fn show(&self) {
        let rows: Vec<_> = self.tables.iter().map(Table::row).collect();
        if !rows.is_empty() {
            let head = [
                "TABLE",
                "ROWS",
                "BYTES",
                "PARTS",
                "IN ONE PARTITION",
                "MERGES",
            ];
            print::table(head, &rows);
        }
        if let Some(unseen) = &self.unseen {
            print::line(unseen);
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.unseen {
            Some(unseen) => json!({ "unseen": unseen }),
            None => json!(self.tables.iter().map(Table::to_json).collect::<Vec<_>>()),
        }
    }
}

impl Table {
    fn row(&self) -> [String; 6] {
        [
            self.name.clone(),
            self.rows.to_string(),
            format!("{:.1} MiB", self.bytes as f64 / f64::from(1 << 20)),
            self.parts.to_string(),
            self.parts_of_partition.to_string(),
            self.merges.to_string(),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "table": self.name,
            "rows": self.rows,
            "bytes": self.bytes,
            "parts": self.parts,
            "parts_of_one_partition": self.parts_of_partition,
            "merges": self.merges,
        })
    }
}

async fn table(store: &Store, name: String, database: &str, table: &str) -> anyhow::Result<Table> {
    let place = format!(
        "database = '{}' AND table = '{}'",
        quoted(database),
        quoted(table)
    );
    let sql = format!(
        "SELECT concat(toString(sum(rows)), '\t', toString(sum(bytes)), '\t', toString(sum(parts)), '\t', \
         toString(max(parts)), '\t', toString(assumeNotNull((SELECT count() FROM system.merges WHERE {place})))) \
         FROM (SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts \
         FROM system.parts WHERE active AND {place} GROUP BY partition)"
    );
    let row = store.rows(&sql).await?.into_iter().next();
    let row = row.unwrap_or_default();
    let number = |index| cell(&row, index).parse().unwrap_or_default();
    Ok(Table {
        name,
        rows: number(0),
        bytes: number(1),
        parts: number(2),
        parts_of_partition: number(3),
        merges: number(4),
    })
}
