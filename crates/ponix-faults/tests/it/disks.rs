//! Disks that are full, and stores that lose their tail.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ponix_faults::{Event, Judgement, SOON, World};
use ponix_stack::eventually;

use crate::support::{good, skips_disks};

/// Cuts the tail of what is stored and settled, and publishes other events that get the same
/// sequences.
pub(crate) async fn tail_truncated(failpoints: &str) -> Result<Judgement> {
    let world = World::start().await?;
    let worker = world.start_worker(failpoints).await?;
    world
        .publishing()
        .publish((0..300).map(Event::anonymous))
        .await?;
    world.settled().await?;
    let last = world.stream().await?.cached_info().state.last_sequence;
    world.nats().kill().await?;
    world.nats().cut_tail("processed_envelopes")?;
    world.nats().start_again().await?;
    worker.ready().await?;
    let left = world.stream().await?.cached_info().state.last_sequence;
    ensure!(left < last, "nothing was cut off: {left} of {last}");
    world
        .publishing()
        .publish((300..600).map(Event::anonymous))
        .await?;
    world.settled().await?;
    world.judge().await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_reuse_sequences_after_a_loss_are_all_stored() -> Result<()> {
    let judgement = tail_truncated("").await?;
    ensure!(judgement.is_sound(), "{judgement}");
    assert_eq!(judgement.readable, 600, "{judgement}");
    Ok(())
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
    ballast: PathBuf,
}

impl SmallDisk {
    /// `None` where these tests are left out.
    fn mount(megabytes: u64) -> Result<Option<Self>> {
        if skips_disks() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .output()
            .context("run mount")?;
        ensure!(
            mounted.status.success(),
            "a small file system cannot be mounted here ({}): run as root, or set \
             PONIX_FAULTS_SKIP_DISKS=1 where that is not to be had",
            String::from_utf8_lossy(&mounted.stderr).trim()
        );
        let ballast = folder.path().join("ballast");
        Ok(Some(Self { folder, ballast }))
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write as _;
        let Ok(mut file) = std::fs::File::create(&self.ballast) else {
            return;
        };
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.ballast)?)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("server")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.folder.path())
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_nats_loses_nothing_that_was_accepted() -> Result<()> {
    let Some(disk) = SmallDisk::mount(64)? else {
        return Ok(());
    };
    let world = World::builder()
        .nats_folder(disk.path())
        .env("PONIX_NATS_STREAM_BYTES_MAX", 16 << 20)
        .env("PONIX_NATS_DEAD_LETTER_BYTES_MAX", 4 << 20)
        .start()
        .await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(good(500)).await?;
    world.settled().await?;
    disk.fill();
    let mut refused = 0;
    let mut n = 0;
    while refused == 0 {
        n += 1;
        ensure!(n < 100_000, "the disk does not get full");
        refused += u64::from(
            world
                .publishing()
                .publish_once(Event::good(n))
                .await
                .is_err(),
        );
    }
    disk.make_room()?;
    // The stream stays as it is until the server is started again.
    world.nats().restart().await?;
    worker.ready().await?;
    world.publishing().publish(good(500)).await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    println!("{n} events until the disk was full; {judgement}");
    ensure!(judgement.readable >= 1_000, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_clickhouse_is_waited_out() -> Result<()> {
    let Some(disk) = SmallDisk::mount(64)? else {
        return Ok(());
    };
    let world = World::builder()
        .clickhouse_folder(disk.path())
        .start()
        .await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(good(500)).await?;
    world.settled().await?;
    disk.fill();
    world.publishing().publish(good(500)).await?;
    eventually("INSERTs that fail", SOON, || async {
        let failed = worker.metrics().await?.inserts() - 5;
        ensure!(failed >= 3, "{failed}");
        anyhow::Ok(())
    })
    .await?;
    disk.make_room()?;
    world.clickhouse().restart().await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (1_000, 0),
        "{judgement}"
    );
    Ok(())
}
