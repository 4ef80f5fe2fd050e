//! Capacity of rows: what a row is to waiting calls, which of these calls it may serve, and why none of its pool may.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use wire::row::{Status, Timestamp};
use wire::task::Endpoint;

use super::entry::LlmEntry;
use super::feed::FeedKey;
use super::{Registry, Target};
use crate::clock::Now;
use crate::model::{Caller, Role, UserId};
use crate::store::Change;

/// What a row has for one more task. The best comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// A free slot.
    Free,
    /// No free slot, but its publisher wants the next task now, so that no slot is idle until it comes.
    Ahead,
    /// None: the task would wait in the publisher's own queue.
    Full,
}

/// What a row is to waiting calls: a change between equal values can serve none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// No task may be sent to the row.
    Unroutable,
    /// Its backend must be woken first.
    Asleep(Room),
    /// Its backend is up.
    Awake(Room),
}

/// Calls that are served by the same members of a pool, while nothing of these members changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerClass {
    pool: String,
    /// The caller, if it owns some of the members.
    user: Option<UserId>,
    /// The owner of private members that an agent opens.
    opens: Option<UserId>,
    only_owner: Option<UserId>,
    /// Whether the caller is an admin who reaches a private row by its own name.
    admin: bool,
    endpoint: Endpoint,
}

impl Registry {
    /// The class of a call for the pool `target`; `None` for a single row, which is cheap to examine.
    ///
    /// Valid for callers whose agents are unchanged ([`Registry::agent_is_unchanged`]).
    pub fn caller_class(&self, caller: &Caller, target: &Target, endpoint: Endpoint) -> Option<CallerClass> {
        if !target.pool {
            return None;
        }
        let own = self.llms.get(&target.name).map(|entry| &entry.llm);
        let per_user = self.pools.get(&target.name).map(|rows| &rows.per_user);
        let owns_some = |user: &&UserId| {
            own.is_some_and(|llm| llm.owner == **user)
                || per_user.is_some_and(|per_user| per_user.contains_key(*user))
        };
        let opens = target.through.as_ref().and_then(|route| route.opens.as_ref());
        Some(CallerClass {
            pool: target.name.clone(),
            user: Some(&caller.user).filter(owns_some).cloned(),
            opens: opens.filter(owns_some).cloned(),
            only_owner: target.only_owner.clone(),
            admin: caller.role == Role::Admin && target.through.is_none() && own.is_some(),
            endpoint,
        })
    }

    /// The row's availability; [`Availability::Unroutable`] for an unknown row.
    pub fn availability(&self, row: &str) -> Availability {
        let unknown = Availability::Unroutable;
        self.llms.get(row).map_or(unknown, |entry| entry.availability(self.is_routable(entry)))
    }

    /// What the row has for one more task; [`Room::Full`] if it takes none.
    pub fn room(&self, row: &str) -> Room {
        match self.availability(row) {
            Availability::Unroutable => Room::Full,
            Availability::Asleep(room) | Availability::Awake(room) => room,
        }
    }

    /// Whether the row has a free slot.
    pub fn has_capacity(&self, row: &str) -> bool {
        self.room(row) == Room::Free
    }

    /// Whether a row that takes tasks now may serve a call of `caller` for `target`.
    pub fn has_routable(&self, caller: &Caller, target: &Target) -> bool {
        let rows = self.reachable_rows(caller, target).into_iter();
        rows.filter_map(|name| self.llms.get(name)).any(|entry| self.is_routable(entry))
    }

    /// Number of tasks of this hub on the row.
    pub fn in_flight(&self, name: &str) -> u32 {
        self.llms.get(name).map_or(0, |entry| entry.in_flight)
    }

    /// The row `name`, if it is `owner`'s: tasks of a former owner's row of this name do not count on it.
    fn row_of(&mut self, name: &str, owner: &str) -> Option<&mut LlmEntry> {
        self.llms.get_mut(name).map(|entry| &mut **entry).filter(|entry| entry.llm.owner == owner)
    }

    /// Counts a task that starts on the row of `owner`.
    pub fn task_started(&mut self, name: &str, owner: &str) {
        if let Some(entry) = self.row_of(name, owner) {
            entry.in_flight += 1;
            self.mark_changed(name);
        }
    }

    /// Uncounts a task that was reserved on the row of `owner` and did not start.
    pub fn release_reservation(&mut self, name: &str, owner: &str) {
        if let Some(entry) = self.row_of(name, owner) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
            self.mark_changed(name);
        }
    }

    /// Uncounts a task that ended on the row of `owner`. The last one of a draining session deactivates it.
    pub fn task_ended(&mut self, name: &str, owner: &str, now: Now) -> Vec<Change> {
        let Some(entry) = self.llms.get_mut(name).filter(|entry| entry.llm.owner == owner) else {
            return Vec::new();
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if let Some(report) = &mut entry.report {
            // The report included this task; the next report comes within a second.
            report.busy = report.busy.saturating_sub(1);
        }
        self.feed.change(&mut entry.version, || FeedKey::Llm(name.into()));
        match entry.llm.session.clone() {
            Some(session) if entry.in_flight == 0 => self.finish_drain(&session, now),
            _ => Vec::new(),
        }
    }

    /// The names by which callers may reach the row: its own and its pool's.
    pub fn names_reaching(&self, row: &str) -> Vec<String> {
        let Some(entry) = self.llms.get(row) else { return Vec::new() };
        let pool = std::iter::once(entry.key()).filter(|pool| *pool != row).map(str::to_owned);
        std::iter::once(row.to_owned()).chain(pool).collect()
    }

    /// The names whose rows may serve a call for `target`: its own and those that an agent of this name leads to.
    ///
    /// Visibility is not checked here.
    pub fn capacity_names(&self, target: &str) -> Vec<String> {
        let mut names = vec![target.to_owned()];
        if let Some(entry) = self.agents.get(target) {
            let llm = &entry.agent.llm_name;
            names.push(llm.clone());
            names.extend(self.llms.get(llm).map(|entry| entry.key().to_owned()));
        }
        names
    }

    /// The owners of rows with capacity among the row `name` and those that serve the pool `name`. Examines all of them.
    pub fn owners_with_capacity(&self, name: &str) -> HashSet<String> {
        let own = self.llms.get(name).map(|entry| &entry.llm);
        let mut owners = HashSet::new();
        for llm in own.into_iter().chain(self.pool_rows(name)) {
            self.count_examined(1);
            if !owners.contains(&llm.owner) && self.has_capacity(&llm.name) {
                owners.insert(llm.owner.clone());
            }
        }
        owners
    }

    /// Total number of rows that were examined to find capacity: bounds the work per lock.
    pub fn rows_examined(&self) -> usize {
        self.rows_examined.load(Relaxed)
    }

    /// Adds to [`Registry::rows_examined`].
    pub(super) fn count_examined(&self, rows: usize) {
        self.rows_examined.fetch_add(rows, Relaxed);
    }
}

/// Reason why no member of a target takes a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnavailableReason {
    /// No publisher has its channel open.
    PublisherAway,
    /// A publisher is draining.
    PublisherStopping,
    /// A publisher is connected, its backend is down.
    BackendDown,
    /// A publisher is paused by its owner, until this time if the pause has an end.
    Paused(Option<Timestamp>),
}

impl UnavailableReason {
    /// Orders reasons by how much they tell; of two pauses the one that ends first is greater.
    fn rank(self) -> (u8, Reverse<Timestamp>) {
        match self {
            Self::PublisherAway => (0, Reverse(Timestamp(0))),
            Self::PublisherStopping => (1, Reverse(Timestamp(0))),
            Self::BackendDown => (2, Reverse(Timestamp(0))),
            Self::Paused(until) => (3, Reverse(until.unwrap_or(Timestamp(i64::MAX)))),
        }
    }
}

impl Registry {
    /// The most telling reason why no member of `target` that `caller` sees takes a task.
    pub fn unavailable_reason(&self, caller: &Caller, target: &Target) -> UnavailableReason {
        let rows = self.reachable_rows(caller, target).into_iter();
        rows.filter_map(|name| self.llms.get(name))
            .filter(|entry| {
                caller.sees(entry.llm.visibility, &entry.llm.owner) && target.allows_owner(&entry.llm)
            })
            .map(|entry| self.row_unavailable_reason(entry))
            .max_by_key(|reason| reason.rank())
            .unwrap_or(UnavailableReason::PublisherAway)
    }

    fn row_unavailable_reason(&self, entry: &LlmEntry) -> UnavailableReason {
        let session = self.session_of(entry);
        let state = session.map(|session| match &session.told {
            Some(told) => (told.is_connected(), told.is_draining()),
            None => (session.is_open() && !session.silent, session.draining),
        });
        let Some((true, is_draining)) = state else { return UnavailableReason::PublisherAway };
        if is_draining {
            return UnavailableReason::PublisherStopping;
        }
        match entry.report.filter(|_| entry.llm.registered) {
            Some(report) if report.paused => UnavailableReason::Paused(report.paused_until),
            Some(report) if report.status == Status::Inactive => UnavailableReason::BackendDown,
            _ => UnavailableReason::PublisherAway,
        }
    }
}
