//! A spinner on standard error, shown on a terminal only and removed when it is dropped.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two frames.
const TICK: Duration = Duration::from_millis(120);

/// Shows a text and the time since the start.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn start(text: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(text);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn set_text(&self, text: &'static str) {
        self.0.set_message(text);
    }

    /// Removes the spinner, before other output.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}
