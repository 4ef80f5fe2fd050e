//! A hub and a registrar with many tasks, and a network that delivers any number of frames and breaks at any time.

mod delivery;
mod steps;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use steps::{Step, steps};

use crate::link::{BodyKind, Frame, Going, Hello, HubEnd, Link, PIECE_OVERHEAD, Resume, WINDOW};

const GOING: Going = Going { delay_ms: 7, interval_ms: 1000 };

/// Bytes that tell their position and their task.
fn bytes_of(task: usize, from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| u8::try_from((at * 31 + task * 7) % 251).unwrap()).collect()
}

#[derive(Default)]
struct Answer {
    sent: usize,
    is_ended: bool,
}

#[derive(Default)]
struct Caller {
    unread: VecDeque<Bytes>,
    read: Vec<u8>,
    is_whole: bool,
}

/// A connection that the hub has not seen the end of.
#[derive(Default)]
struct Connection {
    number: u64,
    has_resumed: bool,
    to_hub: VecDeque<Bytes>,
    to_registrar: VecDeque<Bytes>,
}

#[derive(Default)]
struct World {
    hub: HubEnd,
    registrar: Link,
    /// Oldest first. The registrar has left all but the last one.
    connections: VecDeque<Connection>,
    /// Sizes of the tasks, by number.
    sizes: Vec<usize>,
    left: HashSet<usize>,
    callers: HashMap<usize, Caller>,
    /// What the registrar has of each task, and whether it is all.
    requests: HashMap<usize, (Vec<u8>, bool)>,
    runs: HashMap<usize, usize>,
    answers: HashMap<usize, Answer>,
    taken: HashSet<usize>,
    cancelled: HashSet<usize>,
    /// Number of heartbeats so far, and whether the last one waits for its answer.
    beats: u64,
    waits: bool,
}

fn number(task: &Arc<str>) -> usize {
    task[1..].parse().unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.connect();
        world
    }

    /// Opens a connection; the hub says hello on it.
    fn connect(&mut self) {
        self.waits = false;
        self.registrar.disconnect();
        let (number, tasks) = self.hub.connect();
        let hello = Frame::Hello(Hello { tasks, ..Hello::default() }.to_json()).encode();
        self.connections.push_back(Connection {
            number,
            to_registrar: [hello].into(),
            ..Connection::default()
        });
    }

    fn disconnect(&mut self) {
        let Some(oldest) = self.connections.pop_front() else { return };
        self.hub.disconnect(oldest.number);
        if self.connections.is_empty() {
            self.connect();
        }
    }

    fn resume(&mut self, connection: u64, json: &[u8]) {
        let tables = Resume::parse(json).unwrap().tasks;
        // Nothing of these tasks has arrived.
        for lost in self.hub.resume(connection, &tables).unwrap() {
            assert!(!self.requests.contains_key(&number(&lost)));
            self.send(number(&lost));
        }
    }

    fn send(&mut self, task: usize) {
        let name = format!("t{task}");
        self.hub.push(&name, BodyKind::Json, bytes_of(task, 0, self.sizes[task]).into());
        self.hub.finish(&name);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Dispatch(size) => {
                let task = self.sizes.len();
                self.sizes.push(size);
                self.callers.insert(task, Caller::default());
                self.send(task);
            }
            Step::Answer { task, bytes } => {
                if let Some(task) = self.running(task)
                    && self.registrar.pending_bytes(&format!("t{task}")) == 0
                {
                    let answer = self.answers.get_mut(&task).unwrap();
                    let text = bytes_of(task, answer.sent, bytes);
                    answer.sent += bytes;
                    self.registrar.push(&format!("t{task}"), BodyKind::Events, text.into());
                }
            }
            Step::End(task) => {
                if let Some(task) = self.running(task) {
                    self.end(task);
                }
            }
            Step::Leave(task) => {
                if task < self.sizes.len() && self.hub.knows(&format!("t{task}")) {
                    self.hub.cancel(&format!("t{task}"));
                    self.left.insert(task);
                }
            }
            Step::Read { task, pieces } => self.read(task, pieces),
            Step::Deliver { to_hub, frames } => {
                for _ in 0..frames {
                    self.deliver(to_hub);
                }
            }
            Step::Beat if self.waits || !self.registrar.is_carried() => (),
            Step::Beat => {
                (self.beats, self.waits) = (self.beats + 1, true);
                let body = Bytes::from(self.beats.to_string());
                self.registrar.send_control(&Frame::Beat { number: self.beats, body });
            }
            Step::Going => self.hub.send_control(&Frame::Going(GOING)),
            Step::Connect => self.connect(),
            Step::Waste(frames) => {
                if let Some(oldest) = self.connections.front().filter(|_| self.connections.len() > 1) {
                    for _ in 0..frames {
                        self.hub.next_frame(oldest.number);
                    }
                }
            }
            Step::Late(frames) => {
                for _ in 0..frames {
                    let left = self.connections.len() - 1;
                    if let Some(at) = (0..left).find(|at| !self.connections[*at].to_hub.is_empty()) {
                        self.arrive_at_hub(at);
                    }
                }
            }
            Step::Break => self.disconnect(),
        }
        self.check_bounds();
    }

    /// The `at`th task that runs and has not ended its answer.
    fn running(&self, at: usize) -> Option<usize> {
        let mut running: Vec<_> = self.answers.iter().filter(|(_, answer)| !answer.is_ended).collect();
        running.sort_by_key(|(task, _)| **task);
        running.get(at).map(|(task, _)| **task).filter(|task| !self.cancelled.contains(task))
    }

    fn end(&mut self, task: usize) {
        self.answers.get_mut(&task).unwrap().is_ended = true;
        self.registrar.finish(&format!("t{task}"));
    }

    fn read(&mut self, task: usize, pieces: usize) {
        let Some(caller) = self.callers.get_mut(&task) else { return };
        for _ in 0..pieces {
            let Some(piece) = caller.unread.pop_front() else { break };
            caller.read.extend_from_slice(&piece);
            self.hub.consumed(&format!("t{task}"), piece.len());
        }
        if caller.is_whole && caller.unread.is_empty() && self.hub.knows(&format!("t{task}")) {
            self.hub.take(&format!("t{task}"), 200);
        }
    }

    /// What a caller has not read and what a registrar keeps are within the credit.
    fn check_bounds(&self) {
        for caller in self.callers.values() {
            let unread: u64 = caller.unread.iter().map(|piece| piece.len() as u64 + PIECE_OVERHEAD).sum();
            assert!(unread <= WINDOW, "{unread} unread");
        }
        for kept in self.registrar.kept_costs().chain(self.hub.kept_costs()) {
            assert!(kept <= WINDOW * 5 / 4, "{kept} kept");
        }
    }

    /// Lets everything end.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            for task in 0..self.sizes.len() {
                self.read(task, usize::MAX);
                if self.answers.get(&task).is_some_and(|answer| !answer.is_ended) {
                    self.end(task);
                }
            }
            let before = (self.hub.len(), self.registrar.len());
            for to_hub in [true, false].repeat(20) {
                self.deliver(to_hub);
            }
            if before == (0, 0) && !self.waits {
                return;
            }
        }
        panic!("tasks that never end: {:?}", self.hub);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// P3: whatever breaks and whenever, each task runs once, and each request and each answer arrives whole and once.
    #[test]
    fn every_body_arrives_whole_and_once_over_breaking_connections(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        for (task, size) in world.sizes.iter().enumerate() {
            prop_assert!(world.runs.get(&task).is_none_or(|runs| *runs == 1));
            if world.left.contains(&task) {
                continue;
            }
            let (request, is_whole) = &world.requests[&task];
            prop_assert!(*is_whole && *request == bytes_of(task, 0, *size), "request {}", task);
            let caller = &world.callers[&task];
            let sent = world.answers[&task].sent;
            prop_assert!(caller.is_whole && caller.read == bytes_of(task, 0, sent), "answer {}", task);
        }
    }
}
