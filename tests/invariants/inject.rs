//! Injects the faults of the schedule, several at a time, and ends each one after its duration.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::proxy::{Network, Proxy};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::{Backend, Mood};
use crate::fleet::{Program, ready};
use crate::record::Record;
use crate::schedule::{Fault, Target, Trouble};

/// Everything that faults are injected into.
pub struct Scene {
    pub record: Rc<Record>,
    pub hub: Program,
    pub hub_port: u16,
    pub registrars: Vec<Program>,
    pub channels: Vec<Proxy>,
    /// Proxies before every second backend. The other backends are reached directly, so that a dead one refuses connections.
    pub backend_links: Vec<Option<Proxy>>,
    pub backends: Vec<Backend>,
    pub callers: Proxy,
    pub busy: RefCell<HashSet<Target>>,
}

/// Limit for a registrar's end after SIGTERM: its drain timeout of 3 s, and time to deliver the last results over a bad
/// network.
const REGISTRAR_ENDS: Duration = Duration::from_secs(15);
/// Limit for a hub's end after SIGTERM: 20 s for running calls, and a margin.
const HUB_ENDS: Duration = Duration::from_secs(25);

/// Injects all faults of the schedule, and returns after the last one has ended.
pub async fn inject(scene: &Rc<Scene>, faults: Vec<Fault>) {
    let start = Instant::now();
    let mut going = JoinSet::new();
    for fault in faults {
        sleep_until(start + fault.at).await;
        if !scene.busy.borrow_mut().insert(fault.whose) {
            scene.record.injected("left out", "its target had another fault");
            continue;
        }
        let scene = Rc::clone(scene);
        going.spawn_local(async move {
            scene.record.injected(fault.whose.name(), fault.what.name());
            let late = fault.delays().map(|index| scene.record.delays(index));
            scene.apply(fault).await;
            if let Some(late) = late {
                scene.record.delay_is_over(late);
            }
            scene.busy.borrow_mut().remove(&fault.whose);
        });
    }
    while let Some(ended) = going.join_next().await {
        ended.unwrap();
    }
}

impl Scene {
    async fn apply(&self, fault: Fault) {
        match (fault.whose, fault.what) {
            (Target::Hub, Trouble::Stop) => Self::stop(&self.hub, fault.lasts).await,
            (Target::Hub, what) => {
                self.record.hub_ends();
                if what == Trouble::Kill {
                    self.hub.kill().await;
                } else {
                    self.hub.terminate(HUB_ENDS).await;
                }
                sleep(fault.lasts).await;
                self.hub.start();
                if let Err(complaint) = ready(&self.hub, self.hub_port).await {
                    self.record.violation(complaint);
                }
                self.record.hub_is_back();
            }
            (Target::Registrar(index), Trouble::Stop) => {
                Self::stop(&self.registrars[index], fault.lasts).await;
            }
            (Target::Registrar(index), what) => {
                let registrar = &self.registrars[index];
                if what == Trouble::Kill {
                    registrar.kill().await;
                } else {
                    registrar.terminate(REGISTRAR_ENDS).await;
                }
                sleep(fault.lasts).await;
                registrar.start();
            }
            (Target::Channel(index), Trouble::Network(network)) => {
                Self::disturb(&self.channels[index], network, fault.lasts).await;
            }
            (Target::BackendLink(index), Trouble::Network(network)) => {
                if let Some(link) = &self.backend_links[index] {
                    Self::disturb(link, network, fault.lasts).await;
                }
            }
            (Target::Callers, Trouble::Network(network)) => {
                Self::disturb(&self.callers, network, fault.lasts).await;
            }
            (Target::Backend(index), Trouble::Mood(mood)) => {
                self.backends[index].set(mood);
                sleep(fault.lasts).await;
                self.backends[index].set(Mood::Good);
            }
            (whose, what) => panic!("{what:?} cannot be injected into {whose:?}"),
        }
    }

    async fn stop(program: &Program, lasts: Duration) {
        program.signal(Signal::SIGSTOP);
        sleep(lasts).await;
        program.signal(Signal::SIGCONT);
    }

    async fn disturb(proxy: &Proxy, network: Network, lasts: Duration) {
        proxy.set(network);
        sleep(lasts).await;
        proxy.set(Network::Passes);
    }
}
