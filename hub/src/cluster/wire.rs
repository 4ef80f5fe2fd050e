//! A bus in memory, for tests: messages between processes are lost, repeated and delayed as a seed says.
//!
//! [`Network`] is pure: it knows no clock. [`Wire`] carries a [`Bus`](super::bus::Bus) over it, on the clock of tokio, which tests
//! pause.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Process;
use super::bus::{Bus, Inbox, Incoming, Lane, Numbers, Pending, Reply, To, Unanswered, Unsent};
use super::frame::{Frame, Packet};

/// Random numbers of a seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether something happens whose chance is `percent`.
    pub fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the network does to messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Percentage that is lost.
    pub loss: u64,
    /// Percentage that arrives twice.
    pub repeat: u64,
    /// Longest delay. Messages of one lane keep their order, those of the two lanes do not.
    pub delay: Duration,
}

/// Messages on their way. A process that joined gets them until it leaves.
pub struct Network<T> {
    random: Random,
    pub weather: Weather,
    /// Messages by the time of their arrival.
    due: BTreeMap<(Duration, u64), (Process, T)>,
    sent: u64,
    /// When the last message of each way arrives.
    last: HashMap<(Process, Process, Lane), Duration>,
    joined: HashSet<Process>,
    /// Pairs of processes that do not hear each other.
    apart: HashSet<(Process, Process)>,
    /// Processes whose messages wait: they do not run.
    paused: HashMap<Process, Vec<T>>,
}

impl<T: Clone> Network<T> {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            weather: Weather::default(),
            due: BTreeMap::new(),
            sent: 0,
            last: HashMap::new(),
            joined: HashSet::new(),
            apart: HashSet::new(),
            paused: HashMap::new(),
        }
    }

    pub fn join(&mut self, process: Process) {
        self.joined.insert(process);
    }

    /// Ends a process. What it has sent is on its way; what comes for it is lost.
    pub fn leave(&mut self, process: Process) {
        self.joined.remove(&process);
        self.paused.remove(&process);
    }

    pub fn is_joined(&self, process: Process) -> bool {
        self.joined.contains(&process)
    }

    /// The processes that joined, in order.
    pub fn joined(&self) -> Vec<Process> {
        let mut all: Vec<_> = self.joined.iter().copied().collect();
        all.sort();
        all
    }

    /// Parts the processes for which `is_apart`, also of what is on its way.
    pub fn part(&mut self, is_apart: impl Fn(Process, Process) -> bool) {
        let all = self.joined();
        let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
        self.apart = pairs.filter(|(from, to)| is_apart(*from, *to)).collect();
    }

    /// Stops a process, as SIGSTOP does: messages for it wait.
    pub fn pause(&mut self, process: Process) {
        self.paused.entry(process).or_default();
    }

    /// Lets a process go on. What waited arrives now, in its order.
    pub fn resume(&mut self, process: Process, now: Duration) {
        for message in self.paused.remove(&process).unwrap_or_default() {
            self.push(now, process, message);
        }
    }

    /// Sends a message.
    pub fn send(&mut self, now: Duration, from: Process, to: Process, lane: Lane, message: T) {
        if from != to && (self.apart.contains(&(from, to)) || self.random.happens(self.weather.loss)) {
            return;
        }
        let copies = if self.random.happens(self.weather.repeat) { 2 } else { 1 };
        for _ in 0..copies {
            let longest = u64::try_from(self.weather.delay.as_micros()).unwrap_or(u64::MAX);
            let delay = Duration::from_micros(self.random.below(longest.saturating_add(1)));
            let last = self.last.entry((from, to, lane)).or_default();
            *last = (now + delay).max(*last);
            let at = *last;
            self.push(at, to, message.clone());
        }
    }

    fn push(&mut self, at: Duration, to: Process, message: T) {
        self.sent += 1;
        self.due.insert((at, self.sent), (to, message));
    }

    /// When the next message arrives.
    pub fn next_at(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next message that has arrived by `now`, and whether its receiver is there.
    pub fn arrived(&mut self, now: Duration) -> Option<(Process, T, bool)> {
        while self.next_at()? <= now {
            let (_, (to, message)) = self.due.pop_first()?;
            if let Some(waiting) = self.paused.get_mut(&to) {
                waiting.push(message);
                continue;
            }
            return Some((to, message, self.is_joined(to)));
        }
        None
    }
}

/// A message of the wire.
#[derive(Clone)]
pub enum Parcel {
    Told(Bytes),
    /// The asker, the number of the question, and its lane.
    Asked(Bytes, Process, u64, Lane),
    Answered(u64, Result<Bytes, Unanswered>),
}

/// Questions without an answer yet, by their askers and numbers.
type Questions = Mutex<HashMap<(Process, u64), oneshot::Sender<Result<Bytes, Unanswered>>>>;

struct Shared {
    network: Mutex<Network<Parcel>>,
    inboxes: Mutex<HashMap<Process, mpsc::UnboundedSender<Incoming>>>,
    asked: Questions,
    /// Processes without a connection, which know that.
    away: Mutex<HashSet<Process>>,
    sent: Notify,
    start: Instant,
}

/// Processes in one memory, and the network between them.
pub struct Wire {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Wire {
    pub fn new(seed: u64) -> Self {
        let shared = Arc::new(Shared {
            network: Mutex::new(Network::new(seed)),
            inboxes: Mutex::default(),
            asked: Mutex::default(),
            away: Mutex::default(),
            sent: Notify::new(),
            start: Instant::now(),
        });
        let driver = tokio::spawn(shared.clone().drive());
        Self { shared, driver }
    }

    /// Connects a process.
    pub fn join(&self, process: Process) -> (WirePort, Inbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.shared.inboxes.lock().insert(process, sender);
        self.shared.network.lock().join(process);
        let port = WirePort {
            me: process,
            shared: self.shared.clone(),
            numbers: Arc::default(),
            questions: Arc::default(),
        };
        (port, inbox)
    }

    /// Kills a process.
    pub fn kill(&self, process: Process) {
        self.shared.network.lock().leave(process);
        self.shared.inboxes.lock().remove(&process);
    }

    /// Has `process` know that it has no connection, or a new one.
    pub fn set_away(&self, process: Process, is_away: bool) {
        let mut away = self.shared.away.lock();
        if is_away {
            away.insert(process)
        } else {
            away.remove(&process)
        };
    }

    /// Changes the network, at the time of this call.
    pub fn change(&self, change: impl FnOnce(&mut Network<Parcel>, Duration)) {
        let mut network = self.shared.network.lock();
        change(&mut network, self.shared.start.elapsed());
        self.shared.sent.notify_one();
    }
}

impl Shared {
    fn send(&self, from: Process, to: Process, lane: Lane, parcel: Parcel) {
        self.network.lock().send(self.start.elapsed(), from, to, lane, parcel);
        self.sent.notify_one();
    }

    fn check(&self, process: Process) -> Result<(), Unsent> {
        if self.away.lock().contains(&process) { Err(Unsent::Away) } else { Ok(()) }
    }

    /// Delivers what arrives.
    async fn drive(self: Arc<Self>) {
        loop {
            let next = self.network.lock().next_at();
            let sent = self.sent.notified();
            match next {
                Some(at) => tokio::select! {
                    () = sleep_until(self.start + at) => (),
                    () = sent => (),
                },
                None => sent.await,
            }
            loop {
                let arrived = self.network.lock().arrived(self.start.elapsed());
                let Some((to, parcel, is_there)) = arrived else { break };
                self.deliver(to, parcel, is_there);
            }
        }
    }

    fn deliver(self: &Arc<Self>, to: Process, parcel: Parcel, is_there: bool) {
        let incoming = match parcel {
            Parcel::Answered(number, answer) => {
                // The question may be forgotten.
                if let Some(asked) = self.asked.lock().remove(&(to, number)) {
                    let _ = asked.send(answer);
                }
                return;
            }
            Parcel::Asked(_, from, number, lane) if !is_there => {
                let nobody = Parcel::Answered(number, Err(Unanswered::Nobody));
                return self.send(from, from, lane, nobody);
            }
            Parcel::Told(_) if !is_there => return,
            Parcel::Asked(bytes, from, number, lane) => {
                let Ok(Packet::Frame(frame)) = Packet::decode(&bytes) else { return };
                let shared = self.clone();
                let reply = Reply::new(move |answer| {
                    shared.check(to)?;
                    let bytes = answer.encode().map_err(|_| Unsent::TooLong)?;
                    shared.send(to, from, lane, Parcel::Answered(number, Ok(bytes)));
                    Ok(())
                });
                Incoming::Asked(frame, reply)
            }
            Parcel::Told(bytes) => match Packet::decode(&bytes) {
                Ok(Packet::Frame(frame)) => Incoming::Told(frame),
                Ok(Packet::Link(bytes)) => Incoming::HandedOn(bytes),
                Err(_) => return,
            },
        };
        if let Some(inbox) = self.inboxes.lock().get(&to) {
            let _ = inbox.send(incoming);
        }
    }
}

/// A process's end of the wire.
#[derive(Clone)]
pub struct WirePort {
    me: Process,
    shared: Arc<Shared>,
    numbers: Arc<Numbers>,
    /// Number of the last question.
    questions: Arc<AtomicU64>,
}

impl Bus for WirePort {
    fn begin_beat(&self, number: u64) {
        self.numbers.set_beat(number);
    }

    fn tell(&self, to: To, mut frame: Frame) -> Result<(), Unsent> {
        self.shared.check(self.me)?;
        self.numbers.stamp(to, &mut frame);
        let bytes = frame.encode().map_err(|_| Unsent::TooLong)?;
        let (all, lane) = match to {
            To::All(_) => (self.shared.network.lock().joined(), Lane::Ctl),
            To::Process(process, lane) => (vec![process], lane),
        };
        for process in all {
            self.shared.send(self.me, process, lane, Parcel::Told(bytes.clone()));
        }
        Ok(())
    }

    fn ask(&self, process: Process, lane: Lane, mut frame: Frame, within: Duration) -> Pending<Frame> {
        let (answered, answer) = oneshot::channel();
        let asked = self.shared.check(self.me).and_then(|()| {
            self.numbers.stamp(To::Process(process, lane), &mut frame);
            let bytes = frame.encode().map_err(|_| Unsent::TooLong)?;
            let number = self.questions.fetch_add(1, Ordering::Relaxed);
            self.shared.asked.lock().insert((self.me, number), answered);
            let parcel = Parcel::Asked(bytes, self.me, number, lane);
            self.shared.send(self.me, process, lane, parcel);
            Ok(number)
        });
        let (me, shared) = (self.me, self.shared.clone());
        Box::pin(async move {
            let number = asked?;
            let answer = timeout(within, answer).await;
            shared.asked.lock().remove(&(me, number));
            let answer = answer.map_err(|_| Unanswered::Late)?;
            match Packet::decode(&answer.map_err(|_| Unanswered::Late)??) {
                Ok(Packet::Frame(frame)) => Ok(frame),
                _ => Err(Unanswered::Late),
            }
        })
    }

    fn hand_on(&self, home: Process, lane: Lane, link_frame: &[u8]) -> Result<(), Unsent> {
        self.shared.check(self.me)?;
        let parcel = Parcel::Told(Packet::encode_link(link_frame));
        self.shared.send(self.me, home, lane, parcel);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
