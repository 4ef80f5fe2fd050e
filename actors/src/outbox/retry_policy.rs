//! How long a result is tried: 250 ms doubling to 5 s, for 60 s (SPEC.md section 6). Without a clock.

use std::time::Duration;

use tokio::time::Instant;

/// First pause: a hub that restarts in place is back by then.
const FIRST: Duration = Duration::from_millis(250);
/// Longest pause: a result waits at most so long for a hub that is back.
const LONGEST: Duration = Duration::from_secs(5);
/// Then the hub has given the task up for long (its grace is 15 s) and a result is of no use.
const FOR: Duration = Duration::from_mins(1);

/// The tries of one POST.
#[derive(Debug)]
pub(crate) struct RetryPolicy {
    until: Instant,
    pause: Duration,
}

impl RetryPolicy {
    pub(crate) fn new(now: Instant) -> Self {
        Self { until: now + FOR, pause: FIRST }
    }

    /// How long to wait after a failure; `None`: no more. What the hub asked for counts, up to the end.
    pub(crate) fn after_failure(&mut self, retry_after: Option<Duration>, now: Instant) -> Option<Duration> {
        let left = self.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let pause = self.pause.max(retry_after.unwrap_or_default());
        self.pause = (self.pause * 2).min(LONGEST);
        Some(pause.min(left))
    }
}
