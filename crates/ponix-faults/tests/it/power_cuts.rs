//! Power cuts: what was never synced to the disk is lost with the file system.
//!
//! The servers stand on an ext4 file system of their own in a file. A cut is the kernel's own way
//! of testing this (`FS_IOC_SHUTDOWN` without flushing the journal): from then on nothing reaches
//! the disk any more, and the next mount finds what was synced before. The journal is not committed
//! by itself meanwhile, so that every write without an fsync is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ponix_faults::{Pipeline, World};

use crate::support::{good, skips_disks};

const EVENTS: u64 = 1_000;

/// Cuts the file system of a folder off its disk.
const CUT: &str = "import fcntl, os, struct, sys\n\
    folder = os.open(sys.argv[1], os.O_RDONLY)\n\
    FS_IOC_SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2\n\
    fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack('I', WITHOUT_FLUSHING))";

/// A disk that loses what was not synced. Unmounted when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None` where these tests are left out.
    fn new(megabytes: u64) -> Result<Option<Self>> {
        if skips_disks() {
            return Ok(None);
        }
        let disk = Self {
            folder: tempfile::tempdir()?,
        };
        let file = std::fs::File::create(disk.image())?;
        file.set_len(megabytes << 20)?;
        run(Command::new("mkfs.ext4").arg("-qF").arg(disk.image()))
            .and_then(|()| Ok(std::fs::create_dir(disk.mounted())?))
            .and_then(|()| disk.mount())
            .context(
                "no file system can be mounted here: run as root, or set PONIX_FAULTS_SKIP_DISKS=1 \
                 where that is not to be had",
            )?;
        Ok(Some(disk))
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn server(&self) -> PathBuf {
        self.mounted().join("server")
    }

    fn mount(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,commit=3600"]);
        run(mount.arg(self.image()).arg(self.mounted()))
    }

    /// Makes what is written so far safe from a cut.
    fn sync(&self) -> Result<()> {
        run(Command::new("sync").arg("-f").arg(self.mounted()))
    }

    /// From now on nothing reaches the disk.
    fn cut(&self) -> Result<()> {
        run(Command::new("python3")
            .args(["-c", CUT])
            .arg(self.mounted()))
    }

    fn power_on(&self) -> Result<()> {
        unmount(&self.mounted(), false)?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.mounted(), true);
    }
}

fn unmount(folder: &Path, lazily: bool) -> Result<()> {
    let mut unmount = Command::new("umount");
    unmount.args(lazily.then_some("--lazy"));
    run(unmount.arg(folder))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", told.trim());
    Ok(())
}

/// Cuts NATS's power behind the last of many PubAcks, and returns how many of the events are lost.
/// What is left, and what comes then, is stored as ever. `None` where nothing can be mounted.
async fn nats_after_a_cut(sync_interval: Option<&str>) -> Result<Option<u64>> {
    let Some(disk) = Disk::new(256)? else {
        return Ok(None);
    };
    let mut builder = World::builder()
        .nats_folder(disk.server())
        .env("PONIX_NATS_STREAM_BYTES_MAX", 16 << 20)
        .env("PONIX_NATS_DEAD_LETTER_BYTES_MAX", 4 << 20);
    if let Some(interval) = sync_interval {
        builder = builder.nats_sync_interval(interval);
    }
    let world = builder.start().await?;
    disk.sync()?;
    world.publishing().publish(good(EVENTS)).await?;
    let published = world.ledger().of(Pipeline::Envelopes);
    let accepted = published.iter().filter(|(_, it)| it.acknowledged.is_some());
    let accepted: Vec<_> = accepted.map(|(key, _)| *key).collect();
    ensure!(!accepted.is_empty(), "no PubAcks");

    disk.cut()?;
    world.nats().kill().await?;
    disk.power_on()?;
    world.nats().start_again().await?;
    let left = world.keys_in_stream(Pipeline::Envelopes).await?;
    let lost: Vec<_> = accepted
        .iter()
        .filter(|key| !left.contains(key))
        .copied()
        .collect();
    world.ledger().forget_acknowledgements(lost.clone());

    let _worker = world.start_worker("").await?;
    world.publishing().publish(good(EVENTS)).await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    println!(
        "{} of {} accepted events are lost; {judgement}",
        lost.len(),
        accepted.len()
    );
    Ok(Some(lost.len() as u64))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_nats_server_loses_what_it_had_not_synced() -> Result<()> {
    if let Some(lost) = nats_after_a_cut(None).await? {
        ensure!(lost > 0, "nothing is lost: this is no power cut");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_nats_server_that_always_syncs_loses_nothing() -> Result<()> {
    if let Some(lost) = nats_after_a_cut(Some("always")).await? {
        ensure!(lost == 0, "{lost} accepted events are lost");
    }
    Ok(())
}

/// Cuts ClickHouse's power behind the last ack, and returns how many events are not readable then.
/// With another consumer, everything is inserted again.
async fn clickhouse_after_a_cut(settings: &str) -> Result<Option<u64>> {
    let Some(disk) = Disk::new(512)? else {
        return Ok(None);
    };
    let world = World::builder()
        .clickhouse_folder(disk.server())
        .start()
        .await?;
    if !settings.is_empty() {
        let alter = format!("ALTER TABLE processed_envelopes MODIFY SETTING {settings}");
        world.execute(&alter).await?;
    }
    disk.sync()?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(good(EVENTS)).await?;
    world.settled().await?;
    world.readable(EVENTS).await?;

    disk.cut()?;
    world.clickhouse().kill().await?;
    disk.power_on()?;
    world.clickhouse().start_again().await?;
    let readable = world.number("SELECT count() FROM envelopes").await?;
    println!("{settings:?}: {readable} of {EVENTS} events survive");

    worker.stop().await?;
    let again = [("PONIX_NATS_CONSUMER", "after-the-cut")];
    let _worker = world.launch_worker("", &again).await?;
    world.readable(EVENTS).await?;
    let judgement = world.judge().await?;
    ensure!(judgement.is_sound(), "not sound: {judgement}");
    Ok(Some(EVENTS - readable))
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_loses_what_it_had_not_synced_and_the_stream_still_has_it() -> Result<()> {
    if let Some(lost) = clickhouse_after_a_cut("").await? {
        ensure!(lost > 0, "nothing is lost: this is no power cut");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_that_syncs_its_parts_loses_nothing() -> Result<()> {
    let settings = "fsync_after_insert = 1, fsync_part_directory = 1";
    if let Some(lost) = clickhouse_after_a_cut(settings).await? {
        ensure!(lost == 0, "{lost} stored events are lost");
    }
    Ok(())
}
