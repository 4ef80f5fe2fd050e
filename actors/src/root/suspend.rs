//! Notices that the machine slept: wall clock and monotonic clock part company.

use std::time::Duration;

use tokio::time::Instant;

/// How often to look. A laptop that woke up is back within this.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A gap up to this is a busy machine or a corrected clock; an NTP step is rarely more, and then costs a reconnect.
const GAP: Duration = Duration::from_secs(15);

/// The two clocks when they were last looked at.
#[derive(Debug)]
pub(super) struct Suspend {
    wall: jiff::Timestamp,
    monotonic: Instant,
}

impl Suspend {
    pub(super) fn new(wall: jiff::Timestamp, monotonic: Instant) -> Self {
        Self { wall, monotonic }
    }

    /// For how long the machine slept since the last look, if it did. A monotonic clock stands still meanwhile; a wall
    /// clock that was set back tells nothing.
    pub(super) fn look(&mut self, wall: jiff::Timestamp, monotonic: Instant) -> Option<Duration> {
        let by_wall = Duration::try_from(wall.duration_since(self.wall)).unwrap_or_default();
        let by_monotonic = monotonic.duration_since(self.monotonic);
        (self.wall, self.monotonic) = (wall, monotonic);
        let slept = by_wall.saturating_sub(by_monotonic);
        (slept > GAP).then_some(slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F59, F60: two hours of suspend are noticed once; a wall clock that is set back is none.
    #[test]
    fn a_gap_between_the_clocks_is_sleep_and_a_clock_set_back_is_none() {
        let (wall, monotonic) = (jiff::Timestamp::UNIX_EPOCH, Instant::now());
        let mut suspend = Suspend::new(wall, monotonic);
        let at = |wall_s: i64, monotonic_s: u64| {
            let wall = jiff::Timestamp::from_second(wall_s).unwrap();
            (wall, monotonic + Duration::from_secs(monotonic_s))
        };
        let mut look = |wall_s, monotonic_s| {
            let (wall, monotonic) = at(wall_s, monotonic_s);
            suspend.look(wall, monotonic).map(|slept| slept.as_secs())
        };
        assert_eq!(look(5, 5), None);
        assert_eq!(look(7210, 10), Some(7200));
        assert_eq!(look(7215, 15), None);
        assert_eq!(look(3600, 20), None);
        assert_eq!(look(3605, 25), None);
    }
}
