//! The whole rule once: whose prompts reach whom, and who sees what, after any sequence of events by any users.
//!
//! `RULE_SEQUENCES=100000 cargo test --release -p virtual-llm-hub the_whole_rule` tries more of them.

mod model;
mod ops;
mod waits;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use wire::register::{AgentEntry as RegisterAgent, RegisterRequest};

use super::*;
use model::Model;
use ops::{Op, Want, once, op};

/// The last one is an admin.
const USERS: [&str; 4] = ["alice", "bob", "carol", "root"];
const NAMES: [&str; 4] = ["a", "b", "c", "p"];

fn visibility(public: bool) -> Visibility {
    if public { Visibility::Public } else { Visibility::Private }
}

fn caller(user: usize) -> Caller {
    let role = if user == USERS.len() - 1 { Role::Admin } else { Role::Member };
    Caller { user: USERS[user].into(), role, token_id: "t".into() }
}

/// The registry, what the store has of it, and the model.
struct Trial {
    policy: PoolPolicy,
    registry: Registry,
    model: Model,
    hours: u64,
    ids: Cell<u64>,
    llms: BTreeMap<String, Llm>,
    agents: BTreeMap<String, Agent>,
    sessions: BTreeMap<String, SessionRecord>,
    names: BTreeMap<String, NameRecord>,
    /// Calls for which a row was chosen: whose, for what, and the row.
    chosen: Vec<(usize, usize, Target, Candidate)>,
}

/// What every publisher says of its room.
const SAID: u32 = 100;

impl Trial {
    fn new(policy: PoolPolicy) -> Self {
        let registry = Registry::load(&Snapshot::default(), policy, &HubTimings::default(), at(0));
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
            chosen: Vec::new(),
        }
    }

    /// Where much happens: a pool of one user's that another one's row names, and a third one's agent over that row.
    fn settle(&mut self) {
        let want = |name, of, room| Want { name, of: Some(of), public: true, room };
        for op in [
            Op::Register { user: 0, rows: vec![want(3, 3, 2)], agents: Vec::new() },
            Op::Register { user: 1, rows: vec![want(1, 3, 2)], agents: Vec::new() },
            Op::CreateAgent { user: 2, want: want(0, 1, 2) },
        ] {
            assert!(self.step(&op) && self.model.step(&op, self.hours));
        }
    }

    fn now(&self) -> Now {
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
                other => panic!("{other:?}"),
            }
        }
    }

    /// Who lets a row in is mostly who may, and lets in one that waits; what is registered again often stays in its pool.
    fn aimed(&self, op: &Op) -> Op {
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

    /// Does it; whether it was allowed.
    fn step(&mut self, op: &Op) -> bool {
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
            Op::Choose { user, name } => {
                let caller = caller(user);
                if let Some(target) = self.target(&caller, NAMES[name])
                    && let PickResult::Chosen(candidate) =
                        self.registry.pick(&caller, &target, Endpoint::ChatCompletions)
                {
                    assert!(self.registry.may_still_serve(&caller, &target, &candidate));
                    self.chosen.push((user, name, target, *candidate));
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

    /// Hearts beat, then what is over goes.
    fn sweep(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (user, id) in USERS.into_iter().enumerate() {
            if self.registry.sessions.get(id).is_some_and(Session::is_open) {
                let now = self.now();
                changes.extend(self.registry.heartbeat(&caller(user), &beat(user), now).unwrap().changes);
            }
        }
        changes.extend(self.registry.sweep(self.now()).changes);
        changes
    }

    /// What a call is for, as the routes find it.
    fn target(&self, caller: &Caller, name: &str) -> Option<Target> {
        self.registry.target(caller, name).or_else(|| {
            let agent = self.registry.agent(caller, name)?;
            self.registry.agent_target(caller, agent).ok()
        })
    }

    /// The rows that a call can reach.
    fn reached(&mut self, caller: &Caller, name: &str) -> BTreeSet<String> {
        let target = self.target(caller, name);
        let (mut tried, mut reached) = (HashSet::new(), BTreeSet::new());
        let Some(target) = target else { return reached };
        while let PickResult::Chosen(candidate) =
            self.registry
                .pick_of(caller, &target, Endpoint::ChatCompletions, |llm| !tried.contains(&llm.name))
        {
            tried.insert(candidate.name.clone());
            reached.insert(candidate.name);
        }
        reached
    }

    fn check(&mut self, user: usize, name: usize) -> Result<(), TestCaseError> {
        let (caller, name) = (caller(user), NAMES[name]);
        let expected = self.model.reached(user, name);
        prop_assert_eq!(self.reached(&caller, name), expected, "{} calls {}", USERS[user], name);
        let seen = self.registry.pool_view(&caller, name).map(|view| {
            let waiting = view.waiting.into_iter().map(|row| row.name).collect();
            (view.members.into_iter().collect(), waiting)
        });
        let expected = self.model.pool_seen(user, name);
        prop_assert_eq!(seen.unwrap_or_default(), expected, "{} looks at the pool {}", USERS[user], name);
        prop_assert_eq!(self.registry.llm(&caller, name).is_some(), self.model.sees_row(user, name));
        prop_assert_eq!(self.registry.agent(&caller, name).is_some(), self.model.sees_agent(user, name));
        prop_assert_eq!(self.registry.names.owner(name).map(String::as_str), self.model.owner(name));
        if let Some(entry) = self.registry.llms.get(name) {
            let said = entry.report.map(|_| SAID);
            prop_assert_eq!(entry.capacity(), self.model.room(name, said), "{}", name);
        }
        Ok(())
    }

    /// A call for which a row was chosen goes there later on only if it might have been chosen then.
    fn check_chosen(&self) -> Result<(), TestCaseError> {
        for (user, name, target, candidate) in &self.chosen {
            if self.registry.may_still_serve(&caller(*user), target, candidate) {
                let by_agent = target.through.is_some();
                let may = self.model.may_keep(*user, NAMES[*name], by_agent, &candidate.name);
                prop_assert!(may, "{} for {} at {:?}", USERS[*user], NAMES[*name], candidate);
            }
        }
        Ok(())
    }
}

/// A heartbeat that says of all rows that they have more room than they were registered with.
fn beat(user: usize) -> Heartbeat {
    let status = |name: &&str| ProviderStatus {
        name: (*name).into(),
        status: Status::Active,
        in_flight: 0,
        queued: 0,
        max_concurrency: SAID,
        paused: false,
        paused_until: None,
    };
    let providers = Some(NAMES.iter().map(status).collect());
    Heartbeat { provider_session_id: USERS[user].into(), stream_id: None, providers }
}

fn llm_spec(want: &Want) -> LlmSpec {
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

fn sequences() -> u32 {
    std::env::var("RULE_SEQUENCES").ok().and_then(|number| number.parse().ok()).unwrap_or(8000)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(sequences()) })]

    /// A34, A37: whatever is registered, joined, let in, created, deleted, given away and forgotten, in whatever order and
    /// by whomever: a call reaches the rows of [`Model::reached`] and no other, also one that was on its way before; room
    /// counts as it was when a row was let in; and everybody sees what the model says.
    #[test]
    fn the_whole_rule_whose_prompts_reach_whom_and_who_sees_what(
        policy in prop_oneof![4 => Just(PoolPolicy::Ask), 1 => Just(PoolPolicy::Members), 1 => Just(PoolPolicy::Owner)],
        settled in any::<bool>(),
        ops in prop::collection::vec(op(), 1..20)
    ) {
        let mut trial = Trial::new(policy);
        if settled && policy != PoolPolicy::Owner {
            trial.settle();
        }
        for (number, op) in ops.iter().enumerate() {
            if let Op::Register { rows, agents, .. } = op
                && !(once(rows) && once(agents))
            {
                continue;
            }
            let op = &trial.aimed(op);
            let allowed = trial.step(op);
            let expected = trial.model.step(op, trial.hours);
            prop_assert_eq!(allowed, expected, "{:?}", op);
            trial.check_chosen()?;
            check_counts(&trial.registry);
            trial.check(number % USERS.len(), number / USERS.len() % NAMES.len())?;
        }
        for user in 0..USERS.len() {
            for name in 0..NAMES.len() {
                trial.check(user, name)?;
            }
        }
    }
}
