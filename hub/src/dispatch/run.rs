//! Fail-over: members are tried one after the other until one sends its first content.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::call::ActiveCall;
use super::capacity::Reservation;
use super::commit::CommitReceipt;
use super::count;
use super::encode::EventFormat;
use super::failure::refusal;
use super::handle::{Dispatch, DispatchPayload, DispatchedCall};
use super::pick::{Stage, TriedMembers, pick_member};
use super::piece::{ResponsePiece, StartedResponse};
use super::recheck::{check_member, refuses_now, wake_for};
use super::request::InferenceRequest;
use super::request_body::{RequestBody, UsageOptions};
use super::upstream::UpstreamCall;
use super::usage_request;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::registry::{Candidate, Registry};

/// Time between two tries of a member whose hub was lost.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Runs one inference up to its first content.
pub(super) async fn run(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    call: &ActiveCall,
) -> Result<StartedResponse, ApiError> {
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let limit = hub.options.timings.wait_timeout;
    let stage = Cell::new(Stage::Answer);
    let queue_timeout = request.queue_timeout.unwrap_or_default();
    let tries = try_members(hub, request, call, &stage);
    if request.endpoint.is_count() {
        return count::limited(tries).await;
    }
    timeout_at(Instant::now() + queue_timeout + limit, tries).await.unwrap_or_else(|_| {
        let (name, seconds) = (request.target.shown_name(), limit.as_secs_f64());
        Err(match stage.get() {
            Stage::Line => {
                let text =
                    format!("'{name}' is busy and had no free slot within {seconds} s, try again later");
                ApiError::new(ErrorKind::QueueFull, text)
            }
            Stage::Wake => {
                let text = format!("'{name}' is waking and was not up within {seconds} s, try again later");
                ApiError::new(ErrorKind::Waking, text)
            }
            Stage::Answer => {
                ApiError::new(ErrorKind::Timeout, format!("no answer from '{name}' within {seconds} s"))
            }
        })
    })
}

/// Tries members until one sends its first content. Sets `stage` to what it waits for.
async fn try_members(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    call: &ActiveCall,
    stage: &Cell<Stage>,
) -> Result<StartedResponse, ApiError> {
    let mut tried = TriedMembers::default();
    let mut last: Option<Result<StartedResponse, ApiError>> = None;
    // Whether the hub of a member was lost.
    let mut was_lost = false;
    let (begin, grace) = (Instant::now(), hub.options.timings.reattach_grace);
    let deadline = request.queue_timeout.map(|wait| begin + wait);
    loop {
        let (candidate, reservation, charge) = match pick_member(hub, request, &tried, deadline, stage).await
        {
            Ok(picked) => picked,
            // Its hub may be gone, and its publisher back at another one soon.
            Err(_) if was_lost && begin.elapsed() < grace => {
                tried.forget_lost();
                sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(error) => return last.unwrap_or(Err(error)),
        };
        if let Some(charge) = charge {
            call.charged(charge);
        }
        if candidate.asleep {
            stage.set(Stage::Wake);
        }
        call.tries(&candidate);
        let refusal = request.body.refused_by(&request.caller.user, &candidate);
        let refused = refusal.is_some();
        let is_first = tried.is_empty();
        tried.add(&candidate, refused);
        let woken = match refusal {
            Some(error) => Err(error),
            None if request.endpoint.is_count() => count::check(&candidate),
            None if candidate.asleep => wake_for(hub, request, &candidate).await,
            None => Ok(()),
        };
        stage.set(Stage::Answer);
        if candidate.asleep && candidate.reports && is_first && reservation.is_none() && woken.is_ok() {
            // It is awake now, and has a line.
            tried = TriedMembers::default();
            continue;
        }
        let outcome = match woken {
            Ok(()) => dispatch_to(hub, request, call, &candidate, reservation, || None).await,
            Err(error) => Err(error),
        };
        let outcome = if request.endpoint.is_count() { count::checked(outcome) } else { outcome };
        let refused = refused || outcome.is_err() && refuses_now(hub, request, &candidate);
        tried.add(&candidate, refused);
        match &outcome {
            Ok(StartedResponse::Whole { status: 429 | 502..=504, .. } | StartedResponse::Uncounted) => (),
            Ok(_) => return outcome,
            Err(error) if !refused && !error.may_fail_over() => return outcome,
            Err(error) => {
                if matches!(error.kind, ErrorKind::PublisherAway | ErrorKind::PublisherLost)
                    && is_at_several_hubs(hub, &candidate)
                {
                    was_lost = true;
                    tried.lose(&candidate);
                }
                log::debug!("'{}' did not answer: {:?}", candidate.name, error.kind);
            }
        }
        last = Some(outcome);
    }
}

/// Whether another hub has the channel of a row, or had it just now.
fn is_at_several_hubs(hub: &Hub, candidate: &Candidate) -> bool {
    let Some(session) = candidate.session.as_deref().filter(|_| hub.shared.is_some()) else { return false };
    let grace = hub.options.timings.reattach_grace;
    candidate.is_elsewhere || hub.registry.lock().has_moved(session, hub.now(), grace)
}

/// Dispatches the request to one awake member and waits for its first content. A member that refuses the `stream_options`
/// that the hub added gets the request again without them. See [`Dispatch::open`] for `reservation` and the receipts, of which
/// each dispatch takes one.
pub(crate) async fn dispatch_to(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    call: &ActiveCall,
    candidate: &Candidate,
    mut reservation: Option<Reservation>,
    receipt: impl Fn() -> Option<CommitReceipt>,
) -> Result<StartedResponse, ApiError> {
    let support = &candidate.usage_support;
    let body = request.body.for_row(&request.caller.user, candidate, request.endpoint).await?;
    let mut usage = usage_request::options(request, &body, support);
    let mut was_refused = false;
    loop {
        let with_usage = usage.is_some();
        let sent = SentRequest { body: &body, usage: usage.take() };
        let outcome = dispatch_once(hub, request, sent, call, candidate, reservation.take(), receipt()).await;
        if with_usage && usage_request::may_be_due_to_usage(&outcome, support) {
            log::debug!("'{}' refused a request for usage, which is sent again without", candidate.name);
            was_refused = true;
            continue;
        }
        if usage_request::is_answered(&outcome) {
            if was_refused {
                support.set_refused();
            } else if with_usage {
                support.set_taken();
            }
        }
        return outcome;
    }
}

/// The request as one dispatch sends it.
struct SentRequest<'a> {
    body: &'a RequestBody,
    /// Replaces its `stream_options`.
    usage: Option<UsageOptions>,
}

async fn dispatch_once(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    SentRequest { body, usage }: SentRequest<'_>,
    call: &ActiveCall,
    candidate: &Candidate,
    reservation: Option<Reservation>,
    receipt: Option<CommitReceipt>,
) -> Result<StartedResponse, ApiError> {
    let (user, streaming, endpoint) = (&request.caller.user, request.streaming, request.endpoint);
    hub.reach_row(candidate).await?;
    let check = |registry: &Registry| check_member(hub, registry, request, candidate);
    let claims = {
        let registry = hub.registry.lock();
        // The row may have changed while the caller waited for the wake or for a thread.
        check(&registry)?;
        hub.claims()
    };
    #[cfg(test)]
    if let Some(run) = hub.capacity.before_open.lock().take() {
        run();
    }
    let model = request.set_model.then_some(candidate.model.as_str());
    let headers = &request.headers;
    let payload =
        DispatchPayload::Infer { streaming, endpoint, request: body, model, usage: usage.as_ref(), headers };
    let format = EventFormat { endpoint, drops_usage: usage.is_some() };
    let dispatched = DispatchedCall { called: request.target.shown_name(), reader: user, streaming, format };
    let (mut dispatch, channel) = Dispatch::open(hub, candidate, dispatched, reservation, receipt)?;
    if hub.claims() != claims {
        // On another thread, names were claimed before the dispatch was registered.
        check(&hub.registry.lock())?;
    }
    dispatch.mask = candidate.redaction();
    if let Some(upstream) = &candidate.upstream {
        let upstream = UpstreamCall::new(hub, upstream, candidate, request, body, usage.clone())?;
        actix_rt::spawn(upstream.run(hub.clone(), dispatch.id.clone(), channel));
    } else {
        // The table holds the only other sender: its drop ends the pieces.
        drop(channel);
        dispatch.send(candidate, user, &payload)?;
    }
    call.dispatched(&dispatch.id, candidate);
    let first = loop {
        match dispatch.next().await {
            Some(ResponsePiece::Reattached) => {
                check(&hub.registry.lock())?;
                dispatch.send(candidate, user, &payload)?;
            }
            Some(ResponsePiece::Recheck) => {
                let checked = check(&hub.registry.lock());
                // What the publisher has read is not affected.
                if let Err(error) = checked
                    && dispatch.withdraw(candidate)
                {
                    return Err(error);
                }
            }
            first => break first,
        }
    };
    match first {
        // The row was paused while the task was on its way.
        Some(ResponsePiece::Answer { status: 503, body, retry_after, .. })
            if refusal(503, body.get()).kind == ErrorKind::Paused =>
        {
            Err(refusal(503, body.get()).retry_after(retry_after))
        }
        Some(ResponsePiece::Answer { status, body, held, retry_after }) => {
            Ok(StartedResponse::Whole { status, body, held, retry_after })
        }
        Some(ResponsePiece::Error(error)) => Err(error),
        Some(first @ (ResponsePiece::Events { .. } | ResponsePiece::Done)) => {
            Ok(StartedResponse::Stream { first, dispatch })
        }
        Some(ResponsePiece::Reattached | ResponsePiece::Recheck) | None => {
            Err(ApiError::new(ErrorKind::PublisherLost, "the publisher was lost before it answered"))
        }
    }
}
