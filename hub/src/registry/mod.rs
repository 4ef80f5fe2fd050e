//! Who publishes what: rows, agents and sessions, and the rules of their life (SPEC.md section 3.6).
//!
//! Pure: every rule is a function of the state, an event and a reading of the clock, and answers with what to write
//! to the store. No I/O, no runtime, no clock of its own. The table in memory is the truth while the hub runs.

mod expiry;
mod feed;
mod listing;
mod live;
mod manage;
mod names;
mod pick;
mod pools;
mod register;
mod session;
mod sweep;
mod unavailable;
pub(crate) mod usage;
mod view;

pub use feed::FeedCursor;
pub use listing::SessionCursor;
pub use live::LiveLlm;
pub use manage::{AgentSpec, LlmSpec, ManageError, SessionView};
pub use names::NameView;
pub use pick::{Availability, CallerClass, Candidate, NameRedaction, PickResult, ProviderReport};
pub use register::{MAX_ENTRIES, RegisterRefusal, check};
pub use session::{HeartbeatRefusal, UnknownSession};
pub use unavailable::UnavailableReason;
pub use view::{Target, UnresolvedAgent};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use wire::Features;
use wire::row::{Kind, Status, Timestamp, Visibility};

use crate::clock::Now;
use crate::model::{Agent, Caller, Llm, SessionRecord, UserId};
use crate::options::{HubTimings, PoolPolicy};
use crate::quota::Limits;
use crate::store::{Change, Snapshot};
use expiry::{ExpiryIndex, ExpiryKey};
use feed::{ChangeFeed, FeedKey};
use listing::{SessionsByAge, VisibleNames};
use names::NameTable;
use pools::PoolRows;
use usage::Usage;

/// The table.
pub struct Registry {
    policy: PoolPolicy,
    heartbeat_timeout: Duration,
    retention: Duration,
    name_retention: Duration,
    llms: BTreeMap<String, Box<LlmEntry>>,
    agents: BTreeMap<String, AgentEntry>,
    sessions: HashMap<String, Session>,
    /// Rows, agents and sessions as lists have them.
    visible_llms: VisibleNames,
    visible_agents: VisibleNames,
    visible_pools: VisibleNames,
    sessions_by_age: SessionsByAge,
    /// By `poolName`.
    pools: BTreeMap<String, PoolRows>,
    names: NameTable,
    /// How much each user has; one who has nothing is not in it.
    usage: HashMap<UserId, Usage>,
    /// The sessions that gave a sign of life since it was last written.
    unsaved_sessions: Vec<String>,
    /// What may time out.
    expiry: ExpiryIndex,
    /// What changed.
    feed: ChangeFeed,
    /// Counts picks, so that equals take turns.
    picks: u64,
    /// How many rows were looked at in a search for one.
    rows_examined: AtomicUsize,
    /// How often the members of a target were looked at.
    #[cfg(test)]
    pub(crate) pool_scans: u64,
    limits: Limits,
}

/// A row, and what is known of it only while the hub runs.
struct LlmEntry {
    llm: Llm,
    /// See [`feed`].
    version: u64,
    /// When it is looked at in [`expiry`].
    due: Option<Duration>,
    /// When it became inactive; means nothing otherwise.
    inactive_at: Duration,
    /// What its publisher said last in a heartbeat.
    report: Option<ProviderReport>,
    /// Whether it serves the pool that it names.
    member: bool,
    /// The most room that it counts for in a pool that it was let into.
    admitted_capacity: Option<u32>,
    /// The most room that its publisher may claim: what it registered, else what it said first.
    registered_capacity: Option<u32>,
    /// Tasks of ours that run there.
    in_flight: u32,
    /// The number of the pick that chose it last.
    last_pick: u64,
}

/// An agent, and when it became inactive.
struct AgentEntry {
    agent: Agent,
    inactive_at: Duration,
    due: Option<Duration>,
}

/// A publisher.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
struct Session {
    record: SessionRecord,
    /// Last sign of life.
    last_heartbeat: Duration,
    channel: ControlChannel,
    /// See [`feed`].
    version: u64,
    /// When it is looked at in [`expiry`].
    due: Option<Duration>,
    /// Its last sign of life is not written.
    unsaved: bool,
    /// All its rows and agents are as a sign of life leaves them: the next one changes nothing of them.
    settled: bool,
    /// Silent for too long: as if its channel were closed, until the next sign of life.
    silent: bool,
    /// Takes no more tasks.
    draining: bool,
    /// Whether it had a channel since the hub started.
    had_channel: bool,
    llms: BTreeSet<String>,
    agents: BTreeSet<String>,
    /// What an admin has deleted of these since it registered them.
    deleted: BTreeSet<String>,
}

/// A session's control channel.
enum ControlChannel {
    /// Not opened since the session registered, or since the hub started.
    None,
    /// Open; the newest one.
    Open { stream: String, features: Features },
    /// Closed, at this time: names the closing, for the grace that starts with it.
    Closed { at: Duration },
}

impl Registry {
    /// The table as it was stored. Every virtual row is inactive, with fresh clocks: our own downtime does not count.
    pub fn load(snapshot: &Snapshot, policy: PoolPolicy, timings: &HubTimings, now: Now) -> Self {
        let mut registry = Self {
            policy,
            heartbeat_timeout: timings.heartbeat_timeout,
            retention: timings.inactive_retention,
            name_retention: timings.name_retention,
            llms: BTreeMap::new(),
            agents: BTreeMap::new(),
            sessions: HashMap::new(),
            visible_llms: VisibleNames::default(),
            visible_agents: VisibleNames::default(),
            visible_pools: VisibleNames::default(),
            sessions_by_age: SessionsByAge::default(),
            pools: BTreeMap::new(),
            names: NameTable::default(),
            usage: HashMap::new(),
            unsaved_sessions: Vec::new(),
            expiry: ExpiryIndex::default(),
            feed: ChangeFeed::default(),
            picks: 0,
            rows_examined: AtomicUsize::default(),
            #[cfg(test)]
            pool_scans: 0,
            limits: Limits::default(),
        };
        let known: HashSet<&str> = snapshot.names.iter().map(|record| record.name.as_str()).collect();
        for record in &snapshot.names {
            registry.names.load(record.clone());
        }
        for record in &snapshot.sessions {
            registry.insert_session(Session::new(record.clone(), now));
        }
        for llm in &snapshot.llms {
            let mut llm = llm.clone();
            if llm.kind == Kind::Virtual {
                llm.status = Status::Inactive;
                llm.inactive_since = Some(now.wall);
                if let Some(session) = llm.session.as_ref().and_then(|id| registry.sessions.get_mut(id)) {
                    llm.last_heartbeat_at = Some(session.record.last_heartbeat_at);
                    session.llms.insert(llm.name.clone());
                }
            }
            if known.contains(llm.name.as_str()) {
                // A pool whose name became free is nobody's before somebody registers for it.
                registry.insert_llm(llm, now);
            } else {
                registry.put_llm(llm, now);
            }
        }
        for agent in &snapshot.agents {
            let mut agent = agent.clone();
            if agent.kind == Kind::Virtual {
                agent.status = Status::Inactive;
                agent.inactive_since = Some(now.wall);
                if let Some(session) = agent.session.as_ref().and_then(|id| registry.sessions.get_mut(id)) {
                    agent.last_heartbeat_at = Some(session.record.last_heartbeat_at);
                    session.agents.insert(agent.name.clone());
                }
            }
            let is_new = !known.contains(agent.name.as_str());
            let (name, llm, maker) =
                (agent.name.clone(), agent.llm_name.clone(), Caller::member(&agent.owner));
            registry.put_agent(agent, now);
            if is_new {
                registry.pin_agent(&maker, &name, &llm, true);
            }
        }
        let rows: Vec<String> = registry.llms.keys().cloned().collect();
        for name in &rows {
            registry.schedule_llm_expiry(name);
        }
        let agents: Vec<String> = registry.agents.keys().cloned().collect();
        for name in &agents {
            registry.schedule_agent_expiry(name);
        }
        for record in &snapshot.names {
            registry.update_name_use(&record.name, now);
        }
        registry.names.loaded(&snapshot.names);
        registry
    }

    /// With other limits than the usual ones.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Inserts or replaces a row by name; its name and its pool's are its owner's, unless they are somebody's already.
    pub(crate) fn put_llm(&mut self, llm: Llm, now: Now) {
        for name in std::iter::once(&llm.name).chain(&llm.pool_name) {
            self.claim_name(name, &llm.owner, now);
        }
        self.insert_llm(llm, now);
    }

    /// The same without a claim, and keeps the pools' index in step.
    fn insert_llm(&mut self, llm: Llm, now: Now) {
        let name = llm.name.clone();
        let pool = llm.pool_name.clone();
        let bytes = usage::llm_bytes(&llm);
        self.count(&llm.owner, |owned| {
            owned.llms += 1;
            owned.bytes += bytes;
        });
        self.unindex_llm(&name);
        self.visible_llms.insert(&name, llm.visibility, &llm.owner);
        if let Some(pool) = &pool {
            self.join_pool(pool, llm.visibility, &llm.owner);
        }
        let before = if let Some(entry) = self.llms.get_mut(&name) {
            let before = std::mem::replace(&mut entry.llm, llm);
            if before.visibility == Visibility::Public && entry.llm.visibility == Visibility::Private {
                self.feed.hide(FeedKey::Llm(name.as_str().into()), before.visibility, &before.owner);
            }
            if let Some(pool) = &before.pool_name {
                self.leave_pool(pool, &name, before.visibility, &before.owner);
            }
            before.pool_name
        } else {
            let entry = LlmEntry {
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
            };
            self.llms.insert(name.clone(), Box::new(entry));
            None
        };
        self.mark_changed(&name);
        if before != pool {
            if let Some(before) = before {
                self.update_name_use(&before, now);
            }
            if pool.is_none()
                && let Some(entry) = self.llms.get_mut(&name)
            {
                (entry.member, entry.admitted_capacity) = (false, None);
            }
        }
        self.update_name_use(&name, now);
        if let Some(pool) = pool {
            self.place_row(&pool, &name);
            self.update_name_use(&pool, now);
        }
    }

    /// Takes a row out.
    pub(crate) fn remove_llm(&mut self, name: &str, now: Now) -> Option<Change> {
        self.unindex_llm(name);
        let LlmEntry { llm, version, due, .. } = *self.llms.remove(name)?;
        self.feed.remove(version, llm.visibility, &llm.owner);
        self.expiry.remove(due, ExpiryKey::Llm(name.into()));
        if let Some(pool) = &llm.pool_name {
            self.leave_pool(pool, name, llm.visibility, &llm.owner);
            self.update_name_use(pool, now);
        }
        self.update_name_use(name, now);
        if let Some(session) = llm.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.llms.remove(name);
        }
        self.expire_empty_session(llm.session.as_deref());
        Some(Change::DeleteLlm(llm.id))
    }

    /// Inserts or replaces an agent by name.
    pub(crate) fn put_agent(&mut self, agent: Agent, now: Now) {
        let name = agent.name.clone();
        self.claim_name(&name, &agent.owner, now);
        let bytes = usage::agent_bytes(&agent);
        self.count(&agent.owner, |owned| {
            owned.agents += 1;
            owned.bytes += bytes;
        });
        self.feed.touch();
        self.unindex_agent(&agent.name);
        self.visible_agents.insert(&agent.name, agent.visibility, &agent.owner);
        if let Some(entry) = self.agents.get_mut(&name) {
            entry.agent = agent;
        } else {
            let entry = AgentEntry { agent, inactive_at: now.mono, due: None };
            self.agents.insert(name.clone(), entry);
        }
        self.update_name_use(&name, now);
    }

    /// Takes an agent out.
    pub(crate) fn remove_agent(&mut self, name: &str, now: Now) -> Option<Change> {
        self.feed.touch();
        self.unindex_agent(name);
        let AgentEntry { agent, due, .. } = self.agents.remove(name)?;
        self.expiry.remove(due, ExpiryKey::Agent(name.into()));
        if let Some(session) = agent.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.agents.remove(name);
        }
        self.expire_empty_session(agent.session.as_deref());
        self.update_name_use(name, now);
        Some(Change::DeleteAgent(agent.id))
    }

    fn insert_session(&mut self, session: Session) {
        let id = session.record.id.clone();
        self.count(&session.record.owner, |owned| owned.sessions += 1);
        self.sessions_by_age.insert((session.record.created_at, id.as_str().into()), &session.record.owner);
        let at = session.last_heartbeat + self.heartbeat_timeout.min(self.retention);
        self.sessions.insert(id.clone(), session);
        self.mark_session_changed(&id);
        if let Some(session) = self.sessions.get_mut(&id) {
            self.expiry.check_at(&mut session.due, at, || ExpiryKey::Session(id.into()));
        }
    }

    /// A row or an agent is the session's no longer: one that has nothing left may be forgotten.
    fn expire_empty_session(&mut self, session: Option<&str>) {
        let Some(id) = session else { return };
        self.mark_session_changed(id);
        if let Some(session) = self.sessions.get_mut(id)
            && session.llms.is_empty()
            && session.agents.is_empty()
        {
            self.expiry.check_at(&mut session.due, Duration::ZERO, || ExpiryKey::Session(id.into()));
        }
    }

    /// The row may be inactive now: it is looked at when it has been so for long enough.
    fn schedule_llm_expiry(&mut self, name: &str) {
        let retention = self.retention;
        if let Some(entry) = self.llms.get_mut(name)
            && entry.llm.status == Status::Inactive
        {
            let at = entry.inactive_at + retention;
            self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Llm(name.into()));
        }
    }

    /// The same for an agent.
    fn schedule_agent_expiry(&mut self, name: &str) {
        let retention = self.retention;
        if let Some(entry) = self.agents.get_mut(name)
            && entry.agent.status == Status::Inactive
        {
            let at = entry.inactive_at + retention;
            self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Agent(name.into()));
        }
    }

    /// The row as it is stands in no list any more, and counts no more.
    fn unindex_llm(&mut self, name: &str) {
        let Some(llm) = self.llms.get(name).map(|entry| &entry.llm) else { return };
        let (bytes, owner) = (usage::llm_bytes(llm), llm.owner.clone());
        self.visible_llms.remove(name, llm.visibility, &owner);
        self.count(&owner, |owned| {
            owned.llms -= 1;
            owned.bytes = owned.bytes.saturating_sub(bytes);
        });
    }

    /// The same for an agent.
    fn unindex_agent(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name).map(|entry| &entry.agent) else { return };
        let (bytes, owner) = (usage::agent_bytes(agent), agent.owner.clone());
        self.visible_agents.remove(name, agent.visibility, &owner);
        self.count(&owner, |owned| {
            owned.agents -= 1;
            owned.bytes = owned.bytes.saturating_sub(bytes);
        });
    }

    /// The last sign of life of a row's session; for a row that its session dropped, the last one before that.
    pub fn last_heartbeat(&self, llm: &Llm) -> Option<Timestamp> {
        self.seen(llm.session.as_ref(), llm.registered).or(llm.last_heartbeat_at)
    }

    fn seen(&self, session: Option<&String>, registered: bool) -> Option<Timestamp> {
        let session = session.filter(|_| registered).and_then(|id| self.sessions.get(id))?;
        Some(session.record.last_heartbeat_at)
    }
}

impl Session {
    fn new(record: SessionRecord, now: Now) -> Self {
        Self {
            record,
            last_heartbeat: now.mono,
            version: 0,
            due: None,
            unsaved: false,
            settled: false,
            channel: ControlChannel::None,
            silent: false,
            draining: false,
            had_channel: false,
            llms: BTreeSet::new(),
            agents: BTreeSet::new(),
            deleted: BTreeSet::new(),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.channel, ControlChannel::Open { .. })
    }

    /// Whether tasks may go there.
    fn takes_tasks(&self) -> bool {
        self.is_open() && !self.silent && !self.draining
    }

    fn features(&self) -> Features {
        match self.channel {
            ControlChannel::Open { features, .. } => features,
            ControlChannel::None | ControlChannel::Closed { .. } => Features::CLASSIC,
        }
    }
}

impl LlmEntry {
    /// The status that a sign of life brings back: what was reported last wins over what was registered.
    fn living_status(&self) -> Status {
        self.report.as_ref().map_or(self.llm.declared, |report| report.status)
    }

    /// Changes the status; whether it was another one before.
    fn set_status(&mut self, status: Status, now: Now) -> bool {
        if self.llm.status == status {
            return false;
        }
        self.llm.status = status;
        self.llm.updated_at = now.wall;
        self.llm.inactive_since = (status == Status::Inactive).then_some(now.wall);
        self.inactive_at = now.mono;
        true
    }

    fn put(&self) -> Change {
        Change::PutLlm(Box::new(self.llm.clone()))
    }
}

impl AgentEntry {
    fn set_status(&mut self, status: Status, now: Now) -> bool {
        if self.agent.status == status {
            return false;
        }
        self.agent.status = status;
        self.agent.updated_at = now.wall;
        self.agent.inactive_since = (status == Status::Inactive).then_some(now.wall);
        self.inactive_at = now.mono;
        true
    }

    fn put(&self) -> Change {
        Change::PutAgent(Box::new(self.agent.clone()))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod visibility;
