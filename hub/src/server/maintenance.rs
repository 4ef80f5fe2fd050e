//! Periodic maintenance, with the retention of ended tasks, audit rows and sums. Only the wall clock spans a restart, and setting
//! it must not expire anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use wire::row::Timestamp;

use crate::clock::Now;
use crate::cluster::TableTurn;
use crate::hub::Hub;
use crate::model::Day;
use crate::news::{log_suppressed, news};
use crate::registry::SweepResult;
use crate::store::RetentionLimits;

/// Correction of the wall clock that is accepted at once: little, compared with seven days.
const MAX_CORRECTION: Duration = Duration::from_hours(1);

/// A wall clock that accepts a leap ahead only after the retention time, so that records of before the leap are kept their
/// time too.
#[derive(Debug)]
struct Retention {
    period: Duration,
    /// The last accepted reading: the monotonic clock counts from here on.
    base: Now,
    /// The monotonic time at which the wall clock leapt ahead.
    ahead_since: Option<Duration>,
}

impl Retention {
    pub(super) fn new(period: Duration, now: Now) -> Self {
        Self { period, base: now, ahead_since: None }
    }

    /// The time before which records have expired.
    fn expired_before(&mut self, now: Now) -> Timestamp {
        let mut accepted = self.base.wall.plus_millis(millis(now.mono.saturating_sub(self.base.mono)));
        if Duration::from_millis(now.wall.millis_since(accepted)) <= MAX_CORRECTION {
            self.ahead_since = None;
        } else if now.mono.saturating_sub(*self.ahead_since.get_or_insert(now.mono)) >= self.period {
            (self.base, self.ahead_since) = (now, None);
            accepted = now.wall;
        }
        now.wall.min(accepted).plus_millis(millis(self.period).saturating_neg())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Runs the maintenance until aborted.
pub(super) async fn run(hub: Arc<Hub>) {
    let timings = &hub.options.timings;
    let mut tasks = Retention::new(timings.task_retention, hub.now());
    let mut audit = Retention::new(timings.audit_retention, hub.now());
    let mut usage = Retention::new(timings.usage_retention, hub.now());
    let mut ticks = interval(timings.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_in_touch = false;
    loop {
        ticks.tick().await;
        // The store deletes when it has time.
        let now = hub.now();
        drop(hub.store.expire(RetentionLimits {
            tasks_since: tasks.expired_before(now),
            audit_since: audit.expired_before(now),
            audit_rows: hub.options.limits.audit_rows,
            usage_since: Day::of(usage.expired_before(now)),
        }));
        is_in_touch = adopt(&hub, is_in_touch).await;
        sweep(&hub).await;
        hub.offer_all();
        log_suppressed();
    }
}

/// Takes over the sessions of hubs that are gone, so that what they published is deleted in time. After the database was away
/// the others get the time of a sweep to renew their leases: `is_in_touch` tells whether this hub had it at the sweep before.
async fn adopt(hub: &Hub, is_in_touch: bool) -> bool {
    let Some(shared) = &hub.shared else { return false };
    if is_in_touch {
        shared.store.adopt_sessions().await.is_ok()
    } else {
        shared.store.cursor().await.is_ok()
    }
}

/// Sweeps the registry. Among several hubs that takes a turn, but for what needs none, since a turn may be long in coming.
async fn sweep(hub: &Arc<Hub>) {
    if hub.shared.is_some() && !find_silent(hub).await {
        return;
    }
    // Without a turn the rest is left to the next sweep.
    while let Ok(turn) = hub.table_turn().await
        && sweep_in(hub, &turn).await
    {
        yield_now().await;
    }
}

/// Ends what sessions have that are silent. Returns whether there is something to write.
async fn find_silent(hub: &Arc<Hub>) -> bool {
    let (now, mut must_write) = (hub.now(), false);
    loop {
        let swept = hub.change(|registry| (registry.sweep(now, false), Vec::new()));
        must_write |= swept.must_write;
        let more = swept.more;
        end_silent(hub, swept, now);
        if !more {
            return must_write;
        }
        yield_now().await;
    }
}

/// Sweeps a part of the registry in `turn`; `true` if there is more to do.
async fn sweep_in(hub: &Arc<Hub>, turn: &TableTurn) -> bool {
    let now = hub.now();
    let (swept, written) = hub.change_in(turn, |registry| {
        let mut swept = registry.sweep(now, true);
        let changes = std::mem::take(&mut swept.changes);
        (swept, changes)
    });
    if let (TableTurn::Shared(_), Some(written)) = (turn, written) {
        // A change that is not written is undone.
        drop(written.await);
    }
    let more = swept.more;
    end_silent(hub, swept, now);
    more
}

/// Ends the tasks and channels of sessions that are silent.
fn end_silent(hub: &Arc<Hub>, swept: SweepResult, now: Now) {
    for (session, owner) in swept.silent {
        news!(
            info,
            "silent sessions",
            &owner,
            [user = owner, session = session],
            "session {session} is silent"
        );
        hub.clone().lose_later(session, now);
    }
    for (session, owner) in swept.dead {
        news!(
            info,
            "dead channels",
            &owner,
            [user = owner, session = session],
            "session {session} does not answer: its channel is dropped"
        );
        hub.channels.drop_session(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const WEEK: i64 = 7 * 24 * HOUR;

    fn at(wall: i64, mono: i64) -> Now {
        Now { wall: Timestamp(wall), mono: Duration::from_millis(u64::try_from(mono).unwrap()) }
    }

    /// F59: a wall clock that leaps ahead expires nothing early, and is trusted again after the retention time.
    #[test]
    fn a_wall_clock_that_leaps_expires_nothing_early() {
        let mut retention = Retention::new(Duration::from_hours(7 * 24), at(1000 * HOUR, 0));
        let mut before = |wall, mono| retention.expired_before(at(wall, mono)).0;
        assert_eq!(before(1001 * HOUR, HOUR), 1001 * HOUR - WEEK);
        // Up to an hour ahead, then a year ahead, and back again.
        assert_eq!(before(1003 * HOUR, 2 * HOUR), 1002 * HOUR - WEEK);
        assert_eq!(before(1002 * HOUR, 3 * HOUR), 1002 * HOUR - WEEK);
        assert_eq!(before(9999 * HOUR, 4 * HOUR), 1004 * HOUR - WEEK);
        assert_eq!(before(1005 * HOUR, 5 * HOUR), 1005 * HOUR - WEEK);
        // A machine starts with the time 1970 and then gets the right time.
        assert_eq!(before(9999 * HOUR, 6 * HOUR), 1006 * HOUR - WEEK);
        assert_eq!(before(9998 * HOUR + WEEK, 5 * HOUR + WEEK), 1005 * HOUR);
        assert_eq!(before(9999 * HOUR + WEEK, 6 * HOUR + WEEK), 9999 * HOUR);
        assert_eq!(before(10_000 * HOUR + WEEK, 7 * HOUR + WEEK), 10_000 * HOUR);
    }
}
