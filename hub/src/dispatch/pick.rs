//! Choosing the member that runs a request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::capacity::{ArrivalWait, QueuedCaller, Reservation, TurnCharge};
use super::failure::absent;
use super::request::{InferenceRequest, Priority};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::Llm;
use crate::registry::{Candidate, PickResult, Registry};

/// Most members that one call is tried on: each try scans all of them.
const MAX_TRIES: usize = 16;
/// How often a caller that waits for an arriving publisher checks that it still arrives.
const ARRIVAL_POLL: Duration = Duration::from_millis(200);

/// The members that a call was tried on.
#[derive(Default)]
pub(crate) struct TriedMembers {
    names: HashSet<String>,
    /// Whether one of them refused the request's parameters. Members that would refuse them too are skipped.
    refused: bool,
}

impl TriedMembers {
    /// Adds a member. `refused` tells whether it refused the request's parameters.
    pub(crate) fn add(&mut self, candidate: &Candidate, refused: bool) {
        self.names.insert(candidate.name.clone());
        self.refused |= refused;
    }

    /// Picks the best of the other members.
    pub(crate) fn pick_another(&self, registry: &mut Registry, request: &InferenceRequest) -> PickResult {
        if self.names.len() >= MAX_TRIES {
            return PickResult::NoMember;
        }
        let user = &request.caller.user;
        let refuses = |llm: &Llm| request.body.is_refused_at(user, &llm.owner, llm.allow_remote_urls);
        let is_left = |llm: &Llm| !(self.names.contains(&llm.name) || self.refused && refuses(llm));
        registry.pick_of(
            &request.caller,
            &request.target,
            request.endpoint,
            request.conversation.as_ref(),
            is_left,
        )
    }
}

/// Why no member can take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// All members are full.
    Capacity,
    /// No member is online.
    Members,
}

pub(super) enum PickOrQueue<'a> {
    /// This member. A caller with a queue timeout also has a reservation on it.
    Picked(Candidate, Option<Reservation>),
    /// A publisher has registered and is about to open its channel.
    Arriving(ArrivalWait<'a>),
    /// The caller waits in a queue.
    Queued(QueuedCaller),
    Unavailable(Shortage),
}

/// Picks the best member that was not tried. Before the first try, waits for capacity until `deadline`, in the order of
/// the queue.
pub(super) async fn pick_member(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    tried: &TriedMembers,
    deadline: Instant,
) -> Result<(Candidate, Option<Reservation>, Option<TurnCharge>), ApiError> {
    let start = Instant::now();
    let may_queue = tried.names.is_empty() && request.queue_timeout.is_some();
    loop {
        let (candidate, reservation, charge) =
            match pick_or_queue(hub, request, tried, may_queue && Instant::now() < deadline)? {
                PickOrQueue::Picked(candidate, reservation) => (candidate, reservation, None),
                PickOrQueue::Arriving(arriving) => {
                    let _ = timeout(ARRIVAL_POLL, arriving.opened()).await;
                    continue;
                }
                PickOrQueue::Queued(mut queued) => match timeout_at(deadline, queued.assigned()).await {
                    Ok(Some((candidate, reservation, charge))) => {
                        (candidate, Some(reservation), Some(charge))
                    }
                    // The queue was left or the deadline has passed: another pick finds the reason.
                    Ok(None) | Err(_) => continue,
                },
                PickOrQueue::Unavailable(shortage) => return Err(unavailable(hub, request, shortage)),
            };
        if may_queue {
            let wait = start.elapsed();
            hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.waited(wait));
        }
        return Ok((candidate, reservation, charge));
    }
}

/// Picks a member, or joins a queue if `waits`. Both happen under one lock, so that capacity freed afterwards is offered
/// to this caller too.
pub(super) fn pick_or_queue<'a>(
    hub: &'a Arc<Hub>,
    request: &'a InferenceRequest,
    tried: &TriedMembers,
    waits: bool,
) -> Result<PickOrQueue<'a>, ApiError> {
    let may_queue = tried.names.is_empty() && request.queue_timeout.is_some();
    let is_bulk = request.priority == Priority::Bulk;
    let mut registry = hub.registry.lock();
    let pick = tried.pick_another(&mut registry, request);
    let shortage = match pick {
        PickResult::Chosen(candidate) if !may_queue && (!is_bulk || !candidate.full) => {
            return Ok(PickOrQueue::Picked(*candidate, None));
        }
        PickResult::Chosen(candidate)
            if !(candidate.full || (waits || is_bulk) && hub.must_queue(request)) =>
        {
            let reservation = Reservation::take(hub, &mut registry, &candidate);
            return Ok(PickOrQueue::Picked(*candidate, Some(reservation)));
        }
        PickResult::Chosen(candidate) if waits => {
            let queued = hub.enqueue_caller(&registry, request);
            if !candidate.full {
                // There is capacity for the callers ahead, and perhaps for this one.
                hub.offer(&mut registry, &candidate.name);
            }
            return Ok(PickOrQueue::Queued(queued));
        }
        PickResult::Chosen(_) => Shortage::Capacity,
        PickResult::NoMember if tried.names.is_empty() && !waits => {
            if registry.has_arriving_member(&request.caller, &request.target, hub.now()) {
                return Ok(PickOrQueue::Arriving(hub.await_arrival(&registry, &request.target.name)));
            }
            Shortage::Members
        }
        PickResult::NoMember => Shortage::Members,
        PickResult::TakenOver => return Err(ApiError::model_not_found(request.target.shown_name())),
        PickResult::EndpointUnsupported => {
            let (name, endpoint) = (request.target.shown_name(), request.endpoint.as_str());
            return Err(ApiError::bad_request(format!("'{name}' does not offer {endpoint}")));
        }
    };
    Ok(if waits {
        PickOrQueue::Queued(hub.enqueue_caller(&registry, request))
    } else {
        PickOrQueue::Unavailable(shortage)
    })
}

fn unavailable(hub: &Hub, request: &InferenceRequest, shortage: Shortage) -> ApiError {
    let name = request.target.shown_name();
    match shortage {
        Shortage::Capacity => ApiError::new(ErrorKind::NoRoom, format!("'{name}' is busy, try again later")),
        Shortage::Members => {
            let absence = hub.registry.lock().unavailable_reason(&request.caller, &request.target);
            absent(name, absence, hub.now().wall)
        }
    }
}
