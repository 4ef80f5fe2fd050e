//! A process of a hub: its code as it is, but for sockets, beats and the database.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::Common;
use super::world::TICK;
use crate::clock::Clock;
use crate::cluster::bus::{Inbox, Incoming};
use crate::cluster::members::Event;
use crate::cluster::peers::Peers;
use crate::cluster::run::{arrived, fence, heard, lose};
use crate::cluster::served::Handler;
use crate::cluster::shared::unstored::Reader;
use crate::cluster::{Cluster, Process, Shared};
use crate::dispatch::run_offers;
use crate::hub::{Hub, Phase};
use crate::registry::Registry;
use crate::store::{PostgresStore, Snapshot};
use crate::tests::support::options;

/// A process of a hub, until it is killed.
pub struct Node {
    pub process: Process,
    pub hub: Arc<Hub>,
    pub shared: Arc<Shared>,
    pub term: u64,
    pub began: Instant,
    pub tell_all: Notify,
    /// What it has told of its rows.
    pub told: Cell<u64>,
    /// Until when it is stopped.
    pub stopped: Cell<Option<Instant>>,
    /// Whether another process took it for silent.
    pub was_silent: Cell<bool>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

impl Node {
    pub fn start(peers: Peers, inbox: Inbox, common: &Common) -> Rc<Self> {
        let (process, term) = (peers.process, peers.term);
        let store = Arc::new(PostgresStore::absent(process));
        let shared = Shared::over(peers, inbox, store.clone(), String::new());
        let (options, clock) = (options(), Clock::start());
        let registry = Registry::load(&Snapshot::default(), options.pools, &options.timings, clock.now());
        let registry = registry.of_hub(Some(process.hub().to_owned()));
        let (tokens, watch) = (common.tokens.clone(), common.watch.clone());
        let cluster = (Cluster::Joined(process), Some(shared.clone()));
        let hub = Arc::new(Hub::new(options, cluster, clock, registry, store, tokens, watch));
        let began = Instant::now();
        let (tell_all, told) = (Notify::new(), Cell::new(0));
        let (stopped, was_silent, tasks) = <(Cell<_>, Cell<_>, RefCell<_>)>::default();
        let node =
            Rc::new(Self { process, hub, shared, term, began, tell_all, told, stopped, was_silent, tasks });
        let (losing, of_lose) = (node.shared.losing.lock().take().unwrap(), node.clone());
        *node.tasks.borrow_mut() = vec![
            spawn_local(node.hear()),
            spawn_local(async move { lose(&of_lose.hub, &of_lose.shared, losing).await }),
            spawn_local(run_offers(node.hub.clone())),
        ];
        node
    }

    /// Ends what only a living process does.
    pub fn abort(&self) {
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
    }

    /// Waits while the process is stopped.
    pub async fn runs(&self) {
        while self.stopped.get().is_some() {
            sleep(TICK).await;
        }
    }

    /// Begins to shut down.
    pub fn leave(&self) {
        log::debug!("{} leaves", self.process);
        self.hub.registry.lock().leave(self.hub.now());
        self.hub.phase.send_replace(Phase::Leaving);
    }

    pub fn table(&self) -> &Reader {
        self.shared.unstored.get().unwrap()
    }

    /// Takes over what others have changed.
    pub fn read(&self) {
        let records = self.table().unread();
        log::debug!("{} reads {} records", self.process, records.len());
        self.hub.take_records(&self.shared, records);
    }

    pub fn learn(&self, events: Vec<Event>) {
        for event in events {
            if event == Event::Fence {
                fence(&self.hub, &self.shared, &self.tell_all);
            } else {
                heard(&self.hub, &self.shared, event, &self.tell_all);
            }
        }
    }

    fn hear(self: &Rc<Self>) -> impl Future<Output = ()> + use<> {
        let (node, mut inbox) = (self.clone(), self.shared.inbox.lock().take().unwrap());
        let handler: Handler = Rc::new(|_| unreachable!("nobody passes calls on"));
        async move {
            while let Some(message) = inbox.recv().await {
                let (Incoming::Told(frame) | Incoming::Asked(frame, _)) = &message;
                if !node.shared.peers.members.lock().is_stale(frame.from, frame.beat) {
                    arrived(&node.hub, &node.shared, &handler, message);
                }
            }
        }
    }
}
