//! Applies events to a registry and compares it with the model. Over 300 lines: one match applies all events.

use wire::register::AgentEntry as RegisterAgent;

use super::*;

/// The registry, a copy of its stored records, and the model.
pub(super) struct Trial {
    pub(super) policy: PoolPolicy,
    pub(super) registry: Registry,
    pub(super) model: Model,
    pub(super) hours: u64,
    pub(super) ids: Cell<u64>,
    llms: BTreeMap<String, Llm>,
    agents: BTreeMap<String, Agent>,
    sessions: BTreeMap<String, SessionRecord>,
    names: BTreeMap<String, NameRecord>,
    aliases: BTreeMap<(AliasScope, String), Alias>,
    chosen: Vec<Chosen>,
}

/// A call for which a row was picked.
struct Chosen {
    user: usize,
    name: usize,
    /// The owner of the call's name when the call was accepted.
    owner: Option<&'static str>,
    target: Target,
    candidate: Candidate,
}

/// The capacity that every heartbeat reports for each row.
pub(super) const REPORTED_CAPACITY: u32 = 100;

impl Trial {
    pub(super) fn new(policy: PoolPolicy) -> Self {
        let registry = empty(policy);
        Self {
            policy,
            registry,
            model: Model::new(policy),
            hours: 0,
            ids: Cell::new(0),
            llms: BTreeMap::new(),
            agents: BTreeMap::new(),
            sessions: BTreeMap::new(),
            names: BTreeMap::new(),
            aliases: BTreeMap::new(),
            chosen: Vec::new(),
        }
    }

    /// Creates a pool of one user, another user's row that names the pool, and a third user's agent for that row.
    pub(super) fn create_pool_row_and_agent(&mut self) {
        let want = |name, of, room| Want { name, of: Some(of), public: true, room };
        for op in [
            Op::Register { user: 0, rows: vec![want(3, 3, 2)], agents: Vec::new() },
            Op::Register { user: 1, rows: vec![want(1, 3, 2)], agents: Vec::new() },
            Op::CreateAgent { user: 2, want: want(0, 1, 2) },
        ] {
            assert!(self.step(&op) && self.model.step(&op, self.hours));
        }
    }

    pub(super) fn now(&self) -> Now {
        at(self.hours * HOUR)
    }

    fn id(&self) -> String {
        next(&self.ids).to_string()
    }

    fn store(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::PutLlm(llm) => drop(self.llms.insert(llm.id.clone(), *llm)),
                Change::DeleteLlm(id) => drop(self.llms.remove(&id)),
                Change::PutAgent(agent) => drop(self.agents.insert(agent.id.clone(), *agent)),
                Change::DeleteAgent(id) => drop(self.agents.remove(&id)),
                Change::PutSession(record) => drop(self.sessions.insert(record.id.clone(), record)),
                Change::DeleteSession(id) => drop(self.sessions.remove(&id)),
                Change::PutName(record) => drop(self.names.insert(record.name.clone(), record)),
                Change::DeleteName(name) => drop(self.names.remove(&name)),
                Change::PutAlias(alias) => {
                    self.aliases.insert((alias.scope.clone(), alias.name.clone()), alias);
                }
                Change::DeleteAlias { scope, name } => drop(self.aliases.remove(&(scope, name))),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Makes a random event more likely to be allowed: pool owners admit pending rows, and rows register in the same pool.
    pub(super) fn made_likely(&self, op: &Op) -> Op {
        let mut op = op.clone();
        match &mut op {
            Op::Admit { user, row, pool } if *user != *pool => {
                let waiting = self.model.waiting();
                if !waiting.is_empty() {
                    (*row, *pool, *user) = waiting[*row % waiting.len()];
                }
            }
            Op::Register { user, rows, .. } => {
                let known = rows.iter().find(|want| want.room > 2);
                *user = known.and_then(|want| self.model.owner_of(want.name)).unwrap_or(*user);
                for want in rows.iter_mut().filter(|want| want.room > 4) {
                    want.of = self.model.pool_of(want.name).or(want.of);
                }
            }
            _ => (),
        }
        op
    }

    /// Applies an event. Returns whether it was allowed.
    pub(super) fn step(&mut self, op: &Op) -> bool {
        let now = self.now();
        let done = match op.clone() {
            Op::Register { user, rows, agents } => self.register(user, &rows, &agents),
            Op::Leave { user } => Ok(self.registry.close(USERS[user], "stream", now).unwrap_or_default()),
            Op::CreateLlm { user, want } => {
                let id = self.id();
                let created = self.registry.create_llm(&caller(user), llm_spec(&want), id, now);
                created.map(|(_, changes)| changes).map_err(drop)
            }
            Op::UpdateLlm { user, want } => {
                let updated = self.registry.update_llm(&caller(user), NAMES[want.name], llm_spec(&want), now);
                updated.map(|(_, changes)| changes).map_err(drop)
            }
            Op::DeleteLlm { user, name } => {
                self.registry.delete_llm(&caller(user), NAMES[name], now).map_err(drop)
            }
            Op::CreateAgent { user, want } => {
                let id = self.id();
                let created = self.registry.create_agent(&caller(user), agent_spec(&want), id, now);
                created.map(|(_, changes)| changes).map_err(drop)
            }
            Op::UpdateAgent { user, want } => {
                let updated =
                    self.registry.update_agent(&caller(user), NAMES[want.name], agent_spec(&want), now);
                updated.map(|(_, changes)| changes).map_err(drop)
            }
            Op::DeleteAgent { user, name } => {
                self.registry.delete_agent(&caller(user), NAMES[name], now).map_err(drop)
            }
            Op::Admit { user, pool, row } => {
                let admitted = self.registry.admit_member(&caller(user), NAMES[pool], NAMES[row], now);
                admitted.map(|(_, changes)| changes).map_err(drop)
            }
            Op::Dismiss { user, pool, row } => {
                let dismissed = self.registry.remove_member(&caller(user), NAMES[pool], NAMES[row], now);
                dismissed.map(|(_, changes)| changes).map_err(drop)
            }
            Op::Free { user, name } => self.registry.free_name(&caller(user), NAMES[name], now).map_err(drop),
            Op::Give { user, name, to } => {
                let given = self.registry.give_name(&caller(user), NAMES[name], USERS[to], now);
                given.map(|(_, changes)| changes).map_err(drop)
            }
            Op::SetAlias { user, shared, alias, target } => {
                let of = (scope(user, shared), ALIASES[alias]);
                let set = self.registry.set_alias(&caller(user), of, NAMES[target], now);
                set.map(|(_, changes)| changes).map_err(drop)
            }
            Op::DeleteAlias { user, shared, alias } => {
                let of = (scope(user, shared), ALIASES[alias]);
                self.registry.delete_alias(&caller(user), of).map_err(drop)
            }
            Op::Choose { user, name } => {
                let caller = caller(user);
                if let Some(target) = self.target(&caller, NAMES[name])
                    && let PickResult::Chosen(candidate) =
                        self.registry.pick(&caller, &target, Endpoint::ChatCompletions)
                {
                    assert!(self.registry.may_still_serve(&caller, &target, &candidate));
                    let owner = self.model.owner(NAMES[name]);
                    self.chosen.push(Chosen { user, name, owner, target, candidate: *candidate });
                }
                Ok(Vec::new())
            }
            Op::Wait { hours } => {
                self.hours += hours;
                Ok(self.sweep())
            }
            Op::Restart => {
                let snapshot = Snapshot {
                    llms: self.llms.values().cloned().collect(),
                    agents: self.agents.values().cloned().collect(),
                    sessions: self.sessions.values().cloned().collect(),
                    names: self.names.values().cloned().collect(),
                    aliases: self.aliases.values().cloned().collect(),
                    ..Snapshot::default()
                };
                self.registry = Registry::load(&snapshot, self.policy, &HubTimings::default(), now);
                self.chosen.clear();
                Ok(Vec::new())
            }
        };
        let allowed = done.is_ok();
        self.store(done.unwrap_or_default());
        allowed
    }

    fn register(&mut self, user: usize, rows: &[Want], agents: &[Want]) -> Result<Vec<Change>, ()> {
        let spec = |want: &Want| ProviderEntry {
            name: NAMES[want.name].into(),
            pool_name: want.of.map(|pool| NAMES[pool].into()),
            visibility: visibility(want.public),
            max_concurrency: Some(want.room),
            ..provider("x", None)
        };
        let agent = |want: &Want| RegisterAgent {
            name: NAMES[want.name].into(),
            llm_name: NAMES[want.of.unwrap()].into(),
            description: None,
            system_prompt: None,
            project: None,
            default_params: None,
            extras: None,
            visibility: visibility(want.public),
        };
        let request = RegisterRequest {
            provider_session_id: Some(USERS[user].into()),
            providers: rows.iter().map(spec).collect(),
            agents: agents.iter().map(agent).collect(),
        };
        let (caller, now, ids) = (caller(user), self.now(), &self.ids);
        let fresh = |_: &str| next(ids).to_string();
        let done = self.registry.register(&caller, &request, &fresh, now).map_err(drop)?;
        let opened = self.registry.open(&caller, USERS[user], "stream".into(), Features::ALL, now);
        let beat = self.registry.heartbeat(&caller, &beat(user), now).unwrap();
        Ok([done.changes, opened.unwrap().changes, beat.changes].concat())
    }

    /// Sends the heartbeats of open sessions, then sweeps.
    fn sweep(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (user, id) in USERS.into_iter().enumerate() {
            if self.registry.sessions.get(id).is_some_and(Session::is_open) {
                let now = self.now();
                changes.extend(self.registry.heartbeat(&caller(user), &beat(user), now).unwrap().changes);
            }
        }
        changes.extend(self.registry.sweep(self.now(), true).changes);
        changes
    }

    /// Resolves the name of a call as the routes do.
    pub(super) fn target(&self, caller: &Caller, name: &str) -> Option<Target> {
        self.registry.target(caller, name).or_else(|| {
            let agent = self.registry.agent(caller, name)?;
            self.registry.agent_target(caller, agent).ok()
        })
    }

    /// All rows that a call can reach, also by an alias or without a name.
    fn reached(&mut self, caller: &Caller, call: Option<&str>) -> BTreeSet<String> {
        let registry = &self.registry;
        let name = match call {
            Some(name) => registry.called_name(caller, name),
            None => registry.default_name(caller),
        };
        let target = name.and_then(|name| self.target(caller, name));
        let (mut tried, mut reached) = (HashSet::new(), BTreeSet::new());
        let Some(target) = target else { return reached };
        while let PickResult::Chosen(candidate) =
            self.registry
                .pick_of(caller, &target, Endpoint::ChatCompletions, None, |llm| !tried.contains(&llm.name))
        {
            tried.insert(candidate.name.clone());
            reached.insert(candidate.name);
        }
        reached
    }

    pub(super) fn check_aliases(&mut self, user: usize) -> Result<(), TestCaseError> {
        for call in CALLS {
            let expected = self.model.reached(user, call);
            prop_assert_eq!(self.reached(&caller(user), call), expected, "{} calls {:?}", USERS[user], call);
        }
        let caller = caller(user);
        let seen: Vec<_> =
            self.registry.aliases_after(&caller, None).map(|view| (view.user, view.name)).collect();
        let expected = self.model.aliases_seen(user);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(user, name)| (user.map(|user| USERS[user].to_owned()), name.to_owned()))
            .collect();
        prop_assert_eq!(seen, expected, "{} sees aliases", USERS[user]);
        Ok(())
    }

    pub(super) fn check(&mut self, user: usize, name: usize) -> Result<(), TestCaseError> {
        let (caller, name) = (caller(user), NAMES[name]);
        let expected = self.model.reached(user, Some(name));
        prop_assert_eq!(self.reached(&caller, Some(name)), expected, "{} calls {}", USERS[user], name);
        let seen = self.registry.pool_view(&caller, name).map(|view| {
            let waiting = view.waiting.into_iter().map(|row| row.name).collect();
            (view.members.into_iter().collect(), waiting)
        });
        let expected = self.model.pool_seen(user, name);
        prop_assert_eq!(seen.unwrap_or_default(), expected, "{} sees the pool {}", USERS[user], name);
        prop_assert_eq!(self.registry.llm(&caller, name).is_some(), self.model.sees_row(user, name));
        prop_assert_eq!(self.registry.agent(&caller, name).is_some(), self.model.sees_agent(user, name));
        prop_assert_eq!(self.registry.names.owner(name).map(String::as_str), self.model.owner(name));
        if let Some(entry) = self.registry.llms.get(name) {
            let said = entry.report.map(|_| REPORTED_CAPACITY);
            prop_assert_eq!(entry.capacity(), self.model.room(name, said), "{}", name);
        }
        Ok(())
    }

    /// Checks that a picked row stays valid only as long as the model allows it, and that a call whose name was taken over
    /// reaches no row.
    pub(super) fn check_chosen(&mut self) -> Result<(), TestCaseError> {
        for Chosen { user, name, owner, target, candidate } in &self.chosen {
            let current = self.model.owner(NAMES[*name]);
            let is_taken_over = current.is_some_and(|current| Some(current) != *owner);
            let pick = self.registry.pick(&caller(*user), target, Endpoint::ChatCompletions);
            let is_refused = matches!(pick, PickResult::TakenOver);
            prop_assert_eq!(is_refused, is_taken_over, "{} for {}: {:?}", USERS[*user], NAMES[*name], pick);
            if self.registry.may_still_serve(&caller(*user), target, candidate) {
                let by_agent = target.through.is_some();
                prop_assert!(!is_taken_over, "{} for {} at {:?}", USERS[*user], NAMES[*name], candidate);
                let may = self.model.may_keep(*user, NAMES[*name], by_agent, &candidate.name);
                prop_assert!(may, "{} for {} at {:?}", USERS[*user], NAMES[*name], candidate);
            }
        }
        Ok(())
    }
}

fn scope(user: usize, shared: bool) -> AliasScope {
    if shared { AliasScope::All } else { AliasScope::User(USERS[user].into()) }
}

/// A heartbeat that reports [`REPORTED_CAPACITY`], more than registered, for all rows.
pub(super) fn beat(user: usize) -> Heartbeat {
    let status = |name: &&str| ProviderStatus {
        name: (*name).into(),
        status: Status::Active,
        in_flight: 0,
        queued: 0,
        max_concurrency: REPORTED_CAPACITY,
        ahead: 0,
        paused: false,
        paused_until: None,
    };
    let providers = Some(NAMES.iter().map(status).collect());
    Heartbeat { provider_session_id: USERS[user].into(), stream_id: None, providers }
}

pub(super) fn llm_spec(want: &Want) -> LlmSpec {
    LlmSpec {
        name: Some(NAMES[want.name].into()),
        provider_type: "openai".into(),
        model: "m".into(),
        url: Some("http://h/v1".into()),
        api_key: None,
        tier: None,
        description: None,
        pool_name: want.of.map(|pool| NAMES[pool].into()),
        visibility: Some(visibility(want.public)),
        allow_remote_urls: None,
        context_length: None,
        max_output_tokens: None,
        capabilities: Capabilities::default(),
    }
}

fn agent_spec(want: &Want) -> AgentSpec {
    AgentSpec {
        name: Some(NAMES[want.name].into()),
        llm_name: NAMES[want.of.unwrap()].into(),
        description: None,
        system_prompt: None,
        project: None,
        default_params: None,
        extras: None,
        visibility: Some(visibility(want.public)),
    }
}
