//! The table of LLM rows, agents, sessions, pools and names, and the rules of their lifecycle (SPEC.md 3.6 and 5).
//!
//! Pure: each rule is a function of the table, an event and a reading of the clock, and returns the changes to store.
//! No I/O, no runtime, no clock. While the hub runs, the table in memory is authoritative and the store follows it.

mod abilities;
mod aliases;
mod candidate;
mod capacity;
mod digest;
mod elsewhere;
mod entry;
mod feed;
mod listing;
mod manage;
mod merge;
mod names;
mod pick;
mod pools;
mod register;
mod rows;
mod session;
mod sweep;
mod target;
mod told;
mod usage_support;
mod view;

pub use abilities::Offer;
pub use aliases::{AliasView, KnownTargets};
pub use candidate::{Candidate, NameRedaction};
pub use capacity::{Availability, CallerClass, Room, UnavailableReason};
pub use feed::FeedCursor;
pub use listing::SessionCursor;
pub use manage::{AgentSpec, LlmSpec, ManageError};
pub use names::NameView;
pub use pick::PickResult;
pub use pools::PoolView;
pub use register::{MAX_ENTRIES, Malformed, RegisterRefusal, check};
pub use session::{HeartbeatRefusal, SessionView, UnknownSession};
pub use sweep::SweepResult;
pub use target::{Target, UnresolvedAgent};
pub use told::{Told, ToldSession};
pub use usage_support::UsageSupport;
pub use view::{DetailedLlm, LiveLlm};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use wire::row::{Kind, Status};

use crate::affinity::AffinityTable;
use crate::clock::Now;
use crate::model::{Caller, UserId};
use crate::options::{HubTimings, Limits, PoolPolicy};
use crate::store::Snapshot;
use aliases::AliasTable;
use entry::{AgentEntry, ExpiryIndex, LlmEntry};
use feed::ChangeFeed;
use listing::{SessionsByAge, VisibleNames};
use names::NameTable;
use pools::PoolRows;
use rows::Usage;
use session::Session;
use told::EarlyTold;

/// The table in memory.
pub struct Registry {
    policy: PoolPolicy,
    /// The id of this hub among several; `None` for a hub alone.
    hub: Option<String>,
    /// Whether this hub shuts down.
    is_leaving: bool,
    /// What was told before the store's news of it.
    early: VecDeque<EarlyTold>,
    heartbeat_timeout: Duration,
    retention: Duration,
    name_retention: Duration,
    limits: Limits,
    llms: BTreeMap<String, Box<LlmEntry>>,
    agents: BTreeMap<String, AgentEntry>,
    sessions: HashMap<String, Session>,
    /// Rows per `poolName`.
    pools: BTreeMap<String, PoolRows>,
    names: NameTable,
    aliases: AliasTable,
    visible_llms: VisibleNames,
    visible_agents: VisibleNames,
    visible_pools: VisibleNames,
    sessions_by_age: SessionsByAge,
    /// Per-user usage. Users at zero are removed.
    usage: HashMap<UserId, Usage>,
    /// Sessions whose latest heartbeat is not stored yet.
    unsaved_sessions: Vec<String>,
    expiry: ExpiryIndex,
    /// Whether [`Registry::sweep`] runs.
    sweeping: bool,
    /// Pools of the rows that this sweep deleted.
    swept_pools: BTreeSet<String>,
    feed: ChangeFeed,
    /// Number of picks, for round-robin between equal members.
    picks: u64,
    rows_examined: AtomicUsize,
    /// Which members served a conversation before.
    pub(crate) affinity: AffinityTable,
    /// Number of calls to [`Registry::pick_of`].
    #[cfg(test)]
    pub(crate) pool_scans: u64,
    /// Number of calls to [`Registry::is_overdue`].
    #[cfg(test)]
    overdue_checks: AtomicUsize,
}

impl Registry {
    /// Loads the stored table. Virtual rows start inactive with a fresh retention time (SPEC.md section 3.6).
    pub fn load(snapshot: &Snapshot, policy: PoolPolicy, timings: &HubTimings, now: Now) -> Self {
        let mut registry = Self {
            policy,
            hub: None,
            is_leaving: false,
            early: VecDeque::new(),
            heartbeat_timeout: timings.heartbeat_timeout,
            retention: timings.inactive_retention,
            name_retention: timings.name_retention,
            limits: Limits::default(),
            llms: BTreeMap::new(),
            agents: BTreeMap::new(),
            sessions: HashMap::new(),
            pools: BTreeMap::new(),
            names: NameTable::default(),
            aliases: AliasTable::default(),
            visible_llms: VisibleNames::default(),
            visible_agents: VisibleNames::default(),
            visible_pools: VisibleNames::default(),
            sessions_by_age: SessionsByAge::default(),
            usage: HashMap::new(),
            unsaved_sessions: Vec::new(),
            expiry: ExpiryIndex::default(),
            sweeping: false,
            swept_pools: BTreeSet::new(),
            feed: ChangeFeed::default(),
            picks: 0,
            rows_examined: AtomicUsize::default(),
            affinity: AffinityTable::default(),
            #[cfg(test)]
            pool_scans: 0,
            #[cfg(test)]
            overdue_checks: AtomicUsize::default(),
        };
        let known: HashSet<&str> = snapshot.names.iter().map(|record| record.name.as_str()).collect();
        for record in &snapshot.names {
            registry.names.load(record.clone());
        }
        for alias in &snapshot.aliases {
            registry.aliases.insert(alias.clone());
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
                    session.insert_llm(&llm.name, llm.registered);
                }
            }
            if known.contains(llm.name.as_str()) {
                // Without a claim: a pool name that became free stays free until a user registers for it.
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
                    session.insert_agent(&agent.name, agent.registered);
                }
            }
            let is_new = !known.contains(agent.name.as_str());
            let (name, llm, owner) = (agent.name.clone(), agent.llm_name.clone(), agent.owner.clone());
            registry.put_agent(agent, now);
            if is_new {
                registry.pin_agent(&Caller::member(&owner), &name, &llm, true);
            }
        }
        registry.schedule_all_expiries();
        for record in &snapshot.names {
            registry.update_name_use(&record.name, now);
        }
        registry.names.finish_load(&snapshot.names);
        registry
    }

    /// Makes it the table of the hub `hub` among several.
    pub fn of_hub(self, hub: Option<String>) -> Self {
        Self { hub, ..self }
    }

    /// Replaces the default limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

#[cfg(test)]
mod tests;
