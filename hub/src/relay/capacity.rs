//! Room at publishers: who waits for it, and who gets what is freed.
//!
//! Whatever makes room says so with [`Hub::offer`] while it holds the registry: the next caller in line who can use the
//! place is given it, counted already, users in turn, then the lines of durable tasks are told. A caller who leaves with
//! a place in hand gives it back, which offers it to the next.
//!
//! Order of locks: registry, then waiters or queue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use wire::task::Endpoint;

use super::run::Request;
use super::waiters::{self, Look, Waiters};
use crate::core::Hub;
use crate::model::{Caller, Role, UserId};
use crate::registry::{Candidate, Pick, Registry, Target};

/// Callers for whom the same members are there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Class {
    user: UserId,
    role: Role,
    target: Target,
    endpoint: Endpoint,
}

impl waiters::Class for Class {
    fn user(&self) -> &str {
        &self.user
    }
}

impl Class {
    fn caller(&self) -> Caller {
        Caller { user: self.user.clone(), role: self.role, token_id: String::new() }
    }
}

/// Those who wait.
#[derive(Default)]
pub struct Capacity {
    /// How often one who waits was looked at.
    #[cfg(test)]
    pub(crate) looks: std::sync::atomic::AtomicUsize,
    waiters: Mutex<Waiters<Class, oneshot::Sender<Candidate>>>,
    /// For publishers that have registered and are about to open their channel, by name.
    arrivals: Mutex<HashMap<String, Arc<Notify>>>,
}

/// A place on a row, counted among its tasks, until a dispatch takes it over. Dropped, it is free again.
pub struct Reservation {
    hub: Arc<Hub>,
    row: String,
    kept: bool,
}

impl Reservation {
    /// Of a place that is counted already.
    fn of(hub: &Arc<Hub>, row: &str) -> Self {
        Self { hub: hub.clone(), row: row.to_owned(), kept: false }
    }

    /// Takes a place on the row of `candidate`.
    pub(crate) fn take(hub: &Arc<Hub>, registry: &mut Registry, candidate: &Candidate) -> Self {
        registry.task_started(&candidate.name);
        Self::of(hub, &candidate.name)
    }

    /// It counts for a dispatch from now on.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            let mut registry = self.hub.registry.lock();
            registry.unreserve(&self.row);
            self.hub.offer(&mut registry, &self.row);
        }
    }
}

/// A caller in line. Dropped, it leaves, and passes on what it was given meanwhile.
pub(super) struct InLine {
    hub: Arc<Hub>,
    name: String,
    class: Class,
    ticket: u64,
    given: oneshot::Receiver<Candidate>,
}

impl InLine {
    /// The place, when there is one; `None` when things have changed so that it has to look again.
    pub(super) async fn place(&mut self) -> Option<(Candidate, Reservation)> {
        let candidate = (&mut self.given).await.ok()?;
        let reservation = Reservation::of(&self.hub, &candidate.name);
        Some((candidate, reservation))
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.hub.capacity.waiters.lock().leave(&self.name, &self.class, self.ticket);
        self.given.close();
        if let Ok(candidate) = self.given.try_recv() {
            drop(Reservation::of(&self.hub, &candidate.name));
        }
    }
}

/// One who waits for a publisher to open its channel.
pub(super) struct Arriving<'a> {
    hub: &'a Hub,
    name: &'a str,
    opened: Arc<Notify>,
}

impl Arriving<'_> {
    /// Resolves when a channel was opened, from the call of this function on.
    pub(super) fn opened(&self) -> impl Future<Output = ()> + '_ {
        self.opened.notified()
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        let mut arrivals = self.hub.capacity.arrivals.lock();
        // One in the table, one here: nobody else waits for it.
        if Arc::strong_count(&self.opened) == 2 {
            arrivals.remove(self.name);
        }
    }
}

fn class(request: &Request) -> Class {
    Class {
        user: request.caller.user.clone(),
        role: request.caller.role,
        target: request.target.clone(),
        endpoint: request.endpoint,
    }
}

impl Hub {
    /// Whether somebody like this caller waits already: it must not overtake.
    pub(super) fn has_to_queue(&self, request: &Request) -> bool {
        self.capacity.waiters.lock().has(&request.target.name, &class(request))
    }

    /// The caller waits from now on. The registry is locked: nothing is freed between the look that found nothing and
    /// this.
    pub(super) fn stand_in_line(self: &Arc<Self>, _: &Registry, request: &Request) -> InLine {
        let (sender, given) = oneshot::channel();
        let (name, class) = (request.target.name.clone(), class(request));
        let ticket = self.capacity.waiters.lock().join(&name, class.clone(), sender);
        InLine { hub: self.clone(), name, class, ticket, given }
    }

    /// The caller waits for a channel to be opened under this name. The registry is locked.
    pub(super) fn await_arrival<'a>(&'a self, _: &Registry, name: &'a str) -> Arriving<'a> {
        let opened = self.capacity.arrivals.lock().entry(name.to_owned()).or_default().clone();
        Arriving { hub: self, name, opened }
    }

    /// There may be room on `row`: gives it to who waits for it.
    pub fn offer(&self, registry: &mut Registry, row: &str) {
        let mut waiters = self.capacity.waiters.lock();
        if waiters.is_empty() && self.queue.depth() == 0 {
            return;
        }
        let names = registry.names_of(row);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        waiters.serve(&names, |class, waiter| {
            if !registry.takes_more(row) {
                return Look::Over;
            }
            #[cfg(test)]
            self.capacity.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Whoever may not use this place is not served by it: its other members have not changed.
            if waiter.as_ref().is_some_and(|waiter| !waiter.is_closed())
                && !registry.opens_to(row, &class.caller(), &class.target)
            {
                return Look::Stays;
            }
            give(registry, class, waiter)
        });
        drop(waiters);
        if registry.takes_more(row) {
            self.queue.has_room(names);
        }
    }

    /// As [`offer`](Self::offer), for all rows of a session.
    pub fn offer_rows_of(&self, registry: &mut Registry, session: &str) {
        if self.capacity.waiters.lock().is_empty() && self.queue.depth() == 0 {
            return;
        }
        for row in registry.rows_of(session) {
            self.offer(registry, &row);
        }
    }

    /// The session's channel is open: for those who waited for just that.
    pub fn arrived(&self, registry: &Registry, session: &str) {
        let mut arrivals = self.capacity.arrivals.lock();
        if arrivals.is_empty() {
            return;
        }
        let names: HashSet<String> =
            registry.rows_of(session).iter().flat_map(|row| registry.names_of(row)).collect();
        for name in names {
            if let Some(opened) = arrivals.remove(&name) {
                opened.notify_waiters();
            }
        }
    }

    /// Looks at all lines: what was not told to anybody is found here.
    pub fn offer_all(&self) {
        let names: Vec<String> = self.capacity.waiters.lock().names().cloned().collect();
        for name in names {
            let mut registry = self.registry.lock();
            let mut waiters = self.capacity.waiters.lock();
            waiters.serve(&[&name], |class, waiter| give(&mut registry, class, waiter));
        }
    }
}

/// Gives one who waits the place that there is for its class, if there is one.
fn give(registry: &mut Registry, class: &Class, waiter: &mut Option<oneshot::Sender<Candidate>>) -> Look {
    if waiter.as_ref().is_none_or(oneshot::Sender::is_closed) {
        return Look::Leaves;
    }
    match registry.pick(&class.caller(), &class.target, class.endpoint) {
        Pick::Chosen(candidate) if !candidate.full => {
            let row = candidate.name.clone();
            registry.task_started(&row);
            // One who left just now did not get it.
            if waiter.take().is_none_or(|waiter| waiter.send(*candidate).is_err()) {
                registry.unreserve(&row);
            }
            Look::Leaves
        }
        // Dropped, it looks again and learns why it waits in vain.
        Pick::NoEndpoint => Look::Leaves,
        Pick::Chosen(_) | Pick::Nobody => Look::Stays,
    }
}
