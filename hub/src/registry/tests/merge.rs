//! Several hubs on one store: each changes the table in its turn, when it has taken over what the others have changed.

use super::*;
use crate::registry::told::Told;
use crate::store::Merge;

const HUBS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: [&str; 3] = ["s0", "s1", "s2"];

/// What the hubs store, and the keys of what was changed.
#[derive(Default)]
struct Stored {
    llms: BTreeMap<String, Llm>,
    sessions: BTreeMap<String, SessionRecord>,
    names: BTreeMap<String, NameRecord>,
    aliases: BTreeMap<(AliasScope, String), Alias>,
    changed: Vec<Key>,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Session(String),
    Llm(String),
    Alias(AliasScope, String),
    Name(String),
}

impl Stored {
    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = match change {
                Change::PutLlm(llm) => {
                    let name = llm.name.clone();
                    self.llms.insert(name.clone(), *llm);
                    Key::Llm(name)
                }
                Change::DeleteLlm(id) => {
                    let name = self.llms.values().find(|llm| llm.id == id).unwrap().name.clone();
                    self.llms.remove(&name);
                    Key::Llm(name)
                }
                Change::PutSession(record) => {
                    let id = record.id.clone();
                    self.sessions.insert(id.clone(), record);
                    Key::Session(id)
                }
                Change::DeleteSession(id) => {
                    self.sessions.remove(&id);
                    Key::Session(id)
                }
                Change::PutName(record) => {
                    let name = record.name.clone();
                    self.names.insert(name.clone(), record);
                    Key::Name(name)
                }
                Change::DeleteName(name) => {
                    self.names.remove(&name);
                    Key::Name(name)
                }
                Change::PutAlias(alias) => {
                    let key = (alias.scope.clone(), alias.name.clone());
                    self.aliases.insert(key.clone(), alias);
                    Key::Alias(key.0, key.1)
                }
                Change::DeleteAlias { scope, name } => {
                    self.aliases.remove(&(scope.clone(), name.clone()));
                    Key::Alias(scope, name)
                }
                other => panic!("{other:?}"),
            };
            self.changed.push(key);
        }
    }

    /// The records of the keys behind `from`, in the order of the feed.
    fn behind(&self, from: usize) -> Vec<Merge> {
        let mut records = Vec::new();
        for pass in 0..4 {
            for key in &self.changed[from..] {
                records.extend(match (pass, key) {
                    (0, Key::Session(id)) => Some(Merge::Session(id.clone(), self.sessions.get(id).cloned())),
                    (1, Key::Llm(name)) => {
                        Some(Merge::Llm(name.clone(), self.llms.get(name).cloned().map(Box::new)))
                    }
                    (2, Key::Alias(scope, name)) => {
                        let alias = self.aliases.get(&(scope.clone(), name.clone())).cloned();
                        Some(Merge::Alias(scope.clone(), name.clone(), alias))
                    }
                    (3, Key::Name(name)) => Some(Merge::Name(name.clone(), self.names.get(name).cloned())),
                    _ => None,
                });
            }
        }
        records
    }

    fn all(&self) -> Vec<Merge> {
        let sessions = self.sessions.values().map(|of| Merge::Session(of.id.clone(), Some(of.clone())));
        let llms = self.llms.values().map(|of| Merge::Llm(of.name.clone(), Some(Box::new(of.clone()))));
        let aliases = self.aliases.values();
        let aliases = aliases.map(|of| Merge::Alias(of.scope.clone(), of.name.clone(), Some(of.clone())));
        let names = self.names.values().map(|of| Merge::Name(of.name.clone(), Some(of.clone())));
        sessions.chain(llms).chain(aliases).chain(names).collect()
    }
}

struct World {
    stored: Stored,
    hubs: Vec<(Registry, usize)>,
    hours: u64,
    ids: Cell<u64>,
}

#[derive(Debug, Clone)]
enum Op {
    /// At the session's hub, or at any if `lost`: its hub is dead.
    Register {
        hub: usize,
        session: usize,
        user: usize,
        rows: Vec<Spec>,
        lost: bool,
    },
    Open {
        hub: usize,
        session: usize,
    },
    Close {
        session: usize,
    },
    Delete {
        hub: usize,
        name: usize,
    },
    Give {
        hub: usize,
        name: usize,
        to: usize,
    },
    Alias {
        hub: usize,
        user: usize,
        target: usize,
    },
    Unalias {
        hub: usize,
        user: usize,
    },
    Sweep {
        hub: usize,
        hours: u64,
    },
    /// A change is made in memory and cannot be stored.
    Fail {
        hub: usize,
        session: usize,
        user: usize,
        rows: Vec<Spec>,
    },
    Merge {
        hub: usize,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    let (hub, session, name, user) = (0..HUBS.len(), 0..SESSIONS.len(), 0..NAMES.len(), 0..USERS.len());
    let visibility = prop_oneof![Just(Visibility::Private), Just(Visibility::Public)];
    let spec = (name.clone(), prop::option::of(name.clone()), visibility, any::<bool>())
        .prop_map(|(name, pool, visibility, asleep)| Spec { name, pool, visibility, asleep });
    let rows = prop::collection::vec(spec, 0..4);
    prop_oneof![
        6 => (hub.clone(), session.clone(), user.clone(), rows.clone(), any::<bool>())
            .prop_map(|(hub, session, user, rows, lost)| Op::Register { hub, session, user, rows, lost }),
        4 => (hub.clone(), session.clone()).prop_map(|(hub, session)| Op::Open { hub, session }),
        2 => session.clone().prop_map(|session| Op::Close { session }),
        2 => (hub.clone(), name.clone()).prop_map(|(hub, name)| Op::Delete { hub, name }),
        1 => (hub.clone(), name.clone(), user.clone()).prop_map(|(hub, name, to)| Op::Give { hub, name, to }),
        1 => (hub.clone(), user.clone(), name).prop_map(|(hub, user, target)| Op::Alias { hub, user, target }),
        1 => (hub.clone(), user.clone()).prop_map(|(hub, user)| Op::Unalias { hub, user }),
        2 => (hub.clone(), 0_u64..6).prop_map(|(hub, hours)| Op::Sweep { hub, hours }),
        1 => (hub.clone(), session, user, rows)
            .prop_map(|(hub, session, user, rows)| Op::Fail { hub, session, user, rows }),
        2 => hub.prop_map(|hub| Op::Merge { hub }),
    ]
}

impl World {
    fn new() -> Self {
        let hub = |id: &str| (empty(PoolPolicy::Ask).of_hub(Some(id.into())), 0);
        Self { stored: Stored::default(), hubs: HUBS.map(hub).into(), hours: 0, ids: Cell::new(0) }
    }

    fn now(&self) -> Now {
        at(self.hours * HOUR)
    }

    /// Takes over what others have changed.
    fn merge(&mut self, hub: usize) {
        let now = self.now();
        let (registry, read) = &mut self.hubs[hub];
        registry.merge(self.stored.behind(*read), now);
        *read = self.stored.changed.len();
        assert_eq!(registry.names.drain_changes().len(), 0, "what is stored already is stored again");
    }

    /// A change in the turn of `hub`.
    fn change<T, E>(
        &mut self,
        hub: usize,
        change: impl FnOnce(&mut Registry, Now) -> Result<(T, Vec<Change>), E>,
    ) -> bool {
        self.merge(hub);
        let now = self.now();
        let Ok((_, changes)) = change(&mut self.hubs[hub].0, now) else { return false };
        self.stored.write(changes);
        true
    }

    fn hub_of(&self, session: usize) -> Option<usize> {
        let hub = self.stored.sessions.get(SESSIONS[session])?.hub.as_deref()?;
        HUBS.iter().position(|id| *id == hub)
    }

    fn request(session: usize, rows: &[Spec]) -> RegisterRequest {
        let mut providers: Vec<_> = rows.iter().map(entry).collect();
        providers.sort_by(|a, b| a.name.cmp(&b.name));
        providers.dedup_by(|a, b| a.name == b.name);
        RegisterRequest { provider_session_id: Some(SESSIONS[session].into()), providers, agents: Vec::new() }
    }

    fn apply(&mut self, op: Op) {
        let admin = Caller { role: Role::Admin, ..caller("root") };
        let ids = Cell::new(self.ids.get() + 100);
        self.ids.set(ids.get());
        let fresh = |prefix: &str| format!("{prefix}-{}", next(&ids));
        match op {
            Op::Register { hub, session, user, rows, lost } => {
                let hub = self.hub_of(session).filter(|_| !lost).unwrap_or(hub);
                let request = Self::request(session, &rows);
                self.change(hub, |registry, now| {
                    let mut done = registry.register(&caller(USERS[user]), &request, &fresh, now)?;
                    let changes = std::mem::take(&mut done.changes);
                    Ok::<_, RegisterRefusal>((done, changes))
                });
            }
            Op::Open { hub, session } => {
                self.merge(hub);
                let Some(record) = self.stored.sessions.get(SESSIONS[session]) else { return };
                let owner = caller(&record.owner);
                self.change(hub, |registry, now| {
                    Ok::<_, ()>(((), registry.adopt(&owner, SESSIONS[session], now)))
                });
                let now = self.now();
                let registry = &mut self.hubs[hub].0;
                registry.open(&owner, SESSIONS[session], "s".into(), Features::ALL, now).unwrap();
            }
            Op::Close { session } => {
                if let Some(hub) = self.hub_of(session) {
                    let now = self.now();
                    self.hubs[hub].0.close(SESSIONS[session], "s", now);
                }
            }
            Op::Delete { hub, name } => {
                self.change(hub, |registry, now| {
                    Ok::<_, ManageError>(((), registry.delete_llm(&admin, NAMES[name], now)?))
                });
            }
            Op::Give { hub, name, to } => {
                self.change(hub, |registry, now| registry.give_name(&admin, NAMES[name], USERS[to], now));
            }
            Op::Alias { hub, user, target } => {
                let (of, scope) = (caller(USERS[user]), AliasScope::User(USERS[user].into()));
                self.change(hub, |registry, now| {
                    registry.set_alias(&of, (scope, "tool"), NAMES[target], now)
                });
            }
            Op::Unalias { hub, user } => {
                let (of, scope) = (caller(USERS[user]), AliasScope::User(USERS[user].into()));
                self.change(hub, |registry, _| {
                    Ok::<_, ManageError>(((), registry.delete_alias(&of, (scope, "tool"))?))
                });
            }
            Op::Sweep { hub, hours } => {
                self.hours += hours;
                loop {
                    let mut more = false;
                    self.change(hub, |registry, now| {
                        let swept = registry.sweep(now);
                        more = swept.more;
                        Ok::<_, ()>(((), swept.changes))
                    });
                    if !more {
                        break;
                    }
                }
            }
            Op::Fail { hub, session, user, rows } => {
                self.merge(hub);
                let (now, request) = (self.now(), Self::request(session, &rows));
                let registry = &mut self.hubs[hub].0;
                drop(registry.register(&caller(USERS[user]), &request, &fresh, now));
                // What is stored counts.
                let mut records = self.stored.all();
                records.extend(registry.missing(&records));
                registry.merge(records, now);
            }
            Op::Merge { hub } => self.merge(hub),
        }
    }

    /// What a registry has beside what hubs tell each other.
    fn table(registry: &Registry) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for (name, entry) in &registry.llms {
            let Llm { id, owner, session, registered, pool_name, visibility, .. } = &entry.llm;
            let row = format!(
                "{id} {owner} {session:?} {registered} {pool_name:?} {visibility:?} {}",
                entry.member
            );
            table.insert(format!("llm {name}"), row);
        }
        for (name, rows) in &registry.pools {
            table.insert(
                format!("pool {name}"),
                format!("{:?} {:?} {:?}", rows.members, rows.pending, rows.owned),
            );
        }
        for (id, session) in &registry.sessions {
            let Session { record, llms, dropped_llms, .. } = session;
            let dropped: BTreeSet<_> = dropped_llms.iter().collect();
            table.insert(
                format!("session {id}"),
                format!("{} {:?} {llms:?} {dropped:?}", record.owner, record.hub),
            );
        }
        for name in registry.names.beginning_with("") {
            let record = registry.names.record(name).unwrap();
            table.insert(format!("name {name}"), format!("{record:?}"));
        }
        for alias in registry.aliases.all() {
            table.insert(format!("alias {:?} {}", alias.scope, alias.name), format!("{:?}", alias.target));
        }
        for user in USERS {
            table.insert(format!("usage {user}"), format!("{:?}", registry.usage_of(&user.to_owned())));
        }
        table
    }
}

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
