//! The service with every pipeline that is configured; under the name `ponix-ingest` the HTTP API alone.

use ponix_all_in_one::{Outcome, Program};

fn main() -> Outcome {
    let name = std::env::args_os().next().unwrap_or_default();
    ponix_all_in_one::main(Program::of_name(&name))
}
