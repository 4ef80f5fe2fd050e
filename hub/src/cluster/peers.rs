//! The other processes of the cluster, and the way to them.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use super::bus::{Bus, Reply, To, Topic};
use super::calls::Calls;
use super::frame::Frame;
use super::members::{Members, State};
use super::parts::Arrival;
use super::relay::{Homes, Hosts};
use super::served::Served;
use super::window::Windows;
use super::{Cluster, Process, Route};

/// What a process has of the others, and what it does with them.
pub(crate) struct Peers {
    pub(super) process: Process,
    pub(super) term: u64,
    /// When this process began to hear the others.
    pub(super) began: Instant,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) members: Mutex<Members>,
    pub(super) calls: Calls,
    pub(super) served: Served,
    pub(super) hosts: Hosts,
    pub(super) homes: Homes,
    /// Of the bodies that are on their way to others.
    pub(super) windows: Arc<Windows>,
}

/// Where the result of a task is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Here,
    At(Process),
    /// By its beats the process is dead. It may be cut off from the network alone, and have callers that wait.
    Silent(Process),
    /// It is not known now.
    Unknown,
}

impl Peers {
    /// `term` is that of this process's lease.
    pub(super) fn new(process: Process, term: u64, bus: Arc<dyn Bus>) -> Self {
        let members = Mutex::new(Members::new(process, term));
        let (calls, served) = (Calls::default(), Served::default());
        let (hosts, homes) = (Hosts::default(), Homes::default());
        let windows = Arc::default();
        Self { process, term, began: Instant::now(), bus, members, calls, served, hosts, homes, windows }
    }

    /// Whether the process can be asked.
    pub(super) fn is_alive(&self, process: Process) -> bool {
        self.members.lock().state(process) == Some(State::Alive)
    }

    /// Whether the process was not heard for as long as its lease lasts.
    pub(super) fn is_dead(&self, process: Process) -> bool {
        self.members.lock().state(process) == Some(State::Dead)
    }

    /// The process of the other hub `hub` that can be asked.
    pub(crate) fn process_of(&self, hub: &str) -> Option<Process> {
        self.members.lock().alive(hub)
    }

    /// This process.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// This hub's id.
    pub(crate) fn hub(&self) -> &str {
        self.process.hub()
    }

    /// Where the result of `task` is to be decided.
    pub(crate) fn home(&self, cluster: Cluster, task: &str) -> Home {
        let Route::At(home) = cluster.home(task) else { return Home::Here };
        let members = self.members.lock();
        match members.state(home) {
            Some(State::Alive) => Home::At(home),
            // A process that hears nothing, or has just begun to, does not know who is dead.
            Some(State::Dead) | None if members.knows_all() => Home::Silent(home),
            _ => Home::Unknown,
        }
    }

    /// Notes that `process` was asked and is not there.
    pub(super) fn not_there(&self, process: Process) {
        if self.members.lock().not_there(process).is_some() {
            self.lose(process);
        }
    }

    /// Ends all calls and relays from and to `process`.
    pub(super) fn lose(&self, process: Process) {
        self.calls.lose(process);
        self.served.lose(process);
        self.hosts.lose(process);
        self.homes.lose(process);
    }

    pub(super) fn reply(&self, reply: Reply, arrival: Arrival) {
        if let Ok(frame) = Frame::new(self.process, arrival.as_str(), &()) {
            // Without a network the asker learns it from the beats.
            let _ = reply.answer(frame);
        }
    }

    /// Tells all processes something. That it is lost is no error here: what matters is told again.
    pub(super) fn tell_all(&self, kind: &str, data: &impl Serialize, body: Bytes) {
        if let Ok(mut frame) = Frame::new(self.process, kind, data) {
            frame.body = body;
            let _ = self.bus.tell(To::All(Topic::Rows), frame);
        }
    }
}

#[cfg(test)]
mod tests;
