//! The child's side of crash isolation: reads messages as their pipeline does, without a server.

use ponix_pipeline::serve_crash_isolation;
use ponix_runner::Outcome;

use crate::cli;
use crate::config::Config;
use crate::pipelines::read_offline;

/// Reads messages of a pipeline from standard input, and answers each on standard output.
pub(crate) fn run(config: &Config, pipeline: &str) -> Outcome {
    let read_message = match read_offline(config, pipeline) {
        Ok(read_message) => read_message,
        Err(err) => return cli::fail(&format!("{err:#}")),
    };
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    serve_crash_isolation(input, output, read_message);
    Outcome::Clean
}
