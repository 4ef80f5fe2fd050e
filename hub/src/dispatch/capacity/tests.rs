//! Who waits, whatever comes, goes and is freed: nobody for whom there is room; and what that costs.

use std::sync::Arc;

use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::sync::oneshot::error::TryRecvError;
use wire::Features;
use wire::task::Endpoint;

use super::super::body::RequestBody;
use super::super::run::{Found, Request, Tried, look};
use super::*;
use crate::tests::support::hub;

const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// The first two are publishers, with rows in one pool.
const ROWS: usize = 3;
const AGENTS: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// A publisher says how its rows are: status, what runs, what may.
    Beat(usize, Vec<(bool, u32, u32)>),
    Open(usize),
    Close(usize),
    Call {
        user: usize,
        admin: bool,
        to: usize,
    },
    Leave(usize),
    End(usize),
    /// An agent is made private, or public, or leads elsewhere.
    Agent(usize, bool, bool),
    /// The loop that gives out the rest has its turn.
    Turn,
}

fn any_op() -> impl Strategy<Value = Op> {
    let state = (any::<bool>(), 0_u32..3, 1_u32..3);
    prop_oneof![
        4 => (0..2_usize, prop::collection::vec(state, ROWS)).prop_map(|(who, states)| Op::Beat(who, states)),
        1 => (0..2_usize).prop_map(Op::Open),
        1 => (0..2_usize).prop_map(Op::Close),
        8 => (0..USERS.len(), any::<bool>(), 0..1 + 2 * ROWS + AGENTS)
            .prop_map(|(user, admin, to)| Op::Call { user, admin, to }),
        2 => any::<usize>().prop_map(Op::Leave),
        4 => any::<usize>().prop_map(Op::End),
        2 => (0..AGENTS, any::<bool>(), any::<bool>()).prop_map(|(agent, private, away)| Op::Agent(agent, private, away)),
        3 => Just(Op::Turn),
    ]
}

/// A pool of rows of two users', and calls for it.
struct World {
    hub: Arc<Hub>,
    /// Keeps names apart from those of other cases.
    case: usize,
    sessions: Vec<String>,
    waiting: Vec<(Request, InLine)>,
    served: Vec<Reservation>,
}

fn user(name: &str) -> Caller {
    Caller { user: name.into(), role: Role::Member, token_id: "t".into() }
}

fn request(caller: Caller, target: Target) -> Request {
    Request {
        caller,
        target,
        endpoint: Endpoint::ChatCompletions,
        streaming: false,
        body: RequestBody::parse(br#"{"messages":[]}"#.to_vec()).unwrap(),
        headers: Vec::new(),
        set_model: false,
        patience: Some(std::time::Duration::from_hours(1)),
    }
}

impl World {
    fn new(hub: &Arc<Hub>, case: usize) -> Self {
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

    fn row(&self, who: usize, row: usize) -> String {
        format!("row-{}-{who}-{row}", self.case)
    }

    /// Over a public row, a private one, and the pool.
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

    fn step(&mut self, op: &Op) {
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
            Op::Call { user: who, admin, to } => {
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
                self.come(request(caller, target));
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
                hub.give_out(&mut hub.registry.lock());
            }
        }
    }

    fn come(&mut self, request: Request) {
        let hub = self.hub.clone();
        let line = match look(&hub, &request, &Tried::default(), true).unwrap() {
            Found::Member(_, place) => return self.served.extend(place),
            Found::InLine(line) => line,
            Found::Arriving(_) | Found::Nobody(_) => panic!("it waits"),
        };
        self.waiting.push((request, line));
    }

    /// Those who were given a place have it, and those who have to look again do. Whether somebody did.
    fn read(&mut self) -> bool {
        let mut is_news = false;
        for (request, mut line) in std::mem::take(&mut self.waiting) {
            match line.given.try_recv() {
                Ok(candidate) => {
                    self.served.push(Reservation::of(&self.hub, &candidate.name));
                    is_news = true;
                }
                Err(TryRecvError::Closed) => {
                    drop(line);
                    self.come(request);
                    is_news = true;
                }
                Err(TryRecvError::Empty) => self.waiting.push((request, line)),
            }
        }
        is_news
    }

    /// Whether there is room for one who waits.
    fn left(&self) -> Option<&Request> {
        let mut registry = self.hub.registry.lock();
        let mut has_room = |request: &Request| {
            let pick = registry.pick(&request.caller, &request.target, request.endpoint);
            matches!(pick, PickResult::Chosen(candidate) if !candidate.full)
        };
        self.waiting.iter().map(|(request, _)| request).find(|request| has_room(request))
    }
}

/// A27: whatever comes, leaves, is freed, falls asleep, goes away and changes hands, in whatever order, and however the
/// work is cut in pieces: when it is done nobody waits for whom there is room, and every place that was given counts.
#[actix_rt::test]
async fn nobody_waits_for_whom_there_is_room() {
    let hub = hub().await;
    let core = hub.core();
    let case = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&prop::collection::vec(any_op(), 1..60), |ops| {
        case.set(case.get() + 1);
        let mut world = World::new(core, case.get());
        for op in &ops {
            world.step(op);
            // Some see what came of it, some later.
            if !matches!(op, Op::Call { .. }) {
                world.read();
            }
        }
        let mut rounds = 0;
        loop {
            let is_left = core.give_out(&mut core.registry.lock());
            if !world.read() && !is_left {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 1000, "it ends");
        }
        prop_assert!(world.left().is_none(), "{:?}", world.left().map(|request| &request.target));
        let counted: u32 = (0..2)
            .flat_map(|who| (0..ROWS).map(move |row| (who, row)))
            .map(|(who, row)| core.registry.lock().in_flight(&world.row(who, row)))
            .sum();
        prop_assert_eq!(counted as usize, world.served.len());
        world.waiting.clear();
        world.served.clear();
        let lines = core.capacity.lines.lock();
        prop_assert!(lines.waiters.is_empty());
        Ok(())
    });
    ran.unwrap();
    hub.stop().await;
}

/// A27: when the last awake rows of a pool fall asleep, a row of it that was asleep before is woken, too.
#[actix_rt::test]
async fn a_row_that_was_asleep_is_woken_when_the_awake_ones_fall_asleep() {
    let hub = hub().await;
    let core = hub.core();
    let mut world = World::new(core, 0);
    world.step(&Op::Close(1));
    world.step(&Op::Beat(0, vec![(true, 1, 2), (false, 1, 1), (false, 1, 1)]));
    for _ in 0..ROWS {
        world.step(&Op::Call { user: 0, admin: false, to: 0 });
    }
    assert_eq!((world.waiting.len(), world.served.len()), (ROWS, 0));
    world.step(&Op::Beat(0, vec![(true, 1, 2), (true, 0, 1), (true, 0, 1)]));
    while core.give_out(&mut core.registry.lock()) {}
    world.read();
    assert_eq!((world.waiting.len(), world.served.len()), (0, ROWS));
    drop(world);
    hub.stop().await;
}

/// A34: a call whose agent leads elsewhere while it waits is not looked at when places are free, and is served when the
/// agent leads there again.
#[actix_rt::test]
async fn who_waits_through_an_agent_that_leads_elsewhere_waits_for_the_agent() {
    let hub = hub().await;
    let mut world = World::new(hub.core(), 0);
    let [full, free] = [2, 0].map(|busy| Op::Beat(0, vec![(false, busy, 2); ROWS]));
    world.step(&Op::Beat(1, vec![(false, 2, 2); ROWS]));
    world.step(&full);
    // Through the agent of the private row, which leads to it alone.
    world.step(&Op::Call { user: 2, admin: false, to: 2 + 2 * ROWS });
    world.step(&Op::Agent(1, false, true));
    assert!(!world.read());
    world.step(&free);
    assert!(world.read() && world.waiting.len() == 1 && world.waiting[0].1.class.astray);
    let looks = || hub.core().capacity.looks.load(std::sync::atomic::Ordering::Relaxed);
    let before = looks();
    for state in [&full, &free, &full, &free] {
        world.step(state);
    }
    assert_eq!((looks() - before, world.read()), (0, false));
    world.step(&Op::Agent(1, false, false));
    assert!(world.read() && world.waiting.is_empty() && world.served.len() == 1);
    drop(world);
    hub.stop().await;
}

/// P7: of callers of many users for whom the same rows are there one alone is looked for, and each of those who own some.
#[actix_rt::test]
async fn a_pools_rows_are_looked_at_once_for_all_who_own_none_of_them() {
    const STRANGERS: usize = 50;
    let hub = hub().await;
    let mut world = World::new(hub.core(), 0);
    for who in 0..2 {
        // One is awake, without room; the others are asleep, with room.
        world.step(&Op::Beat(who, vec![(false, 2, 2), (true, 0, 2), (true, 0, 2)]));
    }
    {
        let mut registry = hub.core().registry.lock();
        let (before, mut nothing) = (registry.pool_scans, HashSet::new());
        for name in
            USERS.into_iter().map(str::to_owned).chain((0..STRANGERS).map(|n| format!("stranger-{n}")))
        {
            let caller = user(&name);
            let target = registry.target(&caller, "pool-0").unwrap();
            let request = request(caller, target);
            let mut waiter = Some(Waiter { target: request.target.clone(), way: oneshot::channel().0 });
            assert_eq!(give(&mut registry, &class(&request, false), &mut waiter, &mut nothing), Look::Leaves);
            let (way, _given) = oneshot::channel();
            let mut waiter = Some(Waiter { target: request.target.clone(), way });
            assert_eq!(give(&mut registry, &class(&request, false), &mut waiter, &mut nothing), Look::Stays);
        }
        assert_eq!(registry.pool_scans - before, 3);
    }
    drop(world);
    hub.stop().await;
}

/// A27: whoever comes while places are given out stands behind those who were not looked at yet, and is not forgotten,
/// also where its user's turn is over.
#[actix_rt::test]
async fn who_comes_while_places_are_given_out_overtakes_nobody_and_is_served() {
    let hub = hub().await;
    let core = hub.core();
    let mut world = World::new(core, 0);
    for who in 0..2 {
        world.step(&Op::Beat(who, vec![(false, 2, 2); ROWS]));
    }
    let strangers = (0..9).map(|n| format!("stranger-{n}"));
    for user in std::iter::once("carol".to_owned()).chain(strangers) {
        let target = core.registry.lock().target(&self::user(&user), "pool-0").unwrap();
        world.come(request(self::user(&user), target));
    }
    // There is room on the private row, which none of them reaches.
    world.step(&Op::Beat(0, vec![(false, 2, 2), (false, 0, 2), (false, 2, 2)]));
    assert!(!core.capacity.lines.lock().offers.is_empty(), "it goes on later");
    world.step(&Op::Call { user: 2, admin: false, to: 3 + 2 * ROWS });
    assert_eq!((world.waiting.len(), world.served.len()), (11, 0));
    while core.give_out(&mut core.registry.lock()) {}
    world.read();
    assert_eq!((world.waiting.len(), world.served.len()), (10, 1));
    drop(world);
    hub.stop().await;
}

/// P7: a place that goes to a caller in line is no room for durable tasks: their lines are not looked at for it. One that is
/// left is.
#[actix_rt::test]
async fn lines_of_durable_tasks_are_not_told_of_a_place_that_a_caller_has() {
    let hub = hub().await;
    let core = hub.core();
    let mut world = World::new(core, 0);
    for who in 0..2 {
        world.step(&Op::Beat(who, vec![(false, 2, 2); ROWS]));
    }
    let body = json!({ "llm": world.row(0, 0), "request": { "messages": [] } }).to_string();
    assert_eq!(hub.ask("POST", "/api/v1/inference-tasks").body(body).send().await.0, 202);
    let told = || core.tasks.told_of_room.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..2 {
        world.step(&Op::Call { user: 2, admin: false, to: 1 });
    }
    assert_eq!((world.waiting.len(), core.tasks.depth()), (2, 1));
    let before = told();
    let report = |room| Op::Beat(0, vec![(false, 0, room), (false, 2, 2), (false, 2, 2)]);
    world.step(&report(1));
    world.read();
    assert_eq!((world.waiting.len(), world.served.len(), told() - before), (1, 1, 0));
    world.step(&report(2));
    world.read();
    assert_eq!((world.waiting.len(), world.served.len(), told() - before), (0, 2, 0));
    drop(world.served.pop());
    assert!(told() > before);
    drop(world);
    hub.stop().await;
}

/// A27: a connection that waits for a place presses until the task is sent, so that a place that it is given is used at once.
#[actix_rt::test]
async fn who_waits_for_a_place_is_served_at_once_when_there_is_one() {
    let hub = hub().await;
    let mut world = World::new(hub.core(), 0);
    for who in 0..2 {
        world.step(&Op::Beat(who, vec![(false, 2, 2); ROWS]));
    }
    let call = Op::Call { user: 2, admin: false, to: 0 };
    let count = |pressure: &std::sync::Arc<std::sync::atomic::AtomicU32>| {
        pressure.load(std::sync::atomic::Ordering::Relaxed)
    };
    let ((), waits) = crate::connections::with_priority_count(|| world.step(&call));
    assert_eq!((world.waiting.len(), count(&waits)), (1, 1));
    world.step(&Op::Beat(0, vec![(false, 0, 2); ROWS]));
    let (_, mut line) = world.waiting.pop().unwrap();
    let (place, has) = crate::connections::with_priority_count(|| line.place().now_or_never());
    drop(line);
    assert_eq!((count(&waits), count(&has)), (0, 1));
    place.unwrap().unwrap().1.keep();
    assert_eq!(count(&has), 0);
    drop(world);
    hub.stop().await;
}
