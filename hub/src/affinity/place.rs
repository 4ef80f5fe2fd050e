//! The choice of a member for a call of a conversation: a pure function.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hasher};

use super::activity::QUARTERS;

/// A member takes new conversations for the sake of their prefix up to this multiple of its part of the active ones.
const SKEW: (u64, u64) = (5, 4);
/// A member may always have this many conversations with the same prefix: two sessions of one person share.
const SHARED: u64 = 2;
/// A conversation in the unit of [`Member::active`].
const ONE: u64 = QUARTERS as u64;

/// A member that is awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// See [`member_id`].
    pub(crate) id: u64,
    /// Tasks that run or wait there.
    pub(crate) load: u32,
    /// Number of tasks that may run there at once, at least 1; 1 if unknown.
    pub(crate) capacity: u32,
    /// Whether it has no room.
    pub(crate) full: bool,
    /// Conversations that use it, in quarters of one. [`AffinityTable::place`](super::AffinityTable::place) sets it.
    pub(crate) active: u32,
}

/// Where a conversation's cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home<'a> {
    /// The members that served it, its own first.
    Known(&'a [u64]),
    /// Members that have the longest known prefix of its prompt; the conversation is new.
    New { sharing: &'a [u64] },
}

/// The id of a row among the members of its pool, the same at each hub.
pub(crate) fn member_id(row: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(row.as_bytes());
    hasher.finish()
}

/// Chooses among `members` for a conversation. Returns the index; `None` if no member has room.
///
/// - A known conversation returns to the first of its members that has room and is lightly loaded: its load, with this
///   call, is at most twice the least, or at most half of its room is taken. Batches of a half empty backend cost less
///   than computing a prompt again.
/// - Else it is placed: on a member that has a prefix of its prompt, if it is lightly loaded, too, unless that member
///   has more than its part of the active conversations; else on one of the least loaded. Of several, the one with the
///   fewest active conversations for its capacity takes it; of equals the first by rendezvous hashing of `rank`.
pub(crate) fn choose(members: &[Member], home: Home<'_>, rank: u64) -> Option<usize> {
    let with_room = || (0..members.len()).filter(|index| !members[*index].full);
    let least = with_room().map(|index| members[index]).reduce(lighter)?;
    let is_light = |member: &Member| {
        2 * member.load <= member.capacity || weigh(member, &least) <= 2 * weigh(&least, member)
    };
    let weight = |index: &usize| mixed(rank ^ members[*index].id);
    if let Home::Known(served) = home {
        let light =
            |id: &u64| with_room().find(|index| members[*index].id == *id && is_light(&members[*index]));
        if let Some(index) = served.iter().find_map(light) {
            return Some(index);
        }
    }
    let spread = |index: &usize| {
        let member = &members[*index];
        ((u64::from(member.active) + ONE) << 20) / u64::from(member.capacity)
    };
    let preference = |index: &usize| (spread(index), Reverse(weight(index)));
    if let Home::New { sharing } = home {
        // With this conversation.
        let active = members.iter().map(|member| u64::from(member.active)).sum::<u64>() + ONE;
        let capacity: u64 = members.iter().map(|member| u64::from(member.capacity)).sum();
        let is_within = |member: &Member| {
            let part = (SKEW.0 * active * u64::from(member.capacity)).div_ceil(SKEW.1 * capacity * ONE);
            u64::from(member.active) + ONE <= part.max(SHARED) * ONE
        };
        let can_share = |index: &usize| {
            let member = &members[*index];
            sharing.contains(&member.id) && is_light(member) && is_within(member)
        };
        let best = with_room().filter(can_share).min_by_key(preference);
        if best.is_some() {
            return best;
        }
    }
    let is_lightest = |index: &usize| weigh(&members[*index], &least) == weigh(&least, &members[*index]);
    with_room().filter(is_lightest).min_by_key(preference)
}

/// The load of `member` with one more call, in units that are comparable with `weigh(other, member)`.
fn weigh(member: &Member, other: &Member) -> u64 {
    (u64::from(member.load) + 1) * u64::from(other.capacity)
}

fn lighter(one: Member, other: Member) -> Member {
    if weigh(&other, &one) < weigh(&one, &other) { other } else { one }
}

/// The finalizer of `SplitMix64`: each bit of the input changes half of the output's.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
