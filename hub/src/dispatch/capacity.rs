//! Capacity at publishers: callers wait for it in queues and reserve it.
//!
//! Freed capacity is passed to [`Hub::offer`] while the registry is locked. The next caller in the queue that can use it
//! gets a reservation, then the queues of durable tasks are told. A caller that leaves drops its reservation, which offers
//! the capacity to the next one.
//!
//! The cost of an offer is bounded (see [`offers`]). Lock order: registry, then caller queues or the durable tasks'
//! queue, then the waits for claims.

mod arrivals;
mod charge;
mod offers;
mod takeover;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use wire::task::Endpoint;

use super::caller_queues::{CallerQueues, Class, Cursor};
use super::request::{InferenceRequest, Priority};
use crate::affinity::Conversation;
use crate::connections::PriorityGuard;
use crate::hub::Hub;
use crate::model::{Role, UserId};
use crate::registry::{Candidate, Registry, Target};

pub(super) use arrivals::ArrivalWait;
use arrivals::Arrivals;
pub(super) use charge::TurnCharge;
pub(crate) use offers::run_offers;
pub(super) use takeover::ClaimWait;
use takeover::ClaimWaits;

/// Prefix of the queue names for callers of detached agents. Names have no spaces.
const DETACHED: &str = "agent ";

/// Callers that can use the same rows, as long as their agents lead to them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WaiterClass {
    user: UserId,
    role: Role,
    name: String,
    /// The owner of `name` when the callers came.
    owner: Option<UserId>,
    pool: bool,
    only_owner: Option<UserId>,
    /// Whether the callers came through agents.
    through_agent: bool,
    /// The user whose private rows these agents open.
    opens: Option<UserId>,
    endpoint: Endpoint,
    /// Whether the callers wait for their agent alone, which does not lead to the target now.
    detached: bool,
    priority: Priority,
    /// Rows on which the callers were tried.
    avoided: BTreeSet<String>,
}

impl Class for WaiterClass {
    fn user(&self) -> &str {
        &self.user
    }

    fn is_bulk(&self) -> bool {
        self.priority == Priority::Bulk
    }
}

/// A caller in a queue.
struct Waiter {
    target: Target,
    conversation: Option<Conversation>,
    assign: oneshot::Sender<Candidate>,
}

/// A source of capacity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Offer {
    /// A row, for the callers of its name and its pool.
    Row(String),
    /// Any row, for the callers in the queue of this name.
    Queue(String),
}

#[derive(Default)]
struct CapacityQueues {
    callers: CallerQueues<WaiterClass, Waiter>,
    offers: VecDeque<(Offer, Cursor)>,
    /// The same offers, for look-up.
    offered: HashSet<Offer>,
}

impl CapacityQueues {
    /// Adds an offer for the callers of `names`, unless there are none.
    fn add(&mut self, offer: Offer, names: &[String]) {
        let mut is_news = false;
        for name in names {
            is_news |= self.callers.note_news(name);
        }
        if is_news && self.offered.insert(offer.clone()) {
            self.offers.push_back((offer, Cursor::default()));
        }
    }
}

/// The callers that wait for capacity or for a publisher.
#[derive(Default)]
pub(crate) struct Capacity {
    /// The number of callers that were checked.
    #[cfg(test)]
    pub(crate) checked_callers: std::sync::atomic::AtomicUsize,
    queues: Mutex<CapacityQueues>,
    /// Notified when offers are left for [`run_offers`].
    left: Notify,
    claims: ClaimWaits,
    /// Runs once in the next dispatch, between its check and its registration.
    #[cfg(test)]
    pub(crate) before_open: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Of publishers that have registered and are about to open their channel.
    arrivals: Arrivals,
}

#[cfg(test)]
impl Capacity {
    /// Whether a caller waits.
    pub(crate) fn has_waiter(&self) -> bool {
        !self.queues.lock().callers.is_empty()
    }

    /// Whether a caller waits for a detached agent.
    pub(crate) fn has_detached_waiter(&self) -> bool {
        self.queues.lock().callers.names().any(|name| name.starts_with(DETACHED))
    }
}

/// Capacity on a row, counted among its tasks until a dispatch takes it over. Dropping it frees the capacity.
pub(crate) struct Reservation {
    hub: Arc<Hub>,
    row: String,
    owner: UserId,
    kept: bool,
    _priority: PriorityGuard,
}

impl Reservation {
    /// Wraps capacity that is counted already.
    fn counted(hub: &Arc<Hub>, candidate: &Candidate) -> Self {
        let (row, owner) = (candidate.name.clone(), candidate.owner.clone());
        Self { hub: hub.clone(), row, owner, kept: false, _priority: PriorityGuard::new() }
    }

    /// Reserves capacity on the row of `candidate`.
    pub(crate) fn take(hub: &Arc<Hub>, registry: &mut Registry, candidate: &Candidate) -> Self {
        registry.task_started(&candidate.name, &candidate.owner);
        Self::counted(hub, candidate)
    }

    /// Hands the capacity over to a dispatch.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            let mut registry = self.hub.registry.lock();
            let had_capacity = !self.hub.has_waiters() || registry.has_capacity(&self.row);
            registry.release_reservation(&self.row, &self.owner);
            if !had_capacity {
                self.hub.offer(&mut registry, &self.row);
            }
        }
    }
}

/// A caller in a queue. Dropping it leaves the queue and frees capacity that was assigned meanwhile.
pub(super) struct QueuedCaller {
    hub: Arc<Hub>,
    name: String,
    class: WaiterClass,
    place: u64,
    assigned: oneshot::Receiver<Candidate>,
    /// The agent through which it waits in the queue of another name.
    agent: Option<ClaimWait>,
    _priority: PriorityGuard,
}

impl QueuedCaller {
    /// Resolves when capacity is assigned; with `None` when the caller has to pick again.
    pub(super) async fn assigned(&mut self) -> Option<(Candidate, Reservation, TurnCharge)> {
        let candidate = match &mut self.agent {
            None => (&mut self.assigned).await.ok()?,
            Some(agent) => tokio::select! {
                biased;
                assigned = &mut self.assigned => assigned.ok()?,
                () = agent.claimed() => return None,
            },
        };
        let reservation = Reservation::counted(&self.hub, &candidate);
        Some((candidate, reservation, self.charge()))
    }

    fn charge(&self) -> TurnCharge {
        TurnCharge::new(&self.hub, self.place)
    }
}

impl Drop for QueuedCaller {
    fn drop(&mut self) {
        self.hub.capacity.queues.lock().callers.leave(&self.name, &self.class, self.place);
        self.assigned.close();
        if let Ok(candidate) = self.assigned.try_recv() {
            drop(self.charge());
            drop(Reservation::counted(&self.hub, &candidate));
        }
    }
}

fn class_of(request: &InferenceRequest, detached: bool, avoided: BTreeSet<String>) -> WaiterClass {
    let (caller, target) = (&request.caller, &request.target);
    WaiterClass {
        user: caller.user.clone(),
        role: caller.role,
        name: target.name.clone(),
        owner: target.owner.clone(),
        pool: target.pool,
        only_owner: target.only_owner.clone(),
        through_agent: target.through.is_some(),
        opens: target.through.as_ref().and_then(|through| through.opens.clone()),
        endpoint: request.endpoint,
        detached,
        priority: request.priority,
        avoided,
    }
}

/// The tokens of a prompt of so many bytes, about.
fn tokens_of(bytes: usize) -> u64 {
    u64::try_from(bytes / 4).unwrap_or(u64::MAX)
}

/// The name of the queue for callers whose agent no longer leads to their target.
fn detached_queue(agent: &str) -> String {
    format!("{DETACHED}{agent}")
}

impl Hub {
    /// Whether the caller would overtake others of its class, or callers of its name to whom capacity is being offered.
    pub(super) fn must_queue(&self, request: &InferenceRequest, avoided: &BTreeSet<String>) -> bool {
        let queues = self.capacity.queues.lock();
        let name = &request.target.name;
        !queues.callers.is_empty()
            && (queues.callers.has(name, &class_of(request, false, avoided.clone()))
                || !queues.offers.is_empty() && queues.callers.has_news(name))
    }

    /// Adds the caller to a queue, for all rows but those of `avoided`. The registry stays locked since the pick that found no capacity, so that none is freed
    /// in between.
    pub(super) fn enqueue_caller(
        self: &Arc<Self>,
        registry: &Registry,
        request: &InferenceRequest,
        avoided: BTreeSet<String>,
    ) -> QueuedCaller {
        let (assign, assigned) = oneshot::channel();
        let target = request.target.clone();
        let detached = !registry.agent_is_unchanged(&request.caller, &target);
        let name = match &target.through {
            Some(through) if detached => detached_queue(&through.agent),
            _ => target.name.clone(),
        };
        let class = class_of(request, detached, avoided);
        let agent = target.through.as_ref().filter(|_| !detached);
        let agent = agent.map(|through| ClaimWait::new(self, registry, &through.agent));
        let prompt = tokens_of(request.body.as_str().len());
        let waiter = Waiter { target, conversation: request.conversation.clone(), assign };
        let line = registry.names_reaching(&name).pop().unwrap_or_else(|| name.clone());
        let place = self.capacity.queues.lock().callers.join(&line, &name, class.clone(), prompt, waiter);
        let hub = self.clone();
        QueuedCaller { hub, name, class, place, assigned, agent, _priority: PriorityGuard::new() }
    }

    /// Whether a caller or a durable task waits for capacity.
    pub(super) fn has_waiters(&self) -> bool {
        !self.capacity.queues.lock().callers.is_empty() || self.tasks.depth() > 0
    }
}

#[cfg(test)]
mod tests;
