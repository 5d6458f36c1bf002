//! One server for all tests, a database for each.

use std::sync::Arc;
use std::time::Duration;

use ponix_clickhouse::{
    ClickHouseConfig, ClickHouseMetrics, Client, EnvelopeRow, EnvelopeSink, InsertResult, Migrator,
    RequestError,
};
use ponix_sink::{Around, Attempt, ErrorClass, RejectGuard, RowOutcome, Sink as _, WriteError};
use ponix_stack::ClickHouse;
use ponix_wire::DecodedEnvelope;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// 2026-01-01T00:00:00Z
pub(crate) const NEW_YEAR_NS: i64 = 1_767_225_600 * 1_000_000_000;

static SERVER: OnceCell<ClickHouse> = OnceCell::const_new();

/// The server that all tests share which do not harm it.
pub(crate) async fn server() -> &'static ClickHouse {
    SERVER
        .get_or_init(|| async { ClickHouse::start().await.expect("it starts") })
        .await
}

/// Where a database on a server is, with short pauses between retries.
pub(crate) fn config(server: &ClickHouse, database: &str) -> ClickHouseConfig {
    ClickHouseConfig {
        url: server.url(),
        database: database.into(),
        username: server.user().into(),
        password: server.password().into(),
        retry_backoff_min: Duration::from_millis(5),
        retry_backoff_max: Duration::from_millis(50),
        ..ClickHouseConfig::default()
    }
}

/// A client of a database that does not exist yet.
pub(crate) async fn client(database: &str) -> Client {
    Client::new(&config(server().await, database)).expect("a valid configuration")
}

/// A database with the tables, and a sink into it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) client: Client,
    pub(crate) sink: EnvelopeSink,
    pub(crate) guard: Arc<RejectGuard>,
    pub(crate) metrics: ClickHouseMetrics,
}

impl Store {
    /// On the shared server.
    pub(crate) async fn new(database: &str) -> Self {
        Self::with(client(database).await).await
    }

    pub(crate) async fn with(client: Client) -> Self {
        Migrator::new(&client)
            .up()
            .await
            .expect("the migrations pass");
        Self::without_tables(client)
    }

    pub(crate) fn without_tables(client: Client) -> Self {
        let metrics = ClickHouseMetrics::default();
        let sink = EnvelopeSink::new(&client, metrics.clone());
        Self {
            client,
            sink,
            guard: Arc::default(),
            metrics,
        }
    }

    /// Writes once.
    pub(crate) async fn write(&self, rows: &[EnvelopeRow]) -> Result<Vec<RowOutcome>, WriteError> {
        self.write_unless(rows, &CancellationToken::new()).await
    }

    /// Writes once, unless told to give up.
    pub(crate) async fn write_unless(
        &self,
        rows: &[EnvelopeRow],
        give_up: &CancellationToken,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        let attempt = Attempt {
            guard: &self.guard,
            around: Around::default(),
            give_up,
        };
        let rows = self.sink.encode(rows.to_vec()).await?;
        self.sink.write(&rows, attempt).await
    }

    /// Writes again and again while the failure may pass.
    pub(crate) async fn write_patiently(&self, rows: &[EnvelopeRow]) -> Vec<RowOutcome> {
        loop {
            match self.write(rows).await {
                Ok(outcomes) => return outcomes,
                Err(WriteError::Unusable {
                    class: ErrorClass::Transient,
                    ..
                }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(err) => panic!("{err:?}"),
            }
        }
    }

    /// Makes the server refuse INSERTs with a code, if a condition on the rows of one holds.
    ///
    /// It is a view that fails, so the rows are stored all the same; readers see them once.
    pub(crate) async fn plant(&self, code: u32, condition: &str) {
        self.execute("CREATE TABLE planted (x UInt8) ENGINE = Null")
            .await;
        self.execute(&format!(
            "CREATE MATERIALIZED VIEW planting TO planted AS \
             SELECT throwIf({condition}, 'planted', {code}::Int16) AS x FROM processed_envelopes \
             SETTINGS allow_custom_error_code_in_throwif = 1"
        ))
        .await;
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client.raw().query_raw(sql).execute().await.expect(sql);
    }

    pub(crate) async fn number(&self, sql: &str) -> u64 {
        self.client
            .raw()
            .query_raw(sql)
            .fetch_one()
            .await
            .expect(sql)
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        let query = self.client.raw().query_raw(sql);
        query
            .with_setting("json_type_escape_dots_in_keys", "1")
            .fetch_one()
            .await
            .expect(sql)
    }

    /// Keeps copies as they are.
    pub(crate) async fn stop_merges(&self) {
        self.execute("SYSTEM STOP MERGES processed_envelopes").await;
    }

    /// Rows that readers see.
    pub(crate) async fn envelopes(&self) -> u64 {
        self.number("SELECT count() FROM envelopes").await
    }

    /// Rows with the copies; those that are not merged yet, see [`Store::stop_merges`].
    pub(crate) async fn copies(&self) -> u64 {
        self.number("SELECT count() FROM processed_envelopes").await
    }

    /// INSERTs so far, however they ended.
    pub(crate) fn inserts(&self) -> u64 {
        use InsertResult::{Fatal, Ok, Rejected, Transient};
        [Ok, Transient, Rejected, Fatal]
            .map(|result| self.metrics.inserts(result))
            .iter()
            .sum()
    }
}

/// The rejected rows: where they stand, and the code.
pub(crate) fn rejected(outcomes: &[RowOutcome]) -> Vec<(usize, u32)> {
    let code = |text: &str| {
        let text = text.strip_prefix("Code: ")?;
        text.split_once('.')?.0.parse().ok()
    };
    let rows = outcomes.iter().enumerate();
    rows.filter_map(|(index, outcome)| match outcome {
        RowOutcome::Rejected(rejection) => {
            Some((index, code(&rejection.text).expect("a code in front")))
        }
        _ => None,
    })
    .collect()
}

/// The code that made a write fail as a whole.
pub(crate) fn code(error: &WriteError) -> Option<u32> {
    match error {
        WriteError::Unusable { source, .. } => source.downcast_ref::<RequestError>()?.code(),
        WriteError::RefusedAlike { source, .. } => source.code.parse().ok(),
        _ => None,
    }
}

/// A row that is like no other of its test, with some data.
pub(crate) fn row(n: u64, data_json: impl Into<String>) -> EnvelopeRow {
    let occurred_at_ns = NEW_YEAR_NS + n as i64 * 1_000_000;
    EnvelopeRow {
        envelope: DecodedEnvelope {
            organization_id: "org".into(),
            end_device_id: format!("device-{}", n % 100),
            occurred_at_ns,
            processed_at_ns: occurred_at_ns + 1_000,
            data_json: data_json.into(),
            event_id: None,
        },
        event_id: Uuid::from_u128(u128::from(n) + 1),
        published_at_ns: occurred_at_ns + 1_000_000,
        stream_sequence: n + 1,
    }
}

/// Good rows.
pub(crate) fn rows(count: u64) -> Vec<EnvelopeRow> {
    (0..count)
        .map(|n| row(n, format!(r#"{{"temperature":{n}.5}}"#)))
        .collect()
}

/// Data that a JSON column refuses: the escaped name of the first key is the second.
pub(crate) const REFUSED_JSON: &str = r#"{"a.b":1.0,"a%2Eb":2.0}"#;

/// A text for a JSON value that LZ4 cannot make much smaller.
pub(crate) fn noise(bytes: usize) -> String {
    let mut random = 1u64;
    std::iter::repeat_with(|| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b' ' + ((random >> 33) % 90) as u8)
    })
    .filter(|character| !matches!(character, '"' | '\\'))
    .take(bytes)
    .collect()
}
