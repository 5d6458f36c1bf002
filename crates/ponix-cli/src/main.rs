//! What an operator looks at and mends with.

use std::process::ExitCode;

fn main() -> ExitCode {
    ponix_cli::main()
}
