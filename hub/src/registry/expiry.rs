//! When to look whether something has timed out: an index by the reading of the clock. Pure.
//!
//! What is looked at too early is put off, so that a heartbeat need not touch the index.

use std::collections::BTreeSet;
use std::time::Duration;

/// What may time out.
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
    /// Looks at the item at `at` at the latest; `due` is when it would be looked at so far.
    pub(super) fn check_at(
        &mut self,
        due: &mut Option<Duration>,
        at: Duration,
        item: impl FnOnce() -> ExpiryKey,
    ) {
        if due.is_some_and(|due| due <= at) {
            return;
        }
        let item = item();
        if let Some(due) = due.take() {
            self.due.remove(&(due, item.clone()));
        }
        self.due.insert((at, item));
        *due = Some(at);
    }

    /// Takes out the next item that is due at `now`.
    pub(super) fn next(&mut self, now: Duration) -> Option<ExpiryKey> {
        self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.pop_first().map(|(_, item)| item)
    }

    /// The item is there no longer.
    pub(super) fn remove(&mut self, due: Option<Duration>, item: ExpiryKey) {
        if let Some(due) = due {
            self.due.remove(&(due, item));
        }
    }
}
