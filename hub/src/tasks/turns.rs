//! The turns of users who have durable tasks waiting.

use std::collections::HashMap;

use crate::model::UserId;

/// Users that are remembered. More of them are forgotten together, which costs nobody more than one turn.
const MOST: usize = 4096;

/// When each user last had a turn.
#[derive(Default)]
pub(super) struct Turns {
    last: u64,
    of: HashMap<UserId, u64>,
}

impl Turns {
    /// Rank of the user's next task among those of others: the smallest is next.
    pub(super) fn rank(&self, user: &str) -> u64 {
        self.of.get(user).copied().unwrap_or_default()
    }

    /// Notes that a task of the user was claimed. Returns the new rank.
    pub(super) fn take(&mut self, user: &str) -> u64 {
        if self.of.len() >= MOST {
            self.of.clear();
        }
        self.last += 1;
        self.of.insert(user.to_owned(), self.last);
        self.last
    }
}
