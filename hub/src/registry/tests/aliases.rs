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
    // Away: the first member shows that the pool is callable, all of them that none is active.
    let away = (0..150).map(|number| provider(&format!("away-{number}"), Some("lake"))).collect();
    let carol = caller("carol");
    register(&mut registry, "carol", "carol-1", away).unwrap();
    registry.open(&carol, "carol-1", "s".into(), Features::ALL, at(0)).unwrap();
    registry.drain(&carol, "carol-1", at(0)).unwrap();
    let scope = AliasScope::User("bob".into());
    for length in 1..=90 {
        registry
            .set_alias(&bob, (scope.clone(), &format!("{}*", "a".repeat(length))), "lake", at(0))
            .unwrap();
    }
    let view = |length| registry.alias(&bob, &scope, &format!("{}*", "a".repeat(length))).unwrap();
    assert_eq!(view(1).status, Status::Inactive);
    let took = |look_up: &dyn Fn()| {
        let began = thread_time();
        (0..20).for_each(|_| look_up());
        thread_time().saturating_sub(began)
    };
    let views = took(&|| assert_eq!(registry.aliases_after(&bob, None).count(), 90));
    let single = took(&|| assert_eq!((1..=90).map(view).count(), 90));
    assert!(views * 3 < single, "{views:?}, one by one {single:?}");
}

/// A24: what an alias of one's own costs does not grow with the names of others.
#[test]
fn an_alias_of_ones_own_does_not_walk_the_names_of_others() {
    let mut registry = empty(PoolPolicy::Ask);
    let (bob, admin) = (caller("bob"), Caller { role: Role::Admin, ..caller("root") });
    register(&mut registry, "root", "root-1", vec![provider("t", None)]).unwrap();
    for session in 0..20 {
        let private = |number| ProviderEntry {
            visibility: Visibility::Private,
            ..provider(&format!("m{session}-{number}"), None)
        };
        register(&mut registry, "alice", &format!("alice-{session}"), (0..100).map(private).collect())
            .unwrap();
    }
    let mut took = |caller: &Caller, scope: AliasScope| {
        let began = thread_time();
        for _ in 0..20 {
            registry.set_alias(caller, (scope.clone(), "m*"), "t", at(0)).unwrap();
        }
        thread_time().saturating_sub(began)
    };
    let (own, shared) = (took(&bob, AliasScope::User("bob".into())), took(&admin, AliasScope::All));
    assert!(own * 3 < shared, "{own:?}, and for all users {shared:?}");
}
