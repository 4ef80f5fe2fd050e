//! The rule in its shortest form: tables of who owns and admitted what, and a function of them. It knows no session, no
//! index and no cache.

mod events;

use std::collections::{BTreeMap, BTreeSet};

use super::{NAMES, USERS};
use crate::options::PoolPolicy;

type User = usize;
type Name = usize;

const ADMIN: User = USERS.len() - 1;

#[derive(Debug, Clone)]
struct Thing {
    name: Name,
    owner: User,
    /// A row's pool, or an agent's LLM.
    of: Option<Name>,
    public: bool,
    /// Whether a session has it.
    published: bool,
    /// Since when it is away.
    away: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    owner: User,
    pool: bool,
    shared: bool,
    left: Option<u64>,
    /// Of the row of this name: the pool that it was let into, and whose that was.
    admitted: Option<(Name, User)>,
    /// Of the agent of this name: its LLM, and whose that was.
    pinned: Option<(Name, User)>,
}

pub(super) struct Model {
    policy: PoolPolicy,
    rows: BTreeMap<Name, Thing>,
    agents: BTreeMap<Name, Thing>,
    names: BTreeMap<Name, Held>,
    /// Who has a channel.
    here: BTreeSet<User>,
    now: u64,
}

impl Model {
    pub(super) fn new(policy: PoolPolicy) -> Self {
        Self {
            policy,
            rows: BTreeMap::new(),
            agents: BTreeMap::new(),
            names: BTreeMap::new(),
            here: BTreeSet::new(),
            now: 0,
        }
    }

    /// Whether a row serves the pool that it names.
    fn serves(&self, row: &Thing) -> bool {
        let Some((pool, held)) = row.of.and_then(|pool| Some((pool, self.names.get(&pool)?))) else {
            return false;
        };
        held.owner == row.owner
            || self.policy == PoolPolicy::Members
            || self.policy == PoolPolicy::Ask && self.names[&row.name].admitted == Some((pool, held.owner))
    }

    fn key(&self, row: &Thing) -> Name {
        row.of.filter(|_| self.serves(row)).unwrap_or(row.name)
    }

    fn keyed(&self, key: Name) -> impl Iterator<Item = &Thing> {
        self.rows.values().filter(move |row| self.key(row) == key)
    }

    /// Whose prompts reach whom.
    pub(super) fn reached(&self, caller: User, name: &str) -> BTreeSet<String> {
        let name = number(name);
        let open = |row: &Thing| row.public || row.owner == caller;
        let rows: Vec<&Thing> = if let Some(row) = self.rows.get(&name).filter(|row| sees(caller, row)) {
            // A row by its own name, and the pool if it has that name: an admin the row alone, where it is private.
            let members = self.rows.values().filter(|one| one.name == name || self.key(one) == name);
            let members = members.filter(|one| one.name == name || self.key(row) == name);
            let members = members.filter(|one| open(one) || caller == ADMIN && one.name == name);
            members.filter(|one| row.public || one.owner == row.owner).collect()
        } else if self.keyed(name).any(open) {
            self.keyed(name).filter(|row| open(row)).collect()
        } else if let Some(agent) = self.agents.get(&name).filter(|agent| sees(caller, agent)) {
            self.through(caller, agent)
        } else {
            Vec::new()
        };
        let here = rows.into_iter().filter(|row| row.away.is_none());
        here.map(|row| NAMES[row.name].to_owned()).collect()
    }

    /// Whom an agent reaches: what its caller may call by itself, and its owner's where it names them; while its LLM's name
    /// is whose it was.
    fn through(&self, caller: User, agent: &Thing) -> Vec<&Thing> {
        let llm = agent.of.unwrap();
        let pin = self.names[&agent.name].pinned.filter(|(name, _)| *name == llm);
        let pin = pin.map_or(agent.owner, |(_, owner)| owner);
        if agent.away.is_some() || self.names.get(&llm).is_none_or(|held| held.owner != pin) {
            return Vec::new();
        }
        let open = |row: &Thing| row.public || row.owner == caller;
        let own = |row: &Thing| row.owner == agent.owner;
        let row = self.rows.get(&llm).filter(|row| open(row) || own(row));
        let members = self.keyed(row.map_or(llm, |row| self.key(row)));
        let members = members.filter(|one| open(one) || own(one) && row.is_none_or(|row| !row.public));
        let members = members.filter(|one| agent.public || own(one));
        // A private agent's calls stay with its owner, those through a private row with the row's.
        members
            .filter(|one| !agent.public || row.is_none_or(|row| row.public || one.owner == row.owner))
            .collect()
    }

    pub(super) fn sees_row(&self, user: User, name: &str) -> bool {
        self.rows.get(&number(name)).is_some_and(|row| sees(user, row))
    }

    pub(super) fn sees_agent(&self, user: User, name: &str) -> bool {
        self.agents.get(&number(name)).is_some_and(|agent| sees(user, agent))
    }

    pub(super) fn owner(&self, name: &str) -> Option<&'static str> {
        self.names.get(&number(name)).map(|held| USERS[held.owner])
    }

    /// Of the rows that name a pool, those that serve it and those that wait.
    pub(super) fn pool_seen(&self, user: User, pool: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let pool = number(pool);
        let rules = user == ADMIN || self.names.get(&pool).is_some_and(|held| held.owner == user);
        let rows = self.rows.values().filter(|row| row.of == Some(pool) && sees(user, row));
        let (serving, waiting): (Vec<&Thing>, Vec<&Thing>) = rows.partition(|row| self.serves(row));
        let waiting = waiting.into_iter().filter(|row| rules || row.owner == user);
        let names = |row: &Thing| NAMES[row.name].to_owned();
        (serving.into_iter().map(names).collect(), waiting.map(names).collect())
    }

    pub(super) fn pool_of(&self, row: Name) -> Option<Name> {
        self.rows.get(&row)?.of
    }
}

/// What is private is for its owner and admins.
fn sees(user: User, thing: &Thing) -> bool {
    thing.public || thing.owner == user || user == ADMIN
}

fn number(name: &str) -> Name {
    NAMES.iter().position(|one| *one == name).unwrap()
}
