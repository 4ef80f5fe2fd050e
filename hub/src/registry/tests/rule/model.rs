//! A model of the registry's rules without sessions, indices or caches: tables of owners and admissions.

mod events;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{ALIASES, NAMES, USERS};
use crate::options::PoolPolicy;

type User = usize;
type Name = usize;

const ADMIN: User = USERS.len() - 1;
/// A member who has nothing.
const ANYONE: User = USERS.len();

#[derive(Debug, Clone)]
struct Entry {
    name: Name,
    owner: User,
    /// The pool of a row, or the LLM of an agent.
    of: Option<Name>,
    public: bool,
    /// Whether a session publishes the entry.
    published: bool,
    /// Hour since which the entry is inactive.
    away: Option<u64>,
    /// The registered capacity of a row, until the hub restarts.
    room: Option<u32>,
}

#[derive(Debug, Clone, Default)]
struct NameState {
    owner: User,
    pool: bool,
    shared: bool,
    left: Option<u64>,
    /// Admission of the row of this name: the pool, the pool's owner, and the row's capacity at that time.
    admitted: Option<(Name, User, u32)>,
    /// Pin of the agent of this name: its LLM and the owner of the LLM's name.
    pinned: Option<(Name, User)>,
}

pub(super) struct Model {
    policy: PoolPolicy,
    rows: BTreeMap<Name, Entry>,
    agents: BTreeMap<Name, Entry>,
    names: BTreeMap<Name, NameState>,
    /// The target of each alias of a user or of all users, and the owner of the target's name when it was set.
    aliases: BTreeMap<(Option<User>, &'static str), (Name, User)>,
    /// Users with an open channel.
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
            aliases: BTreeMap::new(),
            here: BTreeSet::new(),
            now: 0,
        }
    }

    /// Whether a row serves the pool that it names.
    fn serves(&self, row: &Entry) -> bool {
        let Some((pool, held)) = row.of.and_then(|pool| Some((pool, self.names.get(&pool)?))) else {
            return false;
        };
        held.owner == row.owner
            || self.policy == PoolPolicy::Members && held.shared
            || self.policy == PoolPolicy::Ask && self.admitted_capacity(row.name, pool).is_some()
    }

    /// Capacity of a row's admission by the pool's present owner.
    fn admitted_capacity(&self, row: Name, pool: Name) -> Option<u32> {
        let (of, owner, room) = self.names.get(&row)?.admitted?;
        (of == pool && self.names.get(&pool)?.owner == owner).then_some(room)
    }

    /// The capacity of a row that has reported `said`; `None` if it is unlimited.
    pub(super) fn room(&self, row: &str, said: Option<u32>) -> Option<u32> {
        let row = &self.rows[&number(row)];
        let registered = said.map(|said| row.room.map_or(said, |room| said.min(room)));
        let others = |pool: &Name| self.names.get(pool).is_some_and(|held| held.owner != row.owner);
        let pool = row.of.filter(|pool| self.serves(row) && others(pool));
        let let_in = pool.and_then(|pool| self.admitted_capacity(row.name, pool));
        registered.into_iter().chain(let_in).min()
    }

    fn key(&self, row: &Entry) -> Name {
        row.of.filter(|_| self.serves(row)).unwrap_or(row.name)
    }

    fn pool_members(&self, key: Name) -> impl Iterator<Item = &Entry> {
        self.rows.values().filter(move |row| self.key(row) == key)
    }

    /// The rows that a call of `caller` reaches.
    pub(super) fn reached(&self, caller: User, call: Option<&str>) -> BTreeSet<String> {
        self.called(caller, call).map_or_else(BTreeSet::new, |name| self.reached_by_name(caller, name))
    }

    /// The name to which a call of `caller` goes; without a name, that for `default` (SPEC.md section 5, aliases).
    pub(super) fn called(&self, caller: User, call: Option<&str>) -> Option<Name> {
        let text = call.unwrap_or("default");
        let name = NAMES.iter().position(|name| *name == text).filter(|name| self.finds(caller, *name));
        if name.is_some_and(|name| self.owner_of(name) == Some(caller)) {
            return name;
        }
        let is_for =
            |alias: &str| alias.strip_suffix('*').map_or(alias == text, |stem| text.starts_with(stem));
        let aliases = self.aliases.iter().map(|((of, alias), to)| (*of, *alias, *to));
        let mut aliases: Vec<_> =
            aliases.filter(|(of, alias, _)| of.is_none_or(|user| user == caller) && is_for(alias)).collect();
        aliases.sort_by_key(|(of, alias, _)| (alias.ends_with('*'), Reverse(alias.len()), of.is_none()));
        let is_reserved = aliases.iter().any(|(_, alias, _)| *alias != "*");
        let served = |is_next: fn(bool, &str) -> bool| {
            let mut next = aliases.iter().filter(|(of, alias, _)| is_next(of.is_some(), alias));
            next.find(|(_, _, to)| self.serves_alias(caller, *to)).map(|(_, _, (target, _))| *target)
        };
        served(|own, alias| own && !alias.ends_with('*'))
            .or_else(|| name.filter(|name| self.is_hub_row(caller, *name)))
            .or_else(|| served(|_, alias| alias != "*"))
            .or_else(|| name.filter(|_| call.is_some() && !is_reserved))
            .or_else(|| served(|_, _| true))
    }

    fn is_hub_row(&self, caller: User, name: Name) -> bool {
        self.rows.get(&name).is_some_and(|row| !row.published && sees(caller, row))
    }

    /// Whether an alias is refused, since it would not be used or takes calls from a name that users call.
    pub(super) fn is_taken(&self, user: User, shared: bool, alias: &str, target: Name) -> bool {
        let known = NAMES.iter().position(|name| *name == alias).filter(|name| *name != target);
        let is_own = |name: &Name| self.owner_of(*name) == Some(user) && self.knows(user, *name);
        let is_called = |name: Name| self.called(ANYONE, Some(NAMES[name])) == Some(name);
        if known.is_some_and(|name| is_own(&name) || shared && is_called(name)) {
            return true;
        }
        let Some(stem) = alias.strip_suffix('*').filter(|stem| shared && !stem.is_empty()) else {
            return false;
        };
        let under = (0..NAMES.len()).filter(|name| NAMES[*name].starts_with(stem) && *name != target);
        let is_kept =
            |name: Name| self.aliases.contains_key(&(None, NAMES[name])) || self.is_hub_row(ANYONE, name);
        under.into_iter().any(|name| is_called(name) && !is_kept(name))
    }

    /// Whether a call of `caller` for `name` finds a row, a pool or an agent.
    fn finds(&self, caller: User, name: Name) -> bool {
        let open = |row: &Entry| row.public || row.owner == caller;
        let entries = self.rows.get(&name).into_iter().chain(self.agents.get(&name));
        entries.into_iter().any(|entry| sees(caller, entry)) || self.pool_members(name).any(open)
    }

    fn serves_alias(&self, caller: User, (target, owner): (Name, User)) -> bool {
        self.owner_of(target) == Some(owner) && self.finds(caller, target)
    }

    /// The aliases that the user sees: its own, and those of all users that serve it; an admin all.
    pub(super) fn aliases_seen(&self, user: User) -> Vec<(Option<User>, &'static str)> {
        let is_seen = |(of, to): (Option<User>, (Name, User))| {
            user == ADMIN || of == Some(user) || of.is_none() && self.serves_alias(user, to)
        };
        self.aliases.iter().filter(|((of, _), to)| is_seen((*of, **to))).map(|(key, _)| *key).collect()
    }

    fn reached_by_name(&self, caller: User, name: Name) -> BTreeSet<String> {
        let open = |row: &Entry| row.public || row.owner == caller;
        let rows: Vec<&Entry> = if let Some(row) = self.rows.get(&name).filter(|row| sees(caller, row)) {
            // The row of that name, and its pool if the pool has the same name. An admin reaches only the row if it is private.
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

    /// Whether `row`, which was picked for a call of `name`, may still serve the call; with `by_agent`, `name` is an agent.
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

    /// The rows that an agent reaches: rows that its caller may call, and the row of the agent's owner that it names. None if
    /// the owner of the LLM's name is not the pinned one.
    fn through(&self, caller: User, agent: &Entry) -> Vec<&Entry> {
        let llm = agent.of.unwrap();
        let pin = self.names[&agent.name].pinned.filter(|(name, _)| *name == llm);
        let pin = pin.map_or(agent.owner, |(_, owner)| owner);
        if self.names.get(&llm).is_none_or(|held| held.owner != pin) {
            return Vec::new();
        }
        let open = |row: &Entry| row.public || row.owner == caller;
        let own = |row: &Entry| row.owner == agent.owner;
        let row = self.rows.get(&llm).filter(|row| open(row) || own(row));
        // The pool of the agent's LLM, if both names have the same owner; else the LLM alone.
        let key = row.map_or(llm, |row| self.key(row));
        let ruled = self.names.get(&key).is_some_and(|held| held.owner == pin);
        let members = self.pool_members(key).filter(|one| ruled || one.name == llm);
        let members = members.filter(|one| open(one) || own(one) && row.is_none_or(|row| !row.public));
        let members = members.filter(|one| agent.public || own(one));
        // Calls through a private agent or row reach only rows of its owner.
        members
            .filter(|one| !agent.public || row.is_none_or(|row| row.public || one.owner == row.owner))
            .collect()
    }

    /// Whether the user sees anything of this name.
    fn knows(&self, user: User, name: Name) -> bool {
        let members = self.rows.values().filter(|row| row.of == Some(name) && self.serves(row));
        let rows = self.rows.get(&name).into_iter().chain(members);
        rows.chain(self.agents.get(&name)).any(|entry| sees(user, entry))
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

    /// The members and the pending rows of a pool that the user sees.
    pub(super) fn pool_seen(&self, user: User, pool: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let pool = number(pool);
        let rules = user == ADMIN || self.names.get(&pool).is_some_and(|held| held.owner == user);
        let rows = self.rows.values().filter(|row| row.of == Some(pool) && sees(user, row));
        let (serving, waiting): (Vec<&Entry>, Vec<&Entry>) = rows.partition(|row| self.serves(row));
        let waiting = waiting.into_iter().filter(|row| rules || row.owner == user);
        let names = |row: &Entry| NAMES[row.name].to_owned();
        (serving.into_iter().map(names).collect(), waiting.map(names).collect())
    }

    /// Pending rows: the row, the pool and the pool's owner.
    pub(super) fn waiting(&self) -> Vec<(Name, Name, User)> {
        let waiting = self.rows.values().filter(|row| !self.serves(row));
        waiting.filter_map(|row| Some((row.name, row.of?, self.names.get(&row.of?)?.owner))).collect()
    }

    pub(super) fn pool_of(&self, row: Name) -> Option<Name> {
        self.rows.get(&row)?.of
    }
}

/// Private entries are seen by their owner and admins.
fn sees(user: User, entry: &Entry) -> bool {
    entry.public || entry.owner == user || user == ADMIN
}

fn number(name: &str) -> Name {
    NAMES.iter().position(|one| *one == name).unwrap()
}
