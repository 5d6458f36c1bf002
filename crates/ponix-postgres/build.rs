//! Compiles the crate again when a migration comes.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
