//! Compares a stream or consumer that is there with what the configuration asks for.
//!
//! Equal: use it. Different where a change loses nothing: change it and log the difference.
//! Otherwise refuse to start and print the difference. Nothing is ever deleted and created again.

use std::fmt;

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name as the server's API spells it.
    pub setting: &'static str,
    /// What the server has.
    pub actual: String,
    /// What the configuration asks for.
    pub wanted: String,
    pub(crate) safe: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: is {}, should be {}",
            self.setting, self.actual, self.wanted
        )
    }
}

/// Differences as one line of text.
pub(crate) fn display_differences(differences: &[Difference]) -> String {
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Collects differences between two configurations.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) differences: Vec<Difference>,
}

impl Comparison {
    /// Notes a setting that may be changed on the running server without losing anything.
    pub(crate) fn safe<T: fmt::Debug + PartialEq>(
        &mut self,
        setting: &'static str,
        actual: &T,
        wanted: &T,
    ) {
        self.note(setting, actual, wanted, true);
    }

    /// Notes a setting that cannot be changed, or not without losing messages or acks.
    pub(crate) fn fixed<T: fmt::Debug + PartialEq>(
        &mut self,
        setting: &'static str,
        actual: &T,
        wanted: &T,
    ) {
        self.note(setting, actual, wanted, false);
    }

    pub(crate) fn note<T: fmt::Debug + PartialEq>(
        &mut self,
        setting: &'static str,
        actual: &T,
        wanted: &T,
        safe: bool,
    ) {
        if actual != wanted {
            self.differences.push(Difference {
                setting,
                actual: format!("{actual:?}"),
                wanted: format!("{wanted:?}"),
                safe,
            });
        }
    }

    /// The differences that forbid a start.
    pub(crate) fn refused(&self) -> Vec<Difference> {
        self.differences
            .iter()
            .filter(|d| !d.safe)
            .cloned()
            .collect()
    }
}
