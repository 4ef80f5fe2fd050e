//! The test world: a hub with a pool, its publishers and callers, and random events.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::oneshot::error::TryRecvError;
use wire::Features;
use wire::task::Endpoint;

use super::super::super::pick::{PickOrQueue, TriedMembers, pick_or_queue};
use super::super::super::request::InferenceRequest;
use super::super::super::request_body::RequestBody;
use super::super::*;
use crate::model::Caller;
use crate::registry::PickResult;

pub(super) const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Number of rows of each publisher. The first two users are publishers, with all rows in one pool.
pub(super) const ROWS: usize = 3;
pub(super) const AGENTS: usize = 3;

#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A heartbeat of a publisher: for each row, whether it hibernates, its tasks and its capacity.
    Beat(usize, Vec<(bool, u32, u32)>),
    Open(usize),
    Close(usize),
    Call {
        user: usize,
        admin: bool,
        to: usize,
        /// The row on which it was tried already.
        tried: Option<usize>,
    },
    Leave(usize),
    End(usize),
    /// Sets whether an agent is private (first flag) and leads to another row (second flag).
    Agent(usize, bool, bool),
    /// Runs the offers that are left.
    Turn,
}

pub(super) fn any_op() -> impl Strategy<Value = Op> {
    let state = (any::<bool>(), 0_u32..3, 1_u32..3);
    prop_oneof![
        4 => (0..2_usize, prop::collection::vec(state, ROWS)).prop_map(|(who, states)| Op::Beat(who, states)),
        1 => (0..2_usize).prop_map(Op::Open),
        1 => (0..2_usize).prop_map(Op::Close),
        8 => (0..USERS.len(), any::<bool>(), 0..1 + 2 * ROWS + AGENTS, prop::option::weighted(0.3, 0..2 * ROWS))
            .prop_map(|(user, admin, to, tried)| Op::Call { user, admin, to, tried }),
        2 => any::<usize>().prop_map(Op::Leave),
        4 => any::<usize>().prop_map(Op::End),
        2 => (0..AGENTS, any::<bool>(), any::<bool>()).prop_map(|(agent, private, away)| Op::Agent(agent, private, away)),
        3 => Just(Op::Turn),
    ]
}

/// A pool with rows of two users, and its callers.
pub(super) struct World {
    pub(super) hub: Arc<Hub>,
    /// Part of all names, so that cases on one hub do not share them.
    case: usize,
    sessions: Vec<String>,
    pub(super) waiting: Vec<(InferenceRequest, TriedMembers, QueuedCaller)>,
    pub(super) served: Vec<Reservation>,
}

pub(super) fn user(name: &str) -> Caller {
    Caller {
        user: name.into(),
        role: Role::Member,
        token_id: "t".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
}

pub(super) fn request(caller: Caller, target: Target) -> InferenceRequest {
    InferenceRequest {
        caller,
        target,
        endpoint: Endpoint::ChatCompletions,
        streaming: false,
        body: RequestBody::parse(br#"{"messages":[]}"#.to_vec()).unwrap(),
        headers: Vec::new(),
        set_model: false,
        conversation: None,
        is_chained: false,
        queue_timeout: Some(std::time::Duration::from_hours(1)),
        priority: Priority::Normal,
    }
}

impl World {
    pub(super) fn new(hub: &Arc<Hub>, case: usize) -> Self {
        let mut world =
            Self { hub: hub.clone(), case, sessions: Vec::new(), waiting: Vec::new(), served: Vec::new() };
        for (who, name) in USERS.iter().enumerate().take(2) {
            let providers: Vec<Value> = (0..ROWS)
                .map(|row| {
                    let visibility = if row == 1 { "private" } else { "public" };
                    json!({ "name": world.row(who, row), "type": "openai", "model": "m", "visibility": visibility,
                        "poolName": format!("pool-{case}"), "initialStatus": "active", "maxConcurrency": 2 })
                })
                .collect();
            let request = serde_json::from_value(json!({ "providers": providers })).unwrap();
            let session = hub.change(|registry| {
                let ids = |kind: &str| crate::random::id(kind);
                let mut done = registry.register(&user(name), &request, &ids, hub.now()).unwrap();
                (done.session, std::mem::take(&mut done.changes))
            });
            world.sessions.push(session);
            world.step(&Op::Open(who));
        }
        for agent in 0..AGENTS {
            let spec = world.agent(agent, false, false);
            hub.change(|registry| {
                registry.create_agent(&user("alice"), spec, crate::random::id("agent"), hub.now()).unwrap()
            });
        }
        world
    }

    pub(super) fn row(&self, who: usize, row: usize) -> String {
        format!("row-{}-{who}-{row}", self.case)
    }

    /// The specification of agent 0, 1 or 2, which leads to a public row, a private row or the pool; `away` leads elsewhere.
    fn agent(&self, agent: usize, private: bool, away: bool) -> crate::registry::AgentSpec {
        let llm = match agent {
            _ if away => self.row(0, 2),
            2 => format!("pool-{}", self.case),
            row => self.row(0, row),
        };
        let visibility = if private { "private" } else { "public" };
        let name = format!("agent-{}-{agent}", self.case);
        serde_json::from_value(json!({ "name": name, "llmName": llm, "visibility": visibility })).unwrap()
    }

    pub(super) fn step(&mut self, op: &Op) {
        let hub = self.hub.clone();
        match op {
            Op::Beat(who, states) => {
                let providers: Vec<Value> = states
                    .iter()
                    .enumerate()
                    .map(|(row, (asleep, busy, room))| {
                        json!({ "name": self.row(*who, row), "status": if *asleep { "hibernating" } else { "active" },
                            "inFlight": busy, "queued": 0, "maxConcurrency": room })
                    })
                    .collect();
                let beat = json!({ "providerSessionId": self.sessions[*who], "providers": providers });
                let beat = serde_json::from_value(beat).unwrap();
                let mut registry = hub.registry.lock();
                let beaten = registry.heartbeat(&user(USERS[*who]), &beat, hub.now()).unwrap();
                hub.offer_rows(&mut registry, beaten.rows.iter().map(String::as_str));
            }
            Op::Open(who) => {
                let mut registry = hub.registry.lock();
                let session = &self.sessions[*who];
                registry.open(&user(USERS[*who]), session, "s".into(), Features::ALL, hub.now()).unwrap();
                hub.offer_rows_of(&mut registry, session);
            }
            Op::Close(who) => {
                let mut registry = hub.registry.lock();
                registry.close(&self.sessions[*who], "s", hub.now());
                hub.offer_rows_of(&mut registry, &self.sessions[*who]);
            }
            Op::Call { user: who, admin, to, tried } => {
                let name = match *to {
                    0 => format!("pool-{}", self.case),
                    row if row <= 2 * ROWS => self.row((row - 1) / ROWS, (row - 1) % ROWS),
                    agent => format!("agent-{}-{}", self.case, agent - 1 - 2 * ROWS),
                };
                let role = if *admin { Role::Admin } else { Role::Member };
                let caller = Caller { role, ..user(USERS[*who]) };
                let target = {
                    let registry = hub.registry.lock();
                    registry.target(&caller, &name).or_else(|| {
                        registry
                            .agent(&caller, &name)
                            .and_then(|agent| registry.agent_target(&caller, agent).ok())
                    })
                };
                let Some(target) = target else { return };
                let tried = tried.map(|row| self.row(row / ROWS, row % ROWS));
                self.call(request(caller, target), TriedMembers::on(tried));
            }
            Op::Leave(at) if !self.waiting.is_empty() => {
                let at = at % self.waiting.len();
                drop(self.waiting.remove(at));
            }
            Op::End(at) if !self.served.is_empty() => {
                let at = at % self.served.len();
                drop(self.served.remove(at));
            }
            Op::Leave(_) | Op::End(_) => (),
            Op::Agent(agent, private, away) => {
                let spec = self.agent(*agent, *private, *away);
                let name = spec.name.clone().unwrap();
                hub.change(|registry| {
                    let done = registry.update_agent(&user("alice"), &name, spec, hub.now()).unwrap();
                    hub.agents_changed(registry, [name.as_str()]);
                    done
                });
            }
            Op::Turn => {
                hub.serve_offers(&mut hub.registry.lock());
            }
        }
    }

    pub(super) fn call(&mut self, request: InferenceRequest, tried: TriedMembers) {
        let hub = self.hub.clone();
        let queued = match pick_or_queue(&hub, &request, &tried, true).unwrap() {
            PickOrQueue::Picked(_, place) => return self.served.extend(place),
            PickOrQueue::Queued(queued) => queued,
            PickOrQueue::Unavailable(_) if !tried.is_empty() => return,
            PickOrQueue::Arriving(_) | PickOrQueue::Unavailable(_) => {
                panic!("the call has to be picked or queued")
            }
        };
        self.waiting.push((request, tried, queued));
    }

    /// Reads the callers' assignments, and lets callers whose queue was closed pick again. Returns whether there were any.
    pub(super) fn read(&mut self) -> bool {
        let mut is_news = false;
        for (request, tried, mut queued) in std::mem::take(&mut self.waiting) {
            match queued.assigned.try_recv() {
                Ok(candidate) => {
                    self.served.push(Reservation::counted(&self.hub, &candidate));
                    is_news = true;
                }
                Err(TryRecvError::Closed) => {
                    drop(queued);
                    self.call(request, tried);
                    is_news = true;
                }
                Err(TryRecvError::Empty) => self.waiting.push((request, tried, queued)),
            }
        }
        is_news
    }

    /// A waiting caller although there is capacity for it.
    pub(super) fn starved(&self) -> Option<&InferenceRequest> {
        let mut registry = self.hub.registry.lock();
        let mut has_room = |request: &InferenceRequest, tried: &TriedMembers| {
            let pick = tried.pick_another(&mut registry, request);
            matches!(pick, PickResult::Chosen(candidate) if !candidate.is_full())
        };
        let waiting = self.waiting.iter();
        waiting.filter(|(request, tried, _)| has_room(request, tried)).map(|(request, ..)| request).next()
    }
}
