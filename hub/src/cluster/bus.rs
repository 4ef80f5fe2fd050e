//! What hubs need of the network between them.
//!
//! A message may be lost, and may come late; it is not stored anywhere. Messages of one lane from one process to another
//! arrive in their order. No call here waits for the network.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Process;
use super::frame::Frame;

/// What messages to all hubs are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// That a process lives.
    Beat,
    /// Changed rows.
    Rows,
}

impl Topic {
    /// The topic's name in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Beat => "beat",
            Self::Rows => "rows",
        }
    }
}

/// One of the two connections of a process. All messages of a task use the one that its dispatch used, so that none
/// overtakes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small messages.
    Ctl,
    /// Bodies, behind which small messages would wait.
    Bulk,
}

impl Lane {
    pub const ALL: [Self; 2] = [Self::Ctl, Self::Bulk];

    /// The lane's name in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ctl => "ctl",
            Self::Bulk => "bulk",
        }
    }
}

/// Who gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum To {
    /// All processes of the cluster, the sender too.
    All(Topic),
    Process(Process, Lane),
}

/// Why a message is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// This process has no connection. Nothing is kept for later: it would be stale.
    #[error("the network between hubs is away")]
    Away,
    /// No network of hubs takes a message of this size.
    #[error("the message is too long for the network between hubs")]
    TooLong,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error(transparent)]
    Unsent(#[from] Unsent),
    /// The process is not connected to the network: it has ended, or is cut off.
    #[error("the other hub is not there")]
    Nobody,
    /// Whether the question was read is not known.
    #[error("the other hub has not answered in time")]
    Late,
}

/// An answer to come. Dropping it forgets the question.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + Send>>;

/// A process's way to the others.
pub trait Bus: Send + Sync {
    /// Notes that the process's beat `number` has begun: frames are sent with it from now on.
    fn begin_beat(&self, number: u64);

    /// Sends a message. That it was sent does not mean that it arrives.
    fn tell(&self, to: To, frame: Frame) -> Result<(), Unsent>;

    /// Sends a message and waits for its answer for the time `within`.
    fn ask(&self, process: Process, lane: Lane, frame: Frame, within: Duration) -> Pending<Frame>;

    /// Forgets a process that has ended.
    fn forget(&self, process: Process);
}

/// A message that arrived.
pub enum Incoming {
    Told(Frame),
    /// The sender waits for the answer.
    Asked(Frame, Reply),
}

/// What arrives at a process. Its length is bounded by the credits that the process gives.
pub type Inbox = mpsc::UnboundedReceiver<Incoming>;

/// Answers a question. Without an answer the sender waits until its time is over.
pub struct Reply(Box<dyn FnOnce(Frame) -> Result<(), Unsent> + Send>);

impl Reply {
    pub fn new(send: impl FnOnce(Frame) -> Result<(), Unsent> + Send + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends the answer.
    pub fn answer(self, frame: Frame) -> Result<(), Unsent> {
        (self.0)(frame)
    }
}

/// The numbers of the frames that a process sends: a receiver notices a lost frame by a gap.
#[derive(Default)]
pub struct Numbers {
    beat: AtomicU64,
    /// The last number of each receiver.
    last: Mutex<HashMap<To, u64>>,
}

impl Numbers {
    /// Sets the beat that frames are sent with from now on.
    pub fn set_beat(&self, beat: u64) {
        self.beat.store(beat, Ordering::Relaxed);
    }

    /// Numbers a frame that is sent to `to`.
    pub fn stamp(&self, to: To, frame: &mut Frame) {
        frame.beat = self.beat.load(Ordering::Relaxed);
        let mut last = self.last.lock();
        let number = last.entry(to).or_default();
        *number += 1;
        frame.seq = *number;
    }

    /// Forgets a process that has ended.
    pub fn forget(&self, process: Process) {
        self.last.lock().retain(|to, _| !matches!(to, To::Process(of, _) if *of == process));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_to_each_receiver_have_numbers_without_holes() {
        let [here, there] = ["a.abcdef", "b.abcdef"].map(|text| Process::parse(text).unwrap());
        let numbers = Numbers::default();
        let receivers = [To::All(Topic::Rows), To::Process(there, Lane::Ctl), To::Process(there, Lane::Bulk)];
        let next = |to| {
            let mut frame = Frame::new(here, "k", &()).unwrap();
            numbers.stamp(to, &mut frame);
            (frame.seq, frame.beat)
        };
        assert_eq!(receivers.map(next), [(1, 0); 3]);
        numbers.set_beat(9);
        assert_eq!(receivers.map(next), [(2, 9); 3]);
        numbers.forget(there);
        assert_eq!(receivers.map(next), [(3, 9), (1, 9), (1, 9)]);
    }
}
