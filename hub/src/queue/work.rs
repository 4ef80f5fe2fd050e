//! One claimed task, from its commit to its end.
//!
//! The store is given what became of a task while the book is held: the caller takes it back on another thread, and what
//! the store was given last is what it keeps.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use wire::task::Endpoint;

use super::drive::{prepare, status_of};
use super::follow::{Outcome, run};
use super::state::{Attempt, Effect, Event};
use crate::core::Hub;
use crate::error::{ApiError, ErrorKind};
use crate::heavy::heavy;
use crate::model::{Caller, DurableTask};
use crate::news::news;
use crate::registry::{Candidate, Target};
use crate::relay::{Call, Request, Reservation, refusal};
use crate::store::Change;
use crate::watch::{Asked, brief};

/// Between two looks whether an end is written down, while the store cannot be written.
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
    let mut held = hub.out_of(&task.owner).none();
    let known = hub.queue.with(number, |open| open.size).flatten();
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
    hub.queue.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let stored = hub.store.task(&task.id).await;
    let Some(request) = stored.ok().flatten().and_then(|stored| stored.request) else {
        // The store cannot be read now.
        return requeue(&hub, number, attempt, false);
    };
    if known.is_none() {
        // From before a restart.
        let size = request.len();
        hub.queue.with(number, |open| open.size = Some(size));
        if held.grow(size).is_err() {
            return requeue(&hub, number, attempt, false);
        }
    }
    // Before anything is sent: after a crash of ours nobody would know that it was.
    let claim =
        Change::ClaimTask { id: task.id.clone(), llm: task.llm.clone(), session: task.session.clone() };
    let write = || hub.store.write(vec![claim]);
    let Some(written) = hub.queue.at_work(number, attempt, write) else { return };
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
            end(&hub, number, Event::Fail(attempt), None, Some(&error));
            return;
        }
    };
    let call = call(&hub, number, &task);
    let inference = Request {
        caller,
        target,
        endpoint: Endpoint::ChatCompletions,
        streaming: task.streaming,
        body,
        headers: Vec::new(),
        set_model: true,
        patience: None,
    };
    match run(&hub, number, attempt, &inference, &call, candidate, place).await {
        // Down with the hub: the next start says so.
        Outcome::Lost if hub.is_stopping() => (),
        Outcome::Lost => requeue(&hub, number, attempt, true),
        Outcome::Failed(error) => {
            end(&hub, number, Event::Fail(attempt), None, Some(&error));
        }
        Outcome::Answered(status, body, held) => {
            // It counts until it is written down.
            hub.queue.with(number, |open| open.held = held);
            let error = (status >= 400).then(|| refusal(status, &body));
            let event = if error.is_none() { Event::Answer(attempt) } else { Event::Fail(attempt) };
            end(&hub, number, event, Some((status, body)), error.as_ref());
        }
        Outcome::Streamed => {
            let chunks = hub.queue.take_chunks(number);
            match heavy(chunks.size(), move || Ok(chunks.into_array())).await {
                Ok(array) => end(&hub, number, Event::Answer(attempt), Some((200, array)), None),
                Err(error) => end(&hub, number, Event::Fail(attempt), None, Some(&error)),
            };
        }
    }
}

/// The task's notes, begun at its first dispatch.
fn call(hub: &Arc<Hub>, number: u64, task: &DurableTask) -> Arc<Call> {
    let begin = || {
        let asked = Asked {
            user: task.owner.clone(),
            target: task.target.clone(),
            endpoint: Endpoint::ChatCompletions,
            streaming: task.streaming,
        };
        Call::of(hub.watch.begin_unlisted(asked, task.id.clone()))
    };
    let known = hub.queue.with(number, |open| open.call.get_or_insert_with(begin).clone());
    known.unwrap_or_else(begin)
}

/// Back to its place in the queue; `claimed`: the store may know that it was out.
fn requeue(hub: &Arc<Hub>, number: u64, attempt: Attempt, claimed: bool) {
    let now = hub.now().mono;
    hub.queue.step(number, Event::Lose(attempt), |open, _| {
        open.came_back(now);
        if claimed {
            hub.save(vec![Change::UnclaimTask(open.task.id.clone())]);
        }
    });
    hub.queue.came.notify_one();
}

/// A task's one ending: written down, its request erased. `false` if it has had one.
pub(super) fn end(
    hub: &Arc<Hub>,
    number: u64,
    event: Event,
    result: Option<(u16, String)>,
    error: Option<&ApiError>,
) -> bool {
    let ended = hub.queue.step(number, event, |open, effect| {
        let Effect::Ended { state, .. } = effect else { return None };
        let status = status_of(state, result.as_ref().map(|(status, _)| *status), error);
        if let Some(call) = open.call.take() {
            call.ended(status, error);
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
        open.task.error = error.map(|error| brief(&error.message));
        open.task.code = error.map(|error| error.kind.code().to_owned());
        let task = DurableTask { request: None, result, ..open.task.clone() };
        // Given to the store at once: who sees the end here and then reads there finds it.
        // Where the owner's results have no room any more, the oldest go.
        let room = Change::MakeRoom { owner: task.owner.clone(), most: hub.options.limits.disk };
        Some(hub.store.owe(vec![Change::PutTask(Box::new(task)), room]))
    });
    let Some(Some(written)) = ended else { return false };
    let hub = hub.clone();
    // On its own: the worker may be the one that is being stopped.
    tokio::spawn(async move {
        let mut written = written.await;
        while written.is_err() {
            sleep(AGAIN).await;
            // The next commit writes all that is owed.
            written = hub.store.owe(Vec::new()).await;
        }
        hub.queue.close(number);
    });
    true
}
