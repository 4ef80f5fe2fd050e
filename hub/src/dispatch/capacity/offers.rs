//! Offers of freed capacity to the callers in the queues.
//!
//! The cost of an offer is bounded: one caller is checked per class, a queue is scanned once however many of
//! its rows have changed, and after [`MAX_STEPS`] the rest is left to [`run_offers`], so that the registry is unlocked
//! meanwhile. A caller that comes during an offer queues behind those that were not checked yet.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::task::yield_now;

use super::super::caller_queues::{Cursor, Decision, ScanResult};
use super::{CapacityQueues, DETACHED, Offer, Waiter, WaiterClass, detached_queue};
use crate::hub::Hub;
use crate::model::{Caller, Llm};
use crate::registry::{Availability, CallerClass, PickResult, Registry, Room};

/// Rows examined under one lock of the registry: some tenths of a millisecond.
const MAX_STEPS: usize = if cfg!(test) { 20 } else { 4096 };
/// The cost of checking a caller, in rows.
const CALLER_STEPS: usize = 8;

impl Hub {
    /// Offers capacity on `row`, or the wake of another row that `row` no longer prevents.
    pub(crate) fn offer(&self, registry: &mut Registry, row: &str) {
        self.offer_rows(registry, [row]);
    }

    /// Offers capacity on all of `rows`; see [`offer`](Self::offer).
    pub(crate) fn offer_rows<'a>(&self, registry: &mut Registry, rows: impl IntoIterator<Item = &'a str>) {
        if !self.has_waiters() {
            return;
        }
        // Each name once, since many queues may wait for it.
        let (mut told, mut with_capacity) = (BTreeSet::new(), Vec::new());
        {
            let mut queues = self.capacity.queues.lock();
            for row in rows {
                let mut names = registry.names_reaching(row);
                match registry.availability(row) {
                    Availability::Awake(Room::Full) => (),
                    availability @ (Availability::Awake(Room::Free | Room::Ahead)
                    | Availability::Asleep(Room::Free | Room::Ahead)) => {
                        queues.add(Offer::Row(row.to_owned()), &names);
                        if let (Availability::Asleep(_), [_, pool]) = (availability, names.as_slice()) {
                            // Callers that waited while the row was awake may now have any row of its pool woken.
                            queues.add(Offer::Queue(pool.clone()), std::slice::from_ref(pool));
                        }
                        with_capacity.push((row, names));
                    }
                    Availability::Unroutable | Availability::Asleep(Room::Full) => {
                        // The row can serve nobody now: callers who waited for it may have a sleeping row of its pool
                        // woken.
                        let Some(name) = names.pop() else { continue };
                        queues.add(Offer::Queue(name.clone()), std::slice::from_ref(&name));
                        told.insert(name);
                    }
                }
            }
        }
        let is_left = self.serve_offers(registry);
        // Capacity that callers took is not offered to durable tasks.
        with_capacity.retain(|(row, _)| is_left || registry.has_capacity(row));
        told.extend(with_capacity.into_iter().flat_map(|(_, names)| names));
        self.tasks.capacity_freed(told.iter().map(String::as_str));
    }

    /// Offers capacity on all rows of a session, and its agents to callers that wait for them.
    pub(crate) fn offer_rows_of(&self, registry: &mut Registry, session: &str) {
        if self.has_waiters() {
            let rows = registry.session_llms(session);
            self.offer_rows(registry, rows.iter().map(String::as_str));
            let agents = registry.session_agents(session);
            self.agents_changed(registry, agents.iter().map(String::as_str));
        }
    }

    /// Offers the rows and pools of `names`, whose members have changed.
    pub(crate) fn offer_names<'a>(
        &self,
        registry: &mut Registry,
        names: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        if !self.has_waiters() {
            return;
        }
        self.tasks.capacity_freed(names.clone());
        let mut queues = self.capacity.queues.lock();
        for name in names {
            queues.add(Offer::Queue(name.to_owned()), &[name.to_owned()]);
        }
        drop(queues);
        self.serve_offers(registry);
    }

    /// Has the callers of changed agents pick again.
    pub(crate) fn agents_changed<'a>(
        &self,
        registry: &mut Registry,
        agents: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        if !self.has_waiters() {
            return;
        }
        self.tasks.capacity_freed(agents.clone());
        let queues: Vec<String> = agents.into_iter().map(detached_queue).collect();
        self.offer_names(registry, queues.iter().map(String::as_str));
    }

    /// Has the callers of detached agents pick again, after a change of what agents lead to.
    pub(crate) fn offer_detached(&self) {
        self.offer_queues(|name| name.starts_with(DETACHED));
    }

    /// Scans all queues, for changes that were not offered.
    pub(crate) fn offer_all(&self) {
        self.offer_queues(|_| true);
    }

    fn offer_queues(&self, is_offered: impl Fn(&str) -> bool) {
        let mut queues = self.capacity.queues.lock();
        let names: Vec<String> = queues.callers.names().filter(|name| is_offered(name)).cloned().collect();
        for name in names {
            queues.add(Offer::Queue(name.clone()), &[name]);
        }
        if !queues.offers.is_empty() {
            self.capacity.left.notify_one();
        }
    }

    /// Assigns offered capacity to callers, up to [`MAX_STEPS`]. Returns whether offers are left.
    pub(super) fn serve_offers(&self, registry: &mut Registry) -> bool {
        let mut queues = self.capacity.queues.lock();
        let CapacityQueues { callers, offers, offered } = &mut *queues;
        let began = registry.rows_examined();
        let mut checks = 0;
        // Assigning frees no capacity: a reach without capacity has none until the registry is unlocked.
        let mut exhausted = HashSet::new();
        let is_enough = |registry: &Registry, checks: usize| {
            registry.rows_examined() - began + checks * CALLER_STEPS >= MAX_STEPS
        };
        while let Some((offer, mut cursor)) = offers.pop_front() {
            checks += 1;
            if is_enough(registry, checks) {
                offers.push_front((offer, cursor));
                break;
            }
            let (row, names) = match &offer {
                Offer::Row(row) => (Some(row), registry.names_reaching(row)),
                Offer::Queue(name) => (None, vec![name.clone()]),
            };
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.retain(|name| callers.has_news(name));
            let result = callers.scan(&names, &mut cursor, |class, waiter| {
                if row.is_some_and(|row| registry.room(row) == Room::Full) {
                    return Decision::Stop;
                }
                if is_enough(registry, checks) {
                    return Decision::Interrupt;
                }
                checks += 1;
                #[cfg(test)]
                self.capacity.checked_callers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                try_assign(registry, class, waiter, &mut exhausted)
            });
            match result {
                ScanResult::Interrupted => {
                    offers.push_front((offer, cursor));
                    break;
                }
                // More news came during the scan: start again.
                ScanResult::Finished if names.iter().any(|name| callers.has_news(name)) => {
                    offers.push_back((offer, Cursor::default()));
                }
                ScanResult::Finished | ScanResult::Stopped => drop(offered.remove(&offer)),
            }
        }
        let is_left = !offers.is_empty();
        if is_left {
            self.capacity.left.notify_one();
        }
        is_left
    }
}

/// Serves the offers that were left, for as long as the hub runs.
pub(crate) async fn run_offers(hub: Arc<Hub>) {
    loop {
        hub.capacity.left.notified().await;
        loop {
            let is_left = hub.serve_offers(&mut hub.registry.lock());
            if !is_left {
                break;
            }
            // The registry and the thread are free for others meanwhile.
            yield_now().await;
        }
    }
}

/// Assigns capacity to the waiter of a class, if there is any.
pub(super) fn try_assign(
    registry: &mut Registry,
    class: &WaiterClass,
    waiter: &mut Option<Waiter>,
    exhausted: &mut HashSet<CallerClass>,
) -> Decision {
    let Some(Waiter { target, conversation, .. }) =
        waiter.as_ref().filter(|waiter| !waiter.assign.is_closed())
    else {
        return Decision::Remove;
    };
    if registry.is_target_taken_over(target) {
        // The removed waiter picks again, and gets the error.
        return Decision::Remove;
    }
    let caller = Caller {
        user: class.user.clone(),
        role: class.role,
        token_id: String::new(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    let reach = registry.caller_class(&caller, target, class.endpoint);
    if !class.detached && reach.as_ref().is_some_and(|reach| exhausted.contains(reach)) {
        return Decision::Keep;
    }
    // A removed waiter picks again: it joins the queue of its agent, or leaves that.
    match (registry.agent_is_unchanged(&caller, target), class.detached) {
        (true, true) | (false, false) => return Decision::Remove,
        (false, true) => return Decision::Keep,
        (true, false) => (),
    }
    let is_left = |llm: &Llm| !class.avoided.contains(&llm.name);
    match registry.pick_of(&caller, target, class.endpoint, conversation.as_ref(), is_left) {
        PickResult::Chosen(candidate) if class.priority.takes(candidate.room) => {
            let (row, owner) = (candidate.name.clone(), candidate.owner.clone());
            registry.task_started(&row, &owner);
            // The caller may have left since the check above.
            if waiter.take().is_none_or(|waiter| waiter.assign.send(*candidate).is_err()) {
                registry.release_reservation(&row, &owner);
                return Decision::Remove;
            }
            Decision::Served(registry.names_reaching(&row))
        }
        // The removed waiter picks again, and gets the error.
        PickResult::EndpointUnsupported | PickResult::TakenOver => Decision::Remove,
        // As does one that was tried on all members.
        PickResult::NoMember if !class.avoided.is_empty() => Decision::Remove,
        // Others than bulk callers may be sent ahead.
        PickResult::Chosen(candidate) if candidate.room != Room::Full => Decision::Keep,
        PickResult::Chosen(_) | PickResult::NoMember => {
            // Others may have what it was tried on.
            exhausted.extend(reach.filter(|_| class.avoided.is_empty()));
            Decision::Keep
        }
    }
}
