//! Embeds `migrations/*.sql` into the crate, in the order of their names.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let mut files: Vec<PathBuf> = fs::read_dir(Path::new(&root).join("migrations"))
        .expect("the folder of the migrations is part of the crate")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();

    let mut list = String::from("&[\n");
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("its name is UTF-8");
        let path = format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/migrations/\", {name:?})");
        writeln!(list, "    ({name:?}, include_str!({path})),").expect("a String takes it");
    }
    list.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets it for build scripts");
    fs::write(Path::new(&out).join("migrations.rs"), list).expect("the output folder is ours");
}
