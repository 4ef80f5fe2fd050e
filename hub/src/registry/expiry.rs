//! Index of expiry checks by monotonic time. Pure.
//!
//! A check that comes too early is scheduled again, so that a heartbeat need not touch the index.

use std::collections::BTreeSet;
use std::time::Duration;

/// What may expire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExpiryKey {
    Session(Box<str>),
    Llm(Box<str>),
    Agent(Box<str>),
    Name(Box<str>),
}

#[derive(Default)]
pub(super) struct ExpiryIndex {
    due: BTreeSet<(Duration, ExpiryKey)>,
}

impl ExpiryIndex {
    /// Schedules a check at `at` at the latest; `due` holds the key's scheduled time.
    pub(super) fn check_at(
        &mut self,
        due: &mut Option<Duration>,
        at: Duration,
        key: impl FnOnce() -> ExpiryKey,
    ) {
        if due.is_some_and(|due| due <= at) {
            return;
        }
        let key = key();
        if let Some(due) = due.take() {
            self.due.remove(&(due, key.clone()));
        }
        self.due.insert((at, key));
        *due = Some(at);
    }

    /// Takes the next key that is due at `now`.
    pub(super) fn next(&mut self, now: Duration) -> Option<ExpiryKey> {
        self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.pop_first().map(|(_, key)| key)
    }

    /// Removes the key's scheduled check.
    pub(super) fn remove(&mut self, due: Option<Duration>, key: ExpiryKey) {
        if let Some(due) = due {
            self.due.remove(&(due, key));
        }
    }
}
