//! The life of the stack: servers, service, a signal or a death, and the end in reverse order.

use std::convert::Infallible;
use std::fs::{File, TryLockError, create_dir_all};
use std::future::pending;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ponix_runner::Signals;
use ponix_stack::{
    ClickHouse, Nats, Postgres, Process, Server, Signal, http_get, workspace_binary,
};
use tokio::select;
use tokio::time::sleep;

use crate::settings::Settings;
use crate::{complain, say};

/// How often servers are looked after.
const LOOK: Duration = Duration::from_millis(200);
/// More than the service takes at most: its grace time, the hard stop and its closers.
const SERVICE_STOP_TIMEOUT: Duration = Duration::from_mins(1);
const FAILED: u8 = 1;

/// Runs the stack until a signal, or until a part of it ends. Returns the exit code.
///
/// # Errors
///
/// A part did not start, or did not stop; everything is stopped by then.
pub(crate) async fn run(settings: &Settings) -> Result<u8> {
    let mut signals = Signals::install().context("handle signals")?;
    create_dir_all(&settings.data_dir)
        .with_context(|| format!("make {}", settings.data_dir.display()))?;
    let _lock = lock(settings)?;

    let servers = select! {
        servers = start_servers(settings) => servers?,
        _ = signals.recv() => {
            say("ponix-up: stopped before it was up");
            return Ok(0);
        }
    };
    let code = match start_service(settings) {
        Ok(service) => serve(settings, &mut signals, &servers, &service).await,
        Err(error) => Err(error),
    };
    // All are stopped whatever happened, and whatever happens to one of them.
    let mut stopped = Vec::new();
    for (_, server) in servers.all() {
        stopped.push(server.stop().await);
    }
    let code = code?;
    stopped.into_iter().collect::<Result<Vec<_>>>()?;
    let data = settings.data_dir.display();
    say(format_args!("ponix-up: stopped, the data stays in {data}"));
    Ok(code)
}

/// Two stacks on the same data would ruin it, whatever their ports.
fn lock(settings: &Settings) -> Result<File> {
    let path = settings.data_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another ponix-up uses {} (PONIX_UP_DATA_DIR names another)",
            settings.data_dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// What the service needs.
struct Servers {
    nats: Nats,
    clickhouse: ClickHouse,
    postgres: Option<Postgres>,
}

impl Servers {
    /// Each with its name, in the order in which they are stopped.
    fn all(&self) -> Vec<(&'static str, &Server)> {
        let postgres = self
            .postgres
            .as_deref()
            .map(|server| ("postgresql", server));
        let others: [(_, &Server); 2] = [
            ("chdb-server", &self.clickhouse),
            ("nats-server", &self.nats),
        ];
        postgres.into_iter().chain(others).collect()
    }

    /// Waits until one of them has ended by itself.
    async fn death(&self) -> (&'static str, &Server) {
        loop {
            let all = self.all().into_iter();
            if let Some(dead) = all.into_iter().find(|(_, server)| !server.is_running()) {
                return dead;
            }
            sleep(LOOK).await;
        }
    }
}

async fn start_servers(settings: &Settings) -> Result<Servers> {
    let and_postgres = settings.postgres_port.map_or("", |_| ", postgresql");
    say(format_args!(
        "ponix-up: starting nats-server, chdb-server{and_postgres}"
    ));
    let mut nats = Nats::builder()
        .port(settings.nats_port)
        .monitoring_port(settings.nats_monitoring_port)
        .data_dir(settings.data_dir.join("nats"));
    if settings.nats_sync_always {
        nats = nats.sync_interval("always");
    }
    let nats = nats.start();
    let clickhouse = ClickHouse::builder()
        .port(settings.clickhouse_port)
        .data_dir(settings.data_dir.join("clickhouse"))
        .user_password(&settings.user, &settings.password)
        .arg("--reader-user")
        .arg(settings.reader())
        .env("CHDB_SERVER_READER_PASSWORD", &settings.password)
        .start();
    let postgres = async {
        let Some(port) = settings.postgres_port else {
            return Ok(None);
        };
        let folder = settings.data_dir.join("postgres");
        let server = Postgres::builder().port(port).data_dir(folder).start();
        server.await.map(Some)
    };
    let (nats, clickhouse, postgres) = tokio::try_join!(nats, clickhouse, postgres)?;
    Ok(Servers {
        nats,
        clickhouse,
        postgres,
    })
}

fn start_service(settings: &Settings) -> Result<Process> {
    say("ponix-up: starting ponix-all-in-one");
    Process::builder("ponix-all-in-one", workspace_binary("ponix-all-in-one")?)
        .folder(settings.data_dir.join("service"))
        .envs(settings.service.iter().map(|(name, value)| (name, value)))
        .inherit_output()
        .stop_timeout(SERVICE_STOP_TIMEOUT)
        .start()
}

/// Waits for a reason to stop, and stops the service.
async fn serve(
    settings: &Settings,
    signals: &mut Signals,
    servers: &Servers,
    service: &Process,
) -> Result<u8> {
    let asked = select! {
        signal = signals.recv() => {
            say(format_args!("ponix-up: {signal}, stopping"));
            true
        }
        status = service.wait() => {
            complain(format_args!("ponix-all-in-one ended by itself ({}), stopping", status?));
            false
        }
        (name, server) = servers.death() => {
            complain(describe_death(name, server));
            false
        }
        never = announce(settings) => match never {},
    };
    let code = exit_code(stop_service(signals, service).await?);
    if asked {
        return Ok(code);
    }
    // What has ended by itself is a failure even if it says otherwise.
    Ok(code.max(FAILED))
}

/// Hands further signals on, so that a second Ctrl-C hurries the service.
async fn stop_service(signals: &mut Signals, service: &Process) -> Result<ExitStatus> {
    let stopped = service.stop();
    tokio::pin!(stopped);
    loop {
        select! {
            status = &mut stopped => return status,
            _ = signals.recv() => {
                // It may have ended just now.
                let _ = service.send_signal(Signal::SIGTERM);
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(FAILED)
}

fn describe_death(name: &str, server: &Server) -> String {
    let (log, tail) = (server.log_path().display(), server.log_tail());
    format!("{name} ended by itself, stopping the rest; the end of its log, {log}:\n{tail}")
}

/// Says once that the service is ready, and then nothing for ever.
async fn announce(settings: &Settings) -> Infallible {
    while http_get(settings.admin_addr, "/readyz").await.is_err() {
        sleep(LOOK).await;
    }
    let postgres = settings.postgres_url();
    let postgres = postgres.map_or_else(String::new, |url| format!(", PostgreSQL at {url}"));
    say(format_args!(
        "ponix is up: NATS at {}, ClickHouse at {}{postgres}, HTTP API at http://{}/docs, page at http://{}/",
        settings.nats_url(),
        settings.clickhouse_url(),
        settings.ingest_addr,
        settings.admin_addr,
    ));
    say("ponix-up: send an event, find it, ask how all is; in another terminal:");
    for command in settings.first_commands() {
        say(command);
    }
    pending().await
}
