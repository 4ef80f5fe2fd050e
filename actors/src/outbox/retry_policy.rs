//! Retries of a POST: 250 ms doubling to 5 s, for 60 s (SPEC.md section 6). Pure.

use std::time::Duration;

use tokio::time::Instant;

/// First pause: time for a hub to restart in place.
const FIRST: Duration = Duration::from_millis(250);
/// Longest pause, so that a returning hub gets the result within 5 s.
const LONGEST: Duration = Duration::from_secs(5);
/// Time for all tries: twice the 30 s after which a hub gives the task up.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(crate) struct RetryPolicy {
    until: Instant,
    pause: Duration,
}

impl RetryPolicy {
    pub(crate) fn new(now: Instant) -> Self {
        Self { until: now + GIVE_UP_AFTER, pause: FIRST }
    }

    /// The pause after a failure, at least `retry_after`; `None` at the end of all tries.
    pub(crate) fn after_failure(&mut self, retry_after: Option<Duration>, now: Instant) -> Option<Duration> {
        let left = self.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let pause = self.pause.max(retry_after.unwrap_or_default());
        self.pause = (self.pause * 2).min(LONGEST);
        Some(pause.min(left))
    }
}
