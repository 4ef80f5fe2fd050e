//! Something that moves while nothing else does: on standard error, on a terminal only, gone when it is dropped.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A wait is seen to go on, and nothing flickers.
const TICK: Duration = Duration::from_millis(120);

/// Shows what is waited for, and for how long already.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    /// Starts to turn.
    pub(crate) fn start(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// What is waited for is another thing now.
    pub(crate) fn now(&self, what: &'static str) {
        self.0.set_message(what);
    }

    /// Takes it away, before something else is shown.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}
