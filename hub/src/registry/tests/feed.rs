//! The change feed: its pages add up to what a watcher may see of the registry.

use super::lifecycle::World;
use super::lifecycle::ops::{Op, any_op};
use super::*;

/// A watcher and its copy of the rows and sessions.
struct Watcher {
    caller: Caller,
    cursor: FeedCursor,
    llms: BTreeMap<String, String>,
    sessions: BTreeMap<String, String>,
    /// Names and ids that the watcher was allowed to see at some time.
    visible: HashSet<String>,
}

impl Watcher {
    fn new(caller: Caller) -> Self {
        let cursor = FeedCursor::default();
        Self { caller, cursor, llms: BTreeMap::new(), sessions: BTreeMap::new(), visible: HashSet::new() }
    }

    fn note_visible(&mut self, registry: &Registry) {
        self.visible.extend(registry.llms_after(&self.caller, None).map(|llm| llm.name.clone()));
        self.visible.extend(
            registry.sessions_before(&self.caller, None, usize::MAX).0.into_iter().map(|session| session.id),
        );
    }

    /// Reads a page of at most `most` entries. Returns whether more pages follow.
    fn read(&mut self, registry: &Registry, most: usize) -> bool {
        let page = registry.feed_page(&self.caller, &mut self.cursor, most);
        assert!(page.llms.len() + page.sessions.len() <= most);
        if page.reset {
            self.llms.clear();
            self.sessions.clear();
        }
        for (name, live) in page.llms {
            assert!(self.visible.contains(&name), "the page has a hidden row");
            match live {
                Some(mut live) => {
                    // A heartbeat that changes only this time is not in the feed.
                    live.row.last_heartbeat_at = None;
                    self.llms.insert(name, format!("{live:?}"));
                }
                None => drop(self.llms.remove(&name)),
            }
        }
        for (id, session) in page.sessions {
            assert!(self.visible.contains(&id), "the page has another user's session");
            match session {
                Some(mut session) => {
                    session.last_heartbeat_at = Timestamp(0);
                    self.sessions.insert(id, format!("{session:?}"));
                }
                None => drop(self.sessions.remove(&id)),
            }
        }
        page.more
    }

    /// A new watcher of the same caller that has read all pages.
    fn restarted(&self, registry: &Registry) -> Self {
        let mut other = Self::new(self.caller.clone());
        other.note_visible(registry);
        while other.read(registry, 3) {}
        other
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn pages_of_the_feed_add_up_to_what_the_watcher_sees(
        ops in prop::collection::vec((any_op(), prop::collection::vec((0..3_usize, 1..4_usize), 0..3)), 0..60)
    ) {
        let mut world = World::new();
        let admin = Caller { role: Role::Admin, ..caller("root") };
        let mut watchers = [admin, caller("alice"), caller("bob")].map(Watcher::new);
        for (op, pages) in &ops {
            world.step(op);
            if matches!(op, Op::Restart { .. }) {
                // Watchers do not survive a restart.
                watchers = watchers.map(|one| Watcher::new(one.caller));
            }
            for one in &mut watchers {
                one.note_visible(&world.registry);
            }
            for &(watcher, most) in pages {
                watchers[watcher].read(&world.registry, most);
            }
        }
        for mut one in watchers {
            while one.read(&world.registry, 2) {}
            let fresh = one.restarted(&world.registry);
            prop_assert_eq!(&one.llms, &fresh.llms);
            prop_assert_eq!(&one.sessions, &fresh.sessions);
            let names: Vec<&String> = one.llms.keys().collect();
            let expected: Vec<&String> = world.registry.llms_after(&one.caller, None).map(|llm| &llm.name).collect();
            prop_assert_eq!(names, expected);
            prop_assert_eq!(one.sessions.len(), world.registry.sessions_before(&one.caller, None, usize::MAX).0.len());
        }
    }
}

#[test]
fn a_watcher_that_missed_too_many_removals_starts_again() {
    let mut registry = registry_with(&[("kept", None)], PoolPolicy::Members);
    let mut one = Watcher::new(caller("bob"));
    one.note_visible(&registry);
    one.visible.insert("gone".into());
    while one.read(&registry, 100) {}
    let public = registry.llms["kept"].llm.clone();
    for round in 0..5000 {
        registry.put_llm(Llm { name: "gone".into(), session: None, ..public.clone() }, at(round));
        registry.remove_llm("gone", at(round));
    }
    let page = registry.feed_page(&one.caller, &mut one.cursor, 100);
    assert!(page.reset);
    assert_eq!(page.llms.keys().collect::<Vec<_>>(), ["kept"], "removals after a reset");
    assert!(!registry.feed_page(&one.caller, &mut one.cursor, 100).reset);
}

/// A heartbeat that changes no status adds nothing to the feed, so that its cost does not depend on the number of rows.
#[test]
fn a_heartbeat_without_a_change_is_not_in_the_feed() {
    let mut registry = registry_with(&[("a", None), ("b", None)], PoolPolicy::Members);
    let admin = Caller { role: Role::Admin, ..caller("root") };
    let mut cursor = FeedCursor::default();
    registry.feed_page(&admin, &mut cursor, 100);
    let beat = Heartbeat { provider_session_id: "alice-1".into(), stream_id: None, providers: None };
    for time in 1..4 {
        assert!(registry.heartbeat(&caller("alice"), &beat, at(time * 1000)).unwrap().changes.is_empty());
        let row = registry.llm(&admin, "a").unwrap();
        let shown = registry.llm_row(&admin, row).last_heartbeat_at;
        assert_eq!(shown, Some(at(time * 1000).wall), "the list has the time of the heartbeat");
    }
    let page = registry.feed_page(&admin, &mut cursor, 100);
    assert!(page.llms.is_empty() && page.sessions.is_empty() && !page.more);
}

/// A page ends by its bytes, whatever the rows' descriptions are: a watcher that does not read holds one page.
#[test]
fn a_page_of_the_feed_ends_by_its_bytes() {
    let mut registry = registry_with(&[("first", None)], PoolPolicy::Members);
    let first = registry.llms["first"].llm.clone();
    for number in 0..200 {
        let description = Some("\u{1}".repeat(if number % 2 == 0 { 4096 } else { 200 }));
        let row =
            Llm { name: format!("row-{number:03}"), id: number.to_string(), description, ..first.clone() };
        registry.put_llm(row, at(1));
    }
    let (reader, mut cursor, mut names) = (caller("bob"), FeedCursor::default(), BTreeSet::new());
    loop {
        let page = registry.feed_page(&reader, &mut cursor, usize::MAX);
        let size = serde_json::to_string(&page.llms).unwrap().len();
        let texts = page.llms.values().flatten().filter_map(|live| live.row.description.as_ref());
        assert!(
            texts.clone().all(|text| text.chars().count() <= 257),
            "a description that is sent again and again"
        );
        assert!(size < 68 << 10, "{size} bytes in {} rows", page.llms.len());
        names.extend(page.llms.into_keys());
        if !page.more {
            break;
        }
    }
    assert_eq!(names.len(), 201);
}
