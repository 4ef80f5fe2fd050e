//! Public rows and agents: made, changed and deleted by users through the API, not by publishers (SPEC.md section 5).

mod agents;
mod llms;

use wire::row::{Kind, Status};
use wire::texts;

pub use agents::AgentSpec;
pub use llms::LlmSpec;

use super::Registry;
use super::register::Malformed;
use crate::model::{Caller, Role, UserId};
use crate::store::Change;

/// Reason why a management call changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManageError {
    /// The call is malformed: 400.
    Invalid(Malformed),
    /// The call is for admins, or for the owner: 403.
    Forbidden,
    /// Unknown, or not visible to the caller: 404.
    Unknown,
    /// As [`ManageError::Unknown`], of an LLM that the path names beside a pool, or that the body names.
    UnknownRow(String),
    /// The name or the pool belongs to another user, or to a session: 409.
    Conflict(String),
    /// The pool has as many of the caller's rows as it may have: 409.
    PoolFull(String),
    /// The caller has this many agents already: 429.
    TooMany(usize),
    /// The user has this many aliases already: 429.
    TooManyAliases(usize),
    /// The caller's rows and agents have this many bytes already: 429.
    TooLarge(usize),
}

impl Registry {
    /// Adds the pending changes of names to `changes`.
    fn with_names(&mut self, mut changes: Vec<Change>) -> Vec<Change> {
        changes.append(&mut self.names.drain_changes());
        changes
    }

    /// Lists `name` in the answers to the session's heartbeats, as deleted by an admin.
    pub(super) fn report_deleted(&mut self, session: Option<String>, name: &str) {
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id)) {
            session.deleted.insert(name.to_owned());
        }
    }

    /// Checks that the caller's own published entry is not deleted; an admin may delete another user's.
    fn check_deletable(
        caller: &Caller,
        (kind, status, owner): (Kind, Status, &str),
        entry: &str,
    ) -> Result<(), ManageError> {
        if kind == Kind::Virtual && status != Status::Inactive && owner == caller.user {
            return Err(ManageError::Conflict(format!("{entry} is published now: stop its publisher first")));
        }
        Ok(())
    }

    /// Checks the byte limit of `owner` for `new` bytes in place of `old` ones.
    fn check_bytes(&self, owner: &UserId, old: usize, new: usize) -> Result<(), ManageError> {
        if self.has_bytes(owner, old, new) {
            Ok(())
        } else {
            Err(ManageError::TooLarge(self.limits.row_bytes))
        }
    }
}

fn check_admin(caller: &Caller) -> Result<(), ManageError> {
    if caller.role == Role::Admin { Ok(()) } else { Err(ManageError::Forbidden) }
}

/// The error for a name that is in use: it tells the kind only to a caller who sees what has the name.
fn name_in_use(seen: bool, kind: &str, name: &str) -> ManageError {
    ManageError::Conflict(if seen {
        format!("{kind} {name} already exists")
    } else {
        texts::name_taken(name)
    })
}

/// Checks that a body's name, if any, is the path's.
fn check_same_name(path: &str, body: Option<&str>) -> Result<(), ManageError> {
    match body {
        Some(body) if body != path => {
            Err(ManageError::Invalid("name: it cannot be changed; delete and create it".to_owned().into()))
        }
        _ => Ok(()),
    }
}
