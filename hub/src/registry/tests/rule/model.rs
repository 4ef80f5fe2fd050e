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
    /// The room that a row was registered with, while the hub knows of it.
    room: Option<u32>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    owner: User,
    pool: bool,
    shared: bool,
    left: Option<u64>,
    /// Of the row of this name: the pool that it was let into, whose that was, and the row's room then.
    admitted: Option<(Name, User, u32)>,
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
            || self.policy == PoolPolicy::Members && held.shared
            || self.policy == PoolPolicy::Ask && self.let_in(row.name, pool).is_some()
    }

    /// The room with which a row was let into a pool by who has it now.
    fn let_in(&self, row: Name, pool: Name) -> Option<u32> {
        let (of, owner, room) = self.names.get(&row)?.admitted?;
        (of == pool && self.names.get(&pool)?.owner == owner).then_some(room)
    }

    /// Of `said`, what counts of a row's room; `None` where all of it does.
    pub(super) fn room(&self, row: &str, said: Option<u32>) -> Option<u32> {
        let row = &self.rows[&number(row)];
        let registered = said.map(|said| row.room.map_or(said, |room| said.min(room)));
        let others = |pool: &Name| self.names.get(pool).is_some_and(|held| held.owner != row.owner);
        let pool = row.of.filter(|pool| self.serves(row) && others(pool));
        let let_in = pool.and_then(|pool| self.let_in(row.name, pool));
        registered.into_iter().chain(let_in).min()
    }

    fn key(&self, row: &Thing) -> Name {
        row.of.filter(|_| self.serves(row)).unwrap_or(row.name)
    }

    fn pool_members(&self, key: Name) -> impl Iterator<Item = &Thing> {
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
        } else if self.pool_members(name).any(open) {
            self.pool_members(name).filter(|row| open(row)).collect()
        } else if let Some(agent) = self.agents.get(&name).filter(|agent| sees(caller, agent)) {
            if agent.away.is_some() { Vec::new() } else { self.through(caller, agent) }
        } else {
            Vec::new()
        };
        let here = rows.into_iter().filter(|row| row.away.is_none());
        here.map(|row| NAMES[row.name].to_owned()).collect()
    }

    /// Whether a call that `row` was chosen for, some time ago, may still go there: one for `name`, which was an agent's if
    /// it came `by_agent`.
    pub(super) fn may_keep(&self, caller: User, name: &str, by_agent: bool, row: &str) -> bool {
        let name = number(name);
        let Some(row) = self.rows.get(&number(row)) else { return false };
        if by_agent {
            let agent = self.agents.get(&name).filter(|agent| sees(caller, agent) && agent.away.is_none());
            let rows = agent.map_or(Vec::new(), |agent| self.through(caller, agent));
            return rows.iter().any(|one| one.name == row.name);
        }
        let open = row.public || row.owner == caller || caller == ADMIN && row.name == name;
        open && (row.name == name || self.key(row) == name)
    }

    /// Whom an agent reaches: what its caller may call by itself, and its owner's where it names them; while its LLM's name
    /// is whose it was.
    fn through(&self, caller: User, agent: &Thing) -> Vec<&Thing> {
        let llm = agent.of.unwrap();
        let pin = self.names[&agent.name].pinned.filter(|(name, _)| *name == llm);
        let pin = pin.map_or(agent.owner, |(_, owner)| owner);
        if self.names.get(&llm).is_none_or(|held| held.owner != pin) {
            return Vec::new();
        }
        let open = |row: &Thing| row.public || row.owner == caller;
        let own = |row: &Thing| row.owner == agent.owner;
        let row = self.rows.get(&llm).filter(|row| open(row) || own(row));
        // The pool of its LLM, where that is whose the LLM's name is: else the LLM alone.
        let key = row.map_or(llm, |row| self.key(row));
        let ruled = self.names.get(&key).is_some_and(|held| held.owner == pin);
        let members = self.pool_members(key).filter(|one| ruled || one.name == llm);
        let members = members.filter(|one| open(one) || own(one) && row.is_none_or(|row| !row.public));
        let members = members.filter(|one| agent.public || own(one));
        // A private agent's calls stay with its owner, those through a private row with the row's.
        members
            .filter(|one| !agent.public || row.is_none_or(|row| row.public || one.owner == row.owner))
            .collect()
    }

    /// Whether the user sees anything by this name.
    fn knows(&self, user: User, name: Name) -> bool {
        let members = self.rows.values().filter(|row| row.of == Some(name) && self.serves(row));
        let rows = self.rows.get(&name).into_iter().chain(members);
        rows.chain(self.agents.get(&name)).any(|thing| sees(user, thing))
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

    pub(super) fn owner_of(&self, name: Name) -> Option<User> {
        self.names.get(&name).map(|held| held.owner)
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

    /// Rows that wait to be let into a pool: the row, the pool, and whose that is.
    pub(super) fn waiting(&self) -> Vec<(Name, Name, User)> {
        let waiting = self.rows.values().filter(|row| !self.serves(row));
        waiting.filter_map(|row| Some((row.name, row.of?, self.names.get(&row.of?)?.owner))).collect()
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
