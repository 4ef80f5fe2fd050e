//! One result: a chunk of a response, or a whole one. It was posted to `/_provider-task/{id}/result`, or put together
//! from a link.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use tokio::time::timeout;
use wire::result::{Chunk, DONE, InvalidResult, TaskError, TaskResult};

use super::acceptance::{Accepted, Rejection};
use super::commit::{CommitOutcome, CommitReceipt};
use super::encode::{self, EventFormat};
use super::end::EndedBy;
use super::event_stream::STREAMED;
use super::failure::failure;
use super::piece::ResponsePiece;
use super::response_body::ResponseBody;
use super::table::{DispatchEnd, DispatchState, DispatchTable};
use crate::cluster::Route;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::news::news;
use crate::quota::BytesPermit;

/// How long a chunk waits for a slow caller: less than the 30 s after which a publisher gives up a POST.
const SLOW_CALLER: Duration = Duration::from_secs(20);
/// The error of a task whose result cannot be read, or is too large.
pub(crate) const REJECTED: &str = "the publisher sent a result that cannot be passed on";
pub(super) const UNWANTED: &str = "the publisher sent chunks where one answer was asked for";
const MISSING: &str = "a chunk of the publisher's answer is missing";
pub(super) const NO_OBJECT: &str = "the publisher sent a chunk that is not a JSON object";

/// The sender of a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResultSender<'a> {
    /// The owner of the token.
    pub(crate) user: &'a str,
    /// The session, if the request names one.
    pub(crate) session: Option<&'a str>,
    /// The task's id.
    pub(crate) id: &'a str,
    /// The process that made the id.
    pub(crate) home: Route,
    /// How the result came: recorded as the end of the task if the result ends it.
    pub(crate) ended_by: EndedBy,
}

impl ResultSender<'_> {
    /// Why a result for a task that this process does not know is rejected. One for a process that serves was passed on to it, and
    /// is decided there.
    fn unknown(&self) -> Rejection {
        match self.home {
            Route::Here => Rejection::Unknown,
            Route::At(home) => {
                log::debug!("a result of {} for task {}, which {home} made", self.user, self.id);
                Rejection::Gone
            }
        }
    }

    /// The sender's task, if it is live.
    pub(super) fn live<'t>(&self, dispatches: &'t mut DispatchTable) -> Option<&'t mut DispatchState> {
        dispatches.live(self.user, self.session, self.id)
    }

    /// The answer for a task that is not live. `digest` is that of a last result; a duplicate of it waits for the same
    /// commit.
    pub(super) fn ended(
        &self,
        dispatches: &DispatchTable,
        digest: Option<u64>,
    ) -> Result<Option<CommitReceipt>, Rejection> {
        match dispatches.ended(self.user, self.session, self.id) {
            None => Err(self.unknown()),
            Some((DispatchEnd::Gone, _)) => Err(Rejection::Gone),
            Some((DispatchEnd::Answered(first), receipt)) if Some(first) == digest => Ok(receipt),
            // A stream cannot be repeated. Any last result of its publisher asks for the commit instead.
            Some((DispatchEnd::Answered(STREAMED), Some(receipt))) if digest.is_some() => Ok(Some(receipt)),
            Some((DispatchEnd::Answered(_), _)) => Err(Rejection::Conflict),
        }
    }
}

/// Waits for the commit of a durable task's end. Without a receipt, returns at once.
pub(super) async fn committed(
    receipt: Option<CommitReceipt>,
    accepted: Accepted,
) -> Result<Accepted, Rejection> {
    let Some(receipt) = receipt else { return Ok(accepted) };
    match receipt.outcome().await {
        CommitOutcome::Committed => Ok(accepted),
        CommitOutcome::Failed => Err(Rejection::Unwritten),
        CommitOutcome::Abandoned => Err(Rejection::Gone),
    }
}

/// A result as posted by a publisher.
#[derive(Debug)]
pub(crate) enum PostedResult {
    /// A whole response.
    Answer {
        /// HTTP status.
        status: u16,
        body: ResponseBody,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// One chunk of a streamed response.
    Chunk(Chunk),
    /// The task failed.
    Error(TaskError),
}

impl PostedResult {
    /// Parses a result, and computes its digest. The text may be large.
    pub(crate) fn read(text: &str) -> Result<(Self, u64), InvalidResult> {
        let result = match TaskResult::parse(text)? {
            TaskResult::Answer { status, body, retry_after } => {
                Self::Answer { status, body: ResponseBody::read(status, body), retry_after }
            }
            TaskResult::Chunk(chunk) => Self::Chunk(chunk),
            TaskResult::Error(error) => Self::Error(error),
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        Ok((result, hasher.finish()))
    }
}

/// Why a result is rejected whatever it says: there is no such task, or the hub ended it.
pub(crate) fn unwanted(hub: &Hub, from: ResultSender<'_>) -> Option<Rejection> {
    let mut dispatches = hub.dispatches.lock();
    if from.live(&mut dispatches).is_some() {
        return None;
    }
    from.ended(&dispatches, None).err().filter(|rejection| *rejection != Rejection::Conflict)
}

/// Passes a result to its caller. `held` counts the text in the sender's quota until it counts in the caller's.
pub(crate) async fn accept_result(
    hub: &Hub,
    from: ResultSender<'_>,
    result: PostedResult,
    digest: u64,
    held: BytesPermit,
) -> Result<Accepted, Rejection> {
    match result {
        PostedResult::Chunk(chunk) if !chunk.done => accept_chunk(hub, from, chunk, held).await,
        result => {
            drop(held);
            accept_last(hub, from, result, digest).await
        }
    }
}

/// Passes on a chunk that is not the last.
async fn accept_chunk(
    hub: &Hub,
    from: ResultSender<'_>,
    chunk: Chunk,
    _held: BytesPermit,
) -> Result<Accepted, Rejection> {
    // A duplicate of a chunk has no commit to wait for.
    let ended = |dispatches: &DispatchTable| from.ended(dispatches, None).map(|_| Accepted::Duplicate);
    let (channel, format, is_wanted) = {
        let mut dispatches = hub.dispatches.lock();
        let Some(state) = from.live(&mut dispatches) else { return ended(&dispatches) };
        if chunk.seq.is_some_and(|seq| seq < state.next_seq) {
            return Ok(Accepted::Duplicate);
        }
        (state.channel.clone(), state.format, state.streaming)
    };
    if !is_wanted {
        fail(hub, from.id, from.ended_by, UNWANTED);
        return Err(Rejection::Conflict);
    }
    let Chunk { data, seq, .. } = chunk;
    let Some(piece) = events(from.user, format, data).await else {
        fail(hub, from.id, from.ended_by, NO_OBJECT);
        return Err(Rejection::Malformed);
    };
    let slot = match timeout(SLOW_CALLER, channel.reserve(piece.size())).await {
        Ok(Some(slot)) => slot,
        Ok(None) => return Err(Rejection::Gone),
        Err(_) => return Err(Rejection::Busy),
    };
    {
        let mut dispatches = hub.dispatches.lock();
        let Some(state) = from.live(&mut dispatches) else { return ended(&dispatches) };
        match seq {
            Some(seq) if seq < state.next_seq => return Ok(Accepted::Duplicate),
            Some(seq) if seq > state.next_seq => (),
            _ => {
                state.next_seq += 1;
                state.started = true;
                // Under the lock, so that pieces are sent in the order of their numbers.
                slot.send(piece);
                return Ok(Accepted::First);
            }
        }
    }
    fail(hub, from.id, from.ended_by, MISSING);
    Err(Rejection::Conflict)
}

/// Ends the task with its last result.
async fn accept_last(
    hub: &Hub,
    from: ResultSender<'_>,
    result: PostedResult,
    digest: u64,
) -> Result<Accepted, Rejection> {
    let found = {
        let mut dispatches = hub.dispatches.lock();
        match from.live(&mut dispatches) {
            None => Err(from.ended(&dispatches, Some(digest))?),
            Some(state) => {
                let (fault, size) = match &result {
                    PostedResult::Chunk(_) if !state.streaming => (Some(UNWANTED), 0),
                    PostedResult::Chunk(chunk) if chunk.seq.is_some_and(|seq| seq != state.next_seq) => {
                        (Some(MISSING), 0)
                    }
                    PostedResult::Chunk(chunk) => (None, chunk.data.len()),
                    PostedResult::Answer { body, .. } => (None, body.get().len()),
                    PostedResult::Error(_) => (None, 0),
                };
                Ok((state.format, fault, state.channel.count(size)))
            }
        }
    };
    let (format, fault, held) = match found {
        Ok(found) => found,
        Err(receipt) => return committed(receipt, Accepted::Duplicate).await,
    };
    if let Some(message) = fault {
        fail(hub, from.id, from.ended_by, message);
        return Err(Rejection::Conflict);
    }
    let Some(held) = held else { return Err(Rejection::Busy) };
    let mut pieces = Vec::with_capacity(2);
    match result {
        PostedResult::Answer { status, body, retry_after } => {
            pieces.push(ResponsePiece::answer(status, body, held, retry_after));
        }
        PostedResult::Error(error) => {
            pieces.push(ResponsePiece::Error(failure(error.message).retry_after(error.retry_after)));
        }
        PostedResult::Chunk(chunk) => {
            if chunk.data != DONE
                && let Some(mut piece) = events(from.user, format, chunk.data).await
            {
                piece.hold(held);
                pieces.push(piece);
            }
            pieces.push(ResponsePiece::Done);
        }
    }
    let Some(state) = hub.end_dispatch(from.id, DispatchEnd::Answered(digest), from.ended_by) else {
        let receipt = from.ended(&hub.dispatches.lock(), Some(digest))?;
        return committed(receipt, Accepted::Duplicate).await;
    };
    state.channel.deliver(pieces);
    committed(state.receipt, Accepted::First).await
}

/// Fails the task of a result that cannot be read or is too large: no better one may ever come. `why` is for the log.
pub(crate) fn reject_result(hub: &Hub, from: ResultSender<'_>, why: &str) {
    let is_live = from.live(&mut hub.dispatches.lock()).is_some();
    if is_live {
        news!(
            info,
            "results not passed on",
            from.user,
            [user = from.user, task = from.id],
            "task {}: {why}",
            from.id
        );
        fail(hub, from.id, from.ended_by, REJECTED);
    }
}

/// Fails the task because of what its publisher sent.
pub(super) fn fail(hub: &Hub, id: &str, by: EndedBy, message: &'static str) {
    if let Some(state) = hub.end_dispatch(id, DispatchEnd::Gone, by) {
        news!(
            info,
            "tasks that failed at the hub",
            &state.user,
            [user = state.user, task = id],
            "task {id} failed at the hub: {message}"
        );
        state.channel.deliver(vec![ResponsePiece::Error(ApiError::bad_gateway(message))]);
    }
}

async fn events(user: &str, format: EventFormat, data: String) -> Option<ResponsePiece> {
    let mut bytes = Vec::with_capacity(data.len() + 16);
    let tally = encode::write_chunk_for(user, format, data.into(), &mut bytes).await.ok()?;
    Some(ResponsePiece::Events { bytes: bytes.into(), tally, held: BytesPermit::default() })
}
