//! The rules of life under any order of events.

mod feed;
mod rule;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use wire::Features;
use wire::register::{Heartbeat, ProviderEntry, ProviderStatus, RegisterRequest};
use wire::row::{Kind, Status, Timestamp, Visibility};
use wire::task::Endpoint;

use super::*;
use crate::model::{Caller, NameRecord, Role};

const USERS: [&str; 2] = ["alice", "bob"];
const SESSIONS: [&str; 4] = ["alice-1", "alice-2", "bob-1", "bob-2"];
const NAMES: [&str; 4] = ["a", "b", "c", "p"];
const HOUR: u64 = 3_600_000;
const HOURS: i64 = 3_600_000;

#[derive(Debug, Clone)]
enum Op {
    Register {
        session: usize,
        by: usize,
        providers: Vec<Spec>,
    },
    Open {
        session: usize,
        features: bool,
    },
    Close {
        session: usize,
        late: bool,
    },
    Beat {
        session: usize,
        stale: bool,
        report: Option<(usize, Status)>,
    },
    Drain {
        session: usize,
    },
    Start {
        name: usize,
    },
    End {
        name: usize,
    },
    Woken {
        name: usize,
    },
    Sweep,
    Wait(u64),
    /// Somebody sets the wall clock.
    Jump(i64),
    Restart {
        down: u64,
    },
}

#[derive(Debug, Clone)]
struct Spec {
    name: usize,
    pool: Option<usize>,
    visibility: Visibility,
    asleep: bool,
}

fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Active), Just(Status::Inactive), Just(Status::Hibernating)]
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let visibility = prop_oneof![Just(Visibility::Private), Just(Visibility::Public)];
    (0..NAMES.len(), prop::option::of(0..NAMES.len()), visibility, any::<bool>())
        .prop_map(|(name, pool, visibility, asleep)| Spec { name, pool, visibility, asleep })
}

fn any_op() -> impl Strategy<Value = Op> {
    let session = 0..SESSIONS.len();
    let name = 0..NAMES.len();
    prop_oneof![
        6 => (session.clone(), 0..USERS.len(), prop::collection::vec(any_spec(), 0..4))
            .prop_map(|(session, by, providers)| Op::Register { session, by, providers }),
        5 => (session.clone(), any::<bool>()).prop_map(|(session, features)| Op::Open { session, features }),
        3 => (session.clone(), any::<bool>()).prop_map(|(session, late)| Op::Close { session, late }),
        4 => (session.clone(), any::<bool>(), prop::option::of((name.clone(), any_status())))
            .prop_map(|(session, stale, report)| Op::Beat { session, stale, report }),
        1 => session.prop_map(|session| Op::Drain { session }),
        2 => name.clone().prop_map(|name| Op::Start { name }),
        2 => name.clone().prop_map(|name| Op::End { name }),
        1 => name.prop_map(|name| Op::Woken { name }),
        4 => Just(Op::Sweep),
        4 => prop_oneof![Just(1_000), Just(60_000), Just(HOUR), Just(2 * HOUR)].prop_map(Op::Wait),
        2 => prop_oneof![Just(-5 * HOURS), Just(-1), Just(HOURS), Just(5 * HOURS)].prop_map(Op::Jump),
        1 => (0..20 * HOUR).prop_map(|down| Op::Restart { down }),
    ]
}

/// The registry, what the store made of its changes, and what was seen so far.
struct World {
    registry: Registry,
    now: Now,
    wall_skew: i64,
    ids: Cell<u64>,
    streams: HashMap<usize, Vec<String>>,
    stored: BTreeMap<String, Llm>,
    sessions: HashMap<String, SessionRecord>,
    names: BTreeMap<String, NameRecord>,
    deleted: HashSet<String>,
    /// Row id to its name, its owner, and whether it was private.
    seen: HashMap<String, (String, String, bool)>,
}

fn next(ids: &Cell<u64>) -> u64 {
    ids.set(ids.get() + 1);
    ids.get()
}

fn caller(user: &str) -> Caller {
    Caller { user: user.into(), role: Role::Member, token_id: "t".into() }
}

fn empty(now: Now) -> Registry {
    Registry::load(&Snapshot::default(), PoolPolicy::Members, &HubTimings::default(), now)
}

fn at(mono: u64) -> Now {
    Now { wall: Timestamp(i64::try_from(mono).unwrap()), mono: Duration::from_millis(mono) }
}

fn entry(spec: &Spec) -> ProviderEntry {
    ProviderEntry {
        name: NAMES[spec.name].into(),
        provider_type: "openai".into(),
        model: "m".into(),
        tier: None,
        description: None,
        pool_name: spec.pool.map(|pool| NAMES[pool].into()),
        visibility: spec.visibility,
        timeout_seconds: None,
        allow_remote_urls: false,
        max_concurrency: None,
        initial_status: if spec.asleep { Status::Hibernating } else { Status::Active },
    }
}

impl World {
    fn new() -> Self {
        let now = at(0);
        Self {
            registry: empty(now),
            now,
            wall_skew: 0,
            ids: Cell::new(0),
            streams: HashMap::new(),
            stored: BTreeMap::new(),
            sessions: HashMap::new(),
            names: BTreeMap::new(),
            deleted: HashSet::new(),
            seen: HashMap::new(),
        }
    }

    fn store(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::PutLlm(llm) => drop(self.stored.insert(llm.id.clone(), *llm)),
                Change::DeleteLlm(id) => {
                    assert!(self.stored.remove(&id).is_some(), "deleted twice");
                    self.deleted.insert(id);
                }
                Change::PutSession(record) => drop(self.sessions.insert(record.id.clone(), record)),
                Change::PutName(record) => drop(self.names.insert(record.name.clone(), record)),
                Change::DeleteName(name) => assert!(self.names.remove(&name).is_some(), "freed twice"),
                Change::DeleteSession(id) => drop(self.sessions.remove(&id)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Register { session, by, providers } => self.register(*session, *by, providers),
            Op::Open { session, features } => {
                let stream = format!("stream-{}", self.fresh());
                let features = if *features { Features::ALL } else { Features::CLASSIC };
                let caller = self.holder(*session);
                let id = SESSIONS[*session];
                if let Ok(opened) = self.registry.open(&caller, id, stream.clone(), features, self.now) {
                    self.streams.entry(*session).or_default().push(stream);
                    self.store(opened.changes);
                }
                let stranger = USERS.into_iter().find(|user| *user != caller.user).unwrap();
                let stranger = super::tests::caller(stranger);
                let stream = "stranger".to_owned();
                assert!(self.registry.open(&stranger, id, stream, features, self.now).is_err());
            }
            Op::Close { session, late } => {
                let Some(streams) = self.streams.get(session) else { return };
                let stream = if *late { streams.first() } else { streams.last() }.unwrap().clone();
                let newest = streams.last() == Some(&stream);
                let closed = self.registry.close(SESSIONS[*session], &stream, self.now);
                assert!(newest || closed.is_none(), "a late close changes nothing");
                self.store(closed.unwrap_or_default());
            }
            Op::Beat { session, stale, report } => {
                let stream = self.streams.get(session).and_then(|streams| streams.last().cloned());
                let beat = Heartbeat {
                    provider_session_id: SESSIONS[*session].into(),
                    stream_id: if *stale { Some("old".into()) } else { stream },
                    providers: report.map(|(name, status)| {
                        let name = NAMES[name].into();
                        vec![ProviderStatus {
                            name,
                            status,
                            in_flight: 0,
                            queued: 0,
                            max_concurrency: 1,
                            paused: false,
                            paused_until: None,
                        }]
                    }),
                };
                let changes = self.registry.heartbeat(&self.holder(*session), &beat, self.now);
                self.store(changes.map(|beat| beat.changes).unwrap_or_default());
            }
            Op::Drain { session } => {
                let caller = self.holder(*session);
                let changes = self.registry.drain(&caller, SESSIONS[*session], self.now);
                self.store(changes.unwrap_or_default());
            }
            Op::Start { name } => self.registry.task_started(NAMES[*name]),
            Op::End { name } => {
                let changes = self.registry.task_ended(NAMES[*name], self.now);
                self.store(changes);
            }
            Op::Woken { name } => {
                let changes = self.registry.mark_awake(NAMES[*name], self.now);
                self.store(changes);
            }
            Op::Sweep => {
                let before: HashMap<_, _> = self
                    .registry
                    .llms
                    .iter()
                    .map(|(name, entry)| {
                        let session =
                            entry.llm.session.as_ref().and_then(|id| self.registry.sessions.get(id));
                        let open = session.is_some_and(Session::is_open);
                        (name.clone(), (entry.llm.status, entry.inactive_at, open))
                    })
                    .collect();
                let swept = self.registry.sweep(self.now);
                self.store(swept.changes);
                for (name, (status, since, open)) in before {
                    let age = self.now.mono.saturating_sub(since);
                    let old = status == Status::Inactive && !open && age >= Duration::from_hours(4);
                    assert_eq!(
                        self.registry.llms.contains_key(&name),
                        !old,
                        "{name} {status} {age:?} {open}"
                    );
                }
            }
            Op::Wait(millis) => self.pass(*millis),
            Op::Jump(millis) => {
                self.wall_skew += millis;
                self.pass(0);
            }
            Op::Restart { down } => {
                self.wall_skew += i64::try_from(*down).unwrap();
                self.pass(0);
                let snapshot = Snapshot {
                    llms: self.stored.values().cloned().collect(),
                    sessions: self.sessions.values().cloned().collect(),
                    names: self.names.values().cloned().collect(),
                    ..Snapshot::default()
                };
                let timings = HubTimings::default();
                self.registry = Registry::load(&snapshot, PoolPolicy::Members, &timings, self.now);
                self.streams.clear();
                assert!(self.registry.llms.values().all(|entry| entry.llm.status == Status::Inactive));
                self.stored = self
                    .registry
                    .llms
                    .values()
                    .map(|entry| (entry.llm.id.clone(), entry.llm.clone()))
                    .collect();
                let swept = self.registry.sweep(self.now);
                assert!(swept.changes.is_empty(), "our own downtime counted");
            }
        }
    }

    fn register(&mut self, session: usize, by: usize, providers: &[Spec]) {
        let request = RegisterRequest {
            provider_session_id: Some(SESSIONS[session].into()),
            providers: providers.iter().map(entry).collect(),
            agents: Vec::new(),
        };
        let before = self.dump();
        let ids = &self.ids;
        let fresh = |prefix: &str| format!("{prefix}-{}", next(ids));
        let outcome = self.registry.register(&caller(USERS[by]), &request, &fresh, self.now);
        match outcome {
            Ok(done) => {
                let taken =
                    self.sessions.get(SESSIONS[session]).is_some_and(|known| known.owner != USERS[by]);
                assert_eq!(done.session == SESSIONS[session], !taken);
                self.store(done.changes);
                for name in self.registry.sessions[&done.session].llms.clone() {
                    let named = providers.iter().any(|spec| NAMES[spec.name] == name);
                    let llm = &self.registry.llms[&name].llm;
                    assert_eq!(llm.registered, named);
                    assert_eq!(llm.status == Status::Inactive, !named);
                }
            }
            Err(_) => assert_eq!(self.dump(), before, "a refused call changed something"),
        }
    }

    /// Whoever registered the session first.
    fn holder(&self, session: usize) -> Caller {
        let known = self.sessions.get(SESSIONS[session]);
        caller(known.map_or(USERS[0], |record| &record.owner))
    }

    fn fresh(&self) -> u64 {
        next(&self.ids)
    }

    fn pass(&mut self, millis: u64) {
        self.now.mono += Duration::from_millis(millis);
        let mono = i64::try_from(self.now.mono.as_millis()).unwrap();
        self.now.wall = Timestamp(mono + self.wall_skew);
    }

    fn dump(&self) -> Vec<String> {
        let rows = self.registry.llms.values().map(|entry| format!("{:?}", entry.llm));
        let mut sessions: Vec<_> =
            self.registry.sessions.values().map(|held| format!("{:?}", held.record)).collect();
        sessions.sort();
        rows.chain(sessions).collect()
    }

    fn check(&mut self) {
        for entry in self.registry.llms.values() {
            let llm = &entry.llm;
            assert!(!self.deleted.contains(&llm.id), "a deleted row came back");
            let stored = self.stored.get(&llm.id).expect("a row that is not stored");
            let kept = |llm: &Llm| {
                (
                    llm.name.clone(),
                    llm.owner.clone(),
                    llm.session.clone(),
                    llm.status,
                    llm.registered,
                    llm.pool_name.clone(),
                )
            };
            assert_eq!(kept(stored), kept(llm), "the store is out of step");
            let private = llm.visibility == Visibility::Private;
            let seen = (llm.name.clone(), llm.owner.clone(), private);
            if let Some(before) = self.seen.insert(llm.id.clone(), seen.clone()) {
                assert_eq!((&before.0, &before.1), (&seen.0, &seen.1), "a row changed its name or owner");
                assert!(!before.2 || private, "a row became public");
            }
            assert_eq!(llm.inactive_since.is_some(), llm.status == Status::Inactive);
            let session =
                self.registry.sessions.get(llm.session.as_ref().unwrap()).expect("a row without session");
            assert!(session.llms.contains(&llm.name));
            assert_eq!(session.record.owner, llm.owner);
            if let Some(pool) = &llm.pool_name {
                let rows = &self.registry.pools[pool];
                assert_eq!(rows.members.contains(&llm.name), entry.member);
                assert_eq!(rows.waiting.contains(&llm.name), !entry.member);
                let namesake = self.registry.llms.get(pool);
                assert!(
                    namesake.is_none_or(|other| Some(&other.llm.owner) == self.registry.names.owner(pool)),
                    "a pool has the name of another user's row"
                );
            }
        }
        assert_eq!(self.stored.len(), self.registry.llms.len());
        check_counts(&self.registry);
        self.check_what_is_counted();
        for user in USERS {
            self.check_what_one_sees(&caller(user));
        }
    }

    /// What a user has is what a walk over the table would find, and a user who has nothing is not in it.
    fn check_what_is_counted(&self) {
        let mut counted: HashMap<String, super::Usage> = HashMap::new();
        for entry in self.registry.llms.values() {
            let owned = counted.entry(entry.llm.owner.clone()).or_default();
            owned.llms += 1;
            owned.bytes += super::usage::llm_bytes(&entry.llm);
        }
        for entry in self.registry.agents.values() {
            let owned = counted.entry(entry.agent.owner.clone()).or_default();
            owned.agents += 1;
            owned.bytes += super::usage::agent_bytes(&entry.agent);
        }
        for session in self.registry.sessions.values() {
            counted.entry(session.record.owner.clone()).or_default().sessions += 1;
        }
        assert_eq!(self.registry.usage, counted);
    }

    /// Whatever a user gets is a function of the rows that this user may see: the same as from a table without others.
    fn check_what_one_sees(&mut self, caller: &Caller) {
        let mut visible = Snapshot::default();
        visible.llms.extend(self.registry.llms(caller).cloned());
        // Whose a pool is that one waits for is no secret, also when it is none any more.
        let waited = |name: &str| visible.llms.iter().any(|llm| llm.pool_name.as_deref() == Some(name));
        let told: Vec<_> =
            self.names.values().filter(|record| record.pool || waited(&record.name)).cloned().collect();
        visible.names.extend(told);
        let mine = Registry::load(&visible, PoolPolicy::Members, &HubTimings::default(), self.now);
        for name in NAMES {
            assert_eq!(self.registry.target(caller, name), mine.target(caller, name));
            let names = |registry: &Registry| -> Option<Vec<String>> {
                let key = registry.pool(caller, name)?.key;
                Some(registry.members(caller, &key).map(|llm| llm.name.clone()).collect())
            };
            assert_eq!(names(&self.registry), names(&mine));
            let Some(target) = self.registry.target(caller, name) else { continue };
            let pick = self.registry.pick(caller, &target, Endpoint::ChatCompletions);
            if let PickResult::Chosen(candidate) = pick {
                let entry = &self.registry.llms[&candidate.name];
                let session = &self.registry.sessions[entry.llm.session.as_ref().unwrap()];
                assert!(caller.sees(entry.llm.visibility, &entry.llm.owner), "a hidden row was chosen");
                assert!(session.is_open() && !session.draining && entry.llm.registered);
                assert_ne!(entry.llm.status, Status::Inactive);
            }
        }
    }
}

/// What is counted of pools and names is what a walk over the table finds.
fn check_counts(registry: &Registry) {
    let mut pools: BTreeMap<String, PoolRows> = BTreeMap::new();
    for entry in registry.llms.values() {
        let llm = &entry.llm;
        let Some(pool) = &llm.pool_name else { continue };
        let rows = pools.entry(pool.clone()).or_default();
        let public = llm.visibility == Visibility::Public;
        let own = entry.member && registry.names.owner(pool) == Some(&llm.owner);
        for (set, is_in) in [
            (&mut rows.members, entry.member),
            (&mut rows.waiting, !entry.member),
            (&mut rows.own, own),
            (&mut rows.shown, own && public),
        ] {
            if is_in {
                set.insert(llm.name.clone());
            }
        }
        *rows.of.entry(llm.owner.clone()).or_default() += 1;
        rows.public += usize::from(public);
    }
    assert_eq!(registry.pools, pools);
    let everybody = Caller { role: Role::Admin, ..caller("root") };
    for one in ["alice", "bob", "carol", "root"].map(caller).into_iter().chain([everybody]) {
        let sees = |pool: &&String| registry.pool_view(&one, pool).is_some();
        let expected: Vec<&String> = pools.keys().filter(sees).collect();
        let (mut views, mut after) = (Vec::new(), None);
        loop {
            let (page, last) = registry.pools_after(&one, after.as_deref(), 1);
            views.extend(page.into_iter().map(|view| view.name));
            let Some(last) = last else { break };
            after = Some(last);
        }
        assert_eq!(views.iter().collect::<Vec<_>>(), expected);
        let names: Vec<String> = registry.names_after(&one, None, at(0)).map(|view| view.name).collect();
        let expected: Vec<String> = registry
            .llms
            .keys()
            .chain(registry.agents.keys())
            .chain(pools.keys())
            .filter(|name| one.role == Role::Admin || registry.names.owner(name) == Some(&one.user))
            .filter(|name| registry.names.owner(name).is_some())
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        assert!(expected.iter().all(|name| names.contains(name)) && names.is_sorted());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// P5, F59, F67, F68, F69: whatever happens in whatever order, and whatever the wall clock does, no row is deleted
    /// before its time.
    #[test]
    fn no_deleted_row_comes_back_no_name_has_two_owners_and_downtime_does_not_count(
        ops in prop::collection::vec(any_op(), 0..60)
    ) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
            world.check();
        }
    }
}

/// A registry with an open session of alice's that has these rows.
fn with(rows: &[(&str, Option<&str>)], policy: PoolPolicy) -> Registry {
    let mut registry = Registry::load(&Snapshot::default(), policy, &HubTimings::default(), at(0));
    let providers = rows.iter().map(|(name, pool)| provider(name, *pool)).collect();
    register(&mut registry, "alice", "alice-1", providers).unwrap();
    registry.open(&caller("alice"), "alice-1", "s".into(), Features::ALL, at(0)).unwrap();
    registry
}

fn provider(name: &str, pool: Option<&str>) -> ProviderEntry {
    let spec = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };
    ProviderEntry { name: name.into(), pool_name: pool.map(Into::into), ..entry(&spec) }
}

fn register(
    registry: &mut Registry,
    user: &str,
    session: &str,
    providers: Vec<ProviderEntry>,
) -> Result<super::register::Registration, RegisterRefusal> {
    let request =
        RegisterRequest { provider_session_id: Some(session.into()), providers, agents: Vec::new() };
    let count = Cell::new(0);
    let fresh = |prefix: &str| {
        count.set(count.get() + 1);
        format!("{prefix}-{session}-{}", count.get())
    };
    registry.register(&caller(user), &request, &fresh, at(0))
}

#[test]
fn a_pool_and_another_users_row_never_share_a_name() {
    let mut registry = with(&[("row", None), ("member", Some("pool"))], PoolPolicy::Members);
    let conflict = |text: &str| Err(RegisterRefusal::Conflict(text.into()));
    let mut bob = |name, pool| register(&mut registry, "bob", "bob-1", vec![provider(name, pool)]).map(drop);
    assert_eq!(bob("x", Some("row")), conflict("poolName 'row' is the name of another user's LLM"));
    assert_eq!(bob("pool", None), conflict("name 'pool' is the name of another user's pool"));
    assert_eq!(bob("x", Some("pool")), Ok(()), "a named pool is open to every member");
    assert_eq!(bob("x", Some("x")), Ok(()), "one's own name is no conflict");
}

#[test]
fn only_the_user_with_its_first_row_joins_a_pool_where_the_hub_says_so() {
    let mut registry = with(&[("member", Some("pool"))], PoolPolicy::Owner);
    let refused = register(&mut registry, "bob", "bob-1", vec![provider("x", Some("pool"))]);
    assert_eq!(refused.unwrap_err(), RegisterRefusal::Conflict("pool 'pool' belongs to another user".into()));
    assert!(register(&mut registry, "alice", "alice-2", vec![provider("y", Some("pool"))]).is_ok());
}

#[test]
fn a_public_row_is_not_published_over() {
    let mut registry = with(&[("a", None)], PoolPolicy::Members);
    let mut public = registry.llms["a"].llm.clone();
    registry.remove_llm("a", at(0));
    (public.kind, public.session) = (Kind::Public, None);
    registry.put_llm(public.clone(), at(0));
    for user in USERS {
        let refused = register(&mut registry, user, "new", vec![provider("a", None)]).unwrap_err();
        assert_eq!(refused, RegisterRefusal::Conflict("Cannot publish over public LLM: a".into()));
    }
    public.visibility = Visibility::Private;
    registry.put_llm(public, at(0));
    let refused = register(&mut registry, "bob", "new", vec![provider("a", None)]).unwrap_err();
    assert_eq!(refused, RegisterRefusal::Conflict("name 'a' is taken".into()));
}

#[test]
fn a_session_that_never_came_back_is_taken_over_after_ninety_seconds() {
    let mut registry = with(&[("a", None)], PoolPolicy::Members);
    let snapshot = Snapshot {
        llms: registry.llms.values().map(|entry| entry.llm.clone()).collect(),
        sessions: registry.sessions.values().map(|session| session.record.clone()).collect(),
        ..Snapshot::default()
    };
    registry = Registry::load(&snapshot, PoolPolicy::Members, &HubTimings::default(), at(0));
    let request = RegisterRequest {
        provider_session_id: None,
        providers: vec![provider("a", None)],
        agents: Vec::new(),
    };
    let mut take = |now| registry.register(&caller("alice"), &request, &|_| "new".into(), now).is_ok();
    assert!(!take(at(90_000)), "it may still be on its way back");
    assert!(take(at(90_001)));
}

#[test]
fn equals_take_turns_and_a_private_row_keeps_a_call_with_its_owner() {
    let mut registry = with(&[("a", Some("p")), ("b", Some("p"))], PoolPolicy::Members);
    let alice = caller("alice");
    let target = registry.target(&alice, "p").unwrap();
    let mut pick = || match registry.pick(&alice, &target, Endpoint::ChatCompletions) {
        PickResult::Chosen(candidate) => candidate.name,
        other => panic!("{other:?}"),
    };
    let turns: Vec<String> = (0..4).map(|_| pick()).collect();
    assert!(turns[0] != turns[1] && turns[0] == turns[2] && turns[1] == turns[3], "{turns:?}");

    let mut only = target.clone();
    only.only_owner = Some("bob".into());
    let nobody = registry.pick(&alice, &only, Endpoint::ChatCompletions);
    assert!(matches!(nobody, PickResult::NoMember));
}

/// F23, P5: two beats that are lost change nothing; the third is late, and the next one brings the row back.
#[test]
fn one_or_two_lost_beats_change_nothing_and_the_third_is_late() {
    let mut registry = with(&[("a", None)], PoolPolicy::Members);
    let beat = Heartbeat { provider_session_id: "alice-1".into(), stream_id: None, providers: None };
    let mut due = 0;
    for lost in 0..3 {
        due += 30_000 * (lost + 1);
        assert!(registry.sweep(at(due - 1)).silent.is_empty(), "{lost} lost");
        registry.heartbeat(&caller("alice"), &beat, at(due)).unwrap();
        assert_eq!(registry.llms["a"].llm.status, Status::Active, "{lost} lost");
    }
    assert!(registry.sweep(at(due + 90_000)).silent.is_empty());
    assert_eq!(registry.sweep(at(due + 90_001)).silent, [("alice-1".to_owned(), "alice".to_owned())]);
    assert_eq!(registry.llms["a"].llm.status, Status::Inactive);
    registry.heartbeat(&caller("alice"), &beat, at(due + 100_000)).unwrap();
    assert_eq!(registry.llms["a"].llm.status, Status::Active);
}
