//! What a run leaves for another judge: a line for each attempt, PubAck, row and dead letter.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::{Fate, IdentifiedBy};
use crate::ledger::Entry;
use crate::oracle::{Findings, Found};
use crate::world::World;

/// The judge, in another language than the oracle.
const CHECKER: &str = include_str!("../check_history.py");
/// Histories of sound runs that stay.
const HISTORIES_KEPT: usize = 3;

/// Writes what is known of one pipeline.
///
/// # Errors
/// It cannot be written.
fn write_history(
    out: &mut impl Write,
    pipeline: &str,
    entries: &HashMap<Uuid, Entry>,
    findings: &Findings,
) -> Result<()> {
    for (key, entry) in entries {
        let fate = match entry.fate {
            Fate::Stored => "row",
            Fate::DeadLetter => "dead",
        };
        let identity = match entry.identified_by {
            IdentifiedBy::Key => Some(*key),
            IdentifiedBy::Position => None,
            IdentifiedBy::Shared(id) => Some(id),
        };
        let attempt = json!({
            "is": "attempt", "pipeline": pipeline, "key": key, "fate": fate, "identity": identity,
        });
        writeln!(out, "{attempt}")?;
        if let Some(sequence) = entry.acknowledged {
            let ack = json!({
                "is": "ack", "pipeline": pipeline, "key": key, "sequence": sequence,
            });
            writeln!(out, "{ack}")?;
        }
    }
    let viewed = findings.viewed.as_deref();
    if viewed.is_some() {
        writeln!(out, "{}", json!({"is": "view", "pipeline": pipeline}))?;
    }
    for (is, found) in [
        ("row", &*findings.readable),
        ("dead", &findings.dead),
        ("viewed", viewed.unwrap_or_default()),
    ] {
        for Found { identity, key } in found {
            let line = json!({
                "is": is, "pipeline": pipeline, "key": key, "identity": identity,
            });
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// Deletes the histories beside a report whose runs were sound, but for the newest few: one of 20 minutes
/// has hundreds of megabytes.
///
/// # Errors
/// The folder cannot be read, or a file not be deleted.
pub fn forget_histories(report: &Path) -> Result<()> {
    let folder = match report.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut histories = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        let Some(run) = name.strip_suffix(".history.jsonl") else {
            continue;
        };
        // One without a report was cut off, and its history is all there is.
        let report = std::fs::read(format!("{run}.json")).unwrap_or_default();
        let report: Value = serde_json::from_slice(&report).unwrap_or_default();
        if report["sound"] == true {
            histories.push((path.metadata()?.modified()?, path));
        }
    }
    histories.sort();
    for (_, path) in histories.iter().rev().skip(HISTORIES_KEPT) {
        std::fs::remove_file(path).with_context(|| format!("delete {}", path.display()))?;
    }
    Ok(())
}

/// Lets the judge read a history; returns what it says, `None` where there is no Python.
///
/// # Errors
/// It finds something wrong, or it cannot read the file.
pub(crate) fn check_history(file: &Path) -> Result<Option<String>> {
    let checked = Command::new("python3")
        .args(["-c", CHECKER])
        .arg(file)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = match checked {
        Ok(output) => output,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err).context("run python3"),
    };
    let told = [stdout, stderr].concat();
    let told = String::from_utf8_lossy(&told).trim().to_owned();
    if !status.success() {
        bail!("the judge of {} ends with {status}: {told}", file.display());
    }
    Ok(Some(told))
}

impl World {
    /// Asks the servers for everything, and writes it down.
    ///
    /// # Errors
    /// A server does not answer, or the file cannot be written.
    pub async fn write_history(&self, file: &Path) -> Result<()> {
        let named = || format!("write {}", file.display());
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(named)?;
        }
        let mut out = BufWriter::new(File::create(file).with_context(named)?);
        for pipeline in self.pipelines() {
            let entries = self.ledger().of(*pipeline);
            let findings = self.findings(*pipeline).await?;
            write_history(&mut out, pipeline.name(), &entries, &findings).with_context(named)?;
        }
        out.flush().with_context(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;

    /// Two that are accepted, one that was only attempted, one that is poison, two with one identity.
    fn good() -> (HashMap<Uuid, Entry>, Findings) {
        let entry = |fate, acknowledged| Entry {
            pipeline: Pipeline::Envelopes,
            fate,
            identified_by: IdentifiedBy::Key,
            acknowledged,
        };
        let shared = |n| Entry {
            identified_by: IdentifiedBy::Shared(Uuid::from_u128(70)),
            ..entry(Fate::Stored, Some(n))
        };
        let entries = HashMap::from([
            (Uuid::from_u128(1), entry(Fate::Stored, Some(1))),
            (Uuid::from_u128(2), entry(Fate::Stored, Some(2))),
            (Uuid::from_u128(3), entry(Fate::Stored, None)),
            (Uuid::from_u128(4), entry(Fate::DeadLetter, Some(4))),
            (Uuid::from_u128(5), shared(5)),
            (Uuid::from_u128(6), shared(6)),
        ]);
        let findings = Findings {
            readable: vec![found(1), found(2), found_as(70, 5), found_as(70, 6)],
            dead: vec![found(4)],
            ..Findings::default()
        };
        (entries, findings)
    }

    fn found(n: u128) -> Found {
        found_as(n, n)
    }

    fn found_as(identity: u128, key: u128) -> Found {
        Found {
            identity: Uuid::from_u128(identity),
            key: Some(Uuid::from_u128(key)),
        }
    }

    /// What the judge says; both judges are asked, and have to agree on whether it is sound.
    fn judged(change: impl FnOnce(&mut Findings)) -> String {
        let (entries, mut findings) = good();
        change(&mut findings);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.jsonl");
        let mut out = File::create(&file).unwrap();
        write_history(&mut out, "envelopes", &entries, &findings).unwrap();
        let checked = check_history(&file);
        let is_sound = crate::oracle::judge(&entries, &findings).is_sound();
        assert_eq!(checked.is_ok(), is_sound, "{checked:?}");
        match checked {
            Ok(told) => told.expect("python3 is needed for this test"),
            Err(err) => format!("{err:#}"),
        }
    }

    #[test]
    fn the_judge_takes_a_good_history() {
        assert!(judged(|_| {}).ends_with("sound"));
        let viewed = judged(|it| it.viewed = Some(it.readable.clone()));
        assert!(viewed.ends_with("sound"), "{viewed}");
        let attempted = judged(|it| it.readable.push(found(3)));
        assert!(attempted.ends_with("sound"), "{attempted}");
    }

    type Change = fn(&mut Findings);

    #[test]
    fn the_judge_finds_what_is_broken_by_hand() {
        let cases: [(&str, Change); 12] = [
            ("lost: ", |it| it.readable.truncate(1)),
            ("lost: ", |it| it.dead.clear()),
            ("doubled: ", |it| it.readable.push(found(2))),
            ("in both places: ", |it| it.dead.push(found(2))),
            ("alien: ", |it| it.readable.push(found(9))),
            ("misplaced: ", |it| it.readable.push(found(4))),
            ("another identity: ", |it| {
                it.readable[0].identity = Uuid::from_u128(7);
            }),
            ("lost: ", |it| it.readable.truncate(3)),
            ("another identity: ", |it| {
                it.readable[3].identity = Uuid::from_u128(71);
            }),
            ("one identity for several: ", |it| {
                it.readable[0].identity = Uuid::from_u128(70);
            }),
            ("unseen: ", |it| {
                it.viewed = Some(it.readable[1..].to_vec());
            }),
            ("seen alone: ", |it| {
                let viewed = [it.readable.clone(), vec![found(3)]].concat();
                it.viewed = Some(viewed);
            }),
        ];
        for (word, change) in cases {
            let told = judged(change);
            assert!(told.contains(word), "{word} is not in: {told}");
        }
    }

    #[test]
    fn histories_go_once_their_runs_were_sound() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (run, sound) in [(1, true), (2, false), (3, true), (4, true), (5, true)] {
            let history = File::create(at(&format!("seed-{run}.history.jsonl"))).unwrap();
            let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(run);
            history.set_modified(when).unwrap();
            let report = json!({"sound": sound}).to_string();
            std::fs::write(at(&format!("seed-{run}.json")), report).unwrap();
        }
        File::create(at("seed-0.history.jsonl")).unwrap();
        forget_histories(&at("seed-5.json")).unwrap();
        let left = |run: &u32| at(&format!("seed-{run}.history.jsonl")).exists();
        let left: Vec<_> = (0..6).filter(left).collect();
        assert_eq!(left, [0, 2, 3, 4, 5], "the oldest sound one is gone");
        assert!(at("seed-1.json").exists(), "reports stay");
    }

    #[test]
    fn the_judge_takes_nothing_else_for_a_history() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.jsonl");
        for (text, word) in [
            ("", "nothing was ever acknowledged"),
            ("no json\n", "line 1 "),
            ("{\"is\": \"ack\"}\n", "line 1 "),
        ] {
            std::fs::write(&file, text).unwrap();
            let told = format!("{:#}", check_history(&file).unwrap_err());
            assert!(told.contains(word), "{word} is not in: {told}");
        }
    }
}
