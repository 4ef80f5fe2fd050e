//! Who gets which task, and when: the loop that claims.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, timeout};
use wire::row::Timestamp;
use wire::task::Endpoint;

use super::runner::{Taken, end, take_back, work};
use super::state::{Attempt, Effect, Event, TaskState};
use super::target_capacity::TargetCapacity;
use super::{CRASHED, EXPIRED, HUB_RESTARTED};
use crate::agents;
use crate::clock::{self, Now};
use crate::dispatch::{RequestBody, Reservation};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, DurableTask, TaskStatus};
use crate::news::news;
use crate::offload::offload;
use crate::quota::{BytesPermit, QuotaPermit};
use crate::registry::{CallerClass, Candidate, PickResult, Target};
use crate::store::{Change, StoreError};

/// How often tasks that wait are looked at without a reason: for what has expired or rested.
const LOOK: Duration = Duration::from_millis(500);
/// How long a look goes on before others have their turn.
const AT_ONCE: Duration = Duration::from_micros(500);

/// Takes in what the store had at the start: what waited waits on, what had been sent out has failed.
pub async fn restore(hub: &Arc<Hub>, tasks: Vec<DurableTask>) -> Result<(), StoreError> {
    let mut ended = Vec::new();
    for mut task in tasks {
        let mut life = TaskState::stored(task.state);
        if let Effect::Ended { state, .. } = life.step(Event::Restart) {
            task.state = state;
            task.request = None;
            task.error = Some(HUB_RESTARTED.into());
            task.code = Some(ErrorKind::Interrupted.code().into());
            task.updated_at = clock::now();
            ended.push(Change::PutTask(Box::new(task)));
        } else {
            let seat = hub.tasks.seat_again(&task.owner);
            hub.enqueue(task, seat);
        }
    }
    if ended.is_empty() { Ok(()) } else { hub.store.write(ended).await }
}

/// Claims tasks for publishers that have room, for as long as the hub runs.
pub async fn drive(hub: Arc<Hub>) {
    let mut revoked = hub.tokens.revocations();
    // What waited while the hub was down may have lost its token, too.
    revoked.mark_changed();
    let mut looked = clock::now();
    loop {
        let depth = hub.tasks.depth();
        hub.watch.metrics.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        if depth == 0 {
            // Nothing waits: what goes on at the publishers is of no matter.
            hub.tasks.came.notified().await;
        } else {
            // Whatever comes of it, look.
            tokio::select! {
                _ = timeout(LOOK, hub.tasks.came.notified()) => (),
                _ = revoked.changed() => revoked.mark_changed(),
            }
        }
        let now = clock::now();
        if revoked.has_changed().unwrap_or(false) || hub.tokens.has_expired(looked, now) {
            revoked.mark_unchanged();
            for number in hub.tasks.without(|task| hub.tokens.sender(task, now)) {
                end(&hub, number, Event::Revoke, None, Some(&ApiError::revoked()), None);
            }
        }
        looked = now;
        let now = hub.now().mono;
        for number in hub.tasks.overdue(now) {
            let error = ApiError::new(ErrorKind::Timeout, EXPIRED);
            end(&hub, number, Event::Expire, None, Some(&error), None);
        }
        let targets = hub.tasks.news(now);
        if !hub.is_stopping() {
            // A publisher's room is first for its owner's tasks.
            let mut room = TargetCapacity::new(&hub);
            let mut turn = Turn::new();
            for target in &targets {
                room.look(target);
                turn.pass().await;
            }
            claim(&hub, &targets, &mut room, &mut turn, true).await;
            claim(&hub, &targets, &mut room, &mut turn, false).await;
        }
    }
}

/// A look at the lines, which others are not to wait for.
struct Turn {
    began: Instant,
    /// For whom there was no room in it: room that comes meanwhile is for the next look.
    nothing: HashSet<CallerClass>,
}

impl Turn {
    fn new() -> Self {
        Self { began: Instant::now(), nothing: HashSet::new() }
    }

    /// Lets others go on, now and then.
    async fn pass(&mut self) {
        if self.began.elapsed() >= AT_ONCE {
            yield_now().await;
            self.began = Instant::now();
        }
    }
}

/// Claims what can be claimed of the tasks for `targets`, in the order in which they came; with `own` at publishers of
/// the task's owner only. Tasks of one user for one target fare the same: only the first is looked at, and then the next.
async fn claim<'a>(
    hub: &Arc<Hub>,
    targets: &'a [String],
    room: &mut TargetCapacity<'a>,
    turn: &mut Turn,
    own: bool,
) {
    let mut heads = BinaryHeap::new();
    for target in targets.iter().filter(|target| room.is_at(target)) {
        let of_target = hub.tasks.heads(target).into_iter();
        let of_target = of_target.filter(|(_, user)| !own || room.is_own(target, user));
        heads.extend(of_target.map(|(number, user)| Reverse((number, target.as_str(), user))));
    }
    while let Some(Reverse((number, target, user))) = heads.pop() {
        if !room.is_at(target) {
            continue;
        }
        turn.pass().await;
        match claim_one(hub, number, own, &mut turn.nothing) {
            Claim::Full => room.look_again(target),
            Claim::Nothing => (),
            Claim::Done => {
                if let Some(next) = hub.tasks.head(target, &user) {
                    heads.push(Reverse((next, target, user)));
                }
            }
        }
    }
}

/// What came of a look at a task.
enum Claim {
    /// It is claimed, or waits no more.
    Done,
    /// There is no room for it.
    Full,
    /// There is nothing for it, as is known without a look at the rows: there was nothing for others like it.
    Nothing,
}

/// Claims one task, if there is room for it; `nothing` has those for whom there was none before.
fn claim_one(hub: &Arc<Hub>, number: u64, own: bool, nothing: &mut HashSet<CallerClass>) -> Claim {
    let known = hub
        .tasks
        .with(number, |open| (hub.tokens.sender(&open.task, clock::now()), open.task.target.clone()));
    let Some((caller, name)) = known else {
        // It was taken back meanwhile.
        return Claim::Done;
    };
    let Some(caller) = caller else {
        end(hub, number, Event::Revoke, None, Some(&ApiError::revoked()), None);
        return Claim::Done;
    };
    let (target, candidate, place) = match choose(hub, &caller, &name, own, nothing) {
        Ok(chosen) => chosen,
        Err(full) => return full,
    };
    let claimed = hub.tasks.step(number, Event::Claim, |open, effect| {
        open.taken_by(&candidate);
        match effect {
            Effect::Send(attempt) => Some((attempt, open.task.clone())),
            _ => None,
        }
    });
    let Some(Some((attempt, task))) = claimed else { return Claim::Done };
    let wait = Duration::from_millis(clock::now().millis_since(task.created_at));
    hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.waited(wait));
    let ended = {
        let (hub, caller) = (hub.clone(), caller.clone());
        async move {
            hub.tokens.ended(&caller).await;
            end(&hub, number, Event::Revoke, None, Some(&ApiError::revoked()), None);
        }
    };
    let taken = Taken { caller, target, candidate, place };
    let work = work(hub.clone(), number, attempt, task, taken);
    let work = async move {
        tokio::select! {
            biased;
            () = ended => (),
            () = work => (),
        }
    };
    let worker = actix_rt::spawn(contained(hub.clone(), number, attempt, work));
    hub.tasks.set_worker(number, worker.abort_handle());
    Claim::Done
}

/// A worker that panics ends its task: nobody else would.
async fn contained(hub: Arc<Hub>, number: u64, attempt: Attempt, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        news!(error, "panics of workers", "the hub", "the worker of a durable task panicked");
        let error = ApiError::new(ErrorKind::Internal, CRASHED);
        end(&hub, number, Event::Fail(attempt), None, Some(&error), None);
    }
}

/// Up to when a task waits that came in at `came`. Only how long it waited before the hub's start is told by the wall
/// clock; one that is set while the hub runs expires nothing.
fn due(came: Timestamp, now: Now, patience: Duration) -> Duration {
    let waited = Duration::from_millis(now.wall.millis_since(came));
    now.mono.saturating_add(patience.saturating_sub(waited))
}

impl Hub {
    /// Puts a task that the store has in the queue; answers its place there.
    pub(crate) fn enqueue(&self, task: DurableTask, seat: QuotaPermit) -> usize {
        let due = due(task.created_at, self.now(), self.options.timings.queue_timeout);
        let names = self.registry.lock().capacity_names(&task.target);
        self.tasks.add(task, due, names, seat)
    }

    /// How many tasks wait for what everybody may see.
    pub(crate) fn shared_queue_depth(&self) -> usize {
        let waiting = self.tasks.targets();
        let registry = self.registry.lock();
        waiting.iter().filter(|(target, _)| registry.is_public_name(target)).map(|(_, count)| count).sum()
    }
}

/// Who takes a task of `caller` for `name`, and a place there.
fn choose(
    hub: &Arc<Hub>,
    caller: &Caller,
    name: &str,
    own: bool,
    nothing: &mut HashSet<CallerClass>,
) -> Result<(Target, Candidate, Reservation), Claim> {
    let mut registry = hub.registry.lock();
    let target = registry
        .target(caller, name)
        .or_else(|| registry.agent(caller, name).and_then(|agent| registry.agent_target(caller, agent).ok()));
    let Some(mut target) = target else { return Err(Claim::Nothing) };
    if own {
        if target.only_owner.as_ref().is_some_and(|owner| *owner != caller.user) {
            return Err(Claim::Nothing);
        }
        target.only_owner = Some(caller.user.clone());
    }
    let reach = registry.caller_class(caller, &target, Endpoint::ChatCompletions);
    if reach.as_ref().is_some_and(|reach| nothing.contains(reach)) {
        return Err(Claim::Nothing);
    }
    match registry.pick(caller, &target, Endpoint::ChatCompletions) {
        PickResult::Chosen(candidate) if !candidate.full => {
            let place = Reservation::take(hub, &mut registry, &candidate);
            Ok((target, *candidate, place))
        }
        _ => {
            nothing.extend(reach);
            Err(Claim::Full)
        }
    }
}

/// The request as it is sent: with the prompt of the agent through which `target` was chosen, if there was one.
pub(super) async fn prepare(
    hub: &Hub,
    caller: &Caller,
    target: &Target,
    request: String,
    held: BytesPermit,
) -> Result<RequestBody, ApiError> {
    let agent = match &target.through {
        Some(through) => {
            let agent = hub.registry.lock().agent(caller, &through.agent).cloned();
            Some(agent.ok_or_else(|| ApiError::not_found("agent", &through.agent))?)
        }
        None => None,
    };
    let size = request.len();
    let parse = move || Ok(RequestBody::parse(request.into())?.counted(held));
    let request = offload(&caller.user, size, parse).await?;
    match agent {
        Some(agent) => {
            agents::apply_to_request(agent, Endpoint::ChatCompletions, &caller.user, request).await
        }
        None => Ok(request),
    }
}

impl Hub {
    /// The caller takes back a task that has not ended. `None` for one that is not open, or not its own, or has ended.
    pub(crate) fn cancel_task(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
    ) -> Option<JoinHandle<Result<(), StoreError>>> {
        take_back(self, self.tasks.number(caller, id)?)
    }

    /// Deletes a task that has ended, and whose end may not be written yet. `None` for one that is not open.
    pub(crate) fn delete_ended(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
    ) -> Option<JoinHandle<Result<(), StoreError>>> {
        let number = self.tasks.number(caller, id)?;
        let written = self.store.write(vec![Change::DeleteTask(id.to_owned())]);
        let hub = self.clone();
        Some(tokio::spawn(async move {
            written.await?;
            hub.tasks.close(number);
            Ok(())
        }))
    }

    /// What `caller` asks for, if it may see it: a row, a pool or an agent.
    pub(crate) fn knows(&self, caller: &Caller, name: &str) -> bool {
        let registry = self.registry.lock();
        registry.target(caller, name).is_some() || registry.agent(caller, name).is_some()
    }
}

/// The HTTP status that stands for a task's end in metrics and audit.
pub(super) fn status_of(state: TaskStatus, answered: Option<u16>, error: Option<&ApiError>) -> u16 {
    match state {
        TaskStatus::Cancelled => 499,
        TaskStatus::Completed => answered.unwrap_or(200),
        _ => error.map_or(502, |error| error.status().as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use crate::model::Role;
    use crate::tests::support::{eventually, hub};

    use super::super::open::Open;
    use super::super::table::DurableTasks;
    use super::*;

    fn task(id: &str) -> DurableTask {
        DurableTask {
            id: id.into(),
            owner: "alice".into(),
            token: None,
            target: "nobody".into(),
            state: TaskStatus::Pending,
            request: Some("{}".into()),
            streaming: false,
            llm: None,
            session: None,
            result: None,
            error: None,
            code: None,
            created_at: clock::now(),
            updated_at: clock::now(),
        }
    }

    /// P1, F86: a task has its ending though the hub's own worker panics over it.
    #[actix_rt::test]
    async fn a_worker_that_panics_ends_its_task() {
        let hub = hub().await;
        let core = hub.core().clone();
        let seat = core.tasks.seat_again("alice");
        core.enqueue(task("t"), seat);
        let caller = Caller { user: "alice".into(), role: Role::Member, token_id: "1".into() };
        let number = core.tasks.number(&caller, "t").unwrap();
        let attempt = core.tasks.step(number, Event::Claim, |_, effect| match effect {
            Effect::Send(attempt) => attempt,
            other => panic!("{other:?}"),
        });
        contained(core.clone(), number, attempt.unwrap(), async { panic!("a prompt") }).await;
        eventually("its end is written", async || {
            let task = core.store.task("t").await.unwrap();
            task.is_some_and(|task| task.state == TaskStatus::Error && task.error.as_deref() == Some(CRASHED))
        })
        .await;
        drop(core);
        hub.stop().await;
    }

    const HOUR: Duration = Duration::from_hours(1);

    /// F59: a task has its hour by the monotonic clock; what it waited before a restart counts, and a wall clock that
    /// went back takes nothing away.
    #[test]
    fn a_task_waits_its_time_whatever_the_wall_clock_says_meanwhile() {
        let start = Timestamp(1_800_000_000_000);
        let now = Now { wall: start, mono: Duration::from_secs(5) };
        let minutes = |minutes: i64| start.plus_millis(minutes * 60_000);
        assert_eq!(due(start, now, HOUR), now.mono + HOUR);
        assert_eq!(due(minutes(-20), now, HOUR), now.mono + HOUR * 2 / 3);
        assert_eq!(due(minutes(-90), now, HOUR), now.mono, "it is overdue at the next look");
        assert_eq!(due(minutes(90), now, HOUR), now.mono + HOUR);
    }

    /// Whoever refuses whatever comes is asked ever more seldom, and never more seldom than once a minute.
    #[test]
    fn what_comes_back_rests_each_time_for_twice_as_long() {
        let seat = DurableTasks::default().seat_again("alice");
        let mut open = Open::new(task("t"), Duration::MAX, seat);
        let now = Duration::from_hours(1);
        let rests: Vec<u64> = (0..40)
            .map(|_| {
                open.came_back(now);
                open.rest.saturating_sub(now).as_secs()
            })
            .collect();
        assert_eq!(rests[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(rests[39], 60);
    }
}
