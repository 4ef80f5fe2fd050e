//! What watchers are told adds up to what there is, and is about what they may see.

use super::*;

/// One who watches, and what it makes of what it is told.
struct Watching {
    caller: Caller,
    seen: FeedCursor,
    llms: BTreeMap<String, String>,
    sessions: BTreeMap<String, String>,
    /// The names and ids that it could see at some time.
    visible: HashSet<String>,
}

impl Watching {
    fn new(caller: Caller) -> Self {
        let seen = FeedCursor::default();
        Self { caller, seen, llms: BTreeMap::new(), sessions: BTreeMap::new(), visible: HashSet::new() }
    }

    fn notice(&mut self, registry: &Registry) {
        self.visible.extend(registry.llms(&self.caller).map(|llm| llm.name.clone()));
        self.visible.extend(
            registry.sessions_before(&self.caller, None, usize::MAX).0.into_iter().map(|session| session.id),
        );
    }

    /// One page; whether there is more.
    fn look(&mut self, registry: &Registry, most: usize) -> bool {
        let news = registry.feed_page(&self.caller, &mut self.seen, most);
        assert!(news.llms.len() + news.sessions.len() <= most);
        if news.reset {
            self.llms.clear();
            self.sessions.clear();
        }
        for (name, live) in news.llms {
            assert!(self.visible.contains(&name), "told of a hidden row");
            match live {
                Some(mut live) => {
                    // A sign of life alone is no news.
                    live.row.last_heartbeat_at = None;
                    self.llms.insert(name, format!("{live:?}"));
                }
                None => drop(self.llms.remove(&name)),
            }
        }
        for (id, session) in news.sessions {
            assert!(self.visible.contains(&id), "told of another user's session");
            match session {
                Some(mut session) => {
                    session.last_heartbeat_at = Timestamp(0);
                    self.sessions.insert(id, format!("{session:?}"));
                }
                None => drop(self.sessions.remove(&id)),
            }
        }
        news.more
    }

    /// What it would know if it came now.
    fn anew(&self, registry: &Registry) -> Self {
        let mut other = Self::new(self.caller.clone());
        other.notice(registry);
        while other.look(registry, 3) {}
        other
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn what_a_watcher_is_told_page_by_page_is_what_there_is(
        ops in prop::collection::vec((any_op(), prop::collection::vec((0..3_usize, 1..4_usize), 0..3)), 0..60)
    ) {
        let mut world = World::new();
        let admin = Caller { role: Role::Admin, ..caller("root") };
        let mut watching = [admin, caller("alice"), caller("bob")].map(Watching::new);
        for (op, looks) in &ops {
            world.step(op);
            if matches!(op, Op::Restart { .. }) {
                // Nobody is connected to a hub that was started just now.
                watching = watching.map(|one| Watching::new(one.caller));
            }
            for one in &mut watching {
                one.notice(&world.registry);
            }
            for &(who, most) in looks {
                watching[who].look(&world.registry, most);
            }
        }
        for mut one in watching {
            while one.look(&world.registry, 2) {}
            let anew = one.anew(&world.registry);
            prop_assert_eq!(&one.llms, &anew.llms);
            prop_assert_eq!(&one.sessions, &anew.sessions);
            let names: Vec<&String> = one.llms.keys().collect();
            let expected: Vec<&String> = world.registry.llms(&one.caller).map(|llm| &llm.name).collect();
            prop_assert_eq!(names, expected);
            prop_assert_eq!(one.sessions.len(), world.registry.sessions_before(&one.caller, None, usize::MAX).0.len());
        }
    }
}

#[test]
fn a_watcher_that_missed_too_much_of_what_is_gone_begins_anew() {
    let mut registry = with(&[("kept", None)], PoolPolicy::Members);
    let mut one = Watching::new(caller("bob"));
    one.notice(&registry);
    one.visible.insert("gone".into());
    while one.look(&registry, 100) {}
    let public = registry.llms["kept"].llm.clone();
    for round in 0..5000 {
        registry.put_llm(Llm { name: "gone".into(), session: None, ..public.clone() }, at(round));
        registry.remove_llm("gone", at(round));
    }
    let news = registry.feed_page(&one.caller, &mut one.seen, 100);
    assert!(news.reset);
    assert_eq!(news.llms.keys().collect::<Vec<_>>(), ["kept"], "and of what is gone there is not a word");
    assert!(!registry.feed_page(&one.caller, &mut one.seen, 100).reset);
}

/// What a heartbeat costs does not depend on how much a session publishes.
#[test]
fn a_sign_of_life_alone_changes_no_row() {
    let mut registry = with(&[("a", None), ("b", None)], PoolPolicy::Members);
    let admin = Caller { role: Role::Admin, ..caller("root") };
    let mut seen = FeedCursor::default();
    registry.feed_page(&admin, &mut seen, 100);
    let beat = Heartbeat { provider_session_id: "alice-1".into(), stream_id: None, providers: None };
    for time in 1..4 {
        assert!(registry.heartbeat(&caller("alice"), &beat, at(time * 1000)).unwrap().changes.is_empty());
        let row = registry.llm(&admin, "a").unwrap();
        let shown = registry.llm_row(&admin, row).last_heartbeat_at;
        assert_eq!(shown, Some(at(time * 1000).wall), "lists tell it all the same");
    }
    let news = registry.feed_page(&admin, &mut seen, 100);
    assert!(news.llms.is_empty() && news.sessions.is_empty() && !news.more);
}
