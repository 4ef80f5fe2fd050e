//! Open tasks of hubs that are gone: a hub that lives takes them over, and one that was taken for dead lets go of them.
//!
//! The database decides whose a task is: a claim that is not the hub's own changes nothing there, and the runner looks at it before
//! it sends the task. So none runs twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::state::Event;
use super::{HUB_LOST, scheduler::restore_open};
use crate::clock;
use crate::cluster::{Process, Shared};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{DurableTask, TaskStatus};
use crate::news::news;
use crate::store::{PostgresStore, StoreError};

/// Time between two looks, if no hub was lost.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Time between two looks while there are tasks for whose target there is no publisher.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Time for which this hub must have renewed its lease: after the database was away all others get the time to do so.
const STEADY_FOR: Duration = Duration::from_secs(16);

/// Takes over tasks, and lets go of those that others took over, for as long as the hub runs.
pub(crate) async fn run(hub: &Arc<Hub>, shared: &Shared) {
    let mut wait = LOOK_EVERY;
    // Whether tasks may have become this hub's own without its knowledge: the answer of the database was lost.
    let mut is_doubtful = false;
    loop {
        drop(timeout(wait, shared.look_for_orphans.notified()).await);
        let looked = async {
            if is_doubtful {
                restore_unknown(hub, shared).await?;
            }
            look(hub, shared).await
        };
        let looked = looked.await;
        is_doubtful = looked.is_err();
        wait = match looked {
            Ok(Rest::Page) => Duration::ZERO,
            Ok(Rest::Some) => LOOK_AGAIN,
            Ok(Rest::None) => LOOK_EVERY,
            Err(error) => {
                news!(
                    error,
                    "tasks of other hubs",
                    "the store",
                    "tasks of hubs that are gone are not looked for: {error}"
                );
                LOOK_AGAIN
            }
        };
    }
}

/// What was not taken over.
enum Rest {
    None,
    /// Tasks without a publisher.
    Some,
    /// Those behind a full page, of which some were taken over.
    Page,
}

/// Looks once.
async fn look(hub: &Arc<Hub>, shared: &Shared) -> Result<Rest, StoreError> {
    let_go(hub, shared).await?;
    if hub.is_stopping() {
        return Ok(Rest::None);
    }
    let orphans = shared.store.orphans().await?;
    if orphans.is_empty() {
        return Ok(Rest::None);
    }
    if shared.store.reports().steady_for() < STEADY_FOR {
        return Ok(Rest::Some);
    }
    let count = orphans.len();
    let mut wanted: Vec<DurableTask> = orphans
        .into_iter()
        .filter(|(task, is_old)| *is_old || has_publisher(hub, task))
        .map(|(task, _)| task)
        .collect();
    let ids: Vec<_> = wanted.iter().map(|task| task.id.as_str()).collect();
    let adopted = if ids.is_empty() { HashMap::new() } else { shared.store.adopt_orphans(&ids).await? };
    wanted.retain_mut(|task| {
        let Some(&is_claimed) = adopted.get(&task.id) else { return false };
        if is_claimed {
            // Since it was read.
            task.state = TaskStatus::Claimed;
        }
        true
    });
    if !wanted.is_empty() {
        let number = wanted.len();
        news!(
            info,
            "tasks of other hubs",
            "the hub",
            "{number} open tasks of hubs that are gone are this hub's now"
        );
        restore_open(hub, wanted, HUB_LOST);
        return Ok(match count {
            PostgresStore::ORPHANS.. => Rest::Page,
            _ if number < count => Rest::Some,
            _ => Rest::None,
        });
    }
    Ok(Rest::Some)
}

/// Restores this hub's open tasks of which memory has none.
async fn restore_unknown(hub: &Arc<Hub>, shared: &Shared) -> Result<(), StoreError> {
    let mut open = shared.store.own_open().await?;
    // Its own ones are known, or are about to be.
    let own = Some(shared.peers.process());
    open.retain(|task| Process::of_task(&task.id) != own && !hub.tasks.is_known(&task.id));
    restore_open(hub, open, HUB_LOST);
    Ok(())
}

/// Whether a publisher of any hub may run the task, now or when it has room.
fn has_publisher(hub: &Hub, task: &DurableTask) -> bool {
    let Some(caller) = hub.tokens.sender(task, clock::now()) else { return true };
    let registry = hub.registry.lock();
    let through_agent = || registry.agent_target(&caller, registry.agent(&caller, &task.target)?).ok();
    let target = registry.target(&caller, &task.target).or_else(through_agent);
    target.is_some_and(|target| registry.has_routable(&caller, &target))
}

/// Lets go of tasks that another hub has taken over.
async fn let_go(hub: &Hub, shared: &Shared) -> Result<(), StoreError> {
    let known = hub.tasks.not_ended();
    if known.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = known.keys().collect();
    for id in shared.store.taken_over(&ids).await? {
        if let Some(number) = known.get(&id) {
            forget(hub, *number);
        }
    }
    Ok(())
}

/// Whether the task, whose claim is committed, is this hub's own. It is not sent if another hub has taken it over.
pub(super) async fn is_own(hub: &Hub, id: &str) -> Result<bool, StoreError> {
    let Some(shared) = &hub.shared else { return Ok(true) };
    Ok(shared.store.hub_of_task(id).await?.as_deref() == Some(shared.peers.hub()))
}

/// Forgets a task that another hub has taken over; a runner of it ends. Nothing of it is written.
pub(super) fn forget(hub: &Hub, number: u64) {
    hub.tasks.step(number, Event::Cancel, |open, _| {
        if let Some(call) = open.call.take() {
            let error = ApiError::new(ErrorKind::Interrupted, HUB_LOST);
            call.end(error.status().as_u16(), Some(&error));
        }
    });
    hub.tasks.close(number);
}
