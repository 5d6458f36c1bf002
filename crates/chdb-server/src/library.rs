//! Finds libchdb.

use std::path::{Path, PathBuf};

/// The file the project's setup script installs, relative to a checkout.
const INSTALLED: &str = ".ponix/lib/libchdb.so";
/// Found by the dynamic linker on its own path.
const SYSTEM: &str = "libchdb.so";

/// Where libchdb may be, best first.
///
/// `named` is what the operator said, and then the only candidate. Otherwise: `.ponix/lib/libchdb.so` in an ancestor
/// of the executable or of the working folder, if such a file exists; else the name alone, for the system's library
/// path.
pub(crate) fn candidates(
    named: Option<&Path>,
    executable: Option<&Path>,
    working_folder: Option<&Path>,
) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let mut found: Vec<PathBuf> = [executable, working_folder]
        .into_iter()
        .flatten()
        .filter_map(|start| {
            start
                .ancestors()
                .map(|folder| folder.join(INSTALLED))
                .find(|file| file.is_file())
        })
        .collect();
    found.dedup();
    found.push(PathBuf::from(SYSTEM));
    found
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{INSTALLED, SYSTEM, candidates};

    #[test]
    fn a_named_file_is_the_only_candidate() {
        assert_eq!(
            candidates(Some(Path::new("/x.so")), None, None),
            [PathBuf::from("/x.so")]
        );
    }

    #[test]
    fn the_checkout_comes_before_the_system() {
        let checkout = tempfile::tempdir().unwrap();
        let library = checkout.path().join(INSTALLED);
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        std::fs::write(&library, "").unwrap();
        let executable = checkout.path().join("target/debug/chdb-server");
        let found = candidates(None, Some(&executable), Some(Path::new("/")));
        assert_eq!(found, [library, PathBuf::from(SYSTEM)]);
        assert_eq!(
            candidates(None, None, Some(Path::new("/nonexistent/x"))),
            [PathBuf::from(SYSTEM)]
        );
    }
}
