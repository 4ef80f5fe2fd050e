//! How conversations count for the load of their members.

use super::*;

/// Two members with two slots each.
fn two_slots() -> [Member; 2] {
    [0, 1].map(|number| Member { capacity: 2, ..idle(number) })
}

#[test]
fn each_batch_of_conversations_is_shared_evenly() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    for batch in 0..50 {
        let mut of_first = 0;
        for turn in 0..6 {
            for number in 0..4 {
                let name = format!("batch-{batch}-{number}");
                let member = served(&mut table, &keys, "alice", named(&name), &two_slots());
                of_first += u32::from(turn == 0 && member == idle(0).id);
            }
        }
        assert_eq!(of_first, 2, "batch {batch}");
    }
}

#[test]
fn a_conversation_counts_once_however_often_it_calls() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    let own = (0..50).map(|_| served(&mut table, &keys, "alice", named("long"), &two_slots())).last();
    let names = ["a", "b", "c"];
    let others = names.map(|name| served(&mut table, &keys, "alice", named(name), &two_slots()));
    let beside_it = others.iter().filter(|member| Some(**member) == own).count();
    assert_eq!(beside_it, 1, "{others:?}");
}

#[test]
fn a_chain_of_responses_counts_once() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    let response =
        |number: u32| Conversation::of(&keys, "alice", "pool", named(&format!("resp-{number}"))).unwrap();
    let mut own = served(&mut table, &keys, "alice", named("resp-0"), &two_slots());
    for number in 0..50 {
        table.learn(&response(number + 1), own, Some(&response(number)));
        let index = table.place(&response(number + 1), &mut two_slots()).unwrap();
        assert_eq!(two_slots()[index].id, own);
        own = two_slots()[index].id;
    }
    let names = ["a", "b", "c"];
    let others = names.map(|name| served(&mut table, &keys, "alice", named(name), &two_slots()));
    assert_eq!(others.iter().filter(|member| **member == own).count(), 1, "{others:?}");
}

#[test]
fn conversations_that_are_over_no_longer_count() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    let [first, second] = two_slots();
    for (member, names) in [(first, ["a", "b", "c"]), (second, ["d", "e", "f"])] {
        for name in names {
            served(&mut table, &keys, "alice", named(name), &[member]);
        }
    }
    for _ in 0..200 {
        for name in ["d", "e", "f"] {
            assert_eq!(served(&mut table, &keys, "alice", named(name), &two_slots()), second.id);
        }
    }
    for name in ["x", "y", "z"] {
        assert_eq!(served(&mut table, &keys, "alice", named(name), &two_slots()), first.id, "{name}");
    }
}

#[test]
fn a_conversation_whose_member_is_busy_returns_to_it_later() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    let own = served(&mut table, &keys, "alice", named("x"), &idles(3));
    let busy = |change: fn(&mut Member)| {
        let mut members = idles(3);
        members.iter_mut().filter(|member| member.id == own).for_each(change);
        members
    };
    let changes: [fn(&mut Member); 2] = [|member| member.full = true, |member| member.load = 3];
    for change in changes {
        let other = served(&mut table, &keys, "alice", named("x"), &busy(change));
        assert_ne!(other, own);
        assert_eq!(
            served(&mut table, &keys, "alice", named("x"), &busy(change)),
            other,
            "the other one has it too"
        );
        assert_eq!(served(&mut table, &keys, "alice", named("x"), &idles(3)), own);
    }
}

#[test]
fn a_conversation_whose_member_is_gone_moves_and_stays() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    let own = served(&mut table, &keys, "alice", named("x"), &idles(3));
    let left: Vec<Member> = idles(3).into_iter().filter(|member| member.id != own).collect();
    let moved = served(&mut table, &keys, "alice", named("x"), &left);
    assert_ne!(moved, own);
    assert_eq!(served(&mut table, &keys, "alice", named("x"), &idles(3)), moved);
}

/// Two sessions of a person share the cache of their system prompt; many are spread.
#[test]
fn conversations_with_one_prefix_share_members_without_piling_up() {
    let (keys, mut table) = (RandomState::new(), AffinityTable::default());
    let system = "s".repeat(40 * KIB);
    let mut counts = std::collections::HashMap::new();
    for number in 0..64_u32 {
        let (name, first) = (format!("session-{number}"), format!("question {number}"));
        let call = CallKeys { name: Some(name.as_bytes()), ..opening(&system, &first) };
        *counts.entry(served(&mut table, &keys, "alice", call, &idles(8))).or_insert(0) += 1;
        if number == 1 {
            assert_eq!(counts.len(), 1, "two sessions do not share");
        }
    }
    // The mean is 8; a quarter more is allowed.
    assert!(counts.values().all(|count| *count <= 10), "{counts:?}");
}
