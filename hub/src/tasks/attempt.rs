//! One attempt of a claimed task: tries members until one begins to answer, and reads its answer to the end.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use wire::openai::completion_as_chunk;
use wire::sse::Decoder;

use super::state::{Attempt, Event};
use crate::dispatch::{
    ActiveCall, CommitNotifier, Dispatch, InferenceRequest, Reservation, ResponsePiece, StartedResponse,
    TriedMembers, dispatch_to, refuses_now, wake_for,
};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::offload::offload;
use crate::quota::BytesPermit;
use crate::registry::{Candidate, PickResult};

/// Time between two looks for a free slot, after a first member has failed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

pub(super) enum AttemptResult {
    /// A whole answer: its status and body, and the permit of its bytes.
    Answered(u16, String, BytesPermit),
    /// A streamed answer, whose chunks are in the task table.
    Streamed,
    /// A failure that ends the task.
    Failed(ApiError),
    /// The publisher was lost before its answer began: the task waits again.
    Lost,
}

/// Runs one attempt, from the member `first` on. The notifier is that of the last member's result: it is committed when the store has
/// written the end of the task.
pub(super) async fn run_attempt(
    hub: &Arc<Hub>,
    number: u64,
    attempt: Attempt,
    request: &InferenceRequest,
    call: &ActiveCall,
    first: Candidate,
    slot: Reservation,
) -> (AttemptResult, CommitNotifier) {
    let wait_timeout = hub.options.timings.wait_timeout;
    let mut tried = TriedMembers::default();
    let mut slot = Some(slot);
    let mut member = first;
    loop {
        call.tries(&member);
        let refusal = request.body.refused_by(&request.caller.user, &member);
        let refused = refusal.is_some();
        tried.add(&member, refused);
        let notifier = Cell::new(CommitNotifier::default());
        // The result of a dispatch that another one replaces is not used.
        let receipt = || {
            let next = CommitNotifier::default();
            let receipt = next.receipt();
            notifier.replace(next).commit();
            Some(receipt)
        };
        let began = async {
            if let Some(error) = refusal {
                return Err(AttemptResult::Failed(error));
            }
            if member.asleep {
                wake_for(hub, request, &member).await.map_err(|error| match error.kind {
                    ErrorKind::PublisherAway => AttemptResult::Lost,
                    _ => AttemptResult::Failed(error),
                })?;
                member.asleep = false;
            }
            let reply = Box::pin(dispatch_to(hub, request, call, &member, slot.take(), receipt)).await;
            reply.map_err(|error| match error.kind {
                ErrorKind::PublisherAway
                | ErrorKind::PublisherLost
                | ErrorKind::PublisherStopping
                | ErrorKind::Paused
                | ErrorKind::HubBusy => AttemptResult::Lost,
                _ => AttemptResult::Failed(error),
            })
        };
        let began = timeout(wait_timeout, began).await;
        let mut notifier = notifier.into_inner();
        let result = match began {
            Err(_) => {
                let text = format!("no answer within {} s", wait_timeout.as_secs_f64());
                AttemptResult::Failed(ApiError::new(ErrorKind::Timeout, text))
            }
            Ok(Err(result)) => result,
            Ok(Ok(StartedResponse::Whole { status, body, held, .. })) => {
                // From here on the bytes count against another quota.
                drop(held);
                call.add_whole(body.get().len(), body.usage());
                match hub.unfinished_of(&request.caller.user).take(body.get().len()) {
                    Ok(held) => AttemptResult::Answered(status, body.into_text(), held),
                    // The answer of another member would exceed the quota, too.
                    Err(error) => return (AttemptResult::Failed(error), notifier),
                }
            }
            // These responses are only made for callers of other APIs.
            Ok(Ok(StartedResponse::Expanded { .. } | StartedResponse::Uncounted)) => AttemptResult::Lost,
            Ok(Ok(StartedResponse::Stream { first, dispatch })) => {
                let none = hub.unfinished_of(&request.caller.user).empty();
                hub.tasks.with(number, |open| open.answer_bytes = none);
                return (read_stream(hub, number, attempt, call, first, dispatch).await, notifier);
            }
        };
        let refused =
            refused || matches!(result, AttemptResult::Failed(_)) && refuses_now(hub, request, &member);
        tried.add(&member, refused);
        let may_fail_over = match &result {
            AttemptResult::Failed(error) => refused || error.may_fail_over(),
            AttemptResult::Answered(status, ..) => matches!(status, 429 | 502..=504),
            AttemptResult::Streamed | AttemptResult::Lost => false,
        };
        if !may_fail_over {
            return (chunk_if_streaming(hub, number, request, result).await, notifier);
        }
        let deadline = Instant::now() + wait_timeout;
        (member, slot) = loop {
            match next_member(hub, request, &tried) {
                Next::Member(next, slot) => break (*next, slot),
                Next::Full if Instant::now() < deadline => {
                    // The member that failed does not wait for another one.
                    std::mem::take(&mut notifier).commit();
                    sleep(LOOK_AGAIN).await;
                }
                Next::Full | Next::None => return (result, notifier),
            }
        };
        // The result of this member is not used.
        notifier.commit();
        hub.tasks.with(number, |open| open.assign(&member));
    }
}

/// Where a task goes that failed at a member.
enum Next {
    /// With a slot, unless the publisher keeps a queue of its own.
    Member(Box<Candidate>, Option<Reservation>),
    /// The others have no free slot.
    Full,
    None,
}

fn next_member(hub: &Arc<Hub>, request: &InferenceRequest, tried: &TriedMembers) -> Next {
    let mut registry = hub.registry.lock();
    match tried.pick_another(&mut registry, request) {
        PickResult::Chosen(next) if !next.reports => Next::Member(next, None),
        PickResult::Chosen(next) if next.is_full() => Next::Full,
        PickResult::Chosen(next) => {
            let slot = Reservation::take(hub, &mut registry, &next);
            Next::Member(next, Some(slot))
        }
        PickResult::NoMember | PickResult::EndpointUnsupported | PickResult::TakenOver => Next::None,
    }
}

/// Turns a whole answer into one chunk if the task is streaming.
async fn chunk_if_streaming(
    hub: &Hub,
    number: u64,
    request: &InferenceRequest,
    result: AttemptResult,
) -> AttemptResult {
    match result {
        AttemptResult::Answered(status, body, held) if request.streaming && status < 400 => {
            let size = body.len();
            let chunk =
                move || completion_as_chunk(&body).map_err(|error| ApiError::bad_gateway(error.to_string()));
            match offload(&request.caller.user, size, chunk).await {
                Ok(chunk) => {
                    hub.tasks.with(number, |open| open.answer_bytes = held);
                    pushed(hub.tasks.with(number, |open| open.push(&chunk)))
                        .map_or_else(AttemptResult::Failed, |()| AttemptResult::Streamed)
                }
                Err(_) => {
                    AttemptResult::Failed(ApiError::bad_gateway("the publisher's answer is not a completion"))
                }
            }
        }
        result => result,
    }
}

/// Reads a streamed answer to its end.
async fn read_stream(
    hub: &Hub,
    number: u64,
    attempt: Attempt,
    call: &ActiveCall,
    first: ResponsePiece,
    mut dispatch: Dispatch,
) -> AttemptResult {
    hub.tasks.step(number, Event::Chunk(attempt), |_, _| ());
    let mut decoder = Decoder::new();
    let mut piece = Some(first);
    loop {
        match piece {
            Some(ResponsePiece::Events { bytes, tally, .. }) => {
                call.add_events(&bytes, tally);
                // The bytes come from the hub's encoder and are whole events.
                let mut bytes: &[u8] = &bytes;
                while let Some(frame) = decoder.decode(&mut bytes) {
                    if let Err(error) = pushed(hub.tasks.with(number, |open| open.push(&frame.data))) {
                        return AttemptResult::Failed(error);
                    }
                }
            }
            Some(ResponsePiece::Done) => return AttemptResult::Streamed,
            Some(ResponsePiece::Error(error)) => return AttemptResult::Failed(error),
            Some(ResponsePiece::Answer { .. }) => {
                let text = "the publisher sent a whole answer within a stream";
                return AttemptResult::Failed(ApiError::bad_gateway(text));
            }
            Some(ResponsePiece::Reattached | ResponsePiece::Recheck) => (),
            None => {
                let text = "the publisher was lost in the middle of its answer";
                return AttemptResult::Failed(ApiError::new(ErrorKind::Interrupted, text));
            }
        }
        piece = dispatch.next().await;
    }
}

/// The result of a push; a chunk for a task that is not open any more, whose runner is being aborted, is dropped.
fn pushed(kept: Option<Result<(), ApiError>>) -> Result<(), ApiError> {
    kept.unwrap_or(Ok(()))
}
