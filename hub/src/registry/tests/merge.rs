//! Several hubs on one store: each changes the table in its turn, when it has taken over what the others have changed.

mod stored;
mod world;

use world::{Op, World, any_op};

use super::*;
use crate::registry::told::Told;
use crate::store::Merge;

const HUBS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: [&str; 3] = ["s0", "s1", "s2"];

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
        prop_assert_eq!(world.stored.sessions.len(), world.hubs[0].0.sessions.len());
    }
}

/// A row whose channel is at another hub is read as that hub tells it, and no task is sent to it from here.
#[test]
fn a_row_of_another_hub_is_read_as_it_is_told() {
    let mut world = World::new();
    let row = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };
    world.apply(Op::Register { hub: 0, session: 0, user: 0, rows: vec![row], lost: false });
    world.apply(Op::Open { hub: 0, session: 0 });
    // Told before the store's news of the session.
    let (early, _) = world.hubs[0].0.tell(&mut 0);
    world.hubs[2].0.told("a", early, at(0));
    world.merge(2);
    assert_eq!(world.hubs[2].0.llms["a"].llm.status, Status::Active);
    world.merge(1);
    let alice = caller("alice");
    let target = world.hubs[1].0.target(&alice, "a").unwrap();
    let elsewhere = |registry: &Registry| {
        let endpoint = Endpoint::ChatCompletions;
        registry.elsewhere(&alice, &target, endpoint, |_| true).map(str::to_owned)
    };
    assert_eq!(elsewhere(&world.hubs[1].0), None, "nothing is told yet");
    let grace = Duration::from_secs(30);
    let is_moving = |registry: &Registry, now| registry.is_moving(&alice, &target, at(now), grace);
    assert!(!is_moving(&world.hubs[1].0, 0));
    let tell = |world: &mut World| {
        let mut cursor = 0;
        let (told, more) = world.hubs[0].0.tell(&mut cursor);
        assert!(!more && told != Told::default());
        // As it goes between hubs.
        let told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        world.hubs[1].0.told("a", told, at(0));
    };
    tell(&mut world);
    assert_eq!(elsewhere(&world.hubs[1].0).as_deref(), Some("a"));
    assert_eq!(elsewhere(&world.hubs[0].0), None, "it is served here");
    let other = &mut world.hubs[1].0;
    assert_eq!(other.llms["a"].llm.status, Status::Active);
    assert!(matches!(other.pick(&alice, &target, Endpoint::ChatCompletions), PickResult::NoMember));
    // It is told by the hub that has its channel alone.
    other.told("c", Told::default(), at(0));
    world.apply(Op::Close { session: 0 });
    tell(&mut world);
    assert_eq!(elsewhere(&world.hubs[1].0), None);
    assert_eq!(world.hubs[1].0.llms["a"].llm.status, Status::Inactive);
    // The session moves: the first hub hands it over.
    world.apply(Op::Open { hub: 0, session: 0 });
    world.apply(Op::Open { hub: 1, session: 0 });
    assert!(world.hubs[1].0.is_served_here(&alice, &target) && !is_moving(&world.hubs[1].0, 0));
    world.hubs[1].0.close("s0", "s", at(0));
    assert!(is_moving(&world.hubs[1].0, 29_999) && !is_moving(&world.hubs[1].0, 30_000));
    let lost = {
        let (registry, read) = &mut world.hubs[0];
        registry.merge(world.stored.behind(*read), at(0))
    };
    assert_eq!(lost, ["s0"]);
    assert!(!world.hubs[0].0.is_served_here(&alice, &target));
}

/// The hub that does not have the session's channel does not give its rows to another session while that is open.
#[test]
fn a_row_that_is_live_at_another_hub_is_not_adopted() {
    let mut world = World::new();
    let row = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };
    world.apply(Op::Register { hub: 0, session: 0, user: 0, rows: vec![row.clone()], lost: false });
    world.apply(Op::Open { hub: 0, session: 0 });
    world.merge(1);
    let (told, _) = world.hubs[0].0.tell(&mut 0);
    world.hubs[1].0.told("a", told, at(0));
    world.hours = 1;
    let request = World::request(1, &[row]);
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
