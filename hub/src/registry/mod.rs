//! Who publishes what: rows, agents and sessions, and the rules of their life (SPEC.md section 3.6).
//!
//! Pure: every rule is a function of the state, an event and a reading of the clock, and answers with what to write
//! to the store. No I/O, no runtime, no clock of its own. The table in memory is the truth while the hub runs.

mod absence;
mod expiry;
mod feed;
mod live;
mod manage;
mod names;
pub(crate) mod owned;
mod pick;
mod pools;
mod register;
mod session;
mod shown;
mod sweep;
mod view;

pub use absence::Absence;
pub use feed::{News, Seen};
pub use live::LiveLlm;
pub use manage::{AgentSpec, CurateError, LlmSpec, SessionView};
pub use names::NameView;
pub use pick::{BackendFor, Candidate, Mask, Pick, Reach, Report, Stance};
pub use pools::{PoolView, Waiting};
pub use register::{MAX_ENTRIES, Refusal, Registered, check};
pub use session::{Beat, BeatRefusal, Opened, UnknownSession};
pub use shown::Place;
pub use sweep::Swept;
pub use view::{Target, Through, Unreached};

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
use expiry::{Expiry, Item};
use feed::{Feed, Thing};
use names::Names;
use owned::Owned;
use pools::PoolRows;
use shown::{Ages, Shown};

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
    shown_llms: Shown,
    shown_agents: Shown,
    shown_pools: Shown,
    ages: Ages,
    /// By `poolName`.
    pools: BTreeMap<String, PoolRows>,
    names: Names,
    /// How much each user has; one who has nothing is not in it.
    owned: HashMap<UserId, Owned>,
    /// The sessions that gave a sign of life since it was last written.
    unsaved: Vec<String>,
    /// What may time out.
    expiry: Expiry,
    /// What changed.
    feed: Feed,
    /// Counts picks, so that equals take turns.
    picks: u64,
    /// How many rows were looked at in a search for one.
    steps: AtomicUsize,
    /// How often the members of a target were looked at.
    #[cfg(test)]
    pub(crate) walks: u64,
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
    report: Option<Report>,
    /// Whether it serves the pool that it names.
    member: bool,
    /// The most room that it counts for in a pool that it was let into.
    cap: Option<u32>,
    /// The most room that its publisher may claim: what it registered, else what it said first.
    most_room: Option<u32>,
    /// Tasks of ours that run there.
    in_flight: u32,
    /// The number of the pick that chose it last.
    picked: u64,
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
    beat: Duration,
    link: Link,
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
enum Link {
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
            shown_llms: Shown::default(),
            shown_agents: Shown::default(),
            shown_pools: Shown::default(),
            ages: Ages::default(),
            pools: BTreeMap::new(),
            names: Names::default(),
            owned: HashMap::new(),
            unsaved: Vec::new(),
            expiry: Expiry::default(),
            feed: Feed::default(),
            picks: 0,
            steps: AtomicUsize::default(),
            #[cfg(test)]
            walks: 0,
            limits: Limits::default(),
        };
        let known: HashSet<&str> = snapshot.names.iter().map(|record| record.name.as_str()).collect();
        for record in &snapshot.names {
            registry.names.load(record.clone());
        }
        for record in &snapshot.sessions {
            registry.put_session(Session::new(record.clone(), now));
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
                registry.pin(&maker, &name, &llm, true);
            }
        }
        let rows: Vec<String> = registry.llms.keys().cloned().collect();
        for name in &rows {
            registry.expire_llm(name);
        }
        let agents: Vec<String> = registry.agents.keys().cloned().collect();
        for name in &agents {
            registry.expire_agent(name);
        }
        for record in &snapshot.names {
            registry.settle_name(&record.name, now);
        }
        registry.names.loaded(&snapshot.names);
        registry
    }

    /// With other limits than the usual ones.
    pub fn limited(self, limits: Limits) -> Self {
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
        let bytes = owned::of_llm(&llm);
        self.count(&llm.owner, |owned| {
            owned.llms += 1;
            owned.bytes += bytes;
        });
        self.llm_left(&name);
        self.shown_llms.insert(&name, llm.visibility, &llm.owner);
        if let Some(pool) = &pool {
            self.name_pool(pool, llm.visibility, &llm.owner);
        }
        let before = if let Some(entry) = self.llms.get_mut(&name) {
            let before = std::mem::replace(&mut entry.llm, llm);
            if before.visibility == Visibility::Public && entry.llm.visibility == Visibility::Private {
                self.feed.hide(Thing::Llm(name.as_str().into()), before.visibility, &before.owner);
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
                cap: None,
                most_room: None,
                in_flight: 0,
                picked: 0,
            };
            self.llms.insert(name.clone(), Box::new(entry));
            None
        };
        self.mark(&name);
        if before != pool {
            if let Some(before) = before {
                self.settle_name(&before, now);
            }
            if pool.is_none()
                && let Some(entry) = self.llms.get_mut(&name)
            {
                (entry.member, entry.cap) = (false, None);
            }
        }
        self.settle_name(&name, now);
        if let Some(pool) = pool {
            self.place(&pool, &name);
            self.settle_name(&pool, now);
        }
    }

    /// Takes a row out.
    pub(crate) fn remove_llm(&mut self, name: &str, now: Now) -> Option<Change> {
        self.llm_left(name);
        let LlmEntry { llm, version, due, .. } = *self.llms.remove(name)?;
        self.feed.remove(version, llm.visibility, &llm.owner);
        self.expiry.remove(due, Item::Llm(name.into()));
        if let Some(pool) = &llm.pool_name {
            self.leave_pool(pool, name, llm.visibility, &llm.owner);
            self.settle_name(pool, now);
        }
        self.settle_name(name, now);
        if let Some(session) = llm.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.llms.remove(name);
        }
        self.lost_something(llm.session.as_deref());
        Some(Change::DeleteLlm(llm.id))
    }

    /// Inserts or replaces an agent by name.
    pub(crate) fn put_agent(&mut self, agent: Agent, now: Now) {
        let name = agent.name.clone();
        self.claim_name(&name, &agent.owner, now);
        let bytes = owned::of_agent(&agent);
        self.count(&agent.owner, |owned| {
            owned.agents += 1;
            owned.bytes += bytes;
        });
        self.feed.touch();
        self.agent_left(&agent.name);
        self.shown_agents.insert(&agent.name, agent.visibility, &agent.owner);
        if let Some(entry) = self.agents.get_mut(&name) {
            entry.agent = agent;
        } else {
            let entry = AgentEntry { agent, inactive_at: now.mono, due: None };
            self.agents.insert(name.clone(), entry);
        }
        self.settle_name(&name, now);
    }

    /// Takes an agent out.
    pub(crate) fn remove_agent(&mut self, name: &str, now: Now) -> Option<Change> {
        self.feed.touch();
        self.agent_left(name);
        let AgentEntry { agent, due, .. } = self.agents.remove(name)?;
        self.expiry.remove(due, Item::Agent(name.into()));
        if let Some(session) = agent.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.agents.remove(name);
        }
        self.lost_something(agent.session.as_deref());
        self.settle_name(name, now);
        Some(Change::DeleteAgent(agent.id))
    }

    fn put_session(&mut self, session: Session) {
        let id = session.record.id.clone();
        self.count(&session.record.owner, |owned| owned.sessions += 1);
        self.ages.insert((session.record.created_at, id.as_str().into()), &session.record.owner);
        let at = session.beat + self.heartbeat_timeout.min(self.retention);
        self.sessions.insert(id.clone(), session);
        self.mark_session(&id);
        if let Some(session) = self.sessions.get_mut(&id) {
            self.expiry.look_at(&mut session.due, at, || Item::Session(id.into()));
        }
    }

    /// A row or an agent is the session's no longer: one that has nothing left may be forgotten.
    fn lost_something(&mut self, session: Option<&str>) {
        let Some(id) = session else { return };
        self.mark_session(id);
        if let Some(session) = self.sessions.get_mut(id)
            && session.llms.is_empty()
            && session.agents.is_empty()
        {
            self.expiry.look_at(&mut session.due, Duration::ZERO, || Item::Session(id.into()));
        }
    }

    /// The row may be inactive now: it is looked at when it has been so for long enough.
    fn expire_llm(&mut self, name: &str) {
        let retention = self.retention;
        if let Some(entry) = self.llms.get_mut(name)
            && entry.llm.status == Status::Inactive
        {
            let at = entry.inactive_at + retention;
            self.expiry.look_at(&mut entry.due, at, || Item::Llm(name.into()));
        }
    }

    /// The same for an agent.
    fn expire_agent(&mut self, name: &str) {
        let retention = self.retention;
        if let Some(entry) = self.agents.get_mut(name)
            && entry.agent.status == Status::Inactive
        {
            let at = entry.inactive_at + retention;
            self.expiry.look_at(&mut entry.due, at, || Item::Agent(name.into()));
        }
    }

    /// The row as it is stands in no list any more, and counts no more.
    fn llm_left(&mut self, name: &str) {
        let Some(llm) = self.llms.get(name).map(|entry| &entry.llm) else { return };
        let (bytes, owner) = (owned::of_llm(llm), llm.owner.clone());
        self.shown_llms.remove(name, llm.visibility, &owner);
        self.count(&owner, |owned| {
            owned.llms -= 1;
            owned.bytes = owned.bytes.saturating_sub(bytes);
        });
    }

    /// The same for an agent.
    fn agent_left(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name).map(|entry| &entry.agent) else { return };
        let (bytes, owner) = (owned::of_agent(agent), agent.owner.clone());
        self.shown_agents.remove(name, agent.visibility, &owner);
        self.count(&owner, |owned| {
            owned.agents -= 1;
            owned.bytes = owned.bytes.saturating_sub(bytes);
        });
    }

    /// The last sign of life of a row's session; for a row that its session dropped, the last one before that.
    pub fn seen_at(&self, llm: &Llm) -> Option<Timestamp> {
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
            beat: now.mono,
            version: 0,
            due: None,
            unsaved: false,
            settled: false,
            link: Link::None,
            silent: false,
            draining: false,
            had_channel: false,
            llms: BTreeSet::new(),
            agents: BTreeSet::new(),
            deleted: BTreeSet::new(),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    /// Whether tasks may go there.
    fn takes_tasks(&self) -> bool {
        self.is_open() && !self.silent && !self.draining
    }

    fn features(&self) -> Features {
        match self.link {
            Link::Open { features, .. } => features,
            Link::None | Link::Closed { .. } => Features::CLASSIC,
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
