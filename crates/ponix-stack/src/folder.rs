//! Where a server keeps its data and its log.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

/// When set, temporary folders stay where they are, for a look at them.
const KEEP: &str = "PONIX_STACK_KEEP";
const LOCK: &str = "in-use";

/// A folder of one server: a temporary one that goes away with it, or a given one that stays.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    temporary: bool,
    /// Set when something went wrong, so that there is something to look at.
    kept: AtomicBool,
}

impl Folder {
    /// Makes a new, empty folder of this process; the name of the server is part of its own.
    pub(crate) fn temporary(name: &str) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = run_folder()?.join(format!("{name}-{count}"));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self {
            path,
            temporary: true,
            kept: AtomicBool::new(false),
        })
    }

    /// Takes a given folder, made if it is not there.
    pub(crate) fn given(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("find {}", path.display()))?;
        Ok(Self {
            path,
            temporary: false,
            kept: AtomicBool::new(false),
        })
    }

    pub(crate) fn of(name: &str, given: Option<&Path>) -> Result<Self> {
        given.map_or_else(|| Self::temporary(name), Self::given)
    }

    /// Leaves a temporary folder where it is, until the next run sweeps it away.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Whether it goes away with its server.
    #[cfg(feature = "containers")]
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let kept = *self.kept.get_mut() || std::env::var_os(KEEP).is_some();
        if self.temporary && !kept {
            // What cannot be removed now is swept away by a later run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder that holds all temporary folders of this process.
///
/// It is marked by a file lock, which ends with the process however that dies; what earlier runs
/// left behind is recognised by its free lock and removed.
fn run_folder() -> Result<PathBuf> {
    static RUN: Mutex<Option<(PathBuf, File)>> = Mutex::new(None);
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, _)) = run.as_ref() {
        return Ok(path.clone());
    }
    let all = std::env::temp_dir().join(format!("ponix-stack-{}", geteuid()));
    let made =
        make_run_folder(&all).with_context(|| format!("make a folder in {}", all.display()))?;
    Ok(run.insert(made).0.clone())
}

fn make_run_folder(all: &Path) -> Result<(PathBuf, File)> {
    fs::create_dir_all(all)?;
    let owner = all.metadata()?.uid();
    ensure!(owner == geteuid().as_raw(), "it belongs to user {owner}");
    // A server that runs as another user must get through to its own folder.
    fs::set_permissions(all, Permissions::from_mode(0o755))?;
    // Held while sweeping and making, so that nobody sweeps a folder before it is locked.
    let gate = File::create(all.join("gate"))?;
    gate.lock()?;
    sweep(all)?;
    let path = all.join(format!(
        "run-{}-{:08x}",
        std::process::id(),
        rand::random::<u32>()
    ));
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    let lock = File::create(path.join(LOCK))?;
    lock.lock()?;
    Ok((path, lock))
}

fn sweep(all: &Path) -> Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        let Ok(lock) = File::open(path.join(LOCK)) else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => drop(fs::remove_dir_all(&path)),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_a_given_one_stays() {
        let outer = tempfile::tempdir().unwrap();
        let given = Folder::given(&outer.path().join("a/b")).unwrap();
        let temporary = Folder::temporary("test").unwrap();
        let (stays, goes) = (given.path().to_owned(), temporary.path().to_owned());
        assert!(stays.is_dir() && goes.is_dir());
        drop((given, temporary));
        assert!(stays.is_dir());
        assert!(!goes.exists());
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let all = tempfile::tempdir().unwrap();
        let (live, _lock) = make_run_folder(all.path()).unwrap();
        let (dead, lock) = make_run_folder(all.path()).unwrap();
        fs::write(dead.join("store"), "bytes").unwrap();
        drop(lock);
        let (new, _new_lock) = make_run_folder(all.path()).unwrap();
        assert!(live.is_dir() && new.is_dir());
        assert!(!dead.exists());
    }
}
