//! Several hubs on one store: each changes the table in its turn, when it has taken over what the others have changed.

mod stored;
mod world;

use world::{Op, World, any_op};

use super::*;
use crate::registry::told::Told;
use crate::store::Merge;

const HUBS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: [&str; 3] = ["s0", "s1", "s2"];
const AGENTS: [&str; 2] = ["x", "y"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases()))]

    /// Whichever hub makes which change, and however late the others read it: when all is read, each has what is stored.
    #[test]
    fn every_hub_has_what_is_stored(ops in prop::collection::vec(any_op(), 1..40)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        for hub in 0..HUBS.len() {
            world.merge(hub);
        }
        let tables: Vec<_> = world.hubs.iter().map(|(registry, _)| World::table(registry)).collect();
        prop_assert_eq!(&tables[0], &tables[1]);
        prop_assert_eq!(&tables[0], &tables[2]);
        let names: BTreeSet<_> = world.stored.names.values().map(|record| format!("{record:?}")).collect();
        let found: BTreeSet<_> =
            tables[0].iter().filter(|(key, _)| key.starts_with("name ")).map(|(_, text)| text.clone()).collect();
        prop_assert_eq!(names, found);
        prop_assert_eq!(world.stored.llms.len(), world.hubs[0].0.llms.len());
        prop_assert_eq!(world.stored.agents.len(), world.hubs[0].0.agents.len());
        prop_assert_eq!(world.stored.sessions.len(), world.hubs[0].0.sessions.len());
        for (registry, _) in &mut world.hubs {
            prop_assert_eq!(World::forgotten(registry), Vec::<String>::new());
        }
    }
}

/// A row whose channel is at another hub is read as that hub tells it, and picked as long as it tells that it takes tasks.
#[test]
fn a_row_of_another_hub_is_read_as_it_is_told() {
    let mut world = World::new();
    let row = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };
    world.publish(&[row], &[]);
    world.apply(Op::Open { hub: 0, session: 0 });
    // Told before the store's news of the session.
    let (early, _) = world.hubs[0].0.tell(&mut 0);
    world.hubs[2].0.told("a", early, at(0));
    world.merge(2);
    assert_eq!(world.hubs[2].0.llms["a"].llm.status, Status::Active);
    world.merge(1);
    let alice = caller("alice");
    let target = world.hubs[1].0.target(&alice, "a").unwrap();
    let picked = |registry: &mut Registry| match registry.pick(&alice, &target, Endpoint::ChatCompletions) {
        PickResult::Chosen(candidate) => Some(candidate.is_elsewhere),
        _ => None,
    };
    assert_eq!(picked(&mut world.hubs[1].0), None, "nothing is told yet");
    let grace = Duration::from_secs(30);
    let is_moving = |registry: &Registry, now| registry.is_moving(&alice, &target, at(now), grace);
    assert!(
        is_moving(&world.hubs[1].0, 29_999) && !is_moving(&world.hubs[1].0, 30_000),
        "calls wait for that"
    );
    let tell = |world: &mut World| {
        let mut cursor = 0;
        let (told, more) = world.hubs[0].0.tell(&mut cursor);
        assert!(!more && told != Told::default());
        // As it goes between hubs.
        let told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        world.hubs[1].0.told("a", told, at(0));
    };
    tell(&mut world);
    assert_eq!(picked(&mut world.hubs[1].0), Some(true));
    assert_eq!(picked(&mut world.hubs[0].0), Some(false), "it is served here");
    let other = &mut world.hubs[1].0;
    assert_eq!(other.llms["a"].llm.status, Status::Active);
    // It is told by the hub that has its channel alone.
    other.told("c", Told::default(), at(0));
    // Its registrar is told to connect again: calls wait at both hubs.
    world.hubs[0].0.await_return("s0", "older", at(39_000));
    assert!(!is_moving(&world.hubs[0].0, 39_000), "that channel was replaced");
    world.hubs[0].0.await_return("s0", "s", at(40_000));
    world.hubs[0].0.close("s0", "s", at(40_000));
    tell(&mut world);
    assert!(is_moving(&world.hubs[0].0, 69_999) && !is_moving(&world.hubs[0].0, 70_000));
    assert!(is_moving(&world.hubs[1].0, 29_999) && !is_moving(&world.hubs[1].0, 30_000));
    world.apply(Op::Open { hub: 0, session: 0 });
    tell(&mut world);
    assert_eq!(picked(&mut world.hubs[1].0), Some(true));
    world.apply(Op::Close { session: 0 });
    tell(&mut world);
    assert_eq!(picked(&mut world.hubs[1].0), None);
    assert_eq!(world.hubs[1].0.llms["a"].llm.status, Status::Inactive);
    // The session moves: the first hub hands it over.
    world.apply(Op::Open { hub: 0, session: 0 });
    world.apply(Op::Open { hub: 1, session: 0 });
    assert_eq!(picked(&mut world.hubs[1].0), Some(false));
    assert!(!is_moving(&world.hubs[1].0, 0));
    world.hubs[1].0.close("s0", "s", at(0));
    assert!(is_moving(&world.hubs[1].0, 29_999) && !is_moving(&world.hubs[1].0, 30_000));
    let lost = {
        let (registry, read) = &mut world.hubs[0];
        registry.merge(world.stored.behind(*read), at(0))
    };
    assert_eq!(lost, ["s0"]);
    assert_eq!(picked(&mut world.hubs[0].0), None);
}

/// The hub that does not have the session's channel does not give its rows to another session while that is open.
#[test]
fn a_row_that_is_live_at_another_hub_is_not_adopted() {
    let mut world = World::new();
    let row = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };
    world.publish(std::slice::from_ref(&row), &[]);
    world.apply(Op::Open { hub: 0, session: 0 });
    world.merge(1);
    let (told, _) = world.hubs[0].0.tell(&mut 0);
    world.hubs[1].0.told("a", told, at(0));
    world.hours = 1;
    let request = World::request(1, &[row], &BTreeSet::new());
    let steal = |world: &mut World| {
        let now = world.now();
        world.hubs[1].0.register(&caller("alice"), &request, &|prefix| format!("{prefix}-x"), now).is_ok()
    };
    assert!(!steal(&mut world));
    world.hubs[1].0.hub_left("a", at(HOUR));
    assert!(!steal(&mut world), "its publisher may return");
    world.hours = 2;
    assert!(steal(&mut world));
}

const ROW: Spec = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };

/// A link was cut, and the registrar opened its next channel at another hub: what it had here is lost after the grace.
#[test]
fn what_a_session_had_is_lost_also_if_it_moves_after_its_channel_closed() {
    let mut world = World::new();
    world.publish(&[ROW], &[]);
    world.apply(Op::Open { hub: 0, session: 0 });
    world.apply(Op::Close { session: 0 });
    let since = world.now();
    world.apply(Op::Open { hub: 1, session: 0 });
    world.merge(0);
    assert!(world.hubs[0].0.is_away_since("s0", since));
    // Its rows may be live there, which is not told yet.
    let request = World::request(1, &[ROW], &BTreeSet::new());
    let stolen = world.hubs[0].0.register(&caller("alice"), &request, &str::to_owned, since);
    assert!(stolen.is_err());
    world.apply(Op::Open { hub: 0, session: 0 });
    assert!(!world.hubs[0].0.is_away_since("s0", since), "it is back");
}

/// A sweep deletes in memory first. What cannot be stored then is undone, and a later sweep deletes it.
#[test]
fn a_deletion_that_was_not_stored_is_made_again() {
    let mut world = World::new();
    world.publish(&[ROW], &[0]);
    // No event of the session schedules the check of what was withdrawn.
    world.publish(&[], &[]);
    world.hours += 9;
    let now = world.now();
    let registry = &mut world.hubs[0].0;
    while registry.sweep(now, true).more {}
    assert!(registry.llms.is_empty() && registry.agents.is_empty());
    let mut records = world.stored.all();
    records.extend(registry.missing(&records));
    registry.merge(records, now);
    assert!(registry.llms.len() == 1 && registry.agents.len() == 1);
    world.apply(Op::Sweep { hub: 0, hours: 9 });
    world.apply(Op::Sweep { hub: 0, hours: 9 });
    assert!(world.stored.llms.is_empty() && world.stored.agents.is_empty());
}

/// A hub is gone for good: another one takes its sessions over, and deletes them and all that they published.
#[test]
fn what_a_hub_has_taken_over_is_deleted_in_time() {
    let mut world = World::new();
    world.publish(&[ROW, Spec { name: 1, ..ROW }], &[0, 1]);
    world.apply(Op::Open { hub: 0, session: 0 });
    // One of each is withdrawn, and is to be deleted.
    world.publish(&[ROW], &[0]);
    for hours in [1, 3, 1, 1] {
        world.apply(Op::Sweep { hub: 1, hours });
    }
    assert_eq!((world.stored.llms.len(), world.stored.agents.len()), (2, 2), "another hub deletes nothing");
    let record = world.stored.sessions["s0"].clone();
    world.stored.write(vec![Change::PutSession(SessionRecord { hub: Some("b".into()), ..record })]);
    for hours in [0, 4, 4, 4] {
        world.apply(Op::Sweep { hub: 1, hours });
    }
    assert_eq!((world.stored.llms.len(), world.stored.agents.len(), world.stored.sessions.len()), (0, 0, 0));
}

#[test]
fn an_agent_that_its_session_withdrew_is_inactive_at_all_hubs() {
    let mut world = World::new();
    world.publish(&[ROW], &[0]);
    world.apply(Op::Open { hub: 0, session: 0 });
    world.merge(1);
    let (told, _) = world.hubs[0].0.tell(&mut 0);
    world.hubs[1].0.told("a", told, at(0));
    let status = |world: &World| world.hubs[1].0.agents["x"].agent.status;
    assert_eq!(status(&world), Status::Active);
    world.publish(&[ROW], &[]);
    world.merge(1);
    assert_eq!(status(&world), Status::Inactive);
}

/// All is told again each 30 s, which watchers do not hear.
#[test]
fn what_is_told_again_is_no_change() {
    let mut world = World::new();
    world.publish(&[ROW], &[0]);
    world.apply(Op::Open { hub: 0, session: 0 });
    world.merge(1);
    let (told, _) = world.hubs[0].0.tell(&mut 0);
    world.hubs[1].0.told("a", told.clone(), at(0));
    let newest = |world: &World| world.hubs[1].0.feed.behind(0).map(|(version, _)| version).max();
    let before = newest(&world);
    world.hubs[1].0.told("a", told, at(30_000));
    assert_eq!(newest(&world), before);
}

/// While nothing can be stored, silent sessions get no tasks all the same, and nothing is deleted.
#[test]
fn a_sweep_that_may_not_write_finds_silent_sessions_alone() {
    let mut world = World::new();
    world.publish(&[ROW], &[0]);
    world.apply(Op::Open { hub: 0, session: 0 });
    let registry = &mut world.hubs[0].0;
    let swept = registry.sweep(at(90_001), false);
    assert_eq!(swept.silent, [("s0".to_owned(), "alice".to_owned())]);
    assert_eq!(registry.llms["a"].llm.status, Status::Inactive);
    let swept = registry.sweep(at(180_001), false);
    assert_eq!(
        (swept.dead.len(), swept.must_write, swept.more),
        (1, true, false),
        "heartbeats are not stored"
    );
    registry.close("s0", "s", at(180_001));
    for hours in 9..12 {
        let swept = registry.sweep(at(hours * HOUR), false);
        assert!(
            swept.must_write
                && !swept.more
                && swept.changes.iter().all(|of| matches!(of, Change::PutSession(_)))
        );
    }
    assert!(!registry.llms.is_empty() && !registry.agents.is_empty() && !registry.sessions.is_empty());
    for hours in [12, 13] {
        while registry.sweep(at(hours * HOUR), true).more {}
    }
    assert!(registry.llms.is_empty() && registry.agents.is_empty() && registry.sessions.is_empty());
}
