//! The worker's binary, with failpoints.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use ponix_stack::workspace_binary;
use tokio::sync::OnceCell;

/// The name under which `scripts/build-failpoints` leaves the binary.
const BINARY: &str = "ponix-all-in-one-failpoints";
/// The name that cargo gives it.
const PLAIN_BINARY: &str = "ponix-all-in-one";

/// Finds the binary, and sees once that its failpoints are compiled in.
pub(crate) async fn binary() -> Result<PathBuf> {
    static CHECKED: OnceCell<PathBuf> = OnceCell::const_new();
    CHECKED.get_or_try_init(find_binary).await.cloned()
}

async fn find_binary() -> Result<PathBuf> {
    let advice = "build it with scripts/build-failpoints, for a release build with --release";
    if let Some(program) = std::env::var_os("PONIX_FAULTS_WORKER") {
        let program = std::path::absolute(program)?;
        let named = program.display();
        ensure!(
            has_failpoints(&program).await?,
            "{named} has no failpoints: {advice}"
        );
        return Ok(program);
    }
    // Under its plain name the feature may be compiled in or not, whoever built it last.
    for name in [PLAIN_BINARY, BINARY] {
        let Ok(program) = workspace_binary(name) else {
            continue;
        };
        if has_failpoints(&program).await? {
            return Ok(program);
        }
    }
    bail!("no {PLAIN_BINARY} with failpoints was found beside this program: {advice}")
}

/// Gives it a failpoint without an action: who knows failpoints at all refuses that.
async fn has_failpoints(program: &Path) -> Result<bool> {
    let status = tokio::process::Command::new(program)
        .arg("--version")
        .env("FAILPOINTS", "no-action")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .await
        .with_context(|| format!("run {}", program.display()))?;
    Ok(!status.success())
}
