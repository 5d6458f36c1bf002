//! Where the servers' programs are.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Where to look, read once from the environment, so that the search itself can be tested.
#[derive(Debug, Default)]
struct Places {
    /// The running program.
    exe: Option<PathBuf>,
    /// Folders whose ancestors may be the checkout with its `.ponix/`.
    roots: Vec<PathBuf>,
    /// The folders of `PATH`.
    path: Vec<PathBuf>,
}

impl Places {
    fn from_env() -> Self {
        let exe = env::current_exe().ok();
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        Self {
            roots: [exe.clone(), env::current_dir().ok(), manifest]
                .into_iter()
                .flatten()
                .collect(),
            exe,
            path: env::var_os("PATH").map_or(Vec::new(), |path| env::split_paths(&path).collect()),
        }
    }

    fn in_checkout(&self, relative: &str) -> Option<PathBuf> {
        let ancestors = self.roots.iter().flat_map(|root| root.ancestors());
        ancestors
            .map(|folder| folder.join(".ponix").join(relative))
            .find(|path| path.is_file())
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| is_program(path))
    }

    /// A program of this workspace: in the folder of the running one (`target/debug`, also when
    /// that is `target/debug/deps` or `target/debug/examples`), then in the other profile's.
    fn built(&self, name: &str) -> Option<PathBuf> {
        let folder = self.exe.as_deref()?.parent()?;
        let profile = match folder.file_name().and_then(OsStr::to_str) {
            Some("deps" | "examples") => folder.parent()?,
            _ => folder,
        };
        let target = profile.parent()?;
        [
            profile.to_owned(),
            target.join("release"),
            target.join("debug"),
        ]
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
    }
}

/// Returns the oldest nats-server that Ponix works with, for [`NatsBuilder::program`]:
/// `PONIX_NATS_SERVER_OLDEST`, then what `scripts/setup --with-oldest-nats` has brought.
///
/// [`NatsBuilder::program`]: crate::NatsBuilder::program
pub fn oldest_nats_server() -> Option<PathBuf> {
    named_by("PONIX_NATS_SERVER_OLDEST", |places| {
        places.in_checkout("bin/nats-server-oldest")
    })
    .ok()?
}

/// `nats-server`: `PONIX_NATS_SERVER`, then `.ponix/bin/` of the checkout, then `PATH`.
pub fn nats_server() -> Result<PathBuf> {
    named_by("PONIX_NATS_SERVER", |places| {
        places
            .in_checkout("bin/nats-server")
            .or_else(|| places.on_path("nats-server"))
    })?
    .ok_or_else(|| {
        anyhow::anyhow!(
            "nats-server was not found in .ponix/bin or on PATH: run scripts/setup, \
             or set PONIX_NATS_SERVER"
        )
    })
}

/// `chdb-server`: `PONIX_CHDB_SERVER`, then beside the running program, then `PATH`.
pub(crate) fn chdb_server() -> Result<PathBuf> {
    named_by("PONIX_CHDB_SERVER", |places| {
        places
            .built("chdb-server")
            .or_else(|| places.in_checkout("bin/chdb-server"))
            .or_else(|| places.on_path("chdb-server"))
    })?
    .ok_or_else(|| {
        anyhow::anyhow!(
            "chdb-server was not found beside this program: run `cargo build -p chdb-server`, \
             or set PONIX_CHDB_SERVER"
        )
    })
}

/// The folder of `postgres` and `initdb`: `PONIX_POSTGRES_BIN`, then `PATH`, then the newest
/// version where Debian and its kin put them.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    let complete = |folder: &PathBuf| {
        ["postgres", "initdb"]
            .iter()
            .all(|name| is_program(&folder.join(name)))
    };
    if let Some(named) = env::var_os("PONIX_POSTGRES_BIN") {
        let folder = std::path::absolute(named)?;
        ensure!(
            complete(&folder),
            "PONIX_POSTGRES_BIN names {}, where postgres and initdb are not",
            folder.display()
        );
        return Ok(folder);
    }
    let on_path = Places::from_env().path.into_iter().find(complete);
    on_path
        .or_else(|| newest_version(Path::new("/usr/lib/postgresql")).filter(complete))
        .context(
            "PostgreSQL was not found on PATH or in /usr/lib/postgresql: run scripts/setup, \
             or set PONIX_POSTGRES_BIN to the folder of postgres and initdb",
        )
}

/// `VERSION/bin` of the highest version among the folders that are named by one.
fn newest_version(versions: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(versions).ok()?.flatten();
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    entries
        .map(|entry| entry.path())
        .filter(|folder| version(folder).is_some())
        .max_by_key(version)
        .map(|folder| folder.join("bin"))
}

/// The engine's library, where it can be told: `PONIX_LIBCHDB`, then `.ponix/lib/` of the checkout.
pub(crate) fn libchdb() -> Option<PathBuf> {
    let named = env::var_os("PONIX_LIBCHDB").map(PathBuf::from);
    let found = named.or_else(|| {
        let places = Places::from_env();
        ["lib/libchdb.so", "lib/libchdb.dylib"]
            .iter()
            .find_map(|name| places.in_checkout(name))
    })?;
    std::path::absolute(found).ok()
}

/// A program on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    Places::from_env().on_path(name)
}

/// A binary of this workspace that was built beside the running program, by its name.
///
/// # Errors
///
/// It is not there; says which `cargo build` makes it.
pub fn workspace_binary(name: &str) -> Result<PathBuf> {
    Places::from_env().built(name).ok_or_else(|| {
        anyhow::anyhow!("{name} was not found beside this program: run `cargo build -p {name}`")
    })
}

fn named_by(
    variable: &str,
    search: impl FnOnce(&Places) -> Option<PathBuf>,
) -> Result<Option<PathBuf>> {
    let Some(named) = env::var_os(variable) else {
        return Ok(search(&Places::from_env()));
    };
    explicit(variable, &named).map(Some)
}

/// A path that was named is taken as it is, absolute because children have another folder.
fn explicit(variable: &str, named: &OsString) -> Result<PathBuf> {
    let path = std::path::absolute(named)?;
    if !is_program(&path) {
        bail!(
            "{variable} names {}, which is not a program",
            path.display()
        );
    }
    Ok(path)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with these files, all of them programs.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        root
    }

    #[test]
    fn a_checkout_is_found_from_below() {
        let root = tree(&[".ponix/bin/nats-server"]);
        let places = Places {
            roots: vec!["/nowhere".into(), root.path().join("crates/a/b")],
            ..Places::default()
        };
        let found = places.in_checkout("bin/nats-server");
        assert_eq!(found, Some(root.path().join(".ponix/bin/nats-server")));
        assert_eq!(places.in_checkout("bin/other"), None);
    }

    #[test]
    fn the_same_profile_comes_first() {
        let root = tree(&["target/debug/a", "target/release/a", "target/release/b"]);
        let built = |exe: &str, name: &str| {
            let exe = Some(root.path().join(exe));
            let found = Places {
                exe,
                ..Places::default()
            }
            .built(name)?;
            Some(found.strip_prefix(root.path()).unwrap().to_owned())
        };
        let is = |path: &str| Some(PathBuf::from(path));
        assert_eq!(built("target/debug/deps/it-1", "a"), is("target/debug/a"));
        assert_eq!(
            built("target/release/deps/it-1", "a"),
            is("target/release/a")
        );
        assert_eq!(
            built("target/debug/examples/x", "b"),
            is("target/release/b")
        );
        assert_eq!(built("target/debug/ponix", "a"), is("target/debug/a"));
        assert_eq!(built("target/debug/ponix", "c"), None);
    }

    #[test]
    fn what_is_no_program_is_passed_over() {
        let root = tree(&["one/tool", "two/tool"]);
        let plain = Permissions::from_mode(0o644);
        fs::set_permissions(root.path().join("one/tool"), plain).unwrap();
        let path = vec![root.path().join("one"), root.path().join("two")];
        let places = Places {
            path,
            ..Places::default()
        };
        assert_eq!(places.on_path("tool"), Some(root.path().join("two/tool")));
        let error = explicit("PONIX_TOOL", &root.path().join("one/tool").into()).unwrap_err();
        assert!(
            error.to_string().starts_with("PONIX_TOOL names "),
            "{error}"
        );
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let root = tree(&["9/bin/postgres", "17/bin/postgres", "common/bin/postgres"]);
        assert_eq!(
            newest_version(root.path()),
            Some(root.path().join("17/bin"))
        );
        assert_eq!(newest_version(Path::new("/nowhere")), None);
    }
}
