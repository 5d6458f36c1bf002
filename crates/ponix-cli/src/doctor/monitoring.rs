//! What a NATS server says of itself on its monitoring address.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use ponix_wire::quantity::{shown_bytes, shown_duration};
use serde_json::Value;
use sysinfo::Disks;
use url::Url;

use super::Findings;
use crate::http;
use crate::servers::Servers;

const PORT: u16 = 8222;
const TIMEOUT: Duration = Duration::from_secs(2);
/// Clocks that differ by more are not set by the same time.
pub(super) const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(2);
/// Of a disk or a store, this share must be free.
pub(super) const FREE_MIN: f64 = 0.1;

/// The monitoring port of the first server.
pub(super) fn default_address(servers: &Servers) -> Option<String> {
    let url = servers.url.split(',').next()?;
    let url = Url::parse(url.trim()).ok()?;
    Some(format!("{}:{PORT}", url.host_str()?))
}

/// Looks at the store, its disk and the clock.
pub(super) async fn look(
    address: Option<&str>,
    single_copies: Vec<String>,
    servers: &Servers,
    findings: &mut Findings,
) {
    let about = format!("NATS at {}", servers.url);
    let unseen = "store folder, fsync, disk and clock cannot be seen";
    let advice = "name its monitoring address: --monitoring HOST:8222 (nats-server -m 8222)";
    let Some(address) = address else {
        return findings.note(about, unseen, advice);
    };
    let said = match http::get(address, "/varz", TIMEOUT).await {
        Ok(said) => serde_json::from_str::<Value>(&said).unwrap_or_default(),
        Err(err) => return findings.note(about, format!("{unseen}: {address}: {err:#}"), advice),
    };
    look_at_clock(&said, findings);
    let (config, stats) = (&said["jetstream"]["config"], &said["jetstream"]["stats"]);
    look_at_store(config, stats, findings);
    look_at_sync(config, &single_copies, findings);
}

fn look_at_clock(said: &Value, findings: &mut Findings) {
    let now = said["now"].as_str().unwrap_or_default();
    let Ok(theirs) = now.parse::<Timestamp>() else {
        return;
    };
    let difference = Timestamp::now().duration_since(theirs).unsigned_abs();
    if difference > CLOCK_DIFFERENCE_MAX {
        findings.wrong(
            "clock",
            format!(
                "NATS and this machine differ by {:.1} s",
                difference.as_secs_f64()
            ),
            "set both by NTP: lag, times of dead letters and `--since` are wrong by as much",
        );
    }
}

fn look_at_store(config: &Value, stats: &Value, findings: &mut Findings) {
    let folder = config["store_dir"].as_str().unwrap_or_default();
    let is_temporary = ["/tmp", "/var/tmp", "/private/tmp"]
        .iter()
        .any(|temporary| Path::new(folder).starts_with(temporary));
    if is_temporary {
        findings.wrong(
            "NATS",
            format!("its store is in the temporary folder {folder}: it goes with the container, or with the next start of the machine"),
            "set jetstream.store_dir (or -sd) to a disk that stays",
        );
    }
    let used = stats["storage"].as_f64().unwrap_or_default();
    let room = config["max_storage"].as_f64().unwrap_or_default();
    if room > 0.0 && used / room > 1.0 - FREE_MIN {
        findings.wrong(
            "NATS",
            format!(
                "{:.0} % of max_file_store are taken: soon every stream refuses",
                used / room * 100.0
            ),
            "raise max_file_store, or lower max_bytes of streams (ponix streams plan)",
        );
    }
    // Only when the server runs here is its folder one of ours.
    let Ok(disks) = Disks::new_with_refreshed_list() else {
        return;
    };
    let on = disks
        .iter()
        .filter(|disk| Path::new(folder).starts_with(disk.mount_point()));
    let disk = on.max_by_key(|disk| disk.mount_point().as_os_str().len());
    if let Some(disk) = disk.filter(|_| Path::new(folder).is_dir()) {
        let (free, total) = (disk.available_space(), disk.total_space());
        if (free as f64) < total as f64 * FREE_MIN {
            findings.wrong(
                "NATS",
                format!("its disk has {} of {} left; on a full one publishes are not answered, and the streams stay wedged until a restart", shown_gib(free), shown_gib(total)),
                "free the disk, then restart the server; see Disk full in docs/operations.md",
            );
        }
    }
}

fn look_at_sync(config: &Value, single_copies: &[String], findings: &mut Findings) {
    if single_copies.is_empty() || config["sync_always"] == true {
        return;
    }
    let interval = config["sync_interval"].as_u64().unwrap_or_default();
    let interval = shown_duration(Duration::from_nanos(interval));
    findings.note(
        format!("stream {}", single_copies.join(", ")),
        format!("there is one copy, and the server syncs it every {interval}: a power cut loses what came since, though it was acknowledged"),
        "jetstream.sync_interval: always, or three replicas (docs/delivery.md)",
    );
}

fn shown_gib(bytes: u64) -> String {
    shown_bytes(bytes >> 30 << 30)
}
