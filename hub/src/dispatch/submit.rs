//! `POST /_provider-task/{id}/result`: one piece of an answer, or all of it.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use tokio::time::timeout;
use wire::result::{Chunk, DONE, InvalidResult, TaskError, TaskResult};
use wire::task::Endpoint;

use super::attempt::ResponsePiece;
use super::encode;
use super::failure::failure;
use super::receipt::{Receipt, Told};
use super::table::{DispatchEnd, DispatchState, DispatchTable};
use super::upload::UPLOADED;
use super::whole::Body;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::news::news;
use crate::quota::BytesPermit;

/// Why a result is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No such task, or another user's.
    Unknown,
    /// It ended without this publisher's word: nobody wants it.
    Gone,
    /// It ended with another word, or is not of this form.
    Conflict,
    /// The caller reads too slowly: not taken, send it again.
    Busy,
    /// The task is durable, and its end cannot be written down now: send it again.
    Unwritten,
    /// Not what we pass on. The task has failed.
    Malformed,
}

/// A result that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// For the first time.
    Taken,
    /// Again.
    Duplicate,
}

/// Who sends a result, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The user whose token it is.
    pub user: &'a str,
    /// The session that the request names, if it does.
    pub session: Option<&'a str>,
    /// The task.
    pub id: &'a str,
}

impl Sender<'_> {
    /// The task, if it is under way and the sender's.
    pub(super) fn live<'t>(&self, tasks: &'t mut DispatchTable) -> Option<&'t mut DispatchState> {
        tasks.live(self.user, self.session, self.id)
    }

    /// What to answer for a task that is not under way: a last word that comes again waits for what the first waits for.
    pub(super) fn over(
        &self,
        tasks: &DispatchTable,
        digest: Option<u64>,
    ) -> Result<Option<Receipt>, Rejection> {
        match tasks.ending(self.user, self.session, self.id) {
            None => Err(Rejection::Unknown),
            Some((DispatchEnd::Gone, _)) => Err(Rejection::Gone),
            Some((DispatchEnd::Answered(first), receipt)) if Some(first) == digest => Ok(receipt),
            // An upload cannot come again: whatever ends the task for its publisher asks for what became of it.
            Some((DispatchEnd::Answered(UPLOADED), Some(receipt))) if digest.is_some() => Ok(Some(receipt)),
            Some((DispatchEnd::Answered(_), _)) => Err(Rejection::Conflict),
        }
    }
}

/// What a last word that was taken is answered with, when that is known. Of a call that waits for its answer it is known
/// at once.
pub(super) async fn settled(receipt: Option<Receipt>, submitted: Submitted) -> Result<Submitted, Rejection> {
    let Some(receipt) = receipt else { return Ok(submitted) };
    match receipt.told().await {
        Told::Done => Ok(submitted),
        Told::Failed => Err(Rejection::Unwritten),
        Told::Gone => Err(Rejection::Gone),
    }
}

/// How long a chunk waits for a slow caller: less than the 30 s that a publisher gives a POST.
const SLOW_CALLER: Duration = Duration::from_secs(20);
pub(super) const UNWANTED: &str = "the publisher sent chunks where one answer was asked for";
const MISSING: &str = "a chunk of the publisher's answer is missing";
pub(super) const NO_OBJECT: &str = "the publisher sent a chunk that is not a JSON object";

/// What a publisher posts.
#[derive(Debug)]
pub enum Submission {
    /// All of an answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// All of it.
        body: Body,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// One piece of a streamed answer.
    Chunk(Chunk),
    /// The task failed.
    Error(TaskError),
}

impl Submission {
    /// Reads the text of a result, which may be large; and what stands for that text.
    pub fn read(text: &str) -> Result<(Self, u64), InvalidResult> {
        let read = match TaskResult::parse(text)? {
            TaskResult::Answer { status, body, retry_after } => {
                Self::Answer { status, body: Body::read(status, body), retry_after }
            }
            TaskResult::Chunk(chunk) => Self::Chunk(chunk),
            TaskResult::Error(error) => Self::Error(error),
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        Ok((read, hasher.finish()))
    }
}

/// Takes a result. `digest` stands for its text; `held` is what it counts for until it counts for its reader.
pub async fn submit(
    hub: &Hub,
    from: Sender<'_>,
    result: Submission,
    digest: u64,
    held: BytesPermit,
) -> Result<Submitted, Rejection> {
    match result {
        Submission::Chunk(chunk) if !chunk.done => push(hub, from, chunk, held).await,
        result => {
            drop(held);
            finish(hub, from, result, digest).await
        }
    }
}

/// One chunk, not the last.
async fn push(hub: &Hub, from: Sender<'_>, chunk: Chunk, _held: BytesPermit) -> Result<Submitted, Rejection> {
    let (lane, endpoint, wanted) = {
        let mut tasks = hub.dispatches.lock();
        let Some(live) = from.live(&mut tasks) else { return again(from.over(&tasks, None)) };
        if chunk.seq.is_some_and(|seq| seq < live.next_seq) {
            return Ok(Submitted::Duplicate);
        }
        (live.lane.clone(), live.endpoint, live.streaming)
    };
    if !wanted {
        fail(hub, from.id, UNWANTED);
        return Err(Rejection::Conflict);
    }
    let Chunk { data, seq, .. } = chunk;
    let Some(piece) = events(from.user, endpoint, data).await else {
        fail(hub, from.id, NO_OBJECT);
        return Err(Rejection::Malformed);
    };
    let place = match timeout(SLOW_CALLER, lane.place(piece.size())).await {
        Ok(Some(place)) => place,
        Ok(None) => return Err(Rejection::Gone),
        Err(_) => return Err(Rejection::Busy),
    };
    {
        let mut tasks = hub.dispatches.lock();
        let Some(live) = from.live(&mut tasks) else { return again(from.over(&tasks, None)) };
        match seq {
            Some(seq) if seq < live.next_seq => return Ok(Submitted::Duplicate),
            Some(seq) if seq > live.next_seq => (),
            _ => {
                live.next_seq += 1;
                live.started = true;
                // With the lock held, so that nothing comes between the number and the piece.
                place.send(piece);
                return Ok(Submitted::Taken);
            }
        }
    }
    fail(hub, from.id, MISSING);
    Err(Rejection::Conflict)
}

/// A chunk that is not the last waits for nothing.
fn again(over: Result<Option<Receipt>, Rejection>) -> Result<Submitted, Rejection> {
    over.map(|_| Submitted::Duplicate)
}

/// The last word.
async fn finish(
    hub: &Hub,
    from: Sender<'_>,
    result: Submission,
    digest: u64,
) -> Result<Submitted, Rejection> {
    let found = {
        let mut tasks = hub.dispatches.lock();
        match (from.live(&mut tasks), &result) {
            (None, _) => Err(from.over(&tasks, Some(digest))?),
            (Some(live), Submission::Chunk(chunk)) => {
                let whole = chunk.seq.is_none_or(|seq| seq == live.next_seq);
                Ok((live.endpoint, live.streaming, whole, live.lane.count(chunk.data.len())))
            }
            (Some(live), Submission::Answer { body, .. }) => {
                Ok((live.endpoint, true, true, live.lane.count(body.get().len())))
            }
            (Some(live), Submission::Error(_)) => {
                Ok((live.endpoint, true, true, Some(BytesPermit::default())))
            }
        }
    };
    let (endpoint, fits, whole, held) = match found {
        Ok(live) => live,
        Err(receipt) => return settled(receipt, Submitted::Duplicate).await,
    };
    if !fits {
        fail(hub, from.id, UNWANTED);
        return Err(Rejection::Conflict);
    }
    if !whole {
        fail(hub, from.id, MISSING);
        return Err(Rejection::Conflict);
    }
    let Some(held) = held else { return Err(Rejection::Busy) };
    let mut pieces = Vec::with_capacity(2);
    match result {
        Submission::Answer { status, body, retry_after } => {
            pieces.push(ResponsePiece::answer(status, body, held, retry_after));
        }
        Submission::Error(error) => {
            pieces.push(ResponsePiece::Error(failure(error.message).retry_after(error.retry_after)));
        }
        Submission::Chunk(chunk) => {
            if chunk.data != DONE
                && let Some(mut piece) = events(from.user, endpoint, chunk.data).await
            {
                piece.hold(held);
                pieces.push(piece);
            }
            pieces.push(ResponsePiece::Done);
        }
    }
    let Some(live) = hub.end_task(from.id, DispatchEnd::Answered(digest)) else {
        let receipt = from.over(&hub.dispatches.lock(), Some(digest))?;
        return settled(receipt, Submitted::Duplicate).await;
    };
    live.lane.deliver(pieces);
    settled(live.receipt, Submitted::Taken).await
}

/// A result that cannot be read, or is too large: its task fails at once, since nothing better may ever come. `why` is
/// for the log.
pub fn refuse(hub: &Hub, from: Sender<'_>, why: &str) {
    let known = from.live(&mut hub.dispatches.lock()).is_some();
    if known {
        news!(info, "results not passed on", from.user, "task {}: {why}", from.id);
        fail(hub, from.id, "the publisher sent a result that cannot be passed on");
    }
}

/// The task fails by what its publisher sent.
pub(super) fn fail(hub: &Hub, id: &str, message: &'static str) {
    if let Some(live) = hub.end_task(id, DispatchEnd::Gone) {
        news!(info, "tasks that failed at the hub", &live.user, "task {id} failed at the hub: {message}");
        live.lane.deliver(vec![ResponsePiece::Error(ApiError::bad_gateway(message))]);
    }
}

async fn events(user: &str, endpoint: Endpoint, data: String) -> Option<ResponsePiece> {
    let mut bytes = Vec::with_capacity(data.len() + 16);
    let usage = encode::event(user, endpoint, data.into(), &mut bytes).await.ok()?;
    Some(ResponsePiece::Events { bytes: bytes.into(), usage, held: BytesPermit::default() })
}
