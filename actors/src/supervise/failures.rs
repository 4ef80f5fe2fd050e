//! Counts crashes in a sliding window (SPEC.md section 6). Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Delays after the first, second, … crash within the window; the last one repeats. The first restart is immediate: most
/// crashes are caused by one bad message.
const DELAYS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];
/// Crashes within the window above which the supervisor gives up.
const LIMIT: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Restart(Duration),
    GiveUp,
}

/// The crashes of one actor within the window.
#[derive(Debug, Default)]
pub(super) struct Failures {
    recent: VecDeque<Instant>,
}

impl Failures {
    /// Counts a crash at `now`.
    pub(super) fn record(&mut self, now: Instant) -> Verdict {
        while self.recent.front().is_some_and(|&then| now.duration_since(then) >= WINDOW) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let count = self.recent.len();
        if count > LIMIT {
            Verdict::GiveUp
        } else {
            Verdict::Restart(DELAYS[(count - 1).min(DELAYS.len() - 1)])
        }
    }
}
