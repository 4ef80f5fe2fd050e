//! Entries of the table: an LLM row or an agent, with the state that is kept only while the hub runs, and the index of
//! expiry checks by monotonic time. A check that comes too early is scheduled again, so that a heartbeat need not touch the
//! index.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use wire::row::{Kind, Status, Timestamp};

use super::{Availability, Room, UsageSupport};
use crate::affinity::{Member, member_id};
use crate::clock::Now;
use crate::model::{Agent, Llm};
use crate::store::Change;
use crate::telemetry::CacheCounters;

/// What a publisher reports of one of its providers (SPEC.md section 4, `status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProviderReport {
    /// Result of the publisher's health check.
    pub(super) status: Status,
    /// Inferences that run or wait there, including this hub's.
    pub(super) busy: u32,
    /// Inferences that may run there at once.
    pub(super) capacity: u32,
    /// Inferences that it wants beyond these.
    pub(super) ahead: u32,
    pub(super) paused: bool,
    pub(super) paused_until: Option<Timestamp>,
}

/// An LLM row with its runtime state.
pub(super) struct LlmEntry {
    pub(super) llm: Llm,
    /// Version of the row's last change in [`ChangeFeed`](super::feed::ChangeFeed).
    pub(super) version: u64,
    /// Next check by [`ExpiryIndex`].
    pub(super) due: Option<Duration>,
    /// Monotonic time of the change to `inactive`; unused for other statuses.
    pub(super) inactive_at: Duration,
    /// The report of the latest heartbeat.
    pub(super) report: Option<ProviderReport>,
    /// Whether the row serves the pool of its `poolName`.
    pub(super) member: bool,
    /// Capacity at admission into another user's pool: an upper bound.
    pub(super) admitted_capacity: Option<u32>,
    /// `maxConcurrency` of the registration, else of the first report: an upper bound on reports.
    pub(super) registered_capacity: Option<u32>,
    /// Tasks of this hub on the row.
    pub(super) in_flight: u32,
    /// Number of the pick that chose the row last.
    pub(super) last_pick: u64,
    /// The row's id in the table of conversations.
    pub(super) member_id: u64,
    /// Prompt tokens of the row's answers.
    pub(super) cache: Arc<CacheCounters>,
    /// Whether its backend takes `stream_options`, since the row was registered last.
    pub(super) usage_support: Arc<UsageSupport>,
}

/// An agent with its runtime state.
pub(super) struct AgentEntry {
    pub(super) agent: Agent,
    /// As [`LlmEntry::inactive_at`].
    pub(super) inactive_at: Duration,
    /// As [`LlmEntry::due`].
    pub(super) due: Option<Duration>,
}

/// The lifecycle fields that rows and agents have in common (SPEC.md section 3.6).
pub(super) struct Lifecycle<'a> {
    pub(super) kind: Kind,
    pub(super) session: Option<&'a String>,
    /// Status that a heartbeat restores.
    pub(super) restored_status: Status,
    pub(super) status: &'a mut Status,
    pub(super) registered: &'a mut bool,
    pub(super) last_heartbeat_at: &'a mut Option<Timestamp>,
    pub(super) inactive_since: &'a mut Option<Timestamp>,
    pub(super) updated_at: &'a mut Timestamp,
    pub(super) inactive_at: &'a mut Duration,
    pub(super) due: &'a mut Option<Duration>,
}

impl Lifecycle<'_> {
    /// Sets the status. Returns whether it differs from the previous one.
    pub(super) fn set_status(&mut self, status: Status, now: Now) -> bool {
        if *self.status == status {
            return false;
        }
        *self.status = status;
        *self.updated_at = now.wall;
        *self.inactive_since = (status == Status::Inactive).then_some(now.wall);
        *self.inactive_at = now.mono;
        true
    }

    /// Schedules the deletion check of an inactive entry, `retention` after it became inactive.
    pub(super) fn schedule_expiry(
        &mut self,
        expiry: &mut ExpiryIndex,
        retention: Duration,
        key: impl FnOnce() -> ExpiryKey,
    ) {
        if *self.status == Status::Inactive {
            expiry.check_at(self.due, *self.inactive_at + retention, key);
        }
    }
}

impl LlmEntry {
    /// An entry without reports, tasks or pool membership.
    pub(super) fn new(llm: Llm, now: Now) -> Self {
        let member_id = member_id(&llm.name);
        Self {
            llm,
            version: 0,
            due: None,
            inactive_at: now.mono,
            report: None,
            member: false,
            admitted_capacity: None,
            registered_capacity: None,
            in_flight: 0,
            last_pick: 0,
            member_id,
            cache: Arc::default(),
            usage_support: Arc::default(),
        }
    }

    pub(super) fn lifecycle(&mut self) -> Lifecycle<'_> {
        let llm = &mut self.llm;
        Lifecycle {
            kind: llm.kind,
            session: llm.session.as_ref(),
            // The reported status wins over the registered one.
            restored_status: self.report.map_or(llm.declared, |report| report.status),
            status: &mut llm.status,
            registered: &mut llm.registered,
            last_heartbeat_at: &mut llm.last_heartbeat_at,
            inactive_since: &mut llm.inactive_since,
            updated_at: &mut llm.updated_at,
            inactive_at: &mut self.inactive_at,
            due: &mut self.due,
        }
    }

    pub(super) fn put(&self) -> Change {
        Change::PutLlm(Box::new(self.llm.clone()))
    }

    /// The row's effective pool key: the pool that it serves, else its own name (SPEC.md section 5, pools).
    pub(super) fn key(&self) -> &str {
        self.llm.pool_name.as_deref().filter(|_| self.member).unwrap_or(&self.llm.name)
    }

    /// Tasks that may run there at once, if reported: at most the capacity of the admission, also without a report.
    pub(super) fn capacity(&self) -> Option<u32> {
        let reported = self.report.map(|report| report.capacity);
        [reported, self.admitted_capacity].into_iter().flatten().min()
    }

    /// Tasks that run or wait there: this hub's count is newer, the publisher's includes those of others.
    pub(super) fn load(&self) -> u32 {
        self.report.map_or(self.in_flight, |report| report.busy.max(self.in_flight))
    }

    /// What there is for one more task. Without a report, no number of tasks is known to be too many.
    pub(super) fn room(&self) -> Room {
        let Some(capacity) = self.capacity() else { return Room::Free };
        let ahead = self.report.map_or(0, |report| report.ahead);
        match self.load() {
            load if load < capacity => Room::Free,
            load if load < capacity.saturating_add(ahead) => Room::Ahead,
            _ => Room::Full,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.room() != Room::Free
    }

    pub(super) fn availability(&self, routable: bool) -> Availability {
        match (routable, self.llm.status) {
            (false, _) => Availability::Unroutable,
            (true, Status::Hibernating) => Availability::Asleep(self.room()),
            (true, _) => Availability::Awake(self.room()),
        }
    }

    /// The row as a member of its pool, for the choice of a conversation's member.
    pub(super) fn as_member(&self) -> Member {
        let capacity = self.capacity().map_or(1, |capacity| capacity.max(1));
        Member { id: self.member_id, load: self.load(), capacity, full: self.is_full(), active: 0 }
    }

    /// Whether it is asleep, and how much room it has: what is awake and has more comes first.
    pub(super) fn rank(&self) -> (bool, Room) {
        (self.llm.status == Status::Hibernating, self.room())
    }

    /// Orders by least load for the capacity, fewest tasks, longest unpicked.
    ///
    /// A classic publisher reports no capacity: it is never full and counts as capacity 1.
    pub(super) fn cmp_load(&self, other: &Self) -> Ordering {
        let capacity = |entry: &Self| u64::from(entry.capacity().map_or(1, |capacity| capacity.max(1)));
        let weighted = |one: &Self, two: &Self| u64::from(one.load()) * capacity(two);
        weighted(self, other)
            .cmp(&weighted(other, self))
            .then_with(|| (self.load(), self.last_pick).cmp(&(other.load(), other.last_pick)))
    }
}

impl AgentEntry {
    pub(super) fn lifecycle(&mut self) -> Lifecycle<'_> {
        let agent = &mut self.agent;
        Lifecycle {
            kind: agent.kind,
            session: agent.session.as_ref(),
            restored_status: Status::Active,
            status: &mut agent.status,
            registered: &mut agent.registered,
            last_heartbeat_at: &mut agent.last_heartbeat_at,
            inactive_since: &mut agent.inactive_since,
            updated_at: &mut agent.updated_at,
            inactive_at: &mut self.inactive_at,
            due: &mut self.due,
        }
    }

    pub(super) fn put(&self) -> Change {
        Change::PutAgent(Box::new(self.agent.clone()))
    }
}

/// What may expire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExpiryKey {
    Session(Box<str>),
    Llm(Box<str>),
    Agent(Box<str>),
    Name(Box<str>),
}

#[derive(Default)]
pub(super) struct ExpiryIndex {
    due: BTreeSet<(Duration, ExpiryKey)>,
}

impl ExpiryIndex {
    /// Schedules a check at `at` at the latest; `due` holds the key's scheduled time.
    pub(super) fn check_at(
        &mut self,
        due: &mut Option<Duration>,
        at: Duration,
        key: impl FnOnce() -> ExpiryKey,
    ) {
        if due.is_some_and(|due| due <= at) {
            return;
        }
        let key = key();
        if let Some(due) = due.take() {
            self.due.remove(&(due, key.clone()));
        }
        self.due.insert((at, key));
        *due = Some(at);
    }

    /// Takes the next key that is due at `now`.
    pub(super) fn next(&mut self, now: Duration) -> Option<ExpiryKey> {
        self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.pop_first().map(|(_, key)| key)
    }

    /// Removes the key's scheduled check.
    pub(super) fn remove(&mut self, due: Option<Duration>, key: ExpiryKey) {
        if let Some(due) = due {
            self.due.remove(&(due, key));
        }
    }
}
