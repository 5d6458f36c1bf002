//! Power cuts: what was never synced to the disk is lost with the file system.
//!
//! The servers stand on an ext4 file system of their own in a file. A cut is the kernel's own way
//! of testing this (`FS_IOC_SHUTDOWN` without flushing the journal): from then on nothing reaches
//! the disk any more, and the next mount finds what was synced before. The journal is not committed
//! by itself meanwhile, so that every write without an fsync is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ponix_faults::{Pipeline, SOON, World};
use ponix_stack::eventually;
use uuid::Uuid;

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
    disk.cut()?;
    world.nats().kill().await?;
    disk.power_on()?;
    world.nats().start_again().await?;
    Ok(Some(lost_of(&world).await?))
}

/// Counts the accepted events that the stream does not have any more. What is left, and what comes then,
/// has to be stored as ever.
async fn lost_of(world: &World) -> Result<u64> {
    let accepted = accepted(world);
    ensure!(!accepted.is_empty(), "no PubAcks");
    let left = eventually("the stream", SOON, || {
        world.keys_in_stream(Pipeline::Envelopes)
    })
    .await?;
    let lost = accepted.iter().filter(|key| !left.contains(key)).copied();
    let lost: Vec<_> = lost.collect();
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
    Ok(lost.len() as u64)
}

fn accepted(world: &World) -> Vec<Uuid> {
    let published = world.ledger().of(Pipeline::Envelopes);
    let accepted = published.iter().filter(|(_, it)| it.acknowledged.is_some());
    accepted.map(|(key, _)| *key).collect()
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

/// Three NATS servers that replicate, each on a disk of its own.
struct Cluster {
    world: World,
    disks: Vec<Disk>,
    _nodes: tempfile::TempDir,
}

impl Cluster {
    /// `None` where nothing can be mounted.
    async fn start(sync_interval: Option<&str>) -> Result<Option<Self>> {
        let nodes = tempfile::tempdir()?;
        let mut disks = Vec::new();
        for node in 0..3 {
            let Some(disk) = Disk::new(128)? else {
                return Ok(None);
            };
            std::fs::create_dir(disk.server())?;
            let link = nodes.path().join(format!("nats-{node}"));
            std::os::unix::fs::symlink(disk.server(), link)?;
            disks.push(disk);
        }
        let mut builder = World::builder()
            .cluster()
            .nats_folder(nodes.path())
            .env("PONIX_NATS_STREAM_BYTES_MAX", 16 << 20)
            .env("PONIX_NATS_DEAD_LETTER_BYTES_MAX", 4 << 20);
        if let Some(interval) = sync_interval {
            builder = builder.nats_sync_interval(interval);
        }
        let cluster = Self {
            world: builder.start().await?,
            disks,
            _nodes: nodes,
        };
        for disk in &cluster.disks {
            disk.sync()?;
        }
        Ok(Some(cluster))
    }

    /// Cuts the power of these at once.
    async fn cut(&self, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            self.disks[*node].cut()?;
        }
        for node in nodes {
            self.kill(*node).await?;
            self.disks[*node].power_on()?;
        }
        Ok(())
    }

    async fn kill(&self, node: usize) -> Result<()> {
        self.world.nats_cluster().node(node).kill().await?;
        Ok(())
    }

    async fn start_again(&self, node: usize) -> Result<()> {
        self.world.nats_cluster().node(node).start_again().await
    }

    /// The leader of the stream and the other two.
    async fn roles(&self) -> Result<[usize; 3]> {
        let cluster = self.world.nats_cluster();
        let leader = eventually("a leader", SOON, || {
            cluster.stream_leader(Pipeline::Envelopes.stream())
        });
        let leader = leader.await?;
        Ok([leader, (leader + 1) % 3, (leader + 2) % 3])
    }

    async fn publish(&self) -> Result<()> {
        self.world.publishing().publish(good(EVENTS)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nats_servers_that_loses_power_is_brought_back_by_the_others() -> Result<()> {
    let Some(cluster) = Cluster::start(None).await? else {
        return Ok(());
    };
    for role in [0, 1] {
        cluster.publish().await?;
        let node = cluster.roles().await?[role];
        cluster.cut(&[node]).await?;
        cluster.publish().await?;
        cluster.start_again(node).await?;
        cluster.world.nats_cluster().wait_until_ready().await?;
    }
    let lost = lost_of(&cluster.world).await?;
    ensure!(lost == 0, "{lost} accepted events are lost");
    Ok(())
}

/// Cuts the power of all three at once, and returns how many accepted events are lost.
async fn cluster_after_a_cut(sync_interval: Option<&str>) -> Result<Option<u64>> {
    let Some(cluster) = Cluster::start(sync_interval).await? else {
        return Ok(None);
    };
    cluster.publish().await?;
    cluster.cut(&[0, 1, 2]).await?;
    cluster.world.nats_cluster().start_all().await?;
    Ok(Some(lost_of(&cluster.world).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nats_servers_lose_what_none_had_synced() -> Result<()> {
    if let Some(lost) = cluster_after_a_cut(None).await? {
        ensure!(lost > 0, "nothing is lost: this is no power cut");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nats_servers_that_always_sync_lose_nothing() -> Result<()> {
    if let Some(lost) = cluster_after_a_cut(Some("always")).await? {
        ensure!(lost == 0, "{lost} accepted events are lost");
    }
    Ok(())
}

/// While one server is away another loses its power, and comes back with the first one alone: a
/// majority, without the one that has everything.
async fn cluster_that_forgot(sync_interval: Option<&str>) -> Result<Option<u64>> {
    let Some(cluster) = Cluster::start(sync_interval).await? else {
        return Ok(None);
    };
    let [leader, follower, away] = cluster.roles().await?;
    cluster.kill(away).await?;
    cluster.publish().await?;
    cluster.cut(&[follower]).await?;
    cluster.kill(leader).await?;
    cluster.start_again(follower).await?;
    cluster.start_again(away).await?;
    cluster.world.nats_cluster().wait_until_ready().await?;
    // They have a leader of their own before the third is back.
    cluster.roles().await?;
    cluster.start_again(leader).await?;
    cluster.world.nats_cluster().wait_until_ready().await?;
    Ok(Some(lost_of(&cluster.world).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_of_which_one_forgot_loses_what_the_third_has() -> Result<()> {
    if let Some(lost) = cluster_that_forgot(None).await? {
        ensure!(
            lost > 0,
            "nothing is lost: the row of the table is too careful"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_that_always_syncs_loses_nothing() -> Result<()> {
    if let Some(lost) = cluster_that_forgot(Some("always")).await? {
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
