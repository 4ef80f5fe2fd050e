//! How many crashes are too many: a sliding window, without a clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When to restart, after how long, and when to give up.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The delay after the first, second, … crash within the window; the last one repeats.
    pub delays: Vec<Duration>,
    /// More crashes than this within the window, and the supervisor gives up.
    pub limit: usize,
    /// How long a crash is held against the actor.
    pub window: Duration,
}

impl Default for Policy {
    /// SPEC.md section 6: at once, for a crash is most often one bad message; then slower, for it was not.
    fn default() -> Self {
        Self {
            delays: [0, 10, 100, 1000].map(Duration::from_millis).to_vec(),
            limit: 5,
            window: Duration::from_mins(1),
        }
    }
}

/// What to do after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on after this long.
    Restart(Duration),
    /// That was one too many.
    GiveUp,
}

/// The crashes of one actor that still count.
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
