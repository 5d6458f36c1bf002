use tokio_util::sync::CancellationToken;

/// The two tokens by which a process learns that it is to stop.
///
/// *Soft* asks: take nothing new, finish what is in flight, then return. *Hard* insists: return at
/// the next await, whatever is in flight. The hard token being cancelled cancels the soft one too.
///
/// Clones share the same tokens.
#[derive(Debug, Clone)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// Creates a pair of tokens, neither of them cancelled.
    pub fn new() -> Self {
        Self::below(&CancellationToken::new())
    }

    /// Creates a soft token of its own below a hard token that others share.
    pub(crate) fn below(hard: &CancellationToken) -> Self {
        Self {
            soft: hard.child_token(),
            hard: hard.clone(),
        }
    }

    /// Returns the token that asks a process to finish its work and return.
    ///
    /// Cancelling it from inside a process stops the whole service as a signal would.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Returns the token that tells a process to return at once.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Shutdown;

    #[test]
    fn soft_leaves_hard_alone_and_hard_implies_soft() {
        let asked = Shutdown::new();
        asked.soft().cancel();
        assert!(!asked.hard().is_cancelled());

        let told = Shutdown::new();
        told.hard().cancel();
        assert!(told.soft().is_cancelled());
    }
}
