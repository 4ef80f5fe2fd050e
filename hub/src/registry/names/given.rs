//! NameTable as people read them, free them and give them away.

use std::ops::Bound;
use std::time::Duration;

use serde::Serialize;
use wire::row::Timestamp;

use super::NameEntry;
use crate::clock::Now;
use crate::model::{Caller, Role, UserId};
use crate::registry::register::text;
use crate::registry::{ManageError, Registry};
use crate::store::Change;

/// A name, as its owner and admins read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NameView {
    /// The name.
    pub name: String,
    /// Whose it is.
    pub owner_id: UserId,
    /// What has it: `llm`, `pool`, `agent`.
    pub used_by: Vec<&'static str>,
    /// Since when nothing has it.
    pub left_at: Option<Timestamp>,
    /// When it becomes free, if nothing has it until then.
    pub free_at: Option<Timestamp>,
}

impl Registry {
    /// The names behind `after` that are `caller`'s, in order; for an admin, all.
    pub fn names_after<'a>(
        &'a self,
        caller: &Caller,
        after: Option<&'a str>,
        now: Now,
    ) -> Box<dyn Iterator<Item = NameView> + 'a> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let held = &self.names.entries;
        if caller.role == Role::Admin {
            return Box::new(held.range::<str, _>(range).map(move |(_, held)| self.name_view(held, now)));
        }
        let own = self.names.by_owner.get(&caller.user).into_iter();
        let own = own.flat_map(move |names| names.range::<str, _>(range));
        Box::new(own.filter_map(move |name| Some(self.name_view(held.get(name)?, now))))
    }

    /// One of them.
    pub fn name(&self, caller: &Caller, name: &str, now: Now) -> Option<NameView> {
        self.held_by(caller, name).map(|held| self.name_view(held, now))
    }

    fn held_by(&self, caller: &Caller, name: &str) -> Option<&NameEntry> {
        let own = |held: &&NameEntry| caller.role == Role::Admin || held.record.owner == caller.user;
        self.names.entries.get(name).filter(own)
    }

    fn name_view(&self, held: &NameEntry, now: Now) -> NameView {
        let left = |at: Duration| i64::try_from(at.saturating_sub(now.mono).as_millis()).unwrap_or(i64::MAX);
        NameView {
            name: held.record.name.clone(),
            owner_id: held.record.owner.clone(),
            used_by: self.used_by(&held.record.name),
            left_at: held.record.left_at,
            free_at: held.free_at.map(|at| now.wall.plus_millis(left(at))),
        }
    }

    /// Makes a name `owner`'s, for an admin: what others have by it goes, as if it had been deleted.
    pub fn give_name(
        &mut self,
        caller: &Caller,
        name: &str,
        owner: &str,
        now: Now,
    ) -> Result<(NameView, Vec<Change>), ManageError> {
        let held = self.held_by(caller, name).ok_or(ManageError::Unknown)?;
        if caller.role != Role::Admin {
            return Err(ManageError::Forbidden);
        }
        text("ownerId", owner).map_err(ManageError::Invalid)?;
        let mut changes = Vec::new();
        if held.record.owner != owner {
            changes = self.remove_named(name, owner, now);
            self.free(name, now);
            self.claim_name(name, &owner.to_owned(), now);
            self.update_name_use(name, now);
        }
        changes.append(&mut self.names.drain_changes());
        let view = self.name(caller, name, now).ok_or(ManageError::Unknown)?;
        Ok((view, changes))
    }

    /// Takes out the row and the agent of this name that are not `owner`'s; their sessions are told.
    fn remove_named(&mut self, name: &str, owner: &str, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        let llm = self.llms.get(name).map(|entry| &entry.llm).filter(|llm| llm.owner != owner);
        if let Some(session) = llm.map(|llm| llm.session.clone()) {
            self.report_deleted(session, name);
            changes.extend(self.remove_llm(name, now));
        }
        let agent = self.agents.get(name).map(|entry| &entry.agent).filter(|agent| agent.owner != owner);
        if let Some(session) = agent.map(|agent| agent.session.clone()) {
            self.report_deleted(session, name);
            changes.extend(self.remove_agent(name, now));
        }
        changes
    }

    /// Gives up a name that nothing has: its owner, or an admin.
    pub fn free_name(&mut self, caller: &Caller, name: &str, now: Now) -> Result<Vec<Change>, ManageError> {
        let held = self.held_by(caller, name).ok_or(ManageError::Unknown)?;
        if held.free_at.is_none() {
            let used = self.used_by(name).join(" and the ");
            return Err(ManageError::Conflict(format!("name '{name}' is in use: the {used} has it")));
        }
        self.free(name, now);
        Ok(self.names.drain_changes())
    }
}
