//! The lifecycle of rows and sessions in any order of events (SPEC.md section 3.6).
//!
//! Over 300 lines, since the model of the store and its checks share one state.

pub(super) mod ops;

use super::*;
use crate::registry::pools::PoolRows;
use crate::registry::session::Session;
use ops::{Op, any_op};

const SESSIONS: [&str; 4] = ["alice-1", "alice-2", "bob-1", "bob-2"];

/// The registry, a model of the store, and everything that was observed so far.
pub(super) struct World {
    pub(super) registry: Registry,
    now: Now,
    wall_skew: i64,
    ids: Cell<u64>,
    streams: HashMap<usize, Vec<String>>,
    stored: BTreeMap<String, Llm>,
    sessions: HashMap<String, SessionRecord>,
    names: BTreeMap<String, NameRecord>,
    deleted: HashSet<String>,
    /// By row id: name, owner, and whether the row was private.
    seen: HashMap<String, (String, String, bool)>,
}

impl World {
    pub(super) fn new() -> Self {
        let now = at(0);
        Self {
            registry: empty(PoolPolicy::Members),
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

    pub(super) fn step(&mut self, op: &Op) {
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
                let stranger = super::caller(stranger);
                let stream = "stranger".to_owned();
                assert!(self.registry.open(&stranger, id, stream, features, self.now).is_err());
            }
            Op::Close { session, late } => {
                let Some(streams) = self.streams.get(session) else { return };
                let stream = if *late { streams.first() } else { streams.last() }.unwrap().clone();
                let newest = streams.last() == Some(&stream);
                let closed = self.registry.close(SESSIONS[*session], &stream, self.now);
                assert!(newest || closed.is_none(), "a late close changed something");
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
                            ahead: 0,
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
            Op::Start { name } => {
                let owner = self.owner_of(*name);
                self.registry.task_started(NAMES[*name], &owner);
            }
            Op::End { name } => {
                let owner = self.owner_of(*name);
                let changes = self.registry.task_ended(NAMES[*name], &owner, self.now);
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
                let swept = self.registry.sweep(self.now, true);
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
                let swept = self.registry.sweep(self.now, true);
                assert!(swept.changes.is_empty(), "the hub's downtime counts as inactivity");
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
                let session = &self.registry.sessions[&done.session];
                for name in session.llms.iter().chain(&session.dropped_llms) {
                    let named = providers.iter().any(|spec| NAMES[spec.name] == *name);
                    let llm = &self.registry.llms[name].llm;
                    assert_eq!(llm.registered, named);
                    assert_eq!(llm.status == Status::Inactive, !named);
                }
            }
            Err(_) => assert_eq!(self.dump(), before, "a refused call changed something"),
        }
    }

    /// The owner of the row, if there is one.
    fn owner_of(&self, name: usize) -> String {
        self.registry.llms.get(NAMES[name]).map(|entry| entry.llm.owner.clone()).unwrap_or_default()
    }

    /// The owner of the session; the first user if it is not registered.
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
            assert!(!self.deleted.contains(&llm.id), "a deleted row exists again");
            let stored = self.stored.get(&llm.id).expect("the row is stored");
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
            assert_eq!(kept(stored), kept(llm), "the store differs from the registry");
            let private = llm.visibility == Visibility::Private;
            let seen = (llm.name.clone(), llm.owner.clone(), private);
            if let Some(before) = self.seen.insert(llm.id.clone(), seen.clone()) {
                assert_eq!((&before.0, &before.1), (&seen.0, &seen.1), "a row changed its name or owner");
                assert!(!before.2 || private, "a row became public");
            }
            assert_eq!(llm.inactive_since.is_some(), llm.status == Status::Inactive);
            let session =
                self.registry.sessions.get(llm.session.as_ref().unwrap()).expect("the row has a session");
            assert_eq!(session.llms.contains(&llm.name), llm.registered);
            assert_eq!(session.dropped_llms.contains(&llm.name), !llm.registered);
            assert_eq!(session.record.owner, llm.owner);
            if let Some(pool) = &llm.pool_name {
                let rows = &self.registry.pools[pool];
                assert_eq!(rows.members.contains(&llm.name), entry.member);
                assert_eq!(rows.pending.contains(&llm.name), !entry.member);
                let namesake = self.registry.llms.get(pool);
                assert!(
                    namesake.is_none_or(|other| Some(&other.llm.owner) == self.registry.names.owner(pool)),
                    "a pool has the name of another user's row"
                );
            }
        }
        assert_eq!(self.stored.len(), self.registry.llms.len());
        check_counts(&self.registry);
        self.check_usage();
        for user in USERS {
            self.check_visibility(&caller(user));
        }
    }

    /// Checks the usage counted per user against a count over all rows.
    fn check_usage(&self) {
        let mut counted: HashMap<String, Usage> = HashMap::new();
        for entry in self.registry.llms.values() {
            let owned = counted.entry(entry.llm.owner.clone()).or_default();
            owned.llms += 1;
            owned.bytes += entry.llm.bytes();
        }
        for entry in self.registry.agents.values() {
            let owned = counted.entry(entry.agent.owner.clone()).or_default();
            owned.agents += 1;
            owned.bytes += entry.agent.bytes();
        }
        for session in self.registry.sessions.values() {
            counted.entry(session.record.owner.clone()).or_default().sessions += 1;
        }
        assert_eq!(self.registry.usage, counted);
    }

    /// Checks that a registry with only the rows that a user sees gives the user the same answers.
    fn check_visibility(&mut self, caller: &Caller) {
        let mut visible = Snapshot::default();
        visible.llms.extend(self.registry.llms_after(caller, None).cloned());
        // The owners of pending rows see who owns the pool, also after the pool has ended.
        let pending = |name: &str| visible.llms.iter().any(|llm| llm.pool_name.as_deref() == Some(name));
        let visible_names: Vec<_> =
            self.names.values().filter(|record| record.pool || pending(&record.name)).cloned().collect();
        visible.names.extend(visible_names);
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
                assert!(caller.sees(entry.llm.visibility, &entry.llm.owner), "a hidden row was picked");
                assert!(session.is_open() && !session.draining && entry.llm.registered);
                assert_ne!(entry.llm.status, Status::Inactive);
            }
        }
    }
}

/// Checks the indices of pools and names against a count over all rows.
pub(super) fn check_counts(registry: &Registry) {
    let mut pools: BTreeMap<String, PoolRows> = BTreeMap::new();
    for entry in registry.llms.values() {
        let llm = &entry.llm;
        let Some(pool) = &llm.pool_name else { continue };
        let rows = pools.entry(pool.clone()).or_default();
        let public = llm.visibility == Visibility::Public;
        let own = entry.member && registry.names.owner(pool) == Some(&llm.owner);
        for (set, is_in) in [
            (&mut rows.members, entry.member),
            (&mut rows.pending, !entry.member),
            (&mut rows.owned, own),
            (&mut rows.owned_public, own && public),
        ] {
            if is_in {
                set.insert(llm.name.clone());
            }
        }
        *rows.per_user.entry(llm.owner.clone()).or_default() += 1;
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

    /// P5, F59, F67, F68, F69: rows are deleted by the monotonic clock alone, which excludes the hub's downtime; the store
    /// agrees with the registry, and deleted rows stay deleted.
    #[test]
    fn rows_expire_on_time_and_once_under_any_order_of_events(
        ops in prop::collection::vec(any_op(), 0..60)
    ) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
            world.check();
        }
    }
}
