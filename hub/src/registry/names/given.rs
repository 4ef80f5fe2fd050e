//! Names as people read them, free them and give them away.

use serde::Serialize;
use wire::row::Timestamp;

use super::Held;
use crate::clock::Now;
use crate::model::{Caller, Role, UserId};
use crate::registry::register::text;
use crate::registry::{CurateError, Registry};
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
    /// The names that are `caller`'s; for an admin, all.
    pub fn names_held(&self, caller: &Caller) -> Vec<NameView> {
        let all = caller.role == Role::Admin;
        let held = self.names.held.values().filter(|held| all || held.record.owner == caller.user);
        let mut views: Vec<_> = held.map(|held| self.name_view(held)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// One of them.
    pub fn name(&self, caller: &Caller, name: &str) -> Option<NameView> {
        self.held_by(caller, name).map(|held| self.name_view(held))
    }

    fn held_by(&self, caller: &Caller, name: &str) -> Option<&Held> {
        let own = |held: &&Held| caller.role == Role::Admin || held.record.owner == caller.user;
        self.names.held.get(name).filter(own)
    }

    fn name_view(&self, held: &Held) -> NameView {
        let retention = i64::try_from(self.name_retention.as_millis()).unwrap_or(i64::MAX);
        NameView {
            name: held.record.name.clone(),
            owner_id: held.record.owner.clone(),
            used_by: self.used_by(&held.record.name),
            left_at: held.record.left_at,
            free_at: held.record.left_at.map(|left| left.plus_millis(retention)),
        }
    }

    /// Makes a name `owner`'s, for an admin: what others have by it goes, as if it had been deleted.
    pub fn give_name(
        &mut self,
        caller: &Caller,
        name: &str,
        owner: &str,
        now: Now,
    ) -> Result<(NameView, Vec<Change>), CurateError> {
        let held = self.held_by(caller, name).ok_or(CurateError::Unknown)?;
        if caller.role != Role::Admin {
            return Err(CurateError::Forbidden);
        }
        text("ownerId", owner).map_err(CurateError::Invalid)?;
        let mut changes = Vec::new();
        if held.record.owner != owner {
            changes = self.remove_named(name, now);
            self.free(name, now);
            self.claim_name(name, &owner.to_owned(), now);
            self.settle_name(name, now);
        }
        changes.append(&mut self.names.take_changes());
        let view = self.name(caller, name).ok_or(CurateError::Unknown)?;
        Ok((view, changes))
    }

    /// Takes out the row and the agent of this name; their sessions are told.
    fn remove_named(&mut self, name: &str, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(session) = self.llms.get(name).map(|entry| entry.llm.session.clone()) {
            self.tell_deleted(session, name);
            changes.extend(self.remove_llm(name, now));
        }
        if let Some(session) = self.agents.get(name).map(|entry| entry.agent.session.clone()) {
            self.tell_deleted(session, name);
            changes.extend(self.remove_agent(name, now));
        }
        changes
    }

    /// Gives up a name that nothing has: its owner, or an admin.
    pub fn free_name(&mut self, caller: &Caller, name: &str, now: Now) -> Result<Vec<Change>, CurateError> {
        let held = self.held_by(caller, name).ok_or(CurateError::Unknown)?;
        if held.free_at.is_none() {
            let used = self.used_by(name).join(" and the ");
            return Err(CurateError::Conflict(format!("name '{name}' is in use: the {used} has it")));
        }
        self.free(name, now);
        Ok(self.names.take_changes())
    }
}
