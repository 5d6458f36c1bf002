use std::process::{ExitCode, Termination};

/// How a service ended, and the exit code that says so.
///
/// It can be returned from `main` as it is:
///
/// ```
/// use ponix_runner::Outcome;
///
/// fn main() -> Outcome {
///     Outcome::Clean
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "return it from main, so that it becomes the exit code"]
#[non_exhaustive]
pub enum Outcome {
    /// Stopped because it was asked to, and everything in flight was finished: exit code 0.
    Clean,
    /// Did not start because its configuration is wrong: exit code 64 (`EX_USAGE`).
    ///
    /// The runner never says so; it is here so that a binary has all its exit codes in one place.
    Configuration,
    /// The start-up failed, or a process or closer failed, panicked or ended unasked: exit code 1.
    Failed,
    /// Asked to stop, and work in flight was cut off by the grace time, a second signal or a
    /// closer's timeout: exit code 2.
    DrainTimedOut,
}

impl Outcome {
    /// Returns the exit code of the process.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::DrainTimedOut => 2,
            Self::Configuration => 64,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [
            Outcome::Clean,
            Outcome::Failed,
            Outcome::DrainTimedOut,
            Outcome::Configuration,
        ]
        .map(Outcome::code);

        assert_eq!(codes, [0, 1, 2, 64]);
    }
}
