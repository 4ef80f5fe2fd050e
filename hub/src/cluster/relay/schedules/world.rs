//! The hubs of a schedule, the network between them, and the table that they share. No sockets, no servers, a paused clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use testkit::random::Random;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Duration, Instant, sleep};

use super::Common;
use super::node::Node;
use crate::cluster::Process;
use crate::cluster::bus::Incoming;
use crate::cluster::frame::Frame;
use crate::cluster::members::{BEAT_EVERY, Beat};
use crate::cluster::memory_bus::MemoryBus;
use crate::cluster::peers::Peers;
use crate::cluster::run::arrived;
use crate::cluster::served::Handler;
use crate::cluster::shared::unstored::{Reader, Table};
use crate::hub::Hub;
use crate::registry::Told;
use crate::store::{Change, Merge};

/// The session of the registrar, and its row.
pub const SESSION: &str = "s";
pub const ROW: &str = "m";
const HUBS: [&str; 3] = ["a", "b", "c"];
/// Time between two looks at the clock.
pub const TICK: Duration = Duration::from_millis(250);

pub struct World {
    pub random: RefCell<Random>,
    pub bus: MemoryBus,
    pub common: Rc<Common>,
    pub nodes: RefCell<Vec<Rc<Node>>>,
    table: Table,
    terms: Cell<u64>,
    /// Whether nothing happens any more.
    pub is_calm: Cell<bool>,
    /// What runs beside the schedule.
    spawned: RefCell<Vec<JoinHandle<()>>>,
    start: Instant,
}

impl World {
    pub fn new(seed: u64, common: &Rc<Common>) -> Rc<Self> {
        let mut random = Random::new(seed);
        let (bus, random) = (MemoryBus::new(random.number()), RefCell::new(random));
        let (nodes, table, start) = (RefCell::default(), Table::default(), Instant::now());
        let world = Self {
            random,
            bus,
            common: common.clone(),
            nodes,
            table,
            terms: Cell::new(0),
            is_calm: Cell::new(false),
            spawned: RefCell::default(),
            start,
        };
        let world = Rc::new(world);
        for hub in HUBS {
            world.start(hub);
        }
        world.register();
        world.nodes.borrow().iter().for_each(|node| node.read());
        let ticking = world.clone();
        world.spawn(async move {
            for tick in 0_u64.. {
                ticking.tick(tick);
                sleep(if ticking.is_calm.get() { TICK * 20 } else { TICK }).await;
            }
        });
        world
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push(spawn_local(task));
    }

    /// Fails if something has failed beside the schedule.
    pub fn check(&self) {
        let spawned = &mut *self.spawned.borrow_mut();
        for task in spawned.extract_if(.., |task| task.is_finished()) {
            task.now_or_never().unwrap().unwrap();
        }
    }

    pub fn below(&self, end: u64) -> u64 {
        self.random.borrow_mut().below(end)
    }

    /// A time below `most` milliseconds.
    pub fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.below(most))
    }

    pub fn any_node(&self) -> Rc<Node> {
        let nodes = self.nodes.borrow();
        nodes[self.random.borrow_mut().index(nodes.len())].clone()
    }

    /// A process that takes calls: it runs, knows the others and does not leave.
    pub fn any_ready(&self) -> Option<Rc<Node>> {
        let is_ready = |node: &Rc<Node>| node.began.elapsed() > BEAT_EVERY * 3 && !node.hub.is_leaving();
        let ready: Vec<_> = self.running().into_iter().filter(is_ready).collect();
        (!ready.is_empty()).then(|| ready[self.random.borrow_mut().index(ready.len())].clone())
    }

    /// Starts a process of a hub that has none.
    pub fn start_one(&self) {
        let is_there = |hub: &&str| self.nodes.borrow().iter().any(|node| node.process.hub() == *hub);
        if let Some(hub) = HUBS.iter().find(|hub| !is_there(hub)) {
            self.start(hub);
        }
    }

    fn start(&self, hub: &str) {
        let term = self.terms.get() + 1;
        self.terms.set(term);
        let letter = |_| char::from(b'a' + u8::try_from(self.below(26)).unwrap());
        let process = Process::parse(&format!("{hub}.{}", (0..6).map(letter).collect::<String>())).unwrap();
        log::debug!("{process} starts");
        let (port, inbox) = self.bus.join(process);
        let node = Node::start(Peers::new(process, term, Arc::new(port)), inbox, &self.common);
        assert!(node.shared.unstored.set(Reader::new(&self.table)).is_ok());
        node.read();
        self.nodes.borrow_mut().push(node);
    }

    /// Kills a process. Its other tasks reach nobody any more.
    pub fn kill(&self, node: &Rc<Node>) {
        self.bus.kill(node.process);
        self.bus.set_away(node.process, true);
        node.stopped.set(None);
        node.abort();
        self.nodes.borrow_mut().retain(|other| !Rc::ptr_eq(other, node));
    }

    /// Stops a process: it neither hears nor says anything.
    pub fn stop(&self, node: &Node, time: Duration) {
        log::debug!("{} is stopped for {time:?}", node.process);
        node.stopped.set(Some(Instant::now() + time));
        self.part();
    }

    /// Parts those that are stopped from the others.
    fn part(&self) {
        let nodes = self.nodes.borrow();
        let stopped: Vec<_> =
            nodes.iter().filter(|node| node.stopped.get().is_some()).map(|node| node.process).collect();
        self.bus.change(|network, now| {
            network.part(|from, to| from != to && stopped.contains(&from));
            for node in nodes.iter() {
                if stopped.contains(&node.process) {
                    network.pause(node.process);
                } else {
                    network.resume(node.process, now);
                }
            }
        });
    }

    /// Lets those go on whose time is over, or all.
    pub fn go_on(&self, all: bool) {
        let is_over =
            |node: &&Rc<Node>| node.stopped.get().is_some_and(|until| all || until <= Instant::now());
        let over: Vec<_> = self.nodes.borrow().iter().filter(is_over).cloned().collect();
        if !over.is_empty() {
            log::debug!("{:?} go on", over.iter().map(|node| node.process).collect::<Vec<_>>());
            for node in &over {
                node.stopped.set(None);
            }
            // What others told meanwhile.
            self.nodes.borrow().iter().for_each(|node| node.told.set(0));
            self.beat();
            self.part();
        }
    }

    fn running(&self) -> Vec<Rc<Node>> {
        self.nodes.borrow().iter().filter(|node| node.stopped.get().is_none()).cloned().collect()
    }

    fn tick(&self, tick: u64) {
        self.go_on(false);
        if tick.is_multiple_of(4) || self.is_calm.get() {
            self.beat();
        }
        for node in self.running() {
            if self.below(3) == 0 {
                node.read();
            }
            self.tell(&node);
        }
    }

    /// Beats, which are heard at once.
    fn beat(&self) {
        let (running, nodes) = (self.running(), self.nodes.borrow());
        for from in &running {
            let (number, events) = from.shared.peers.members.lock().beat(self.start.elapsed());
            from.shared.peers.bus.begin_beat(number);
            from.learn(events);
            for to in &running {
                let beat = Beat { term: from.term, protocol: [1, 1], ..Beat::default() };
                let events = to.shared.peers.members.lock().heard(from.process, number, beat, 0);
                to.learn(events);
            }
        }
        for (at, of) in running.iter().flat_map(|at| nodes.iter().map(move |of| (at, of))) {
            let is_alive = at.shared.peers.is_alive(of.process);
            of.was_silent.set(of.was_silent.get() || !is_alive);
        }
    }

    /// Tells the others of the rows of `node`.
    fn tell(&self, node: &Node) {
        if node.tell_all.notified().now_or_never().is_some() {
            node.told.set(0);
        }
        let mut cursor = node.told.get();
        let (told, _) = node.hub.registry.lock().tell(&mut cursor);
        node.told.set(cursor);
        if told == Told::default() {
            return;
        }
        log::debug!("{} tells {told:?}", node.process);
        let handler: Handler = Rc::new(|_| unreachable!());
        for other in self.running() {
            let mut frame = Frame::new(node.process, "told", &()).unwrap();
            frame.body = serde_json::to_vec(&told).unwrap().into();
            arrived(&other.hub, &other.shared, &handler, Incoming::Told(frame));
        }
    }

    /// A change of `node` in its turn.
    fn change(node: &Node, change: impl FnOnce(&Hub) -> Vec<Change>) {
        node.read();
        let records = change(&node.hub).into_iter().map(|change| match change {
            Change::PutSession(record) => Merge::Session(record.id.clone(), Some(record)),
            Change::PutLlm(llm) => Merge::Llm(llm.name.clone(), Some(llm)),
            Change::PutName(record) => Merge::Name(record.name.clone(), Some(record)),
            other => panic!("{other:?}"),
        });
        node.table().change(records);
    }

    /// The registrar registers its row.
    fn register(&self) {
        let provider = crate::tests::publisher::provider(ROW);
        let request = serde_json::json!({ "providerSessionId": SESSION, "providers": [provider] });
        let request = serde_json::from_value(request).unwrap();
        let node = self.any_node();
        Self::change(&node, |hub| {
            let ids = |kind: &str| format!("{kind}-{SESSION}");
            let caller = &self.common.caller;
            hub.registry.lock().register(caller, &request, &ids, hub.now()).unwrap().changes
        });
    }

    /// The session becomes that of `node`, where its channel opens.
    pub fn adopt(&self, node: &Node) {
        Self::change(node, |hub| hub.registry.lock().adopt(&self.common.caller, SESSION, hub.now()));
    }
}
