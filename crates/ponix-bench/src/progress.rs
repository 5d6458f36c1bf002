//! Progress on standard error: a bar on a terminal, a line now and then otherwise.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The pause between two lines where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(2);

/// How far something is that counts up to a known total.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Begins at 0 of `total`; 0 says that the total is not known.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        Self {
            what,
            total,
            bar,
            last_line: Instant::now(),
        }
    }

    /// Shows where it is now.
    pub(crate) fn set(&mut self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        } else if self.last_line.elapsed() >= LINE_PAUSE {
            self.last_line = Instant::now();
            say(&line(self.what, position, self.total));
        }
    }

    /// Ends it where it is.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.abandon();
        }
    }
}

/// Prints a line on standard error. A closed one is no reason to stop measuring.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn bar(what: &'static str, total: u64) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr());
    let template = "{msg:10} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

fn line(what: &str, position: u64, total: u64) -> String {
    let position = HumanCount(position);
    match total {
        0 => format!("{what}: {position}"),
        total => format!("{what}: {position} of {}", HumanCount(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn lines_say_the_total_if_it_is_known() {
        assert_eq!(
            line("published", 12_345, 1_000_000),
            "published: 12,345 of 1,000,000"
        );
        assert_eq!(line("published", 12_345, 0), "published: 12,345");
    }
}
