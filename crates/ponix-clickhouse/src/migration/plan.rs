//! What the files and the records say together, without IO.

use std::collections::BTreeMap;

use super::file::MigrationFile;

/// A database and a set of files that do not go together. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A file is not what was applied.
    #[error(
        "{file} was changed after it was applied: put back what it was and add a new migration instead"
    )]
    Changed {
        /// The file's name.
        file: String,
    },
    /// A file is older than the newest one that is applied, and was never applied itself.
    #[error(
        "{file} was never applied, but the newer version {newest} was: give it a newer version"
    )]
    Gap {
        /// The file's name.
        file: String,
        /// The newest version of the database.
        newest: i64,
    },
    /// The database was migrated by a newer Ponix.
    #[error(
        "the database has version {version}, this program knows none above {known}: use a newer one"
    )]
    DatabaseNewer {
        /// The newest version of the database.
        version: i64,
        /// The version of the newest file, 0 if there is none.
        known: i64,
    },
    /// The database has a version in between that no file has.
    #[error("the database has version {version}, for which this program has no file")]
    FileMissing {
        /// The version without a file.
        version: i64,
    },
}

/// What is applied: the version, and the checksum of its file if that is recorded.
pub(crate) type Applied = BTreeMap<i64, Option<String>>;

/// What is to be done with files and records that go together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// Files to apply, oldest first.
    pub(crate) pending: Vec<&'a MigrationFile>,
    /// Applied files whose checksum nobody has recorded.
    pub(crate) unrecorded: Vec<&'a MigrationFile>,
}

/// Compares files, sorted by version, with what is applied.
pub(crate) fn plan<'a>(files: &'a [MigrationFile], applied: &Applied) -> Result<Plan<'a>, Refusal> {
    let known = files.last().map_or(0, MigrationFile::version);
    let newest = applied.keys().next_back().copied().unwrap_or(0);
    if newest > known {
        return Err(Refusal::DatabaseNewer {
            version: newest,
            known,
        });
    }
    for &version in applied.keys() {
        find(files, version)?;
    }
    let mut plan = Plan {
        pending: Vec::new(),
        unrecorded: Vec::new(),
    };
    for file in files {
        match applied.get(&file.version()) {
            None if file.version() < newest => {
                return Err(Refusal::Gap {
                    file: file.name().into(),
                    newest,
                });
            }
            None => plan.pending.push(file),
            Some(None) => plan.unrecorded.push(file),
            Some(Some(checksum)) => unchanged(file, checksum)?,
        }
    }
    Ok(plan)
}

/// Returns the file to revert: that of the newest applied version, `None` if there is none.
pub(crate) fn newest<'a>(
    files: &'a [MigrationFile],
    applied: &Applied,
) -> Result<Option<&'a MigrationFile>, Refusal> {
    let Some((&version, checksum)) = applied.last_key_value() else {
        return Ok(None);
    };
    let known = files.last().map_or(0, MigrationFile::version);
    if version > known {
        return Err(Refusal::DatabaseNewer { version, known });
    }
    let file = find(files, version)?;
    if let Some(checksum) = checksum {
        unchanged(file, checksum)?;
    }
    Ok(Some(file))
}

fn find(files: &[MigrationFile], version: i64) -> Result<&MigrationFile, Refusal> {
    files
        .binary_search_by_key(&version, MigrationFile::version)
        .map(|at| &files[at])
        .map_err(|_| Refusal::FileMissing { version })
}

fn unchanged(file: &MigrationFile, checksum: &str) -> Result<(), Refusal> {
    if file.checksum() == checksum {
        return Ok(());
    }
    Err(Refusal::Changed {
        file: file.name().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(versions: &[i64]) -> Vec<MigrationFile> {
        versions
            .iter()
            .map(|n| {
                let text = format!("-- +goose Up\nSELECT {n};\n");
                MigrationFile::read(&format!("{n}_a.sql"), &text).expect("a good file")
            })
            .collect()
    }

    fn applied(files: &[MigrationFile]) -> Applied {
        files
            .iter()
            .map(|file| (file.version(), Some(file.checksum().to_owned())))
            .collect()
    }

    #[test]
    fn what_is_not_applied_is_pending_in_order() {
        let files = files(&[1, 2, 3]);
        let plan = plan(&files, &applied(&files[..1])).expect("they go together");
        assert_eq!(plan.pending, [&files[1], &files[2]]);
        assert_eq!(plan.unrecorded, Vec::<&MigrationFile>::new());
    }

    #[test]
    fn what_goose_applied_is_recorded() {
        let files = files(&[1, 2]);
        let plan = plan(&files, &Applied::from([(1, None)])).expect("they go together");
        assert_eq!(
            (plan.pending, plan.unrecorded),
            (vec![&files[1]], vec![&files[0]])
        );
    }

    #[test]
    fn a_changed_file_is_refused_by_name() {
        let files = files(&[1, 2]);
        let was = Applied::from([(1, Some("other".into()))]);
        assert_eq!(
            plan(&files, &was),
            Err(Refusal::Changed {
                file: "1_a.sql".into()
            })
        );
        assert_eq!(
            newest(&files, &was),
            Err(Refusal::Changed {
                file: "1_a.sql".into()
            })
        );
    }

    #[test]
    fn a_gap_is_refused_by_name() {
        let files = files(&[1, 2, 3]);
        let mut was = applied(&files);
        was.remove(&2);
        assert_eq!(
            plan(&files, &was),
            Err(Refusal::Gap {
                file: "2_a.sql".into(),
                newest: 3
            })
        );
        assert_eq!(
            newest(&files, &was),
            Ok(Some(&files[2])),
            "reverting is a way out"
        );
    }

    #[test]
    fn a_newer_or_unknown_database_is_refused_by_version() {
        let files = files(&[1, 3]);
        let mut was = applied(&files);
        was.insert(2, None);
        assert_eq!(plan(&files, &was), Err(Refusal::FileMissing { version: 2 }));
        was.insert(4, None);
        let newer = Refusal::DatabaseNewer {
            version: 4,
            known: 3,
        };
        assert_eq!(plan(&files, &was), Err(newer.clone()));
        assert_eq!(newest(&files, &was), Err(newer));
    }

    #[test]
    fn an_empty_database_has_nothing_to_revert() {
        assert_eq!(newest(&files(&[1]), &Applied::new()), Ok(None));
    }
}
