//! Where the servers' programs are.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

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

/// `nats-server`: `PONIX_NATS_SERVER`, then `.ponix/bin/` of the checkout, then `PATH`.
pub(crate) fn nats_server() -> Result<PathBuf> {
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
