//! Dispatches that ended, by which a result that is posted again is known. Pure: no runtime, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::commit::CommitReceipt;
use super::table::DispatchEnd;
use crate::model::UserId;

/// How long ended dispatches are kept. A registrar gives up a result after 60 s.
const KEEP: Duration = Duration::from_mins(10);
/// Most ended dispatches that are kept, of about 300 bytes each. If there are more, the user with the most loses the oldest.
const MOST: usize = 16_384;

/// A dispatch that ended.
pub(super) struct EndedDispatch {
    /// The owner of the row.
    pub(super) user: UserId,
    pub(super) session: Option<String>,
    pub(super) end: DispatchEnd,
    pub(super) receipt: Option<CommitReceipt>,
}

/// Ended dispatches by id. One user's many dispatches do not displace another's.
#[derive(Default)]
pub(super) struct EndedTable {
    by_id: HashMap<String, EndedDispatch>,
    /// Times and ids, in the order of the ends.
    order: BTreeMap<u64, (Duration, String)>,
    last_number: u64,
    by_user: HashMap<UserId, VecDeque<u64>>,
    /// Each user with the number of its dispatches.
    sizes: BTreeSet<(usize, UserId)>,
}

impl EndedTable {
    pub(super) fn get(&self, id: &str) -> Option<&EndedDispatch> {
        self.by_id.get(id)
    }

    /// Adds a dispatch, and removes those that are too old or too many.
    pub(super) fn insert(&mut self, id: &str, ended: EndedDispatch, now: Duration) {
        self.last_number += 1;
        let user = ended.user.clone();
        self.order.insert(self.last_number, (now, id.to_owned()));
        self.by_id.insert(id.to_owned(), ended);
        let numbers = self.by_user.entry(user.clone()).or_default();
        numbers.push_back(self.last_number);
        let size = numbers.len();
        self.resize(user, size - 1, size);
        while let Some((_, (at, id))) = self.order.first_key_value()
            && now.saturating_sub(*at) >= KEEP
            && let Some(ended) = self.by_id.get(id)
        {
            // The oldest of all is its user's oldest.
            let user = ended.user.clone();
            self.remove_oldest(user);
        }
        if self.order.len() > MOST
            && let Some((_, user)) = self.sizes.last()
        {
            let user = user.clone();
            self.remove_oldest(user);
        }
    }

    fn remove_oldest(&mut self, user: UserId) {
        let Some(numbers) = self.by_user.get_mut(&user) else { return };
        let (oldest, size) = (numbers.pop_front(), numbers.len());
        if let Some((_, id)) = oldest.and_then(|number| self.order.remove(&number)) {
            self.by_id.remove(&id);
        }
        if size == 0 {
            self.by_user.remove(&user);
        }
        self.resize(user, size + 1, size);
    }

    fn resize(&mut self, user: UserId, from: usize, to: usize) {
        let mut entry = (from, user);
        self.sizes.remove(&entry);
        entry.0 = to;
        if to > 0 {
            self.sizes.insert(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(table: &mut EndedTable, user: &str, number: usize, seconds: u64) {
        let ended = EndedDispatch { user: user.into(), session: None, end: DispatchEnd::Gone, receipt: None };
        table.insert(&format!("{user}-{number}"), ended, Duration::from_secs(seconds));
    }

    /// However many dispatches of one user have ended, those of others are kept.
    #[test]
    fn a_users_many_dispatches_displace_only_its_own() {
        let mut table = EndedTable::default();
        for number in 0..20 {
            insert(&mut table, "alice", number, 1);
        }
        for number in 0..2 * MOST {
            insert(&mut table, "bob", number, 2);
        }
        assert!((0..20).all(|number| table.get(&format!("alice-{number}")).is_some()));
        assert_eq!((table.by_id.len(), table.order.len(), table.sizes.len()), (MOST, MOST, 2));
        let first = 2 * MOST - (MOST - 20);
        assert!(
            table.get(&format!("bob-{first}")).is_some()
                && table.get(&format!("bob-{}", first - 1)).is_none()
        );
        insert(&mut table, "carol", 0, 2 + KEEP.as_secs());
        assert_eq!(
            (table.by_id.len(), table.order.len(), table.by_user.len()),
            (1, 1, 1),
            "the others are too old"
        );
        assert_eq!(table.sizes.len(), 1);
    }
}
