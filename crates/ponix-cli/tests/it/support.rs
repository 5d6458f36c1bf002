//! What the tests share.

use anyhow::{Context as _, Result, ensure};
use ponix_faults::World;
use ponix_stack::workspace_binary;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a command has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The objects on the lines of its standard output.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("an object on each line"))
            .collect()
    }
}

/// Runs `ponix` on the servers of a world.
pub(crate) async fn ponix(world: &World, args: &[&str]) -> Result<Said> {
    ponix_with(world, args, "").await
}

/// Runs `ponix` on the servers of a world, its ClickHouse too, and a worker of it.
pub(crate) async fn ponix_whole(world: &World, admin_addr: &str, args: &[&str]) -> Result<Said> {
    let clickhouse = world.clickhouse();
    let env = [
        ("PONIX_CLICKHOUSE_URL", clickhouse.url()),
        ("PONIX_CLICKHOUSE_USERNAME", clickhouse.user().to_owned()),
        (
            "PONIX_CLICKHOUSE_PASSWORD",
            clickhouse.password().to_owned(),
        ),
        ("PONIX_ADMIN_ADDR", admin_addr.to_owned()),
    ];
    run(&world.nats_servers().url(), args, "", &env).await
}

/// Runs `ponix` with something on its standard input.
pub(crate) async fn ponix_with(world: &World, args: &[&str], input: &str) -> Result<Said> {
    run(&world.nats_servers().url(), args, input, &[]).await
}

/// Runs `ponix` on the server at a URL; without one, on none.
pub(crate) async fn ponix_at(url: &str, args: &[&str]) -> Result<Said> {
    run(url, args, "", &[]).await
}

/// Runs `ponix` on the server at a URL with further variables.
pub(crate) async fn run(
    url: &str,
    args: &[&str],
    input: &str,
    env: &[(&str, String)],
) -> Result<Said> {
    let mut command = ponix_command(url, args);
    command
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// `ponix` on the server at a URL, before it is started.
pub(crate) fn ponix_command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ponix"));
    command
        .args(args)
        .env("PONIX_NATS_URL", url)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs `ponix`, which has to end with 0.
pub(crate) async fn ponix_ok(world: &World, args: &[&str]) -> Result<Said> {
    let said = ponix(world, args).await?;
    ensure!(said.code == Some(0), "{args:?}: {said:?}");
    Ok(said)
}

/// A world of its own, for a test that must not hang.
pub(crate) async fn world() -> Result<World> {
    workspace_binary("ponix-all-in-one")?;
    World::start().await
}
