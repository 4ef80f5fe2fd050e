use std::hash::RandomState;

use proptest::prelude::*;

use super::place::{Home, Member, choose, member_id};
use super::{AffinityTable, CallKeys, Conversation};

mod counting;
mod simulation;

const KIB: usize = 1 << 10;

pub(super) fn named(name: &str) -> CallKeys<'_> {
    CallKeys { name: Some(name.as_bytes()), opening: [&[]; 3], prompt: 10 }
}

pub(super) fn opening<'a>(system: &'a str, messages: &'a str) -> CallKeys<'a> {
    let opening = [b"".as_slice(), system.as_bytes(), messages.as_bytes()];
    CallKeys { name: None, opening, prompt: system.len() + messages.len() }
}

pub(super) fn idle(number: u64) -> Member {
    Member { id: member_id(&format!("row-{number}")), load: 0, capacity: 4, full: false, active: 0 }
}

fn idles(count: u64) -> Vec<Member> {
    (0..count).map(idle).collect()
}

/// The conversation as the hub makes it for a call.
pub(super) fn conversation(
    table: &AffinityTable,
    keys: &RandomState,
    user: &str,
    call: CallKeys<'_>,
) -> Conversation {
    let conversation = Conversation::of(keys, user, "pool", call).unwrap();
    if table.knows(&conversation) { conversation } else { conversation.with_prefixes(keys, call) }
}

fn served(
    table: &mut AffinityTable,
    keys: &RandomState,
    user: &str,
    call: CallKeys<'_>,
    members: &[Member],
) -> u64 {
    let conversation = conversation(table, keys, user, call);
    let index = table.place(&conversation, &mut members.to_vec()).unwrap();
    members[index].id
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let member = (0_u32..9, 1_u32..5, any::<bool>(), 0_u32..160);
    prop::collection::vec(member, 1..9).prop_map(|members| {
        let numbered = members.into_iter().zip(0..);
        let member = |((load, capacity, full, active), number)| Member {
            load,
            capacity,
            full,
            active,
            ..idle(number)
        };
        numbered.map(member).collect()
    })
}

/// The load of a member with one more call, for each task that may run there.
fn load(member: &Member) -> f64 {
    f64::from(member.load + 1) / f64::from(member.capacity)
}

fn is_half_empty(member: &Member) -> bool {
    2 * member.load <= member.capacity
}

fn least_load(members: &[Member]) -> f64 {
    members.iter().filter(|member| !member.full).map(load).fold(f64::INFINITY, f64::min)
}

proptest! {
    #[test]
    fn a_call_goes_to_a_member_with_room_and_little_load(
        members in members(), served in prop::collection::vec(0_u64..9, 0..3), rank in any::<u64>(), is_known in any::<bool>(),
    ) {
        let served: Vec<u64> = served.iter().map(|number| idle(*number).id).collect();
        let home = if is_known { Home::Known(&served) } else { Home::New { sharing: &served } };
        let chosen = choose(&members, home, rank).map(|index| members[index]);
        prop_assert_eq!(chosen.is_some(), members.iter().any(|member| !member.full));
        if let Some(chosen) = chosen {
            prop_assert!(!chosen.full);
            prop_assert!(is_half_empty(&chosen) || load(&chosen) <= 2.0 * least_load(&members) + 1e-9);
        }
    }

    #[test]
    fn a_known_conversation_returns_to_its_member_while_that_is_lightly_loaded(
        members in members(), at in any::<prop::sample::Index>(), rank in any::<u64>(),
    ) {
        let own = members[at.index(members.len())];
        let chosen = choose(&members, Home::Known(&[own.id]), rank).map(|index| members[index].id);
        if !own.full && (is_half_empty(&own) || load(&own) <= 2.0 * least_load(&members) - 1e-9) {
            prop_assert_eq!(chosen, Some(own.id));
        }
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_members(
        members in members(), by in 0_usize..9, rank in any::<u64>(), shared in prop::collection::vec(0_u64..9, 0..3),
    ) {
        let sharing: Vec<u64> = shared.iter().map(|number| idle(*number).id).collect();
        let mut turned = members.clone();
        turned.rotate_left(by % members.len());
        let choice = |members: &[Member]| {
            choose(members, Home::New { sharing: &sharing }, rank).map(|index| members[index].id)
        };
        prop_assert_eq!(choice(&members), choice(&turned));
    }

    #[test]
    fn a_member_that_leaves_moves_only_its_own_conversations(count in 2_u64..9, rank in any::<u64>(), gone in any::<prop::sample::Index>()) {
        let members = idles(count);
        let new = Home::New { sharing: &[] };
        let before = members[choose(&members, new, rank).unwrap()].id;
        let mut left = members.clone();
        let gone = left.remove(gone.index(members.len())).id;
        if gone != before {
            prop_assert_eq!(left[choose(&left, new, rank).unwrap()].id, before);
        }
    }

    #[test]
    fn the_table_is_bounded_in_all_and_for_each_user(
        calls in prop::collection::vec((0_u8..4, 0_u16..60, 0_usize..9), 1..400),
    ) {
        let (keys, mut table) = (RandomState::new(), AffinityTable::with_bounds(40, 15));
        for (user, name, blocks) in calls {
            let system = "s".repeat(blocks * 2 * KIB);
            let name = name.to_string();
            let call = CallKeys { name: Some(name.as_bytes()), ..opening(&system, "") };
            served(&mut table, &keys, &user.to_string(), call, &idles(3));
            let (all, of_user) = table.sizes();
            prop_assert!(all <= 40 && of_user <= 15, "{all} {of_user}");
        }
    }
}

#[test]
fn one_users_conversations_do_not_push_out_another_users() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::with_bounds(100, 50));
    for number in 0..20 {
        served(&mut table, &keys, "alice", named(&number.to_string()), &idles(4));
    }
    for number in 0..500 {
        served(&mut table, &keys, "mallory", named(&number.to_string()), &idles(4));
    }
    for number in 0..20 {
        let name = number.to_string();
        let known = Conversation::of(&keys, "alice", "pool", named(&name)).unwrap();
        assert!(table.knows(&known), "{number} was pushed out");
    }
}

#[test]
fn users_do_not_share_names_or_prefixes() {
    let (keys, table) = (RandomState::new(), AffinityTable::default());
    let system = "s".repeat(8 * KIB);
    for call in [named("session"), opening(&system, "hi")] {
        let [alice, bob] = ["alice", "bob"].map(|user| conversation(&table, &keys, user, call));
        assert_ne!(alice.id, bob.id);
        assert!(alice.prefixes.iter().all(|prefix| !bob.prefixes.contains(prefix)));
    }
}

#[test]
fn two_hubs_that_see_the_same_conversations_place_them_alike() {
    let mut hubs = [(); 2].map(|()| (RandomState::new(), AffinityTable::default()));
    for number in 0..50 {
        let name = format!("session-{number}");
        let [one, other] =
            hubs.each_mut().map(|(keys, table)| served(table, keys, "alice", named(&name), &idles(8)));
        assert_eq!(one, other, "{name}");
        let [one, other] =
            hubs.each_ref().map(|(keys, _)| Conversation::of(keys, "alice", "p", named(&name)).unwrap());
        assert!(one.ranks_like(&other) && one.id != other.id);
    }
}

#[test]
fn a_short_prompt_without_a_name_has_no_conversation() {
    let keys = RandomState::new();
    assert_eq!(Conversation::of(&keys, "alice", "pool", opening("", &"m".repeat(2 * KIB - 1))), None);
    assert!(Conversation::of(&keys, "alice", "pool", opening("", &"m".repeat(2 * KIB))).is_some());
    assert!(Conversation::of(&keys, "alice", "pool", named("x")).is_some());
}

#[test]
fn prefixes_are_those_of_whole_blocks_that_two_openings_share() {
    let (keys, table) = (RandomState::new(), AffinityTable::default());
    let system = "s".repeat(33 * KIB);
    let one = conversation(&table, &keys, "alice", opening(&system, &"a".repeat(5 * KIB)));
    let other = conversation(&table, &keys, "alice", opening(&system, &"b".repeat(5 * KIB)));
    // 19 blocks: those of 1, 2, 4, 8, 16 and 19.
    assert_eq!(one.prefixes.len(), 6);
    assert_eq!(one.prefixes[1..], other.prefixes[1..]);
    assert_ne!(one.prefixes[0], other.prefixes[0]);
    // Where the parts of a prompt end does not matter.
    let cut = conversation(&table, &keys, "alice", opening(&system[..KIB], &system[KIB..]));
    assert_eq!(cut.prefixes, one.prefixes[1..]);
}

#[test]
fn what_is_behind_the_longest_prefix_does_not_count() {
    let (keys, table) = (RandomState::new(), AffinityTable::default());
    let system = "s".repeat(512 * KIB);
    let [one, other] = ["a", "b"].map(|first| conversation(&table, &keys, "alice", opening(&system, first)));
    assert_eq!((one.id, &one.prefixes), (other.id, &other.prefixes));
    let shorter = conversation(&table, &keys, "alice", opening(&system[1..], "a"));
    assert_ne!(one.id, shorter.id);
}

#[test]
fn counts_of_conversations_are_bounded() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    for number in 0..5_000 {
        let pool = format!("pool-{number}");
        let conversation = Conversation::of(&keys, "alice", &pool, named("x")).unwrap();
        table.place(&conversation, &mut idles(2)).unwrap();
    }
    // Members that are replaced by others again and again.
    for number in 0..5_000 {
        served(&mut table, &keys, "alice", named(&number.to_string()), &[idle(number)]);
    }
    let (pools, most) = table.activity_sizes();
    assert!(pools == 4_096 && most <= 93, "{pools} {most}");
}

#[test]
fn a_user_keeps_no_room_for_entries_that_were_pushed_out() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::with_bounds(5_000, 4_000));
    for user in ["alice", "bob", "carol"] {
        for number in 0..4_000 {
            served(&mut table, &keys, user, named(&number.to_string()), &idles(2));
        }
    }
    // Alice and bob have few entries left, or none.
    for number in 0..4_900 {
        let user = ["dave", "erin"][number % 2];
        served(&mut table, &keys, user, named(&number.to_string()), &idles(2));
    }
    let (_, most) = table.sizes();
    assert!(table.room_of_users() <= 5 * most, "{} for {most}", table.room_of_users());
}
