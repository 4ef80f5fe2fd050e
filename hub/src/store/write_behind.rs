//! What memory has and the file has not: changes that could not be written when they were made. Pure.

use std::collections::HashMap;

use super::Change;

/// The newest change of each record, in the order in which the records were first owed: as much as the table in memory
/// has, however long the disk is full.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    changes: Vec<Change>,
    places: HashMap<Key, usize>,
}

/// Which record.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Llm(String),
    Agent(String),
    Session(String),
    Name(String),
    Token(String),
    Task(String),
    Claim(String),
}

impl WriteBehind {
    /// Keeps these for later; a newer change of a record takes the place of the older.
    pub(super) fn keep(&mut self, changes: Vec<Change>) {
        for change in changes {
            // Audit rows are kept by who writes them.
            let Some(key) = key(&change) else { continue };
            if let Some(older) = self.places.get(&key).and_then(|&place| self.changes.get_mut(place)) {
                *older = change;
            } else {
                self.places.insert(key, self.changes.len());
                self.changes.push(change);
            }
        }
    }

    /// All of them.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// They are written.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The record that a change is of, if memory has it.
pub(super) fn key(change: &Change) -> Option<Key> {
    Some(match change {
        Change::PutLlm(llm) => Key::Llm(llm.id.clone()),
        Change::DeleteLlm(id) => Key::Llm(id.clone()),
        Change::PutAgent(agent) => Key::Agent(agent.id.clone()),
        Change::DeleteAgent(id) => Key::Agent(id.clone()),
        Change::PutSession(session) => Key::Session(session.id.clone()),
        Change::DeleteSession(id) => Key::Session(id.clone()),
        Change::PutName(record) => Key::Name(record.name.clone()),
        Change::DeleteName(name) => Key::Name(name.clone()),
        Change::PutToken(token) => Key::Token(token.id.clone()),
        Change::PutTask(task) | Change::NewTask { task, .. } => Key::Task(task.id.clone()),
        Change::ClaimTask { id, .. } | Change::UnclaimTask(id) => Key::Claim(id.clone()),
        Change::DeleteTask(id) => Key::Task(id.clone()),
        Change::Audit(_) | Change::MakeRoom { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That a task is claimed, or comes back, takes the place of no task and no result that is owed.
    #[test]
    fn a_claim_is_owed_beside_its_task() {
        let claim = || Change::ClaimTask { id: "t".into(), llm: None, session: None };
        let mut owed = WriteBehind::default();
        owed.keep(vec![Change::DeleteTask("t".into()), claim(), Change::UnclaimTask("t".into()), claim()]);
        let is_kept = matches!(owed.changes(), [Change::DeleteTask(_), Change::ClaimTask { .. }]);
        assert!(is_kept, "{:?}", owed.changes());
    }
}
