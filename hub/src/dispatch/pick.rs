//! Choosing the member that runs a request.

use std::cell::Cell;
use std::collections::BTreeSet;
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
/// Least time between two looks of a waiting caller for members.
const MIN_LOOK: Duration = Duration::from_millis(10);

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A place in the line.
    Line,
    /// The wake of its member.
    Wake,
    /// The first content of its answer.
    Answer,
}

/// The members that a call was tried on.
#[derive(Default)]
pub(crate) struct TriedMembers {
    names: BTreeSet<String>,
    /// Whether one of them refused the request's parameters. Members that would refuse them too are skipped.
    refused: bool,
    /// Those whose hub was lost.
    lost: Vec<String>,
}

impl TriedMembers {
    /// A call that was tried on `rows`.
    #[cfg(test)]
    pub(super) fn on(rows: impl IntoIterator<Item = String>) -> Self {
        Self { names: rows.into_iter().collect(), ..Self::default() }
    }

    /// Whether no member was tried.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Notes that the hub of a member was lost: it may be tried again.
    pub(super) fn lose(&mut self, candidate: &Candidate) {
        self.lost.push(candidate.name.clone());
    }

    /// Has the members be tried again whose hubs were lost.
    pub(super) fn forget_lost(&mut self) {
        for name in self.lost.drain(..) {
            self.names.remove(&name);
        }
    }

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
        registry.pick_of(
            &request.caller,
            &request.target,
            request.endpoint,
            request.conversation.as_ref(),
            |llm| !self.avoids(request, llm),
        )
    }

    /// Whether the call was tried on the row, or would be refused there as it was elsewhere.
    fn avoids(&self, request: &InferenceRequest, llm: &Llm) -> bool {
        let refuses = || request.body.is_refused_at(&request.caller.user, &llm.owner, llm.allow_remote_urls);
        self.names.contains(&llm.name) || self.refused && refuses()
    }

    /// The members for which the call does not wait.
    fn avoided(&self, registry: &Registry, request: &InferenceRequest) -> BTreeSet<String> {
        if !self.refused {
            return self.names.clone();
        }
        registry.rows_where(&request.caller, &request.target, |llm| self.avoids(request, llm)).collect()
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
    /// This member, with a reservation on it unless its publisher has the line.
    Picked(Candidate, Option<Reservation>),
    /// A publisher has registered and is about to open its channel.
    Arriving(ArrivalWait<'a>),
    /// The caller waits in a queue.
    Queued(QueuedCaller),
    Unavailable(Shortage),
}

/// Picks the best member that was not tried. Waits for a place in the order of the line: until `deadline` if the caller said how
/// long, else until it is given up.
pub(super) async fn pick_member(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    tried: &TriedMembers,
    deadline: Option<Instant>,
    stage: &Cell<Stage>,
) -> Result<(Candidate, Option<Reservation>, Option<TurnCharge>), ApiError> {
    let start = Instant::now();
    let is_told = deadline.is_some();
    let mut has_waited = is_told && tried.is_empty();
    loop {
        let may_wait = is_told && deadline.is_some_and(|deadline| Instant::now() < deadline);
        let (candidate, reservation, charge) = match pick_or_queue(hub, request, tried, may_wait)? {
            PickOrQueue::Picked(candidate, reservation) => (candidate, reservation, None),
            PickOrQueue::Arriving(arriving) => {
                let _ = timeout(ARRIVAL_POLL, arriving.opened()).await;
                continue;
            }
            PickOrQueue::Queued(mut queued) => {
                has_waited = true;
                stage.set(Stage::Line);
                let assigned = wait_in_line(hub, request, &mut queued, deadline).await;
                stage.set(Stage::Answer);
                match assigned {
                    Some((candidate, reservation, charge)) => (candidate, Some(reservation), Some(charge)),
                    // The queue was left or the wait is over: another pick finds the reason.
                    None => continue,
                }
            }
            PickOrQueue::Unavailable(shortage) => return Err(unavailable(hub, request, shortage)),
        };
        if has_waited {
            let wait = start.elapsed();
            hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.waited(wait));
        }
        return Ok((candidate, reservation, charge));
    }
}

/// Waits until capacity is assigned. `None` if the caller has to pick again: after `deadline`, or without one when no member
/// was there for as long as a publisher may be away.
async fn wait_in_line(
    hub: &Hub,
    request: &InferenceRequest,
    queued: &mut QueuedCaller,
    deadline: Option<Instant>,
) -> Option<(Candidate, Reservation, TurnCharge)> {
    if let Some(deadline) = deadline {
        return timeout_at(deadline, queued.assigned()).await.ok()?;
    }
    let grace = hub.options.timings.reattach_grace.max(MIN_LOOK);
    let mut was_away = false;
    loop {
        if let Ok(assigned) = timeout(grace, queued.assigned()).await {
            return assigned;
        }
        let is_away = !hub.registry.lock().has_routable(&request.caller, &request.target);
        if was_away && is_away {
            return None;
        }
        was_away = is_away;
    }
}

/// Picks a member, or joins a queue: in any case if `may_wait`, else if all members are full and report it. Both happen under
/// one lock, so that capacity freed afterwards is offered to this caller too.
pub(super) fn pick_or_queue<'a>(
    hub: &'a Arc<Hub>,
    request: &'a InferenceRequest,
    tried: &TriedMembers,
    may_wait: bool,
) -> Result<PickOrQueue<'a>, ApiError> {
    let is_first = tried.is_empty();
    let is_told = request.queue_timeout.is_some();
    let is_bulk = request.priority == Priority::Bulk;
    let mut registry = hub.registry.lock();
    let pick = tried.pick_another(&mut registry, request);
    let avoided = tried.avoided(&registry, request);
    let shortage = match pick {
        PickResult::Chosen(candidate) => {
            let has_line = request.has_line_at(&candidate);
            if !(is_told || has_line || is_bulk && candidate.is_full()) {
                return Ok(PickOrQueue::Picked(*candidate, None));
            }
            let waits = may_wait || has_line;
            let is_taken = if waits { request.priority.takes(candidate.room) } else { !candidate.is_full() };
            if is_taken && !((waits || is_bulk) && hub.must_queue(request, &avoided)) {
                let reservation = Reservation::take(hub, &mut registry, &candidate);
                return Ok(PickOrQueue::Picked(*candidate, Some(reservation)));
            }
            if waits {
                let queued = hub.enqueue_caller(&registry, request, avoided);
                if is_taken {
                    // There is capacity for the callers ahead, and perhaps for this one.
                    hub.offer(&mut registry, &candidate.name);
                }
                return Ok(PickOrQueue::Queued(queued));
            }
            Shortage::Capacity
        }
        PickResult::NoMember if is_first && !may_wait => {
            let (now, grace) = (hub.now(), hub.options.timings.reattach_grace);
            let (caller, target) = (&request.caller, &request.target);
            if registry.has_arriving_member(caller, target, now)
                || hub.shared.is_some() && registry.is_moving(caller, target, now, grace)
            {
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
    // A call that was tried everywhere has its answer.
    Ok(if may_wait && (is_first || shortage == Shortage::Capacity) {
        PickOrQueue::Queued(hub.enqueue_caller(&registry, request, avoided))
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
