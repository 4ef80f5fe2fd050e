//! Room at publishers: who waits for it, and who gets what is freed.
//!
//! Whatever makes room says so with [`Hub::offer`] while it holds the registry: the next caller in line who can use the
//! place is given it, counted already, users in turn, then the lines of durable tasks are told. A caller who leaves with
//! a place in hand gives it back, which offers it to the next.
//!
//! What an offer costs is bounded, whoever waits for whatever: of those for whom the same rows are there one is looked
//! at, once a line however many of its rows have changed, and after so many rows the rest is left for later, by
//! [`hand_out`], so that others have the registry meanwhile. Whoever comes while an offer is under way stands behind those
//! whom it has not come to.
//!
//! Order of locks: registry, then waiters or queue.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use wire::task::Endpoint;

use super::run::Request;
use super::waiters::{self, Cursor, Look, Round, Waiters};
use crate::connections::PriorityGuard;
use crate::hub::Hub;
use crate::model::{Caller, Role, UserId};
use crate::registry::{Availability, CallerClass, Candidate, PickResult, Registry, Target};

/// Rows that are looked at, with a few for each caller, while the registry is held: some tenths of a millisecond.
const AT_ONCE: usize = if cfg!(test) { 20 } else { 4096 };
/// What a look at a caller costs beside them.
const LOOK: usize = 8;
/// How such a line's name begins; a space is in no name.
const ASTRAY: &str = "agent ";

/// Callers for whom the same members are there, as long as their agents lead there: one of them stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Class {
    user: UserId,
    role: Role,
    name: String,
    pool: bool,
    only_owner: Option<UserId>,
    /// Whether they come through agents.
    agents: bool,
    /// Whose private rows these open.
    opens: Option<UserId>,
    endpoint: Endpoint,
    /// Whether they wait for their agent alone, which does not lead there now.
    astray: bool,
}

impl waiters::Class for Class {
    fn user(&self) -> &str {
        &self.user
    }
}

/// One who waits.
struct Waiter {
    target: Target,
    way: oneshot::Sender<Candidate>,
}

/// What there may be room at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// A row, for those who wait for it or its pool.
    Row(String),
    /// Whatever those in the line of this name wait for.
    Line(String),
}

/// Those who wait, and what is offered to them.
#[derive(Default)]
struct Lines {
    waiters: Waiters<Class, Waiter>,
    offers: VecDeque<(Place, Cursor)>,
    /// What is among the offers.
    offered: HashSet<Place>,
}

impl Lines {
    /// Offers `place` to those who wait for one of `names`, if somebody does.
    fn add(&mut self, place: Place, names: &[String]) {
        let mut is_news = false;
        for name in names {
            is_news |= self.waiters.tell(name);
        }
        if is_news && self.offered.insert(place.clone()) {
            self.offers.push_back((place, Cursor::default()));
        }
    }
}

/// Those who wait.
#[derive(Default)]
pub struct Capacity {
    /// How often one who waits was looked at.
    #[cfg(test)]
    pub(crate) looks: std::sync::atomic::AtomicUsize,
    lines: Mutex<Lines>,
    /// Offers were left for later.
    left: Notify,
    /// For publishers that have registered and are about to open their channel, by name.
    arrivals: Mutex<HashMap<String, Arc<Notify>>>,
}

#[cfg(test)]
impl Capacity {
    /// Whether somebody waits for an agent to lead somewhere.
    pub(crate) fn is_anybody_astray(&self) -> bool {
        self.lines.lock().waiters.names().any(|name| name.starts_with(ASTRAY))
    }
}

/// A place on a row, counted among its tasks, until a dispatch takes it over. Dropped, it is free again.
pub struct Reservation {
    hub: Arc<Hub>,
    row: String,
    kept: bool,
    _priority: PriorityGuard,
}

impl Reservation {
    /// Of a place that is counted already.
    fn of(hub: &Arc<Hub>, row: &str) -> Self {
        Self { hub: hub.clone(), row: row.to_owned(), kept: false, _priority: PriorityGuard::new() }
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
            let had_room = self.hub.nobody_waits() || registry.has_capacity(&self.row);
            registry.release_reservation(&self.row);
            if !had_room {
                self.hub.offer(&mut registry, &self.row);
            }
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
    _priority: PriorityGuard,
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
        self.hub.capacity.lines.lock().waiters.leave(&self.name, &self.class, self.ticket);
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

fn class(request: &Request, astray: bool) -> Class {
    let (caller, target) = (&request.caller, &request.target);
    Class {
        user: caller.user.clone(),
        role: caller.role,
        name: target.name.clone(),
        pool: target.pool,
        only_owner: target.only_owner.clone(),
        agents: target.through.is_some(),
        opens: target.through.as_ref().and_then(|through| through.opens.clone()),
        endpoint: request.endpoint,
        astray,
    }
}

/// The name of the line of those who wait for an agent to lead where it did: no row has it.
fn line_of(agent: &str) -> String {
    format!("{ASTRAY}{agent}")
}

impl Hub {
    /// Whether somebody like this caller waits already, or places are being given out to others who do: it must not
    /// overtake.
    pub(super) fn has_to_queue(&self, request: &Request) -> bool {
        let lines = self.capacity.lines.lock();
        let name = &request.target.name;
        lines.waiters.has(name, &class(request, false))
            || !lines.offers.is_empty() && lines.waiters.has_news(name)
    }

    /// The caller waits from now on. The registry is locked: nothing is freed between the look that found nothing and
    /// this.
    pub(super) fn stand_in_line(self: &Arc<Self>, registry: &Registry, request: &Request) -> InLine {
        let (way, given) = oneshot::channel();
        let target = request.target.clone();
        let astray = !registry.agent_is_unchanged(&request.caller, &target);
        let name = match &target.through {
            Some(through) if astray => line_of(&through.agent),
            _ => target.name.clone(),
        };
        let class = class(request, astray);
        let ticket = self.capacity.lines.lock().waiters.join(&name, class.clone(), Waiter { target, way });
        InLine { hub: self.clone(), name, class, ticket, given, _priority: PriorityGuard::new() }
    }

    /// The caller waits for a channel to be opened under this name. The registry is locked.
    pub(super) fn await_arrival<'a>(&'a self, _: &Registry, name: &'a str) -> Arriving<'a> {
        let opened = self.capacity.arrivals.lock().entry(name.to_owned()).or_default().clone();
        Arriving { hub: self, name, opened }
    }

    /// There may be room on `row`, or it keeps others from being woken no longer: gives it to who waits for it.
    pub fn offer(&self, registry: &mut Registry, row: &str) {
        self.offer_rows(registry, [row]);
    }

    /// As [`offer`](Self::offer), for all of `rows`.
    pub fn offer_rows<'a>(&self, registry: &mut Registry, rows: impl IntoIterator<Item = &'a str>) {
        if self.nobody_waits() {
            return;
        }
        // Each name once, whatever was freed under it: many lines may wait for it.
        let (mut told, mut with_room) = (BTreeSet::new(), Vec::new());
        {
            let mut lines = self.capacity.lines.lock();
            for row in rows {
                let mut names = registry.names_reaching(row);
                match registry.availability(row) {
                    Availability::Awake { full: true } => (),
                    stance @ (Availability::Awake { full: false } | Availability::Asleep { full: false }) => {
                        lines.add(Place::Row(row.to_owned()), &names);
                        if let (Availability::Asleep { .. }, [_, pool]) = (stance, names.as_slice()) {
                            // Callers who waited while it was awake may now have any row of its pool woken.
                            lines.add(Place::Line(pool.clone()), std::slice::from_ref(pool));
                        }
                        with_room.push((row, names));
                    }
                    Availability::Unroutable | Availability::Asleep { full: true } => {
                        // Who waited for it while it was awake may have another one of its pool woken.
                        let Some(key) = names.pop() else { continue };
                        names = vec![key.clone()];
                        lines.add(Place::Line(key), &names);
                        told.extend(names);
                    }
                }
            }
        }
        let is_left = self.give_out(registry);
        // What callers were given is no room for durable tasks.
        with_room.retain(|(row, _)| is_left || registry.has_capacity(row));
        told.extend(with_room.into_iter().flat_map(|(_, names)| names));
        self.tasks.has_room(told.iter().map(String::as_str));
    }

    /// As [`offer`](Self::offer), for all rows of a session, and for who waits for one of its agents.
    pub fn offer_rows_of(&self, registry: &mut Registry, session: &str) {
        if !self.nobody_waits() {
            let rows = registry.session_llms(session);
            self.offer_rows(registry, rows.iter().map(String::as_str));
            let agents = registry.session_agents(session);
            self.agents_changed(registry, agents.iter().map(String::as_str));
        }
    }

    /// The members of the pools of `names` have changed, or the rows of these names: somebody may be served now.
    pub fn offer_names<'a>(&self, registry: &mut Registry, names: impl IntoIterator<Item = &'a str> + Clone) {
        if self.nobody_waits() {
            return;
        }
        self.tasks.has_room(names.clone());
        let mut lines = self.capacity.lines.lock();
        for name in names {
            lines.add(Place::Line(name.to_owned()), &[name.to_owned()]);
        }
        drop(lines);
        self.give_out(registry);
    }

    /// These agents have changed: those who come through them look again.
    pub fn agents_changed<'a>(
        &self,
        registry: &mut Registry,
        agents: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        if self.nobody_waits() {
            return;
        }
        self.tasks.has_room(agents.clone());
        let lines: Vec<String> = agents.into_iter().map(line_of).collect();
        self.offer_names(registry, lines.iter().map(String::as_str));
    }

    /// What agents stand for may have changed: those whose agent did not lead there look again.
    pub fn agents_may_lead(&self) {
        self.offer_lines(|name| name.starts_with(ASTRAY));
    }

    /// Whether a place that is freed is of matter to nobody.
    pub(super) fn nobody_waits(&self) -> bool {
        self.capacity.lines.lock().waiters.is_empty() && self.tasks.depth() == 0
    }

    /// The session's channel is open: for those who waited for just that.
    pub fn arrived(&self, registry: &Registry, session: &str) {
        let mut arrivals = self.capacity.arrivals.lock();
        if arrivals.is_empty() {
            return;
        }
        let names: HashSet<String> =
            registry.session_llms(session).iter().flat_map(|row| registry.names_reaching(row)).collect();
        for name in names {
            if let Some(opened) = arrivals.remove(&name) {
                opened.notify_waiters();
            }
        }
    }

    /// Looks at all lines: what was not told to anybody is found here.
    pub fn offer_all(&self) {
        self.offer_lines(|_| true);
    }

    fn offer_lines(&self, which: impl Fn(&str) -> bool) {
        let mut lines = self.capacity.lines.lock();
        let names: Vec<String> = lines.waiters.names().filter(|name| which(name)).cloned().collect();
        for name in names {
            lines.add(Place::Line(name.clone()), &[name]);
        }
        if !lines.offers.is_empty() {
            self.capacity.left.notify_one();
        }
    }

    /// Gives what is offered to those who wait, up to a bound; whether something is left.
    fn give_out(&self, registry: &mut Registry) -> bool {
        let mut lines = self.capacity.lines.lock();
        let Lines { waiters, offers, offered } = &mut *lines;
        let began = registry.rows_examined();
        let mut looks = 0;
        // Giving makes no room: for whom there was nothing, there is nothing while the registry is held.
        let mut nothing = HashSet::new();
        let enough =
            |registry: &Registry, looks: usize| registry.rows_examined() - began + looks * LOOK >= AT_ONCE;
        while let Some((place, mut cursor)) = offers.pop_front() {
            looks += 1;
            if enough(registry, looks) {
                offers.push_front((place, cursor));
                break;
            }
            let (row, names) = match &place {
                Place::Row(row) => (Some(row), registry.names_reaching(row)),
                Place::Line(name) => (None, vec![name.clone()]),
            };
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            // Who was looked at since is served by nothing of this.
            names.retain(|name| waiters.has_news(name));
            let round = waiters.serve(&names, &mut cursor, |class, waiter| {
                if row.is_some_and(|row| !registry.has_capacity(row)) {
                    return Look::Over;
                }
                if enough(registry, looks) {
                    return Look::Later;
                }
                looks += 1;
                #[cfg(test)]
                self.capacity.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                give(registry, class, waiter, &mut nothing)
            });
            match round {
                Round::Later => {
                    offers.push_front((place, cursor));
                    break;
                }
                // There was more news while this went on: once more, from the start.
                Round::Done if names.iter().any(|name| waiters.has_news(name)) => {
                    offers.push_back((place, Cursor::default()));
                }
                Round::Done | Round::Over => drop(offered.remove(&place)),
            }
        }
        let is_left = !offers.is_empty();
        if is_left {
            self.capacity.left.notify_one();
        }
        is_left
    }
}

/// Gives out what was left for later, for as long as the hub runs.
pub async fn hand_out(hub: Arc<Hub>) {
    loop {
        hub.capacity.left.notified().await;
        loop {
            let is_left = hub.give_out(&mut hub.registry.lock());
            if !is_left {
                break;
            }
            // Others have the registry and the thread meanwhile.
            yield_now().await;
        }
    }
}

/// Gives one who waits the place that there is for its class, if there is one.
fn give(
    registry: &mut Registry,
    class: &Class,
    waiter: &mut Option<Waiter>,
    nothing: &mut HashSet<CallerClass>,
) -> Look {
    let Some(Waiter { target, .. }) = waiter.as_ref().filter(|waiter| !waiter.way.is_closed()) else {
        return Look::Leaves;
    };
    let caller = Caller { user: class.user.clone(), role: class.role, token_id: String::new() };
    let reach = registry.caller_class(&caller, target, class.endpoint);
    if !class.astray && reach.as_ref().is_some_and(|reach| nothing.contains(reach)) {
        return Look::Stays;
    }
    // Dropped, it looks again, and waits for its agent; or no longer for that.
    match (registry.agent_is_unchanged(&caller, target), class.astray) {
        (true, true) | (false, false) => return Look::Leaves,
        (false, true) => return Look::Stays,
        (true, false) => (),
    }
    match registry.pick(&caller, target, class.endpoint) {
        PickResult::Chosen(candidate) if !candidate.full => {
            let row = candidate.name.clone();
            registry.task_started(&row);
            // One who left just now did not get it.
            if waiter.take().is_none_or(|waiter| waiter.way.send(*candidate).is_err()) {
                registry.release_reservation(&row);
            }
            Look::Leaves
        }
        // Dropped, it looks again and learns why it waits in vain.
        PickResult::EndpointUnsupported => Look::Leaves,
        PickResult::Chosen(_) | PickResult::NoMember => {
            nothing.extend(reach);
            Look::Stays
        }
    }
}

#[cfg(test)]
mod tests;
