//! The hubs, and what happens to them.

use super::stored::Stored;
use super::*;
use crate::registry::entry::{ExpiryKey, Lifecycle};

pub struct World {
    pub stored: Stored,
    pub hubs: Vec<(Registry, usize)>,
    pub hours: u64,
    pub ids: Cell<u64>,
}

#[derive(Debug, Clone)]
pub enum Op {
    /// At the session's hub, or at any if `lost`: its hub is dead.
    Register {
        hub: usize,
        session: usize,
        user: usize,
        rows: Vec<Spec>,
        agents: BTreeSet<usize>,
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

pub fn any_op() -> impl Strategy<Value = Op> {
    let (hub, session, name, user) = (0..HUBS.len(), 0..SESSIONS.len(), 0..NAMES.len(), 0..USERS.len());
    let visibility = prop_oneof![Just(Visibility::Private), Just(Visibility::Public)];
    let spec = (name.clone(), prop::option::of(name.clone()), visibility, any::<bool>())
        .prop_map(|(name, pool, visibility, asleep)| Spec { name, pool, visibility, asleep });
    let rows = prop::collection::vec(spec, 0..4);
    let agents = prop::collection::btree_set(0..AGENTS.len(), 0..=AGENTS.len());
    prop_oneof![
        6 => (hub.clone(), session.clone(), user.clone(), rows.clone(), agents, any::<bool>())
            .prop_map(|(hub, session, user, rows, agents, lost)| {
                Op::Register { hub, session, user, rows, agents, lost }
            }),
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
    pub fn new() -> Self {
        let hub = |id: &str| (empty(PoolPolicy::Ask).of_hub(Some(id.into())), 0);
        Self { stored: Stored::default(), hubs: HUBS.map(hub).into(), hours: 0, ids: Cell::new(0) }
    }

    pub fn now(&self) -> Now {
        at(self.hours * HOUR)
    }

    /// Takes over what others have changed.
    pub fn merge(&mut self, hub: usize) {
        let now = self.now();
        let (registry, read) = &mut self.hubs[hub];
        registry.merge(self.stored.behind(*read), now);
        *read = self.stored.changed.len();
        assert_eq!(registry.names.drain_changes().len(), 0, "what is stored already is stored again");
    }

    /// A change in the turn of `hub`.
    pub fn change<T, E>(
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

    pub fn hub_of(&self, session: usize) -> Option<usize> {
        let hub = self.stored.sessions.get(SESSIONS[session])?.hub.as_deref()?;
        HUBS.iter().position(|id| *id == hub)
    }

    pub fn request(session: usize, rows: &[Spec], agents: &BTreeSet<usize>) -> RegisterRequest {
        let mut providers: Vec<_> = rows.iter().map(entry).collect();
        providers.sort_by(|a, b| a.name.cmp(&b.name));
        providers.dedup_by(|a, b| a.name == b.name);
        let agent = |name: &usize| {
            let agent = serde_json::json!({ "name": AGENTS[*name], "llmName": NAMES[0] });
            serde_json::from_value(agent).unwrap()
        };
        let agents = agents.iter().map(agent).collect();
        RegisterRequest { provider_session_id: Some(SESSIONS[session].into()), providers, agents }
    }

    /// The session `s0` of alice registers at the first hub.
    pub fn publish(&mut self, rows: &[Spec], agents: &[usize]) {
        let (rows, agents) = (rows.to_vec(), agents.iter().copied().collect());
        self.apply(Op::Register { hub: 0, session: 0, user: 0, rows, agents, lost: false });
    }

    pub fn apply(&mut self, op: Op) {
        let admin = Caller { role: Role::Admin, ..caller("root") };
        let ids = Cell::new(self.ids.get() + 100);
        self.ids.set(ids.get());
        let fresh = |prefix: &str| format!("{prefix}-{}", next(&ids));
        match op {
            Op::Register { hub, session, user, rows, agents, lost } => {
                let hub = self.hub_of(session).filter(|_| !lost).unwrap_or(hub);
                let request = Self::request(session, &rows, &agents);
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
                        let swept = registry.sweep(now, true);
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
                let (now, request) = (self.now(), Self::request(session, &rows, &BTreeSet::new()));
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
    pub fn table(registry: &Registry) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for (name, entry) in &registry.llms {
            let Llm { id, owner, session, registered, pool_name, visibility, .. } = &entry.llm;
            let row = format!(
                "{id} {owner} {session:?} {registered} {pool_name:?} {visibility:?} {}",
                entry.member
            );
            table.insert(format!("llm {name}"), row);
        }
        for (name, entry) in &registry.agents {
            let Agent { id, owner, session, registered, visibility, .. } = &entry.agent;
            table.insert(
                format!("agent {name}"),
                format!("{id} {owner} {session:?} {registered} {visibility:?}"),
            );
        }
        for (name, rows) in &registry.pools {
            table.insert(
                format!("pool {name}"),
                format!("{:?} {:?} {:?}", rows.members, rows.pending, rows.owned),
            );
        }
        for (id, session) in &registry.sessions {
            let Session { record, llms, agents, dropped_llms, dropped_agents, .. } = session;
            let dropped: BTreeSet<_> = dropped_llms.iter().chain(dropped_agents).collect();
            table.insert(
                format!("session {id}"),
                format!("{} {:?} {llms:?} {agents:?} {dropped:?}", record.owner, record.hub),
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
    /// What is inactive and has no check that deletes it, or was withdrawn and is live.
    pub fn forgotten(registry: &mut Registry) -> Vec<String> {
        let mut forgotten = Vec::new();
        let mut look = |key: ExpiryKey, entry: Lifecycle<'_>| {
            let session = entry.session.and_then(|id| registry.sessions.get(id));
            let waits = session.is_some_and(|session| session.is_open() || session.overdue.contains(&key));
            let is_inactive = *entry.status == Status::Inactive;
            if (is_inactive && entry.due.is_none() && !waits) || !(is_inactive || *entry.registered) {
                forgotten.push(format!("{key:?}"));
            }
        };
        for (name, entry) in &mut registry.llms {
            look(ExpiryKey::Llm(name.as_str().into()), entry.lifecycle());
        }
        for (name, entry) in &mut registry.agents {
            look(ExpiryKey::Agent(name.as_str().into()), entry.lifecycle());
        }
        forgotten
    }
}
