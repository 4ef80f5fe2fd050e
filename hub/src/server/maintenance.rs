//! Periodic maintenance.

use std::sync::Arc;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use super::retention::Retention;
use crate::hub::Hub;
use crate::news::{log_suppressed, news};
use crate::store::RetentionLimits;

/// Runs the maintenance until aborted.
pub(super) async fn run(hub: Arc<Hub>) {
    let timings = &hub.options.timings;
    let mut tasks = Retention::new(timings.task_retention, hub.now());
    let mut audit = Retention::new(timings.audit_retention, hub.now());
    let mut ticks = interval(timings.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The store deletes when it has time.
        let now = hub.now();
        drop(hub.store.expire(RetentionLimits {
            tasks_since: tasks.expired_before(now),
            audit_since: audit.expired_before(now),
            audit_rows: hub.options.limits.audit_rows,
        }));
        while sweep(&hub) {
            yield_now().await;
        }
        hub.offer_all();
        log_suppressed();
    }
}

/// Sweeps a part of the registry; `true` if there is more to do.
fn sweep(hub: &Arc<Hub>) -> bool {
    let now = hub.now();
    let swept = hub.change(|registry| {
        let mut swept = registry.sweep(now);
        let changes = std::mem::take(&mut swept.changes);
        (swept, changes)
    });
    for (session, owner) in swept.silent {
        news!(info, "silent sessions", &owner, "session {session} is silent");
        hub.clone().lose_later(session, now);
    }
    for (session, owner) in swept.dead {
        news!(info, "dead channels", &owner, "session {session} does not answer: its channel is dropped");
        hub.channels.drop_session(&session);
    }
    swept.more
}
