//! The table of conversations: which members served them, and the prefixes of their prompts, before. Bounded, the least
//! recently used go first.

use std::collections::HashMap;

use hashlink::{LinkedHashMap, LinkedHashSet};

use super::activity::{Activity, Place};
use super::conversation::Conversation;
use super::place::{Home, Member, choose};

/// Most entries of all users. An entry takes about 200 bytes, so all take 20 MB; a conversation has one, and up to nine
/// for its prefixes.
pub(crate) const MAX_ENTRIES: usize = 100_000;
/// Most entries of one user: a tenth, so that one member's new conversations push out at most a tenth of the others'.
pub(crate) const MAX_OF_USER: usize = 10_000;
/// Most members of one conversation: its own, and others that took calls while that one was busy, such as the calls that
/// an agent makes side by side.
const MAX_SERVED: usize = 3;
/// Most members that are known to have one prefix. More would spread a prefix no better.
const MAX_SHARING: usize = 16;
/// Most pools with counts of their conversations. A pool beyond it begins to count anew.
const MAX_POOLS: usize = 4_096;
/// Room of a user's keys that is kept although most of it is empty.
const SMALL: usize = 64;

/// The members that have a conversation, or a prefix, in their cache.
struct Entry {
    user: u64,
    /// Of a conversation its own member first. Of a prefix the newest last.
    members: Vec<u64>,
    /// Where the conversation counts. A prefix counts nowhere.
    place: Option<Place>,
}

/// The table of one hub.
pub(crate) struct AffinityTable {
    entries: LinkedHashMap<u64, Entry>,
    /// The keys of each user's entries.
    users: HashMap<u64, LinkedHashSet<u64>>,
    /// The conversations of each pool.
    activity: LinkedHashMap<u64, Activity>,
    most: usize,
    most_of_user: usize,
}

impl Default for AffinityTable {
    fn default() -> Self {
        Self::with_bounds(MAX_ENTRIES, MAX_OF_USER)
    }
}

impl AffinityTable {
    pub(super) fn with_bounds(most: usize, most_of_user: usize) -> Self {
        Self {
            entries: LinkedHashMap::new(),
            users: HashMap::new(),
            activity: LinkedHashMap::new(),
            most,
            most_of_user,
        }
    }

    /// Whether the conversation has a member. If not, [`AffinityTable::place`] reads its prefixes.
    pub(crate) fn knows(&self, conversation: &Conversation) -> bool {
        self.entries.contains_key(&conversation.id)
    }

    /// Chooses a member for a call of the conversation (see [`choose`]), and keeps the choice. `members` are all that are
    /// awake and may still take the call: a conversation whose own member is not among them moves. One whose member is
    /// busy does not.
    pub(crate) fn place(&mut self, conversation: &Conversation, members: &mut [Member]) -> Option<usize> {
        if let Some(activity) = self.activity.get(&conversation.pool) {
            for member in &mut *members {
                member.active = activity.of(member.id);
            }
        }
        let is_awake = |id: &u64| members.iter().any(|member| member.id == *id);
        let served = self.touch(conversation.id).map(|known| {
            known.members.retain(is_awake);
            known.members.clone()
        });
        let index = if let Some(served) = &served {
            choose(members, Home::Known(served), conversation.rank)
        } else {
            let prefix = conversation.prefixes.iter().find(|key| self.entries.contains_key(key));
            let sharing = prefix.copied().and_then(|key| self.touch(key));
            let sharing = sharing.map(|prefix| prefix.members.clone()).unwrap_or_default();
            choose(members, Home::New { sharing: &sharing }, conversation.rank)
        }?;
        let chosen = members[index].id;
        let entry = self.entry(conversation.id, conversation.user);
        if !entry.members.contains(&chosen) {
            // The newest of the others gives way to it.
            entry.members.truncate(MAX_SERVED - 1);
            entry.members.push(chosen);
        }
        let last = entry.place;
        let place = self.activity_of(conversation.pool).record(chosen, members.len(), last);
        self.entry(conversation.id, conversation.user).place = Some(place);
        for prefix in conversation.prefixes.iter().rev() {
            let members = &mut self.entry(*prefix, conversation.user).members;
            members.retain(|member| *member != chosen);
            if members.len() >= MAX_SHARING {
                members.remove(0);
            }
            members.push(chosen);
        }
        Some(index)
    }

    /// Makes `member` the conversation's own. It counts as the same one as `former`, which it continues.
    pub(crate) fn learn(&mut self, conversation: &Conversation, member: u64, former: Option<&Conversation>) {
        let place = former.and_then(|former| self.entries.get_mut(&former.id)?.place.take());
        let entry = self.entry(conversation.id, conversation.user);
        entry.members = vec![member];
        entry.place = place.or(entry.place);
    }

    /// An entry, which becomes the most recently used one.
    fn touch(&mut self, key: u64) -> Option<&mut Entry> {
        let entry = self.entries.to_back(&key)?;
        if let Some(keys) = self.users.get_mut(&entry.user) {
            keys.to_back(&key);
        }
        Some(entry)
    }

    /// An entry, which is made if it is missing.
    fn entry(&mut self, key: u64, user: u64) -> &mut Entry {
        if self.touch(key).is_none() {
            self.make_room(user);
            self.users.entry(user).or_default().insert(key);
        }
        let new = || Entry { user, members: Vec::with_capacity(1), place: None };
        self.entries.entry(key).or_insert_with(new)
    }

    /// Removes the least recently used entry of the user, or of all users, if there are too many.
    fn make_room(&mut self, user: u64) {
        let of_user = self.users.get(&user).filter(|keys| keys.len() >= self.most_of_user);
        let oldest = match of_user {
            Some(keys) => keys.front().copied(),
            None if self.entries.len() >= self.most => self.entries.front().map(|(key, _)| *key),
            None => None,
        };
        let Some((key, entry)) = oldest.and_then(|key| Some((key, self.entries.remove(&key)?))) else {
            return;
        };
        if let Some(keys) = self.users.get_mut(&entry.user) {
            keys.remove(&key);
            if keys.is_empty() {
                self.users.remove(&entry.user);
            } else if keys.capacity() > SMALL.max(4 * keys.len()) {
                // Else each user would keep the memory of its most entries.
                keys.shrink_to_fit();
            }
        }
    }

    fn activity_of(&mut self, pool: u64) -> &mut Activity {
        if self.activity.to_back(&pool).is_none() && self.activity.len() >= MAX_POOLS {
            self.activity.pop_front();
        }
        self.activity.entry(pool).or_insert_with(Activity::default)
    }

    /// The number of pools with counts, and the most counts of a pool.
    #[cfg(test)]
    pub(super) fn activity_sizes(&self) -> (usize, usize) {
        let sizes = self.activity.values().map(Activity::size);
        (self.activity.len(), sizes.max().unwrap_or_default())
    }

    /// The most keys that a user's set has room for.
    #[cfg(test)]
    pub(super) fn room_of_users(&self) -> usize {
        self.users.values().map(LinkedHashSet::capacity).max().unwrap_or_default()
    }

    /// The number of entries, of all users and of the one with most.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let of_users = self.users.values().map(LinkedHashSet::len);
        assert_eq!(self.entries.len(), of_users.clone().sum::<usize>());
        (self.entries.len(), of_users.max().unwrap_or_default())
    }
}
