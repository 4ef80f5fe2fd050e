//! Up to when what has ended is kept. Only the wall clock spans a restart; one that is set must not expire anything.

use std::time::Duration;

use wire::row::Timestamp;

use crate::clock::Now;

/// A wall clock that is ahead by less is a corrected one: of seven days that is nothing.
const SLIGHT: Duration = Duration::from_hours(1);

/// The wall clock as far as it is believed: one that leaps ahead is believed when it has stood there for as long as
/// things are kept, so that what ended before the leap is kept its time too.
#[derive(Debug)]
pub(super) struct Retention {
    kept: Duration,
    /// From here on time is counted by the monotonic clock.
    since: Now,
    /// The wall clock has been far ahead since then.
    ahead: Option<Duration>,
}

impl Retention {
    pub(super) fn new(kept: Duration, now: Now) -> Self {
        Self { kept, since: now, ahead: None }
    }

    /// What ended before this moment is kept no longer.
    pub(super) fn expired_before(&mut self, now: Now) -> Timestamp {
        let mut believed = self.since.wall.plus_millis(millis(now.mono.saturating_sub(self.since.mono)));
        if Duration::from_millis(now.wall.millis_since(believed)) <= SLIGHT {
            self.ahead = None;
        } else if now.mono.saturating_sub(*self.ahead.get_or_insert(now.mono)) >= self.kept {
            (self.since, self.ahead) = (now, None);
            believed = now.wall;
        }
        now.wall.min(believed).plus_millis(millis(self.kept).saturating_neg())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const WEEK: i64 = 7 * 24 * HOUR;

    fn at(wall: i64, mono: i64) -> Now {
        Now { wall: Timestamp(wall), mono: Duration::from_millis(u64::try_from(mono).unwrap()) }
    }

    /// F59: a wall clock that leaps ahead expires nothing that it would not have expired without; one that stays there
    /// is believed when all that ended before has been kept its time.
    #[test]
    fn a_wall_clock_that_leaps_expires_nothing_before_its_time() {
        let mut retention = Retention::new(Duration::from_hours(7 * 24), at(1000 * HOUR, 0));
        let mut before = |wall, mono| retention.expired_before(at(wall, mono)).0;
        assert_eq!(before(1001 * HOUR, HOUR), 1001 * HOUR - WEEK);
        // An hour more or less, and a year ahead and back again.
        assert_eq!(before(1003 * HOUR, 2 * HOUR), 1002 * HOUR - WEEK);
        assert_eq!(before(1002 * HOUR, 3 * HOUR), 1002 * HOUR - WEEK);
        assert_eq!(before(9999 * HOUR, 4 * HOUR), 1004 * HOUR - WEEK);
        assert_eq!(before(1005 * HOUR, 5 * HOUR), 1005 * HOUR - WEEK);
        // A machine that began in 1970 and then learnt the time.
        assert_eq!(before(9999 * HOUR, 6 * HOUR), 1006 * HOUR - WEEK);
        assert_eq!(before(9998 * HOUR + WEEK, 5 * HOUR + WEEK), 1005 * HOUR);
        assert_eq!(before(9999 * HOUR + WEEK, 6 * HOUR + WEEK), 9999 * HOUR);
        assert_eq!(before(10_000 * HOUR + WEEK, 7 * HOUR + WEEK), 10_000 * HOUR);
    }
}
