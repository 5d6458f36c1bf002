//! The life of the stack: servers, service, a signal or a death, and the end in reverse order.

use std::convert::Infallible;
use std::fs::{File, TryLockError, create_dir_all};
use std::future::pending;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ponix_stack::{ClickHouse, Nats, Process, Server, Signal, http_get, workspace_binary};
use tokio::select;
use tokio::time::sleep;

use crate::settings::Settings;
use crate::signals::Signals;
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
    let mut signals = Signals::install()?;
    create_dir_all(&settings.data_dir)
        .with_context(|| format!("make {}", settings.data_dir.display()))?;
    let _lock = lock(settings)?;

    let Some(servers) = signals.or(start_servers(settings)).await else {
        say("ponix-up: stopped before it was up");
        return Ok(0);
    };
    let (nats, clickhouse) = servers?;
    let code = match start_service(settings) {
        Ok(service) => serve(settings, &mut signals, &nats, &clickhouse, &service).await,
        Err(error) => Err(error),
    };
    // Both are stopped whatever happened, and whatever happens to one of them.
    let stopped = (clickhouse.stop().await, nats.stop().await);
    let code = code?;
    stopped.0?;
    stopped.1?;
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

async fn start_servers(settings: &Settings) -> Result<(Nats, ClickHouse)> {
    say("ponix-up: starting nats-server and chdb-server");
    let nats = Nats::builder()
        .port(settings.nats_port)
        .monitoring_port(settings.nats_monitoring_port)
        .data_dir(settings.data_dir.join("nats"))
        .start();
    let clickhouse = ClickHouse::builder()
        .port(settings.clickhouse_port)
        .data_dir(settings.data_dir.join("clickhouse"))
        .user_password(&settings.user, &settings.password)
        .start();
    tokio::try_join!(nats, clickhouse)
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
    nats: &Server,
    clickhouse: &Server,
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
        () = death(nats) => {
            complain(describe_death("nats-server", nats));
            false
        }
        () = death(clickhouse) => {
            complain(describe_death("chdb-server", clickhouse));
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

async fn death(server: &Server) {
    while server.is_running() {
        sleep(LOOK).await;
    }
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
    say(format_args!(
        "ponix is up: NATS at {}, ClickHouse at {}, HTTP API at http://{}/docs, service at http://{}/readyz; newest rows: {}",
        settings.nats_url(),
        settings.clickhouse_url(),
        settings.ingest_addr,
        settings.admin_addr,
        settings.show_rows()
    ));
    pending().await
}
