//! The HTTP API alone: for hosts that take events and messages in, and leave the rest to workers.

use ponix_all_in_one::{Outcome, Program};

fn main() -> Outcome {
    ponix_all_in_one::main(Program::Ingest)
}
