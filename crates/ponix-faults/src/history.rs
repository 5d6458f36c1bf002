//! What a run leaves for another judge: a line for each attempt, PubAck, row and dead letter.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use uuid::Uuid;

use crate::event::{Fate, IdentifiedBy};
use crate::ledger::Entry;
use crate::oracle::{Findings, Found};
use crate::world::World;

/// The judge, in another language than the oracle.
const CHECKER: &str = include_str!("../check_history.py");

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
        let own_identity = entry.identified_by == IdentifiedBy::Key;
        let attempt = json!({
            "is": "attempt", "pipeline": pipeline, "key": key, "fate": fate,
            "own_identity": own_identity,
        });
        writeln!(out, "{attempt}")?;
        if let Some(sequence) = entry.acknowledged {
            let ack = json!({
                "is": "ack", "pipeline": pipeline, "key": key, "sequence": sequence,
            });
            writeln!(out, "{ack}")?;
        }
    }
    for (is, found) in [("row", &findings.readable), ("dead", &findings.dead)] {
        for Found { identity, key } in found {
            let line = json!({
                "is": is, "pipeline": pipeline, "key": key, "identity": identity,
            });
            writeln!(out, "{line}")?;
        }
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

    /// Two that are accepted, one that was only attempted, one that is poison.
    fn good() -> (HashMap<Uuid, Entry>, Findings) {
        let entry = |fate, acknowledged| Entry {
            pipeline: Pipeline::Envelopes,
            fate,
            identified_by: IdentifiedBy::Key,
            acknowledged,
        };
        let entries = HashMap::from([
            (Uuid::from_u128(1), entry(Fate::Stored, Some(1))),
            (Uuid::from_u128(2), entry(Fate::Stored, Some(2))),
            (Uuid::from_u128(3), entry(Fate::Stored, None)),
            (Uuid::from_u128(4), entry(Fate::DeadLetter, Some(4))),
        ]);
        let findings = Findings {
            readable: vec![found(1), found(2)],
            dead: vec![found(4)],
            ..Findings::default()
        };
        (entries, findings)
    }

    fn found(n: u128) -> Found {
        Found {
            identity: Uuid::from_u128(n),
            key: Some(Uuid::from_u128(n)),
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
        let attempted = judged(|it| it.readable.push(found(3)));
        assert!(attempted.ends_with("sound"), "{attempted}");
    }

    type Change = fn(&mut Findings);

    #[test]
    fn the_judge_finds_what_is_broken_by_hand() {
        let cases: [(&str, Change); 7] = [
            ("lost: ", |it| it.readable.truncate(1)),
            ("lost: ", |it| it.dead.clear()),
            ("doubled: ", |it| it.readable.push(found(2))),
            ("in both places: ", |it| it.dead.push(found(2))),
            ("alien: ", |it| it.readable.push(found(9))),
            ("misplaced: ", |it| it.readable.push(found(4))),
            ("another identity: ", |it| {
                it.readable[0].identity = Uuid::from_u128(7);
            }),
        ];
        for (word, change) in cases {
            let told = judged(change);
            assert!(told.contains(word), "{word} is not in: {told}");
        }
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
