//! Names as callers read them, free them and give them away.

use std::ops::Bound;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use super::table::NameEntry;
use crate::clock::Now;
use crate::model::{Caller, Role, UserId};
use crate::registry::register::text;
use crate::registry::{ManageError, Registry};
use crate::store::Change;

/// A name, as its owner and admins read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameView {
    pub name: String,
    pub owner_id: UserId,
    /// Kinds of what has it: `llm`, `pool`, `agent`.
    pub used_by: Vec<&'static str>,
    /// Wall-clock time since which nothing has it.
    pub left_at: Option<Timestamp>,
    /// Wall-clock time at which it becomes free, if nothing has it until then.
    pub free_at: Option<Timestamp>,
}

impl Registry {
    /// The names behind `after` that are `caller`'s, in order; for an admin all.
    pub fn names_after<'a>(
        &'a self,
        caller: &Caller,
        after: Option<&'a str>,
        now: Now,
    ) -> Box<dyn Iterator<Item = NameView> + 'a> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let entries = &self.names.entries;
        if caller.role == Role::Admin {
            return Box::new(
                entries.range::<str, _>(range).map(move |(_, entry)| self.name_view(entry, now)),
            );
        }
        let own = self.names.by_owner.get(&caller.user).into_iter();
        let own = own.flat_map(move |names| names.range::<str, _>(range));
        Box::new(own.filter_map(move |name| Some(self.name_view(entries.get(name)?, now))))
    }

    /// The name, if it is `caller`'s; for an admin any.
    pub fn name(&self, caller: &Caller, name: &str, now: Now) -> Option<NameView> {
        self.own_name(caller, name).map(|entry| self.name_view(entry, now))
    }

    fn own_name(&self, caller: &Caller, name: &str) -> Option<&NameEntry> {
        let own = |entry: &&NameEntry| caller.role == Role::Admin || entry.record.owner == caller.user;
        self.names.entries.get(name).filter(own)
    }

    fn name_view(&self, entry: &NameEntry, now: Now) -> NameView {
        let left = |at: Duration| i64::try_from(at.saturating_sub(now.mono).as_millis()).unwrap_or(i64::MAX);
        NameView {
            name: entry.record.name.clone(),
            owner_id: entry.record.owner.clone(),
            used_by: self.used_by(&entry.record.name),
            left_at: entry.record.left_at,
            free_at: entry.free_at.map(|at| now.wall.plus_millis(left(at))),
        }
    }

    /// Gives a name to `owner`, for an admin. Rows and agents of other users by this name are deleted.
    pub fn give_name(
        &mut self,
        caller: &Caller,
        name: &str,
        owner: &str,
        now: Now,
    ) -> Result<(NameView, Vec<Change>), ManageError> {
        let entry = self.own_name(caller, name).ok_or(ManageError::Unknown)?;
        if caller.role != Role::Admin {
            return Err(ManageError::Forbidden);
        }
        text("ownerId", owner).map_err(|text| ManageError::Invalid(text.into()))?;
        let mut changes = Vec::new();
        if entry.record.owner != owner {
            changes = self.remove_named(name, owner, now);
            self.release_name(name, now);
            self.claim_name(name, &owner.to_owned(), now);
            self.update_name_use(name, now);
        }
        changes.append(&mut self.names.drain_changes());
        let view = self.name(caller, name, now).ok_or(ManageError::Unknown)?;
        Ok((view, changes))
    }

    /// Deletes the row and the agent of this name that are not `owner`'s; heartbeats tell their sessions.
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

    /// Frees a name that nothing has: for its owner and admins.
    pub fn free_name(&mut self, caller: &Caller, name: &str, now: Now) -> Result<Vec<Change>, ManageError> {
        let entry = self.own_name(caller, name).ok_or(ManageError::Unknown)?;
        if entry.free_at.is_none() {
            let used = self.used_by(name).join(" and the ");
            return Err(ManageError::Conflict(format!("name '{name}' is in use: the {used} has it")));
        }
        self.release_name(name, now);
        Ok(self.names.drain_changes())
    }
}
