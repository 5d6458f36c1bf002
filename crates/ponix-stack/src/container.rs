//! A server in a container, through testcontainers.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use testcontainers::bollard::query_parameters::KillContainerOptionsBuilder;
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::logs::LogFrame;
use testcontainers::core::{IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};

use crate::folder::Folder;
use crate::process::tail;

/// Seconds a container may take to end after its stop signal.
const STOP_SECONDS: i32 = 30;
const SIGKILL_EXIT_CODE: i64 = 128 + 9;
const SIGKILL: i32 = 9;

/// Which image to run, and how.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) tag: &'static str,
    /// Ports of the host and those of the container they lead to.
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) env: Vec<(String, String)>,
    /// The command; the image's own if there is none.
    pub(crate) command: Vec<String>,
    /// Files to put into the container, by their path there.
    pub(crate) files: Vec<(String, String)>,
    /// Where the server keeps its data.
    pub(crate) data: &'static str,
}

/// A container that keeps its data and its ports of the host over restarts.
#[derive(Debug)]
pub(crate) struct Container {
    name: String,
    inner: ContainerAsync<GenericImage>,
    log: PathBuf,
    /// As far as we have started and ended it ourselves.
    running: AtomicBool,
    folder: Folder,
}

impl Container {
    /// Makes and starts it. With a given folder the data is kept in `data` there; otherwise in the
    /// container itself, which is removed when this is dropped.
    pub(crate) async fn create(name: &str, image: Image, folder: Folder) -> Result<Self> {
        let log = folder.path().join(format!("{name}.log"));
        let label = format!("{}:{}", image.name, image.tag);
        let inner = request(image, &folder, &log)?
            .start()
            .await
            .with_context(|| format!("start a container of {label}"))?;
        let running = AtomicBool::new(true);
        Ok(Self {
            name: name.into(),
            inner,
            log,
            running,
            folder,
        })
    }

    pub(crate) async fn start(&self) -> Result<()> {
        if self.has_ended().await {
            self.inner.start().await?;
        }
        self.running.store(true, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) async fn stop(&self) -> Result<ExitStatus> {
        self.inner.stop_with_timeout(Some(STOP_SECONDS)).await?;
        self.ended().await
    }

    pub(crate) async fn kill(&self) -> Result<ExitStatus> {
        if self.inner.is_running().await? {
            let docker = docker_client_instance().await?;
            let options = KillContainerOptionsBuilder::default()
                .signal("SIGKILL")
                .build();
            docker
                .kill_container(self.inner.id(), Some(options))
                .await
                .with_context(|| format!("kill the container of {}", self.name))?;
        }
        self.ended().await
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        Ok(self.inner.pause().await?)
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        Ok(self.inner.unpause().await?)
    }

    /// Not running, or not to be asked.
    pub(crate) async fn has_ended(&self) -> bool {
        !self.inner.is_running().await.unwrap_or(false)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log, 0).unwrap_or_default()
    }

    pub(crate) fn failure(&self, what: impl std::fmt::Display) -> anyhow::Error {
        self.folder.keep();
        let (name, log, tail) = (&self.name, self.log.display(), self.log_tail());
        anyhow::anyhow!("{name} {what}; the end of its log, {log}:\n{tail}")
    }

    /// Waits until the daemon says that it has ended, and how.
    async fn ended(&self) -> Result<ExitStatus> {
        let code = crate::eventually(
            "the container to end",
            crate::server::START_TIMEOUT,
            || async { self.inner.exit_code().await?.context("it is still running") },
        )
        .await?;
        self.running.store(false, Ordering::SeqCst);
        Ok(exit_status(code))
    }
}

fn request(image: Image, folder: &Folder, log: &Path) -> Result<ContainerRequest<GenericImage>> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))?;
    let mut request = ContainerRequest::from(GenericImage::new(image.name, image.tag))
        .with_startup_timeout(crate::server::START_TIMEOUT)
        .with_log_consumer(move |frame: &LogFrame| {
            // A log that cannot be written is not worth a failed test.
            let _ = (&log).write_all(frame.bytes());
        });
    if !folder.is_temporary() {
        // Made here and not by the daemon, to which it would belong.
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data)?;
        request = request.with_mount(Mount::bind_mount(data.to_string_lossy(), image.data));
    }
    for (host, inside) in image.ports {
        request = request.with_mapped_port(host, inside.tcp());
    }
    for (name, value) in image.env {
        request = request.with_env_var(name, value);
    }
    for (path, text) in image.files {
        request = request.with_copy_to(path, text.into_bytes());
    }
    if !image.command.is_empty() {
        request = request.with_cmd(image.command);
    }
    Ok(request)
}

/// Docker has one number for both ways to end: 128 and the signal, or what the program said.
fn exit_status(code: i64) -> ExitStatus {
    if code == SIGKILL_EXIT_CODE {
        return ExitStatus::from_raw(SIGKILL);
    }
    ExitStatus::from_raw((code as i32 & 0xff) << 8)
}
