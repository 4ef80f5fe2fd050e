//! Three hubs, a registrar and its callers under seeded schedules: the code of relays as it is, over a network in memory that
//! loses, repeats, delays and reorders messages, while hubs are killed, stopped and started again, and the registrar moves.
//!
//! What is not real: beats and the table's changes are heard at once or late, but not lost; a process that is stopped hears and
//! says nothing, while its timers run on; and there are no sockets. `RELAY_SCHEDULES=N` runs N schedules,
//! `RELAY_SEED=N` the one of that seed.

mod calls;
mod node;
mod registrar;
mod world;

use std::rc::Rc;
use std::sync::Arc;

use log::{LevelFilter, Log, Metadata, Record};
use tokio::task::LocalSet;
use tokio::time::{Duration, Instant, sleep};
use wire::link::WINDOW;

use calls::{Call, End, Plan};
use node::Node;
use registrar::Registrar;
use world::{SESSION, World};

use crate::auth::{TokenSecret, Tokens, admin_token};
use crate::clock;
use crate::cluster::Process;
use crate::cluster::network::Weather;
use crate::model::Caller;
use crate::store::PostgresStore;
use crate::telemetry::Watch;
use crate::tests::support::ADMIN;

/// Schedules of one run.
const SCHEDULES: u64 = 1500;
/// Time after which an answer has to be whole when nothing happens any more.
const PATIENCE: Duration = Duration::from_mins(1);

/// What all schedules share, since it costs time to make.
pub struct Common {
    pub tokens: Arc<Tokens>,
    pub watch: Arc<Watch>,
    /// Of the calls and of the registrar.
    pub caller: Caller,
}

impl Common {
    async fn new() -> Rc<Self> {
        let store = Arc::new(PostgresStore::absent(Process::start("x").unwrap()));
        let secret = TokenSecret::written(ADMIN).unwrap();
        let (_, token) = admin_token(Some(secret), None, &mut Vec::new(), clock::now()).await.unwrap();
        let tokens = Arc::new(Tokens::new(Vec::new(), token, store.clone()));
        let caller = tokens.check(ADMIN, clock::now()).unwrap().0;
        Rc::new(Self { tokens, watch: Arc::new(Watch::new(store).unwrap()), caller })
    }
}

struct Schedule {
    world: Rc<World>,
    registrar: Rc<Registrar>,
    calls: Vec<Rc<Call>>,
}

impl Schedule {
    /// Something happens.
    fn trouble(&mut self) {
        let world = self.world.clone();
        match world.below(20) {
            0..6 => self.call(),
            6 | 7 => {
                let (loss, repeat) = (world.below(25), world.below(40));
                let weather = Weather { loss, repeat, delay: world.millis(300) };
                log::debug!("{weather:?}");
                world.bus.change(|network, _| network.weather = weather);
            }
            8..11 => self.registrar.leave(None),
            11 | 12 => {
                // At the same hub.
                let at = self.registrar.at.borrow().clone();
                self.registrar.leave(at);
            }
            13 | 14 if world.nodes.borrow().len() > 1 => self.kill(&world.any_node()),
            15 | 16 => world.start_one(),
            17 => world.stop(&world.any_node(), world.millis(8000)),
            18 if world.nodes.borrow().len() > 1 => world.any_node().leave(),
            _ => {
                let open: Vec<_> = self.calls.iter().filter(|call| !call.has_ended()).collect();
                if !open.is_empty() {
                    let call = open[world.random.borrow_mut().index(open.len())];
                    log::debug!("caller {} leaves", call.plan.call);
                    call.leave();
                }
            }
        }
    }

    fn kill(&self, node: &Rc<Node>) {
        log::debug!("{} is killed", node.process);
        if self.registrar.at.borrow().as_ref().is_some_and(|at| Rc::ptr_eq(at, node)) {
            self.registrar.leave(None);
        }
        self.calls.iter().filter(|call| Rc::ptr_eq(&call.home, node)).for_each(|call| call.leave());
        self.world.kill(node);
    }

    fn call(&mut self) {
        let world = &self.world;
        let Some(home) = world.any_ready() else { return };
        let is_large = world.below(40) == 0;
        let plan = Plan {
            call: self.calls.len() as u64,
            is_streamed: world.below(4) > 0,
            chunks: 1 + world.below(12),
            size: if is_large { 60_000 } else { usize::try_from(world.below(50)).unwrap() },
            pace: world.millis(300),
        };
        let pause = if world.below(4) == 0 { world.millis(400) } else { Duration::ZERO };
        let call = Call::start(world, home, plan, pause);
        log::debug!("{plan:?} of {}", call.home.process);
        self.calls.push(call);
    }

    /// From now on all messages arrive, and all hubs run.
    fn peace(&self) {
        log::debug!("peace");
        self.world.go_on(true);
        let leaving: Vec<_> =
            self.world.nodes.borrow().iter().filter(|node| node.hub.is_leaving()).cloned().collect();
        for node in &leaving {
            self.kill(node);
            self.world.start_one();
        }
        let weather = Weather { delay: Duration::from_millis(5), ..Weather::default() };
        self.world.bus.change(|network, _| network.weather = weather);
        for call in &self.calls {
            call.pause.set(Duration::ZERO);
        }
    }

    /// Waits until `is_so`, while nothing happens.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "not in time: {what}");
            sleep(Duration::from_millis(200)).await;
            self.check_now();
        }
    }

    /// Nothing has failed, and a host keeps no more of what it passes on than credit allows, also for a reader that is slow.
    fn check_now(&self) {
        self.world.check();
        let window = usize::try_from(WINDOW).unwrap();
        for node in self.world.nodes.borrow().iter() {
            let [.., tasks, bytes] = node.shared.peers.hosts.kept();
            assert!(
                bytes <= 2 * window * (1 + tasks),
                "{} keeps {bytes} bytes of {tasks} tasks",
                node.process
            );
        }
    }

    /// What has to be so of each call.
    fn check_calls(&self) {
        let ran = self.registrar.ran.borrow();
        for call in &self.calls {
            call.check();
            let number = call.plan.call;
            let runs = ran.iter().filter(|ran| **ran == number).count();
            assert!(runs <= 1, "call {number} ran {runs} times");
            if let Some(End::Failed(error)) = &*call.end.borrow() {
                // Others end the tasks of a hub that is silent.
                assert!(call.home.was_silent.get(), "call {number} failed: {error}");
            }
        }
    }

    /// What is left at the hubs when no call runs. Without the registrar there are no relays.
    fn check_hubs(&self, is_alone: bool) {
        self.world.check();
        for node in self.world.nodes.borrow().iter() {
            let (hub, peers, at) = (&node.hub, &node.shared.peers, node.process);
            assert!(hub.dispatches.lock().is_empty(), "dispatches at {at}");
            assert!(
                !hub.links.has(SESSION) || hub.links.kept(SESSION) == [0; 3],
                "tasks of the link at {at}"
            );
            let ([relays, wanted, regained], [channels, hosted, tasks, bytes]) =
                (peers.homes.kept(), peers.hosts.kept());
            assert_eq!([wanted, regained], [0; 2], "relays that {at} waits for");
            assert_eq!([tasks, bytes], [0; 2], "tasks and bytes of others at {at}");
            // One that was silent has a relay that its host has ended, until its next task.
            if is_alone && !node.was_silent.get() {
                assert_eq!([relays, channels, hosted], [0; 3], "relays at {at}");
                assert!(!hub.links.has(SESSION), "a link at {at}");
            }
        }
    }
}

async fn run(seed: u64, common: Rc<Common>) {
    if std::env::var_os("RELAY_SEED").is_some() {
        log::set_boxed_logger(Box::new(Teller(Instant::now()))).unwrap();
        log::set_max_level(LevelFilter::Debug);
    }
    let world = World::new(seed, &common);
    let registrar = Registrar::start(&world);
    let mut schedule = Schedule { world: world.clone(), registrar: registrar.clone(), calls: Vec::new() };
    sleep(Duration::from_secs(3)).await;
    for _ in 0..10 + world.below(20) {
        schedule.trouble();
        schedule.check_now();
        sleep(world.millis(600)).await;
    }
    schedule.peace();
    schedule.until("calls end", || schedule.calls.iter().all(|call| call.has_ended())).await;
    schedule.check_calls();
    // What is on its way arrives.
    sleep(Duration::from_secs(1)).await;
    schedule.until("the registrar is told", || registrar.is_idle()).await;
    world.is_calm.set(true);
    sleep(Duration::from_secs(3)).await;
    schedule.check_hubs(false);
    registrar.is_over.set(true);
    registrar.leave(None);
    sleep(Duration::from_secs(40)).await;
    schedule.check_hubs(true);
}

/// Tells the seed of a schedule that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RELAY_SEED={}", self.0);
        }
    }
}

/// Tells what happens in one schedule.
struct Teller(Instant);

impl Log for Teller {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with(env!("CARGO_CRATE_NAME")) || record.target().starts_with("virtual") {
            eprintln!("{:>6} ms {}", self.0.elapsed().as_millis(), record.args());
        }
    }

    fn flush(&self) {}
}

#[test]
fn answers_are_whole_whatever_happens_to_hubs_and_their_network() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let common = futures_util::FutureExt::now_or_never(Common::new()).unwrap();
    let seeds =
        number("RELAY_SEED").map_or(0..number("RELAY_SCHEDULES").unwrap_or(SCHEDULES), |seed| seed..seed + 1);
    for seed in seeds {
        let _told = Seed(seed);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, run(seed, common.clone()));
    }
}
