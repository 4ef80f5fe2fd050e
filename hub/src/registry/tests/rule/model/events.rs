//! Events of the model: whether an event is allowed, and its effect on the tables.

use std::collections::BTreeMap;

use super::super::ops::{Op, Want};
use super::{ADMIN, ALIASES, Entry, Model, NAMES, Name, NameState, User, sees};
use crate::options::PoolPolicy;

/// Hours after which an inactive row is deleted.
const ROW_RETENTION: u64 = 4;
/// Hours after which an unused name is free.
const NAME_RETENTION: u64 = 30 * 24;

impl Entry {
    fn new(owner: User, want: &Want, published: bool) -> Self {
        let Want { name, of, public, room } = *want;
        Self { name, owner, of, public, published, away: None, room: published.then_some(room) }
    }
}

impl Model {
    fn is_other_users(&self, user: User, name: Name) -> bool {
        self.names.get(&name).is_some_and(|held| held.owner != user)
    }

    fn check_pool_name(&self, user: User, row: Name, pool: Option<Name>) -> bool {
        let Some(held) = pool.and_then(|pool| self.names.get(&pool)) else { return true };
        let own = self.names.get(&row).is_some_and(|row| row.owner == user);
        let admitted = own && pool.is_some_and(|pool| self.admitted_capacity(row, pool).is_some());
        held.owner == user || self.policy != PoolPolicy::Owner && (held.pool && held.shared || admitted)
    }

    fn claim(&mut self, name: Name, user: User) {
        self.names.entry(name).or_insert_with(|| NameState { owner: user, ..NameState::default() });
    }

    fn put_row(&mut self, user: User, want: &Want, published: bool) {
        for name in std::iter::once(want.name).chain(want.of) {
            self.claim(name, user);
        }
        self.rows.insert(want.name, Entry::new(user, want, published));
        self.settle_all();
    }

    fn put_agent(&mut self, user: User, want: &Want, published: bool) {
        self.claim(want.name, user);
        self.agents.insert(want.name, Entry::new(user, want, published));
        let llm = want.of.unwrap();
        let owner = self.names.get(&llm).filter(|_| self.knows(user, llm)).map_or(user, |held| held.owner);
        let held = self.names.get_mut(&want.name).unwrap();
        // Saving an agent renews its pin; a registration keeps a pin to the same name.
        if !published || held.pinned.is_none_or(|(name, _)| name != llm) {
            held.pinned = Some((llm, owner));
        }
    }

    /// Applies an event. Returns whether it is allowed.
    pub(in super::super) fn step(&mut self, op: &Op, now: u64) -> bool {
        self.now = now;
        let allowed = self.apply(op);
        self.settle_all();
        allowed
    }

    fn settle_all(&mut self) {
        for name in 0..NAMES.len() {
            self.settle(name);
        }
    }

    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Register { user, rows, agents } => return self.register(*user, rows, agents),
            Op::Leave { user } => self.leave(*user),
            Op::CreateLlm { user, want } => {
                let allowed = *user == ADMIN
                    && !self.rows.contains_key(&want.name)
                    && !self.is_other_users(*user, want.name)
                    && self.check_pool_name(*user, want.name, want.of);
                if allowed {
                    self.put_row(*user, want, false);
                }
                return allowed;
            }
            Op::UpdateLlm { user, want } => {
                let held = self.rows.get(&want.name).filter(|_| *user == ADMIN);
                let Some(held) = held.filter(|row| !row.published) else { return false };
                let owner = held.owner;
                if !self.check_pool_name(owner, want.name, want.of) {
                    return false;
                }
                self.put_row(owner, want, false);
            }
            Op::DeleteLlm { user, name } => {
                let Some(row) = self.rows.get(name).filter(|_| *user == ADMIN) else { return false };
                if row.published && row.away.is_none() && row.owner == *user {
                    return false;
                }
                self.rows.remove(name);
            }
            Op::CreateAgent { user, want } => {
                if self.agents.contains_key(&want.name) || self.is_other_users(*user, want.name) {
                    return false;
                }
                self.put_agent(*user, want, false);
            }
            Op::UpdateAgent { user, want } => {
                let held = self.agents.get(&want.name).filter(|agent| agent.owner == *user || *user == ADMIN);
                let Some(held) = held.filter(|agent| !agent.published) else { return false };
                self.put_agent(held.owner, want, false);
            }
            Op::DeleteAgent { user, name } => {
                let held = self.agents.get(name).filter(|agent| agent.owner == *user || *user == ADMIN);
                let Some(agent) = held else { return false };
                if agent.published && agent.away.is_none() && agent.owner == *user {
                    return false;
                }
                self.agents.remove(name);
                self.names.get_mut(name).unwrap().pinned = None;
            }
            Op::SetAlias { user, shared, alias, target } => {
                let alias = ALIASES[*alias];
                if *shared && *user != ADMIN || self.is_taken(*user, *shared, alias, *target) {
                    return false;
                }
                let called = self.called(*user, Some(NAMES[*target]));
                let is_itself = alias == NAMES[*target] && self.finds(*user, *target);
                let is_alias = called.is_some_and(|called| called != *target) && !is_itself;
                let Some(owner) = self.owner_of(*target).filter(|_| !is_alias) else { return false };
                if called.is_none() && !is_itself && owner != *user {
                    return false;
                }
                self.aliases.insert(((!shared).then_some(*user), alias), (*target, owner));
            }
            Op::DeleteAlias { user, shared, alias } => {
                let key = ((!shared).then_some(*user), ALIASES[*alias]);
                return (!shared || *user == ADMIN) && self.aliases.remove(&key).is_some();
            }
            Op::Choose { .. } => (),
            Op::Admit { user, pool, row } => return self.admit(*user, *pool, *row),
            Op::Dismiss { user, pool, row } => return self.dismiss(*user, *pool, *row),
            Op::Free { user, name } => {
                let held = self.names.get(name).filter(|held| held.owner == *user || *user == ADMIN);
                if held.is_none_or(|held| held.left.is_none()) {
                    return false;
                }
                self.names.remove(name);
            }
            Op::Give { user, name, to } => {
                let Some(held) = self.names.get(name).filter(|_| *user == ADMIN) else { return false };
                if held.owner != *to {
                    self.rows.remove(name);
                    self.agents.remove(name);
                    self.names.insert(*name, NameState { owner: *to, ..NameState::default() });
                }
            }
            Op::Wait { .. } => self.expire(),
            Op::Restart => self.restart(),
        }
        true
    }

    fn register(&mut self, user: User, rows: &[Want], agents: &[Want]) -> bool {
        let is_public_kind = |held: Option<&Entry>| held.is_some_and(|held| !held.published);
        for want in rows {
            let taken = self.is_other_users(user, want.name) || is_public_kind(self.rows.get(&want.name));
            if taken || !self.check_pool_name(user, want.name, want.of) {
                return false;
            }
        }
        for want in agents {
            if self.is_other_users(user, want.name) || is_public_kind(self.agents.get(&want.name)) {
                return false;
            }
        }
        self.leave(user);
        self.here.insert(user);
        let tightened = |held: Option<&Entry>, want: &Want| Want {
            public: want.public && held.is_none_or(|held| held.public),
            ..want.clone()
        };
        for want in rows {
            let want = tightened(self.rows.get(&want.name), want);
            self.put_row(user, &want, true);
        }
        for want in agents {
            let want = tightened(self.agents.get(&want.name), want);
            self.put_agent(user, &want, true);
        }
        true
    }

    /// Makes everything that the user publishes inactive.
    fn leave(&mut self, user: User) {
        self.here.remove(&user);
        let entries = self.rows.values_mut().chain(self.agents.values_mut());
        for entry in entries.filter(|entry| entry.published && entry.owner == user) {
            entry.away.get_or_insert(self.now);
        }
    }

    /// Restarts the hub: retention times of rows begin again; those of names last at least as long.
    fn restart(&mut self) {
        self.here.clear();
        let (now, entries) = (self.now, self.rows.values_mut().chain(self.agents.values_mut()));
        entries.for_each(|entry| {
            entry.room = None;
            entry.away = entry.published.then_some(now);
        });
        for held in self.names.values_mut() {
            held.left = held.left.map(|left| left.max((now + ROW_RETENTION).saturating_sub(NAME_RETENTION)));
        }
    }

    /// Deletes rows and agents that were inactive, and frees names that were unused, for their retention time.
    fn expire(&mut self) {
        let (now, here) = (self.now, &self.here);
        let stays = |entry: &Entry| {
            here.contains(&entry.owner) || entry.away.is_none_or(|since| now - since < ROW_RETENTION)
        };
        self.rows.retain(|_, row| stays(row));
        self.agents.retain(|_, agent| stays(agent));
        self.names.retain(|_, held| held.left.is_none_or(|left| now - left < NAME_RETENTION));
    }

    fn rules(&self, user: User, pool: Name) -> bool {
        let held = self.names.get(&pool).filter(|held| held.pool);
        self.policy == PoolPolicy::Ask && held.is_some_and(|held| held.owner == user || user == ADMIN)
    }

    fn admit(&mut self, user: User, pool: Name, row: Name) -> bool {
        let row = self.rows.get(&row).filter(|row| row.of == Some(pool) && sees(user, row));
        let Some(row) = row.filter(|_| self.rules(user, pool)) else { return false };
        let owner = self.names[&pool].owner;
        if row.owner != owner {
            let room = row.room.unwrap_or(4);
            self.names.get_mut(&row.name).unwrap().admitted = Some((pool, owner, room));
        }
        true
    }

    fn dismiss(&mut self, user: User, pool: Name, name: Name) -> bool {
        if !self.rules(user, pool) {
            return false;
        }
        let row = self.rows.get(&name).filter(|row| row.of == Some(pool) && sees(user, row));
        let owner = self.names[&pool].owner;
        let admitted = self.names.get(&name).and_then(|held| held.admitted);
        if row.is_some_and(|row| row.owner == owner)
            || row.is_none() && admitted.is_none_or(|(of, ..)| of != pool)
        {
            return false;
        }
        self.names.get_mut(&name).unwrap().admitted = None;
        true
    }

    /// Updates whether a name is in use, or since when it is unused.
    fn settle(&mut self, name: Name) {
        let Some(owner) = self.names.get(&name).map(|held| held.owner) else { return };
        let own = self.rows.values().filter(|row| row.of == Some(name) && row.owner == owner);
        let shared = own.map(|row| row.public).reduce(|one, other| one || other);
        // The owner has left the pool and uses the name for a row or an agent.
        let is_live = |entry: &Entry| entry.owner == owner && entry.away.is_none();
        let entries = self.rows.get(&name).into_iter().chain(self.agents.get(&name));
        let pool_ended = shared.is_none() && entries.into_iter().any(is_live);
        if let Some(held) = self.names.get_mut(&name) {
            held.shared = shared.unwrap_or(held.shared && !pool_ended);
        }
        let members = self.rows.values().any(|row| row.of == Some(name) && self.serves(row));
        let has =
            |entries: &BTreeMap<Name, Entry>| entries.get(&name).is_some_and(|entry| entry.owner == owner);
        let used = has(&self.rows) || has(&self.agents) || members;
        let now = self.now;
        let Some(held) = self.names.get_mut(&name) else { return };
        if used {
            held.left = None;
            held.pool = members || held.pool && !pool_ended;
        } else {
            held.left.get_or_insert(now);
        }
    }
}
