//! Detects that the machine was suspended: the wall clock advanced more than the monotonic clock.

use std::time::Duration;

use tokio::time::Instant;

/// Interval of the checks, and so the longest time until a resumed laptop reconnects.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Smallest gap that counts as a suspend. A shorter gap is a busy machine or a corrected clock. A longer NTP step is rare, and
/// costs only a reconnect.
const MIN_GAP: Duration = Duration::from_secs(15);

/// The two clocks at the last check.
#[derive(Debug)]
pub(super) struct SuspendDetector {
    wall: jiff::Timestamp,
    monotonic: Instant,
}

impl SuspendDetector {
    pub(super) fn new(wall: jiff::Timestamp, monotonic: Instant) -> Self {
        Self { wall, monotonic }
    }

    /// How long the machine was suspended since the last check. A wall clock that was set back counts as no suspend.
    pub(super) fn check(&mut self, wall: jiff::Timestamp, monotonic: Instant) -> Option<Duration> {
        let by_wall = Duration::try_from(wall.duration_since(self.wall)).unwrap_or_default();
        let by_monotonic = monotonic.duration_since(self.monotonic);
        (self.wall, self.monotonic) = (wall, monotonic);
        let slept = by_wall.saturating_sub(by_monotonic);
        (slept > MIN_GAP).then_some(slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F59, F60: two hours of suspend are detected once; a wall clock that is set back is no suspend.
    #[test]
    fn a_gap_between_the_clocks_is_a_suspend() {
        let (wall, monotonic) = (jiff::Timestamp::UNIX_EPOCH, Instant::now());
        let mut suspend = SuspendDetector::new(wall, monotonic);
        let at = |wall_s: i64, monotonic_s: u64| {
            let wall = jiff::Timestamp::from_second(wall_s).unwrap();
            (wall, monotonic + Duration::from_secs(monotonic_s))
        };
        let mut check = |wall_s, monotonic_s| {
            let (wall, monotonic) = at(wall_s, monotonic_s);
            suspend.check(wall, monotonic).map(|slept| slept.as_secs())
        };
        assert_eq!(check(5, 5), None);
        assert_eq!(check(7210, 10), Some(7200));
        assert_eq!(check(7215, 15), None);
        assert_eq!(check(3600, 20), None);
        assert_eq!(check(3605, 25), None);
    }
}
