//! A hub and a registrar with many tasks, and a network that delivers any number of frames and breaks at any time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::link::{
    BodyKind, Frame, Going, Hello, HubEnd, Link, PIECE_OVERHEAD, Received, Resume, Violation, WINDOW,
};

const GOING: Going = Going { delay_ms: 7, interval_ms: 1000 };

/// One step of the world.
#[derive(Debug, Clone)]
enum Step {
    /// The hub sends a task of this many bytes.
    Dispatch(usize),
    /// The registrar answers one of its tasks with this many bytes more.
    Answer { task: usize, bytes: usize },
    /// The registrar ends an answer.
    End(usize),
    /// The hub's caller leaves.
    Leave(usize),
    /// The caller reads this many pieces.
    Read { task: usize, pieces: usize },
    /// At most this many frames are written and delivered, to the registrar or to the hub.
    Deliver { to_hub: bool, frames: usize },
    /// The registrar sends a heartbeat, unless one waits for its answer.
    Beat,
    /// The hub shuts down.
    Going,
    /// The registrar gives its connection up and opens another one. The hub still holds the last one, and what is under way
    /// on it arrives.
    Connect,
    /// The hub writes this many frames on the oldest connection, whose registrar has left it.
    Waste(usize),
    /// At most this many frames arrive that a registrar sent on a connection before it left it.
    Late(usize),
    /// The oldest connection ends at the hub, with all frames under way.
    Break,
}

/// A registrar opens another connection while pieces are under way, which arrive and are read before they come again.
fn hand_over() -> impl Strategy<Value = Vec<Step>> {
    (0_usize..4, 0_usize..12, 1_usize..9, 1_usize..4, 1_usize..4).prop_map(
        |(answered, late, pieces, there, back)| {
            let mut steps = vec![
                Step::Answer { task: answered, bytes: 700_000 },
                Step::Deliver { to_hub: true, frames: 3 },
                Step::Connect,
                Step::Late(late),
                Step::Deliver { to_hub: false, frames: 1 },
                Step::Deliver { to_hub: true, frames: there },
            ];
            steps.extend((0..8).map(|task| Step::Read { task, pieces }));
            steps.push(Step::Deliver { to_hub: false, frames: back });
            steps
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let several = prop_oneof![20 => step().prop_map(|step| vec![step]), 1 => hand_over()];
    prop::collection::vec(several, 1..100).prop_map(|steps| steps.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0_usize..100, 60_000_usize..70_000, Just(700_000_usize)];
    prop_oneof![
        1 => size.clone().prop_map(Step::Dispatch),
        4 => (0_usize..8, size).prop_map(|(task, bytes)| Step::Answer { task, bytes }),
        1 => (0_usize..8).prop_map(Step::End),
        1 => (0_usize..40).prop_map(Step::Leave),
        4 => (0_usize..8, 1_usize..9).prop_map(|(task, pieces)| Step::Read { task, pieces }),
        8 => (any::<bool>(), 1_usize..12).prop_map(|(to_hub, frames)| Step::Deliver { to_hub, frames }),
        1 => Just(Step::Beat),
        1 => Just(Step::Going),
        1 => Just(Step::Connect),
        1 => (1_usize..12).prop_map(Step::Waste),
        2 => (1_usize..12).prop_map(Step::Late),
        1 => Just(Step::Break),
    ]
}

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

    fn deliver(&mut self, to_hub: bool) {
        let Some(last) = self.connections.back_mut() else { return };
        // A frame is under way before it is delivered, so that a break loses some.
        if to_hub {
            last.to_hub.extend(self.registrar.next_frame());
            last.to_hub.extend(self.registrar.next_frame());
            return self.arrive_at_hub(self.connections.len() - 1);
        }
        last.to_registrar.extend(self.hub.next_frame(last.number));
        last.to_registrar.extend(self.hub.next_frame(last.number));
        let Some(bytes) = last.to_registrar.pop_front() else { return };
        self.at_registrar(Frame::decode(&bytes).unwrap().unwrap());
    }

    fn arrive_at_hub(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let Some(bytes) = connection.to_hub.pop_front() else { return };
        let number = connection.number;
        match (connection.has_resumed, Frame::decode(&bytes).unwrap().unwrap()) {
            (false, Frame::Resume(json)) => {
                connection.has_resumed = true;
                self.resume(number, &json);
            }
            (_, frame) => self.at_hub(number, frame),
        }
    }

    fn at_hub(&mut self, connection: u64, frame: Frame<'_>) {
        match self.hub.receive(connection, frame).unwrap() {
            Received::Piece { task, is_new, piece } => {
                if is_new {
                    // Its caller has left, or has read it on an older connection, which the last hello did not know.
                    let number = number(&task);
                    assert!(self.left.contains(&number) || self.callers[&number].is_whole);
                    return self.hub.take(&task, 410);
                }
                let caller = self.callers.get_mut(&number(&task)).unwrap();
                assert!(!caller.is_whole, "a piece behind the end");
                caller.is_whole = piece.is_last;
                caller.unread.push_back(piece.bytes);
            }
            Received::Beat(number, body) => {
                assert_eq!(body, number.to_string());
                self.hub.send_control(&Frame::Beaten { number, status: 200, body });
            }
            Received::Credit(_) | Received::Nothing => (),
            other => panic!("{other:?}"),
        }
    }

    fn at_registrar(&mut self, frame: Frame<'_>) {
        match self.registrar.receive(frame).unwrap() {
            Received::Piece { task, is_new, piece } => {
                let task = number(&task);
                if is_new {
                    *self.runs.entry(task).or_default() += 1;
                }
                let (request, is_whole) = self.requests.entry(task).or_default();
                assert!(!*is_whole, "a piece behind the end");
                request.extend_from_slice(&piece.bytes);
                self.registrar.consumed(&format!("t{task}"), piece.bytes.len());
                if piece.is_last {
                    *is_whole = true;
                    self.answers.insert(task, Answer::default());
                }
            }
            Received::Taken { task, status } => {
                if status == 200 {
                    self.taken.insert(number(&task));
                } else {
                    self.cancelled.insert(number(&task));
                }
            }
            Received::Cancelled(task) => {
                self.cancelled.insert(number(&task));
            }
            Received::Beaten { number, status, body } => {
                assert!(self.waits && number == self.beats, "an answer to another heartbeat");
                assert_eq!((status, body), (200, Bytes::from(number.to_string())));
                self.waits = false;
            }
            Received::Going(going) => assert_eq!(going, GOING),
            Received::Hello(json) => {
                for lost in self.registrar.resume(&Hello::parse(&json).unwrap().tasks).unwrap() {
                    self.cancelled.insert(number(&lost));
                }
                let resume = Resume { tasks: self.registrar.tables() };
                self.registrar.send_control(&Frame::Resume(resume.to_json()));
            }
            Received::Credit(_) | Received::Nothing => (),
            other => panic!("{other:?}"),
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

/// A peer that reads the rest of a connection after its hello on the next one counts it before it has come again.
#[test]
fn an_acknowledgement_of_what_was_not_sent_again_is_none_against_the_rules() {
    let (mut hub, mut registrar) = two_ends();
    registrar.push("t", BodyKind::Events, vec![0; 200 << 10].into());
    carry(&mut registrar, &mut hub);
    registrar.disconnect();
    registrar.resume(&[("t".to_owned(), [1, WINDOW])].into()).unwrap();
    let credit = |taken| Frame::Credit { task: "t", credit: crate::link::Credit { granted: 0, taken } };
    assert!(registrar.receive(credit(3)).is_ok());
    let sent: Vec<_> = std::iter::from_fn(|| registrar.next_frame()).collect();
    assert!(
        matches!(sent[..], [ref last] if matches!(Frame::decode(last), Ok(Some(Frame::Piece { piece, .. })) if piece.seq == 3))
    );
    assert_eq!(registrar.receive(credit(5)), Err(Violation::NotSent));
}

fn two_ends() -> (Link, Link) {
    let (mut hub, mut registrar) = (Link::default(), Link::default());
    registrar.resume(&hub.tables()).unwrap();
    hub.resume(&registrar.tables()).unwrap();
    (hub, registrar)
}

fn carry(from: &mut Link, to: &mut Link) -> Vec<Result<Received, Violation>> {
    std::iter::from_fn(|| from.next_frame())
        .map(|bytes| to.receive(Frame::decode(&bytes).unwrap().unwrap()))
        .collect()
}

#[test]
fn a_small_task_waits_for_one_piece_of_a_large_one() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("large", BodyKind::Json, vec![0; 200_000].into());
    hub.push("small", BodyKind::Json, Bytes::from_static(b"{}"));
    hub.send_control(&Frame::Superseded);
    let order: Vec<_> = carry(&mut hub, &mut registrar)
        .into_iter()
        .map(|received| match received.unwrap() {
            Received::Piece { task, .. } => task.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(order, ["Superseded", "large", "small", "large", "large", "large"]);
}

#[test]
fn a_peer_that_sends_beyond_its_credit_is_cut_off() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("t", BodyKind::Json, vec![0; 1 << 20].into());
    let pieces = carry(&mut hub, &mut registrar);
    assert!(pieces.iter().all(Result::is_ok) && pieces.len() == 3, "{}", pieces.len());
    let piece = |seq, bytes: usize| Frame::Piece {
        task: "t",
        piece: crate::link::Piece { seq, kind: BodyKind::Json, is_last: true, bytes: vec![0; bytes].into() },
    };
    assert_eq!(registrar.receive(piece(3, (64 << 10) + 1)), Err(Violation::BeyondCredit));
    assert_eq!(registrar.receive(piece(3, 64 << 10)), Err(Violation::BeyondCredit));
    assert_eq!(registrar.receive(piece(4, 1)), Err(Violation::OutOfOrder));
    assert!(registrar.receive(piece(3, 1)).is_ok());
    assert_eq!(registrar.receive(piece(4, 1)), Err(Violation::BehindEnd));
    assert_eq!(registrar.receive(piece(0, 1)), Ok(Received::Nothing), "it came before");
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("t", BodyKind::Json, vec![0; 1 << 20].into());
    carry(&mut hub, &mut registrar);
    let credit = |taken| Frame::Credit { task: "t", credit: crate::link::Credit { granted: 0, taken } };
    assert_eq!(hub.receive(credit(4)), Err(Violation::NotSent));
    assert!(hub.receive(credit(3)).is_ok());
    hub.disconnect();
    for received in [2, 4] {
        let tables = [("t".to_owned(), [received, WINDOW])].into();
        assert_eq!(hub.resume(&tables), Err(Violation::NotSent), "{received}");
    }
}

/// A registrar that was killed and is back knows no task.
#[test]
fn the_hub_learns_which_tasks_a_registrar_lost() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("t", BodyKind::Json, Bytes::from_static(b"{}"));
    carry(&mut hub, &mut registrar);
    hub.disconnect();
    let mut registrar = Link::default();
    registrar.resume(&hub.tables()).unwrap();
    assert_eq!(hub.resume(&registrar.tables()), Ok(vec!["t".into()]));
    assert!(!hub.knows("t") && hub.next_frame().is_none());
}

#[test]
fn a_greeting_comes_first_and_once() {
    let (mut hub, _) = two_ends();
    assert_eq!(hub.receive(Frame::Resume(Bytes::new())), Err(Violation::GreetedTwice));
    assert_eq!(Link::default().receive(Frame::Superseded), Err(Violation::NotGreeted));
}
