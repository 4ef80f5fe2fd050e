//! A bus in memory, for tests: a [`Bus`](super::bus::Bus) over a [`Network`] on the clock of tokio, which tests pause.

use std::collections::{HashMap, HashSet};
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
use super::frame::Frame;
use super::network::Network;

/// A message on its way.
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
pub struct MemoryBus {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl MemoryBus {
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
    pub fn join(&self, process: Process) -> (MemoryPort, Inbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.shared.inboxes.lock().insert(process, sender);
        self.shared.network.lock().join(process);
        let port = MemoryPort {
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
                let Ok(frame) = Frame::decode(&bytes) else { return };
                let shared = self.clone();
                let reply = Reply::new(move |answer| {
                    shared.check(to)?;
                    let bytes = answer.encode().map_err(|_| Unsent::TooLong)?;
                    shared.send(to, from, lane, Parcel::Answered(number, Ok(bytes)));
                    Ok(())
                });
                Incoming::Asked(frame, reply)
            }
            Parcel::Told(bytes) => match Frame::decode(&bytes) {
                Ok(frame) => Incoming::Told(frame),
                Err(_) => return,
            },
        };
        if let Some(inbox) = self.inboxes.lock().get(&to) {
            let _ = inbox.send(incoming);
        }
    }
}

/// A process's end of the bus.
#[derive(Clone)]
pub struct MemoryPort {
    me: Process,
    shared: Arc<Shared>,
    numbers: Arc<Numbers>,
    /// Number of the last question.
    questions: Arc<AtomicU64>,
}

impl Bus for MemoryPort {
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
            Frame::decode(&answer.map_err(|_| Unanswered::Late)??).map_err(|_| Unanswered::Late)
        })
    }

    fn forget(&self, process: Process) {
        self.numbers.forget(process);
    }
}

/// Lets the paused clock run.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[cfg(test)]
mod tests;
