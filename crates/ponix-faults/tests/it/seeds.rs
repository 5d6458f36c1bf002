//! A seed is a run.

use std::process::Command;

use anyhow::{Result, ensure};

fn schedule(seed: &str) -> Result<Vec<u8>> {
    let output = Command::new(env!("CARGO_BIN_EXE_ponix-faults"))
        .args(["--schedule", "--minutes", "60", "--seed", seed])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(output.stdout)
}

#[test]
fn the_same_seed_gives_the_same_schedule_byte_for_byte() -> Result<()> {
    let first = schedule("7")?;
    assert!(first.split(|byte| *byte == b'\n').count() > 3_000);
    assert!(first == schedule("7")?, "seed 7 gave two schedules");
    assert!(first != schedule("8")?, "seeds 7 and 8 gave one schedule");
    Ok(())
}
