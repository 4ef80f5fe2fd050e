//! One claimed task, from its commit to its end.
//!
//! The store is given what became of a task while the book is held: the caller takes it back on another thread, and what
//! the store was given last is what it keeps.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use wire::openai::{completion_as_chunk, usage};
use wire::sse::Decoder;
use wire::task::Endpoint;

use super::drive::{prepare, status_of};
use super::state::{Attempt, Effect, Event};
use crate::core::Hub;
use crate::error::{ApiError, ErrorKind};
use crate::model::{Caller, DurableTask};
use crate::registry::{Candidate, Pick, Target};
use crate::relay::{Attempt as Dispatch, Call, Piece, Reply, Request, Reservation, refusal, try_one, wake};
use crate::store::Change;
use crate::watch::Asked;

/// A task that came back waits so long: its publisher may be on its way down, and would refuse it again at once.
const REST: Duration = Duration::from_secs(1);
/// Between two looks whether an end is written down, while the store cannot be written.
const AGAIN: Duration = Duration::from_secs(5);
/// Largest streamed answer that is kept: as the largest whole one.
const LARGEST: usize = 64 << 20;

/// What came of a dispatch.
enum Outcome {
    /// The whole answer: status and body.
    Answered(u16, String),
    /// All chunks of it; they are in the book.
    Streamed,
    /// It failed, for good.
    Failed(ApiError),
    /// The publisher was lost before it began.
    Lost,
}

/// Runs a claimed task.
pub(super) async fn work(
    hub: Arc<Hub>,
    number: u64,
    attempt: Attempt,
    task: DurableTask,
    target: Target,
    candidate: Candidate,
    place: Reservation,
) {
    let stored = hub.store.task(&task.id).await;
    let Some(request) = stored.ok().flatten().and_then(|stored| stored.request) else {
        // The store cannot be read now.
        return requeue(&hub, number, attempt, None);
    };
    // Before anything is sent: after a crash of ours nobody would know that it was.
    let claimed = DurableTask { request: Some(request.clone()), ..task.clone() };
    let write = || hub.store.write(vec![Change::PutTask(Box::new(claimed))]);
    let Some(written) = hub.queue.at_work(number, attempt, write) else { return };
    if written.await.is_err() {
        return requeue(&hub, number, attempt, Some(request));
    }
    let caller = Caller { user: task.owner.clone(), role: task.role, token_id: task.id.clone() };
    let body = match prepare(&hub, &caller, &task, request.clone()).await {
        Ok(body) => body,
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
        held: None,
    };
    match run(&hub, number, attempt, &inference, &call, candidate, place).await {
        // Down with the hub: the next start says so.
        Outcome::Lost if hub.is_stopping() => (),
        Outcome::Lost => requeue(&hub, number, attempt, Some(request)),
        Outcome::Failed(error) => {
            end(&hub, number, Event::Fail(attempt), None, Some(&error));
        }
        Outcome::Answered(status, body) if status < 400 => {
            end(&hub, number, Event::Answer(attempt), Some((status, body)), None);
        }
        Outcome::Answered(status, body) => {
            let error = refusal(status, &body);
            end(&hub, number, Event::Fail(attempt), Some((status, body)), Some(&error));
        }
        Outcome::Streamed => {
            let chunks = hub.queue.answer(number);
            end(&hub, number, Event::Answer(attempt), Some((200, chunks)), None);
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

/// Tries members, each once, until one begins to answer; then reads its answer to the end.
async fn run(
    hub: &Arc<Hub>,
    number: u64,
    attempt: Attempt,
    inference: &Request,
    call: &Call,
    first: Candidate,
    place: Reservation,
) -> Outcome {
    let patience = hub.options.timings.wait_timeout;
    let mut tried = HashSet::new();
    let mut place = Some(place);
    let mut candidate = first;
    loop {
        tried.insert(candidate.name.clone());
        let began = async {
            if candidate.asleep {
                wake(hub, &candidate).await.map_err(Outcome::Failed)?;
                candidate.asleep = false;
            }
            let reply = Box::pin(try_one(hub, inference, call, &candidate, place.take())).await;
            reply.map_err(|error| match error.kind {
                ErrorKind::PublisherAway
                | ErrorKind::PublisherLost
                | ErrorKind::PublisherStopping
                | ErrorKind::Paused
                | ErrorKind::HubBusy => Outcome::Lost,
                _ => Outcome::Failed(error),
            })
        };
        let outcome = match timeout(patience, began).await {
            Err(_) => {
                let text = format!("no answer within {} s", patience.as_secs_f64());
                Outcome::Failed(ApiError::new(ErrorKind::Timeout, text))
            }
            Ok(Err(outcome)) => outcome,
            Ok(Ok(Reply::Whole { status, body, .. })) => {
                if let Some(usage) = usage(body.get()) {
                    call.used(usage);
                }
                Outcome::Answered(status, body.get().to_owned())
            }
            Ok(Ok(Reply::Stream { first, attempt: dispatch })) => {
                let owner = &inference.caller.user;
                return follow(hub, number, attempt, call, owner, first, dispatch).await;
            }
        };
        let may_fail_over = match &outcome {
            Outcome::Failed(error) => error.may_fail_over(),
            Outcome::Answered(status, _) => matches!(status, 429 | 502..=504),
            Outcome::Streamed | Outcome::Lost => false,
        };
        if !may_fail_over {
            return whole(hub, number, inference, outcome);
        }
        let next = hub.registry.lock().pick(&inference.caller, &inference.target, inference.endpoint, &tried);
        match next {
            Pick::Chosen(next) => {
                candidate = *next;
                hub.queue.with(number, |open| open.taken_by(&candidate));
            }
            Pick::Nobody | Pick::NoEndpoint => return outcome,
        }
    }
}

/// A whole answer where chunks were asked for is one chunk.
fn whole(hub: &Hub, number: u64, inference: &Request, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Answered(status, body) if inference.streaming && status < 400 => {
            match completion_as_chunk(&body) {
                Ok(chunk) => {
                    hub.queue.push(number, &chunk);
                    Outcome::Streamed
                }
                Err(_) => {
                    Outcome::Failed(ApiError::bad_gateway("the publisher's answer is not a completion"))
                }
            }
        }
        outcome => outcome,
    }
}

/// Reads a streamed answer to its end.
async fn follow(
    hub: &Hub,
    number: u64,
    attempt: Attempt,
    call: &Call,
    owner: &str,
    first: Piece,
    mut dispatch: Dispatch,
) -> Outcome {
    hub.queue.step(number, Event::Chunk(attempt), |_, _| ());
    let mut decoder = Decoder::new();
    // It is kept whole, until it is written down.
    let mut held = hub.unfinished_of(owner).none();
    let mut size = 0;
    let mut piece = Some(first);
    loop {
        match piece {
            Some(Piece::Events { bytes, usage, .. }) => {
                call.chunk();
                if let Some(usage) = usage {
                    call.used(usage);
                }
                size += bytes.len();
                if size > LARGEST {
                    return Outcome::Failed(ApiError::bad_gateway("the answer is too large to be kept"));
                }
                if let Err(error) = held.grow(bytes.len()) {
                    return Outcome::Failed(error);
                }
                // Our own encoder's: whole events, of which the data is wanted.
                let mut bytes: &[u8] = &bytes;
                while let Some(frame) = decoder.decode(&mut bytes) {
                    hub.queue.push(number, &frame.data);
                }
            }
            Some(Piece::Done) => return Outcome::Streamed,
            Some(Piece::Error(error)) => return Outcome::Failed(error),
            Some(Piece::Answer { .. }) => {
                let text = "the publisher sent a whole answer within a stream";
                return Outcome::Failed(ApiError::bad_gateway(text));
            }
            Some(Piece::Reattached) => (),
            None => {
                let text = "the publisher was lost in the middle of its answer";
                return Outcome::Failed(ApiError::new(ErrorKind::Interrupted, text));
            }
        }
        piece = dispatch.next().await;
    }
}

/// Back to its place in the queue.
fn requeue(hub: &Arc<Hub>, number: u64, attempt: Attempt, request: Option<String>) {
    let rest = hub.now().mono + REST;
    hub.queue.step(number, Event::Lose(attempt), |open, _| {
        open.rest = rest;
        open.task.llm = None;
        open.task.session = None;
        open.taker = None;
        if request.is_some() {
            hub.save(vec![Change::PutTask(Box::new(DurableTask { request, ..open.task.clone() }))]);
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
            log::info!(
                "call failed: user={user} row={row} publisher=- status={status} code={code} ms={ms} request=- id={}",
                open.task.id
            );
        }
        open.task.error = error.map(|error| error.message.clone().into_owned());
        open.task.code = error.map(|error| error.kind.code().to_owned());
        let task = DurableTask { request: None, result, ..open.task.clone() };
        // Given to the store at once: who sees the end here and then reads there finds it.
        Some(hub.store.owe(vec![Change::PutTask(Box::new(task))]))
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
