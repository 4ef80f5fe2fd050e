//! What look-ups of aliases cost.

use testkit::procfs::thread_time;

use super::*;

/// Aliases of one scope may have 100 patterns for one name, and a pool as many private rows of another user as it likes.
#[test]
fn a_pool_behind_many_patterns_is_walked_once() {
    let mut registry = empty(PoolPolicy::Ask);
    let (alice, bob) = (caller("alice"), caller("bob"));
    let names: Vec<String> = (0..100).map(|number| format!("{}{number}", "a".repeat(90))).collect();
    let rows = |visibility| -> Vec<_> {
        let member = |number| provider(&format!("row-{number}"), Some("pond"));
        let members = (0..150).map(|number| ProviderEntry { visibility, ..member(number) });
        members.chain(names.iter().map(|name| provider(name, None))).collect()
    };
    register(&mut registry, "alice", "alice-1", rows(Visibility::Public)).unwrap();
    registry.open(&alice, "alice-1", "s".into(), Features::ALL, at(0)).unwrap();
    for length in 1..=90 {
        let pattern = format!("{}*", "a".repeat(length));
        let scope = AliasScope::User("bob".into());
        registry.set_alias(&bob, (scope, &pattern), "pond", at(0)).unwrap();
    }
    assert_eq!(registry.called_name(&bob, &names[0]), Some("pond"));
    register(&mut registry, "alice", "alice-1", rows(Visibility::Private)).unwrap();

    let mut known = KnownTargets::default();
    let took = |mut look_up: Box<dyn FnMut(&str) -> bool + '_>| {
        let began = thread_time();
        assert!(names.iter().all(|name| look_up(name)));
        thread_time().saturating_sub(began)
    };
    let each = took(Box::new(|name| registry.called_name(&bob, name).is_none()));
    let among = took(Box::new(|name| registry.called_name_among(&bob, name, &mut known).is_none()));
    let views = took(Box::new(|_| registry.aliases_after(&bob, None).count() == 90));
    let walks = took(Box::new(|_| (0..90).all(|_| !registry.is_callable_name(&bob, "pond"))));
    for time in [each, among, views] {
        assert!(time * 3 < walks, "{each:?}, {among:?}, {views:?}, for 90 walks {walks:?}");
    }
    // Away: each is callable, and the pool's status is that of all its members.
    register(&mut registry, "alice", "alice-1", rows(Visibility::Public)).unwrap();
    let views = took(Box::new(|_| registry.aliases_after(&bob, None).count() == 90));
    let scope = AliasScope::User("bob".into());
    let single = took(Box::new(|_| {
        (1..=90).all(|length| registry.alias(&bob, &scope, &format!("{}*", "a".repeat(length))).is_some())
    }));
    assert!(views * 3 < single, "{views:?}, one by one {single:?}");
}
