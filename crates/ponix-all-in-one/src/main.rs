//! The service with every pipeline that is configured.

use ponix_all_in_one::{Outcome, Program};

fn main() -> Outcome {
    ponix_all_in_one::main(Program::AllInOne)
}
