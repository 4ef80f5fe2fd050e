//! The answer of a claimed task: from which member, and to its end.

use std::sync::Arc;

use tokio::time::timeout;
use wire::openai::completion_as_chunk;
use wire::sse::Decoder;

use super::state::{Attempt, Event};
use crate::dispatch::{
    ActiveCall, CommitNotifier, Dispatch, InferenceRequest, Reservation, ResponsePiece, StartedResponse,
    TriedMembers, dispatch_to, wake,
};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::offload::offload;
use crate::quota::BytesPermit;
use crate::registry::{Candidate, PickResult};

/// What came of a dispatch.
pub(super) enum RunOutcome {
    /// The whole answer: status and body, and what it counts for.
    Answered(u16, String, BytesPermit),
    /// All chunks of it; they are in the book.
    Streamed,
    /// It failed, for good.
    Failed(ApiError),
    /// The publisher was lost before it began.
    Lost,
}

/// Tries members, each once, until one begins to answer; then reads its answer to the end. What came of it, and what the
/// last word of the last one waits for.
pub(super) async fn run(
    hub: &Arc<Hub>,
    number: u64,
    attempt: Attempt,
    inference: &InferenceRequest,
    call: &ActiveCall,
    first: Candidate,
    place: Reservation,
) -> (RunOutcome, CommitNotifier) {
    let patience = hub.options.timings.wait_timeout;
    let mut tried = TriedMembers::default();
    let mut place = Some(place);
    let mut candidate = first;
    loop {
        let refusal = inference.body.refused_by(&inference.caller.user, &candidate);
        let refused = refusal.is_some();
        tried.add(&candidate, refused);
        let notifier = CommitNotifier::default();
        let began = async {
            if let Some(error) = refusal {
                return Err(RunOutcome::Failed(error));
            }
            if candidate.asleep {
                wake(hub, &candidate).await.map_err(RunOutcome::Failed)?;
                candidate.asleep = false;
            }
            let receipt = Some(notifier.receipt());
            let reply = Box::pin(dispatch_to(hub, inference, call, &candidate, place.take(), receipt)).await;
            reply.map_err(|error| match error.kind {
                ErrorKind::PublisherAway
                | ErrorKind::PublisherLost
                | ErrorKind::PublisherStopping
                | ErrorKind::Paused
                | ErrorKind::HubBusy => RunOutcome::Lost,
                _ => RunOutcome::Failed(error),
            })
        };
        let outcome = match timeout(patience, began).await {
            Err(_) => {
                let text = format!("no answer within {} s", patience.as_secs_f64());
                RunOutcome::Failed(ApiError::new(ErrorKind::Timeout, text))
            }
            Ok(Err(outcome)) => outcome,
            Ok(Ok(StartedResponse::Whole { status, body, held, .. })) => {
                // It is counted as another kind from here on.
                drop(held);
                if let Some(usage) = body.usage() {
                    call.add_usage(usage);
                }
                match hub.unfinished_of(&inference.caller.user).take(body.get().len()) {
                    Ok(held) => RunOutcome::Answered(status, body.into_text(), held),
                    // Another member's answer would have no more room.
                    Err(error) => return (RunOutcome::Failed(error), notifier),
                }
            }
            // Not made here.
            Ok(Ok(StartedResponse::Expanded { .. })) => RunOutcome::Lost,
            Ok(Ok(StartedResponse::Stream { first, dispatch })) => {
                let none = hub.unfinished_of(&inference.caller.user).empty();
                hub.tasks.with(number, |open| open.held = none);
                return (follow(hub, number, attempt, call, first, dispatch).await, notifier);
            }
        };
        let may_fail_over = match &outcome {
            RunOutcome::Failed(error) => refused || error.may_fail_over(),
            RunOutcome::Answered(status, ..) => matches!(status, 429 | 502..=504),
            RunOutcome::Streamed | RunOutcome::Lost => false,
        };
        if !may_fail_over {
            return (whole(hub, number, inference, outcome).await, notifier);
        }
        let next = tried.pick_another(&mut hub.registry.lock(), inference);
        match next {
            PickResult::Chosen(next) => {
                // Nothing of what this one said is wanted.
                notifier.commit();
                candidate = *next;
                hub.tasks.with(number, |open| open.taken_by(&candidate));
            }
            PickResult::NoMember | PickResult::EndpointUnsupported => return (outcome, notifier),
        }
    }
}

/// A whole answer where chunks were asked for is one chunk.
async fn whole(hub: &Hub, number: u64, inference: &InferenceRequest, outcome: RunOutcome) -> RunOutcome {
    match outcome {
        RunOutcome::Answered(status, body, held) if inference.streaming && status < 400 => {
            let size = body.len();
            let chunk =
                move || completion_as_chunk(&body).map_err(|error| ApiError::bad_gateway(error.to_string()));
            match offload(&inference.caller.user, size, chunk).await {
                Ok(chunk) => {
                    hub.tasks.with(number, |open| open.held = held);
                    pushed(hub.tasks.with(number, |open| open.push(&chunk)))
                        .map_or_else(RunOutcome::Failed, |()| RunOutcome::Streamed)
                }
                Err(_) => {
                    RunOutcome::Failed(ApiError::bad_gateway("the publisher's answer is not a completion"))
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
    call: &ActiveCall,
    first: ResponsePiece,
    mut dispatch: Dispatch,
) -> RunOutcome {
    hub.tasks.step(number, Event::Chunk(attempt), |_, _| ());
    let mut decoder = Decoder::new();
    let mut piece = Some(first);
    loop {
        match piece {
            Some(ResponsePiece::Events { bytes, usage, .. }) => {
                call.count_chunk();
                if let Some(usage) = usage {
                    call.add_usage(usage);
                }
                // Our own encoder's: whole events, of which the data is wanted.
                let mut bytes: &[u8] = &bytes;
                while let Some(frame) = decoder.decode(&mut bytes) {
                    if let Err(error) = pushed(hub.tasks.with(number, |open| open.push(&frame.data))) {
                        return RunOutcome::Failed(error);
                    }
                }
            }
            Some(ResponsePiece::Done) => return RunOutcome::Streamed,
            Some(ResponsePiece::Error(error)) => return RunOutcome::Failed(error),
            Some(ResponsePiece::Answer { .. }) => {
                let text = "the publisher sent a whole answer within a stream";
                return RunOutcome::Failed(ApiError::bad_gateway(text));
            }
            Some(ResponsePiece::Reattached) => (),
            None => {
                let text = "the publisher was lost in the middle of its answer";
                return RunOutcome::Failed(ApiError::new(ErrorKind::Interrupted, text));
            }
        }
        piece = dispatch.next().await;
    }
}

/// A piece for a task that is not open any more is nobody's: its worker is on its way out.
fn pushed(kept: Option<Result<(), ApiError>>) -> Result<(), ApiError> {
    kept.unwrap_or(Ok(()))
}
