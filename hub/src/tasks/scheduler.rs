//! The scheduler, which claims waiting tasks for publishers with capacity. Capacity goes first to tasks of the publisher's
//! owner, then to tasks of all users. Users take turns, each with its oldest task.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use wire::task::Endpoint;

use super::ending::end;
use super::runner::{ClaimedTask, run_task};
use super::state::{Attempt, Effect, Event, TaskState};
use super::target_capacity::TargetCapacity;
use super::{CRASHED, EXPIRED};
use crate::clock;
use crate::dispatch::Reservation;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, DurableTask, UserId};
use crate::news::news;
use crate::registry::{CallerClass, Candidate, PickResult, Target};
use crate::store::{Change, StoreError};

/// Longest time between two passes while tasks wait: deadlines and delays notify nobody.
const PASS_INTERVAL: Duration = Duration::from_millis(500);
/// Time that a pass runs before other tasks of the thread may run.
const TIME_SLICE: Duration = Duration::from_micros(500);

/// Restores the tasks of the store at start, as [`restore_open`] does, and waits until the ends are written.
pub(crate) async fn restore(hub: &Arc<Hub>, tasks: Vec<DurableTask>, lost: &str) -> Result<(), StoreError> {
    let ended = restored_ends(hub, tasks, lost);
    if ended.is_empty() { Ok(()) } else { hub.store.write(ended).await }
}

/// Restores open tasks of the store, or of a hub that is gone: waiting ones wait again, those that had been sent out fail with the error
/// `lost`, which is written in any case.
pub(super) fn restore_open(hub: &Arc<Hub>, tasks: Vec<DurableTask>, lost: &str) {
    let ended = restored_ends(hub, tasks, lost);
    hub.save(ended);
}

fn restored_ends(hub: &Arc<Hub>, tasks: Vec<DurableTask>, lost: &str) -> Vec<Change> {
    let mut ended = Vec::new();
    for mut task in tasks {
        if let Effect::Ended { state, .. } = TaskState::stored(task.state).step(Event::Restart) {
            task.state = state;
            task.request = None;
            task.error = Some(lost.into());
            task.code = Some(ErrorKind::Interrupted.code().into());
            task.updated_at = clock::now();
            ended.push(Change::PutTask(Box::new(task)));
        } else {
            let permit = hub.tasks.restored_permit(&task.owner);
            hub.enqueue(task, permit);
        }
    }
    ended
}

/// Ends waiting tasks whose token or time has expired, and claims tasks, for as long as the hub runs.
pub(crate) async fn run_scheduler(hub: Arc<Hub>) {
    let mut revocations = hub.tokens.revocations();
    // Tokens may have been revoked while the hub was down.
    revocations.mark_changed();
    let mut last_pass = clock::now();
    loop {
        let depth = hub.tasks.depth();
        hub.watch.metrics.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        if depth == 0 {
            hub.tasks.claimable.notified().await;
        } else {
            tokio::select! {
                _ = timeout(PASS_INTERVAL, hub.tasks.claimable.notified()) => (),
                _ = revocations.changed() => revocations.mark_changed(),
            }
        }
        let now = clock::now();
        if revocations.has_changed().unwrap_or(false) || hub.tokens.has_expired(last_pass, now) {
            revocations.mark_unchanged();
            for number in hub.tasks.without_sender(|task| hub.tokens.sender(task, now)) {
                end(&hub, number, Event::Revoke, ApiError::revoked().into());
            }
        }
        last_pass = now;
        let now = hub.now().mono;
        for number in hub.tasks.expired(now) {
            end(&hub, number, Event::Expire, ApiError::new(ErrorKind::Timeout, EXPIRED).into());
        }
        for target in hub.tasks.take_claimed_targets() {
            let owner = hub.registry.lock().name_owner(&target).cloned();
            for number in owner.map_or(Vec::new(), |owner| hub.tasks.of_other_owners(&target, &owner)) {
                end(&hub, number, Event::Expire, ApiError::model_not_found(&target).into());
            }
        }
        let targets = hub.tasks.take_targets(now);
        if !hub.is_stopping() {
            let mut capacity = TargetCapacity::new(&hub);
            let mut pass = Pass::new();
            for target in &targets {
                capacity.load(target);
                pass.yield_if_due().await;
            }
            claim_tasks(&hub, &targets, &mut capacity, &mut pass, true).await;
            claim_tasks(&hub, &targets, &mut capacity, &mut pass, false).await;
        }
    }
}

/// Tasks of one user for one target that a pass leaves behind because their token is at a limit.
const MAX_SKIPPED: usize = 64;

/// One pass of the scheduler over the queues.
struct Pass {
    last_yield: Instant,
    /// Classes of callers for whom no capacity was found. New capacity is for the next pass.
    exhausted: HashSet<CallerClass>,
}

impl Pass {
    fn new() -> Self {
        Self { last_yield: Instant::now(), exhausted: HashSet::new() }
    }

    /// Yields to other tasks of the thread at the end of each time slice.
    async fn yield_if_due(&mut self) {
        if self.last_yield.elapsed() >= TIME_SLICE {
            yield_now().await;
            self.last_yield = Instant::now();
        }
    }
}

/// Claims tasks for `targets`, the users in turn, and those of a user in the order of their numbers; with `own` only for publishers of the task's owner. Tasks of
/// one user for one target have the same members, so a later one is tried only after the one before it was claimed, or cannot be
/// because its token is at a limit.
async fn claim_tasks<'a>(
    hub: &Arc<Hub>,
    targets: &'a [String],
    capacity: &mut TargetCapacity<'a>,
    pass: &mut Pass,
    own: bool,
) {
    let mut heads = BinaryHeap::new();
    for target in targets.iter().filter(|target| capacity.is_free(target)) {
        let of_target = hub.tasks.heads(target).into_iter();
        let of_target = of_target.filter(|(_, user)| !own || capacity.is_free_of(target, user));
        heads.extend(of_target.map(|(number, user)| {
            let rank = hub.tasks.rank(&user);
            Reverse((rank, number, target.as_str(), user, 0))
        }));
    }
    while let Some(Reverse((mut rank, number, target, user, skipped))) = heads.pop() {
        if !capacity.is_free(target) {
            continue;
        }
        pass.yield_if_due().await;
        let skipped = match claim_task(hub, number, own, &mut pass.exhausted) {
            ClaimResult::NoCapacity => {
                capacity.reload(target);
                continue;
            }
            ClaimResult::Skipped => continue,
            ClaimResult::AtLimit if skipped == MAX_SKIPPED => continue,
            ClaimResult::AtLimit => skipped + 1,
            ClaimResult::Done => {
                rank = hub.tasks.take_turn(&user);
                skipped
            }
        };
        if let Some(next) = hub.tasks.next(target, &user, number) {
            heads.push(Reverse((rank, next, target, user, skipped)));
        }
    }
}

enum ClaimResult {
    /// The task was claimed, or does not wait any more.
    Done,
    /// No member has capacity for the task.
    NoCapacity,
    /// The task's token or user is at a limit.
    AtLimit,
    /// The task has no target, or its class of callers is exhausted: the rows were not searched.
    Skipped,
}

/// Claims a task and starts its runner, if a member has capacity. Adds the caller's class to `exhausted` otherwise.
fn claim_task(hub: &Arc<Hub>, number: u64, own: bool, exhausted: &mut HashSet<CallerClass>) -> ClaimResult {
    let waiting = hub.tasks.with(number, |open| {
        let task = &open.task;
        (hub.tokens.sender(task, clock::now()), task.target.clone(), task.target_owner.clone())
    });
    let Some((caller, name, owner)) = waiting else { return ClaimResult::Done };
    let Some(caller) = caller else {
        end(hub, number, Event::Revoke, ApiError::revoked().into());
        return ClaimResult::Done;
    };
    let Some(running) = hub.tokens.limits().start(&caller, hub.now()) else { return ClaimResult::AtLimit };
    let (target, member, slot) = match pick_member(hub, &caller, (&name, owner.as_ref()), own, exhausted) {
        Ok(picked) => picked,
        Err(ClaimResult::Done) => {
            end(hub, number, Event::Expire, ApiError::model_not_found(&name).into());
            return ClaimResult::Done;
        }
        Err(result) => return result,
    };
    let claimed = hub.tasks.step(number, Event::Claim, |open, effect| {
        open.assign(&member);
        match effect {
            Effect::Send(attempt) => Some((attempt, open.task.clone())),
            _ => None,
        }
    });
    let Some(Some((attempt, task))) = claimed else { return ClaimResult::Done };
    let wait = Duration::from_millis(clock::now().millis_since(task.created_at));
    hub.watch.counters(member.is_public()).for_each(|metrics| metrics.waited(wait));
    let revoked = {
        let (hub, caller) = (hub.clone(), caller.clone());
        async move {
            hub.tokens.revoked(&caller).await;
            end(&hub, number, Event::Revoke, ApiError::revoked().into());
        }
    };
    let claimed = ClaimedTask { number, attempt, task, caller, target, member, slot };
    let run = run_task(hub.clone(), claimed);
    let run = async move {
        let _running = running;
        tokio::select! {
            biased;
            () = revoked => (),
            () = run => (),
        }
    };
    let runner = actix_rt::spawn(end_on_panic(hub.clone(), number, attempt, run));
    hub.tasks.set_runner(number, runner.abort_handle());
    ClaimResult::Done
}

/// Ends the task if its runner panics.
async fn end_on_panic(hub: Arc<Hub>, number: u64, attempt: Attempt, run: impl Future<Output = ()>) {
    if AssertUnwindSafe(run).catch_unwind().await.is_err() {
        news!(error, "panics of workers", "the hub", "the worker of a durable task panicked");
        end(&hub, number, Event::Fail(attempt), ApiError::new(ErrorKind::Internal, CRASHED).into());
    }
}

/// Picks a member for a task of `caller` for `name`, which was `owner`'s when the task was accepted, and reserves a slot
/// there. [`ClaimResult::Done`] if the name has been taken over.
fn pick_member(
    hub: &Arc<Hub>,
    caller: &Caller,
    (name, owner): (&str, Option<&UserId>),
    own: bool,
    exhausted: &mut HashSet<CallerClass>,
) -> Result<(Target, Candidate, Reservation), ClaimResult> {
    let mut registry = hub.registry.lock();
    if registry.is_taken_over(name, owner) {
        return Err(ClaimResult::Done);
    }
    let target = registry
        .target(caller, name)
        .or_else(|| registry.agent(caller, name).and_then(|agent| registry.agent_target(caller, agent).ok()));
    let Some(mut target) = target else { return Err(ClaimResult::Skipped) };
    if own {
        if target.only_owner.as_ref().is_some_and(|owner| *owner != caller.user) {
            return Err(ClaimResult::Skipped);
        }
        target.only_owner = Some(caller.user.clone());
    }
    let class = registry.caller_class(caller, &target, Endpoint::ChatCompletions);
    if class.as_ref().is_some_and(|class| exhausted.contains(class)) {
        return Err(ClaimResult::Skipped);
    }
    match registry.pick(caller, &target, Endpoint::ChatCompletions) {
        PickResult::Chosen(member) if !member.is_full() => {
            let slot = Reservation::take(hub, &mut registry, &member);
            Ok((target, *member, slot))
        }
        _ => {
            exhausted.extend(class);
            Err(ClaimResult::NoCapacity)
        }
    }
}

#[cfg(test)]
mod tests;
