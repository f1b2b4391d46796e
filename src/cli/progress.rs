//! That something is going on, and how far it is, on standard error.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);
/// How often a log hears of it.
const SELDOM: Duration = Duration::from_secs(10);

/// Turns until it is dropped. Hidden where nobody looks on.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        // Draws to standard error, and to nothing where that is no terminal.
        let bar = ProgressBar::new_spinner();
        bar.set_message(text.into());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How far something is: a bar on a terminal, a line every ten seconds elsewhere. The bar goes when this is dropped.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Progress {
    /// `what`: of what there are so many.
    pub(crate) fn new(what: &str) -> Self {
        let template = format!("{{msg}} {{wide_bar}} {{human_pos}}/{{human_len}} {what}, {{eta}} left");
        let bar = || {
            let bar = ProgressBar::new(0);
            match ProgressStyle::with_template(&template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        };
        Self { bar: io::stderr().is_terminal().then(bar), said: Instant::now() }
    }

    /// `done` of `total`; `name` stands before the bar, and `line` is what a log reads.
    pub(crate) fn show(&mut self, (done, total): (u64, u64), name: String, line: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(name);
        } else if self.said.elapsed() >= SELDOM {
            self.said = Instant::now();
            eprintln!("{}", line());
        }
    }

    /// A line that stays, in either case.
    pub(crate) fn say(&mut self, line: &str) {
        self.said = Instant::now();
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
