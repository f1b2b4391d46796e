//! That something is going on, on standard error, where that is a terminal.

use std::time::Duration;

use indicatif::ProgressBar;

const TICK: Duration = Duration::from_millis(120);

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
