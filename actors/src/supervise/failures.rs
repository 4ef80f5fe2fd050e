//! Counts crashes in a sliding window. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The delay of a restart, and the limit of crashes.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Delays after the first, second, … crash within the window; the last one repeats.
    pub(crate) delays: Vec<Duration>,
    /// Crashes within the window above which the supervisor gives up.
    pub(crate) limit: usize,
    pub(crate) window: Duration,
}

impl Default for Policy {
    /// SPEC.md section 6. The first restart is immediate: most crashes are caused by one bad message.
    fn default() -> Self {
        Self {
            delays: [0, 10, 100, 1000].map(Duration::from_millis).to_vec(),
            limit: 5,
            window: Duration::from_mins(1),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Restart(Duration),
    GiveUp,
}

/// The crashes of one actor within the window.
#[derive(Debug)]
pub(super) struct Failures {
    policy: Policy,
    recent: VecDeque<Instant>,
}

impl Failures {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, recent: VecDeque::new() }
    }

    /// Counts a crash at `now`.
    pub(super) fn record(&mut self, now: Instant) -> Verdict {
        let window = self.policy.window;
        while self.recent.front().is_some_and(|&then| now.duration_since(then) >= window) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let count = self.recent.len();
        if count > self.policy.limit {
            return Verdict::GiveUp;
        }
        let delays = &self.policy.delays;
        Verdict::Restart(delays.get(count - 1).or(delays.last()).copied().unwrap_or_default())
    }
}
