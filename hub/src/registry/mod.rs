//! Who publishes what: rows, agents and sessions, and the rules of their life (SPEC.md section 3.6).
//!
//! Pure: every rule is a function of the state, an event and a reading of the clock, and answers with what to write
//! to the store. No I/O, no runtime, no clock of its own. The table in memory is the truth while the hub runs.

mod absence;
mod curate;
mod live;
mod pick;
mod pools;
mod register;
mod session;
mod sweep;
mod view;

pub use absence::Absence;
pub use curate::{AgentSpec, CurateError, LlmSpec, SessionView};
pub use live::LiveLlm;
pub use pick::{Candidate, Pick, Report};
pub use register::{Refusal, Registered};
pub use session::{BeatRefusal, Opened, UnknownSession};
pub use sweep::Swept;
pub use view::{Target, Through};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use wire::Features;
use wire::row::{Kind, Status};

use crate::clock::Now;
use crate::limits::Limits;
use crate::model::{Agent, Llm, SessionRecord};
use crate::options::{HubTimings, PoolPolicy};
use crate::store::{Change, Snapshot};

/// The table.
pub struct Registry {
    policy: PoolPolicy,
    heartbeat_timeout: Duration,
    retention: Duration,
    llms: BTreeMap<String, LlmEntry>,
    agents: BTreeMap<String, AgentEntry>,
    sessions: HashMap<String, Session>,
    /// `poolName` to the names of the rows that have it.
    pools: HashMap<String, BTreeSet<String>>,
    /// The last sweep: heartbeats since then are not yet written.
    swept: Duration,
    /// Counts picks, so that equals take turns.
    picks: u64,
    limits: Limits,
}

/// A row, and what is known of it only while the hub runs.
struct LlmEntry {
    llm: Llm,
    /// When it became inactive; means nothing otherwise.
    inactive_at: Duration,
    /// What its publisher said last in a heartbeat.
    report: Option<Report>,
    /// Tasks of ours that run there.
    in_flight: u32,
    /// The number of the pick that chose it last.
    picked: u64,
}

/// An agent, and when it became inactive.
struct AgentEntry {
    agent: Agent,
    inactive_at: Duration,
}

/// A publisher.
struct Session {
    record: SessionRecord,
    /// Last sign of life.
    beat: Duration,
    link: Link,
    /// Silent for too long: as if its channel were closed, until the next sign of life.
    silent: bool,
    /// Takes no more tasks.
    draining: bool,
    /// Whether it had a channel since the hub started.
    had_channel: bool,
    llms: BTreeSet<String>,
    agents: BTreeSet<String>,
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
            llms: BTreeMap::new(),
            agents: BTreeMap::new(),
            sessions: HashMap::new(),
            pools: HashMap::new(),
            swept: now.mono,
            picks: 0,
            limits: Limits::default(),
        };
        for record in &snapshot.sessions {
            registry.sessions.insert(record.id.clone(), Session::new(record.clone(), now));
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
            registry.put_llm(llm, now);
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
            registry.put_agent(agent, now);
        }
        registry
    }

    /// With other limits than the usual ones.
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Inserts or replaces a row by name, and keeps the pools' index in step.
    pub(crate) fn put_llm(&mut self, llm: Llm, now: Now) {
        let name = llm.name.clone();
        let pool = llm.pool_name.clone();
        let before = if let Some(entry) = self.llms.get_mut(&name) {
            std::mem::replace(&mut entry.llm, llm).pool_name
        } else {
            let entry = LlmEntry { llm, inactive_at: now.mono, report: None, in_flight: 0, picked: 0 };
            self.llms.insert(name.clone(), entry);
            None
        };
        if before != pool {
            if let Some(before) = before {
                self.leave_pool(&before, &name);
            }
            if let Some(pool) = pool {
                self.pools.entry(pool).or_default().insert(name);
            }
        }
    }

    /// Takes a row out.
    pub(crate) fn remove_llm(&mut self, name: &str) -> Option<Change> {
        let llm = self.llms.remove(name)?.llm;
        if let Some(pool) = &llm.pool_name {
            self.leave_pool(pool, name);
        }
        if let Some(session) = llm.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.llms.remove(name);
        }
        Some(Change::DeleteLlm(llm.id))
    }

    /// Inserts or replaces an agent by name.
    pub(crate) fn put_agent(&mut self, agent: Agent, now: Now) {
        match self.agents.get_mut(&agent.name) {
            Some(entry) => entry.agent = agent,
            None => {
                self.agents.insert(agent.name.clone(), AgentEntry { agent, inactive_at: now.mono });
            }
        }
    }

    /// Takes an agent out.
    pub(crate) fn remove_agent(&mut self, name: &str) -> Option<Change> {
        let agent = self.agents.remove(name)?.agent;
        if let Some(session) = agent.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.agents.remove(name);
        }
        Some(Change::DeleteAgent(agent.id))
    }

    fn leave_pool(&mut self, pool: &str, name: &str) {
        if let Some(names) = self.pools.get_mut(pool) {
            names.remove(name);
            if names.is_empty() {
                self.pools.remove(pool);
            }
        }
    }
}

impl Session {
    fn new(record: SessionRecord, now: Now) -> Self {
        Self {
            record,
            beat: now.mono,
            link: Link::None,
            silent: false,
            draining: false,
            had_channel: false,
            llms: BTreeSet::new(),
            agents: BTreeSet::new(),
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
