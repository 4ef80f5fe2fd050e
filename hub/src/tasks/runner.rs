//! One claimed task, from its commit to its end.
//!
//! The store is given what became of a task while the book is held, and keeps the first ending that it is given: the
//! caller takes the task back on another thread. Nobody is told of an ending before it is written down.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wire::task::Endpoint;

use super::follow::{RunOutcome, run};
use super::open::Open;
use super::scheduler::{prepare, status_of};
use super::state::{Attempt, Effect, Event};
use crate::dispatch::{ActiveCall, CommitNotifier, InferenceRequest, Reservation, refusal};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, DurableTask, TaskStatus};
use crate::news::news;
use crate::offload::offload;
use crate::registry::{Candidate, Target};
use crate::store::{Change, StoreError};
use crate::telemetry::{Asked, brief};

/// Between two looks whether an end is written down, while the store cannot be written and no publisher asks.
const AGAIN: Duration = Duration::from_secs(5);

/// Who waits for a claimed task, and who takes it.
pub(super) struct Taken {
    pub(super) caller: Caller,
    pub(super) target: Target,
    pub(super) candidate: Candidate,
    pub(super) place: Reservation,
}

/// Runs a claimed task.
pub(super) async fn work(hub: Arc<Hub>, number: u64, attempt: Attempt, task: DurableTask, taken: Taken) {
    let Taken { caller, target, candidate, place } = taken;
    let mut held = hub.out_of(&task.owner).empty();
    let known = hub.tasks.with(number, |open| open.size).flatten();
    if let (Some(session), Some(size)) = (&candidate.session, known)
        && !hub.channels.has_room(session, &caller.user, size)
    {
        // Its publisher does not read: a large request is not read from disk for that.
        return requeue(&hub, number, attempt, false);
    }
    if held.grow(known.unwrap_or(0)).is_err() {
        // Its owner has as much in memory as anybody may have: it waits on disk.
        return requeue(&hub, number, attempt, false);
    }
    #[cfg(test)]
    hub.tasks.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let stored = hub.store.task(&task.id).await;
    let Some(request) = stored.ok().flatten().and_then(|stored| stored.request) else {
        // The store cannot be read now.
        return requeue(&hub, number, attempt, false);
    };
    if known.is_none() {
        // From before a restart.
        let size = request.len();
        hub.tasks.with(number, |open| open.size = Some(size));
        if held.grow(size).is_err() {
            return requeue(&hub, number, attempt, false);
        }
    }
    // Before anything is sent: after a crash of ours nobody would know that it was.
    let claim =
        Change::ClaimTask { id: task.id.clone(), llm: task.llm.clone(), session: task.session.clone() };
    let write = || hub.store.write(vec![claim]);
    let Some(written) = hub.tasks.at_work(number, attempt, write) else { return };
    if written.await.is_err() {
        return requeue(&hub, number, attempt, true);
    }
    let body = match prepare(&hub, &caller, &target, request, held).await {
        Ok(body) => body,
        // With what an agent adds it has no room yet.
        Err(error) if matches!(error.kind, ErrorKind::Busy | ErrorKind::HubBusy) => {
            return requeue(&hub, number, attempt, true);
        }
        Err(error) => {
            end(&hub, number, Event::Fail(attempt), None, Some(&error), None);
            return;
        }
    };
    let call = call(&hub, number, &task);
    let inference = InferenceRequest {
        caller,
        target,
        endpoint: Endpoint::ChatCompletions,
        streaming: task.streaming,
        body,
        headers: Vec::new(),
        set_model: true,
        queue_timeout: None,
    };
    let (outcome, notifier) = run(&hub, number, attempt, &inference, &call, candidate, place).await;
    match outcome {
        // Down with the hub: the next start says so.
        RunOutcome::Lost if hub.is_stopping() => (),
        RunOutcome::Lost => {
            requeue(&hub, number, attempt, true);
            notifier.commit();
        }
        RunOutcome::Failed(error) => {
            end(&hub, number, Event::Fail(attempt), None, Some(&error), Some(notifier));
        }
        RunOutcome::Answered(status, body, held) => {
            // It counts until it is written down.
            hub.tasks.with(number, |open| open.held = held);
            let error = (status >= 400).then(|| refusal(status, &body));
            let event = if error.is_none() { Event::Answer(attempt) } else { Event::Fail(attempt) };
            end(&hub, number, event, Some((status, body)), error.as_ref(), Some(notifier));
        }
        RunOutcome::Streamed => {
            let chunks = hub.tasks.take_chunks(number);
            let (event, result, error) =
                match offload(&task.owner, chunks.size(), move || Ok(chunks.into_array())).await {
                    Ok(array) => (Event::Answer(attempt), Some((200, array)), None),
                    Err(error) => (Event::Fail(attempt), None, Some(error)),
                };
            end(&hub, number, event, result, error.as_ref(), Some(notifier));
        }
    }
}

/// The task's notes, begun at its first dispatch.
fn call(hub: &Arc<Hub>, number: u64, task: &DurableTask) -> Arc<ActiveCall> {
    let begin = || {
        let asked = Asked {
            user: task.owner.clone(),
            target: task.target.clone(),
            endpoint: Endpoint::ChatCompletions,
            streaming: task.streaming,
        };
        ActiveCall::durable(hub.watch.begin_unlisted(asked, task.id.clone()))
    };
    let known = hub.tasks.with(number, |open| open.call.get_or_insert_with(begin).clone());
    known.unwrap_or_else(begin)
}

/// Back to its place in the queue; `claimed`: the store may know that it was out.
fn requeue(hub: &Arc<Hub>, number: u64, attempt: Attempt, claimed: bool) {
    let now = hub.now().mono;
    hub.tasks.step(number, Event::Lose(attempt), |open, _| {
        open.came_back(now);
        if claimed {
            hub.save(vec![Change::UnclaimTask(open.task.id.clone())]);
        }
    });
    hub.tasks.came.notify_one();
}

/// A task's one ending, unless it has had one: written down, its request erased. Until it is, the task is shown as it was;
/// then the `notifier` to its publisher is kept.
pub(super) fn end(
    hub: &Arc<Hub>,
    number: u64,
    event: Event,
    result: Option<(u16, String)>,
    error: Option<&ApiError>,
    notifier: Option<CommitNotifier>,
) {
    let ended = hub.tasks.step(number, event, |open, effect| {
        let Effect::Ended { state, .. } = effect else { return None };
        let status = status_of(state, result.as_ref().map(|(status, _)| *status), error);
        if let Some(call) = open.call.take() {
            call.end(status, error);
        } else if let Some(error) = error {
            // Never sent out, so that nobody watched it.
            let (user, row, code) = (&open.task.owner, &open.task.target, error.kind.code());
            let ms = crate::clock::now().millis_since(open.task.created_at);
            news!(
                info,
                code,
                user,
                "call failed: user={user} row={row} publisher=- status={status} code={code} ms={ms} request=- id={}",
                open.task.id
            );
        }
        let ending = DurableTask {
            result,
            error: error.map(|error| brief(&error.message)),
            code: error.map(|error| error.kind.code().to_owned()),
            ..ended(&open.task, state)
        };
        // A fact, whether it can be written now or not.
        Some(hub.store.write_behind(changes(hub, ending)))
    });
    let Some(Some(written)) = ended else { return };
    let hub = hub.clone();
    // On its own: the worker may be the one that is being stopped.
    tokio::spawn(async move {
        let mut written = written.await;
        while written.is_err() {
            if let Some(notifier) = &notifier {
                notifier.failed();
                let _ = timeout(AGAIN, notifier.retry_requested()).await;
            } else {
                sleep(AGAIN).await;
            }
            // The next commit writes all that is owed.
            written = hub.store.write_behind(Vec::new()).await;
        }
        hub.tasks.close(number);
        if let Some(notifier) = notifier {
            notifier.commit();
        }
    });
}

/// The caller takes a task back that has not ended: it has when that is written down, and goes on as if nothing had been
/// asked where it cannot be. `None` for one that has ended.
pub(super) fn take_back(hub: &Arc<Hub>, number: u64) -> Option<JoinHandle<Result<(), StoreError>>> {
    let give = |open: &Open| hub.store.write(changes(hub, ended(&open.task, TaskStatus::Cancelled)));
    let written = hub.tasks.not_ended(number, give)?;
    let hub = hub.clone();
    // On its own: whoever asked may leave.
    Some(tokio::spawn(async move {
        written.await?;
        // With an end of another kind that was given to the store meanwhile there is nothing left to do: the store has
        // kept this one, which came first.
        hub.tasks.step(number, Event::Cancel, |open, _| {
            if let Some(call) = open.call.take() {
                call.end(status_of(TaskStatus::Cancelled, None, None), None);
            }
        });
        hub.tasks.close(number);
        Ok(())
    }))
}

/// The record of a task that ends now.
fn ended(task: &DurableTask, state: TaskStatus) -> DurableTask {
    DurableTask { state, request: None, updated_at: crate::clock::now(), ..task.clone() }
}

/// What an end changes. Where the owner's results have no room any more, the oldest go.
fn changes(hub: &Hub, ending: DurableTask) -> Vec<Change> {
    let room = Change::EnforceTaskQuota { owner: ending.owner.clone(), max_bytes: hub.options.limits.disk };
    vec![Change::PutTask(Box::new(ending)), room]
}
