//! The life of a process among the others: it beats, hears their beats, and passes on what is not stale.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Process;
use super::bus::{Bus, Inbox, Incoming, To, Topic};
use super::frame::Frame;
use super::members::{BEAT_EVERY, Beat, Event, Members};

/// The kind of the frame that is a beat.
const BEAT: &str = "beat";

/// What a process learns from the others.
pub enum Learned {
    Event(Event),
    /// Neither a beat nor stale.
    Message(Incoming),
}

/// Beats and hears until the process is superseded or has to fence itself, which is returned, or nobody listens to `learned`.
///
/// `describe` tells what the process says of itself, `known` the digest of what it knows of another one.
pub async fn run(
    me: Process,
    bus: Arc<dyn Bus>,
    inbox: &mut Inbox,
    members: &Mutex<Members>,
    describe: impl Fn() -> Beat,
    known: impl Fn(Process) -> u64,
    learned: &mpsc::UnboundedSender<Learned>,
) -> Option<Event> {
    let start = Instant::now();
    let mut ticks = interval(BEAT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let events = tokio::select! {
            // What waits is heard first: it may be the beats of others.
            biased;
            incoming = inbox.recv() => match heard(members, &known, incoming?) {
                Ok(events) => events,
                Err(message) => {
                    learned.send(Learned::Message(*message)).ok()?;
                    continue;
                }
            },
            _ = ticks.tick() => {
                let (number, events) = members.lock().beat(start.elapsed());
                bus.begin_beat(number);
                if let Ok(frame) = Frame::new(me, BEAT, &describe()) {
                    // Without a network, the echo is missed.
                    let _ = bus.tell(To::All(Topic::Beat), frame);
                }
                events
            }
        };
        for event in events {
            if matches!(event, Event::Superseded(_) | Event::Fence) {
                return Some(event);
            }
            learned.send(Learned::Event(event)).ok()?;
        }
    }
}

/// Hears a beat, or drops what is stale. Returns a message that is neither.
fn heard(
    members: &Mutex<Members>,
    known: impl Fn(Process) -> u64,
    incoming: Incoming,
) -> Result<Vec<Event>, Box<Incoming>> {
    match &incoming {
        Incoming::Told(frame) if frame.kind == BEAT => {
            let Some(beat) = frame.data() else { return Ok(Vec::new()) };
            Ok(members.lock().heard(frame.from, frame.beat, beat, known(frame.from)))
        }
        Incoming::Told(frame) | Incoming::Asked(frame, _) => {
            if members.lock().is_stale(frame.from, frame.beat) {
                Ok(Vec::new())
            } else {
                Err(incoming.into())
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use tokio::task::JoinHandle;

    use super::*;
    use crate::cluster::members::State;

    /// A process that runs, in a test. It ends when it is dropped.
    pub struct Hub {
        pub members: Arc<Mutex<Members>>,
        told: Arc<Mutex<(Vec<Frame>, Vec<Event>)>>,
        running: JoinHandle<Option<Event>>,
        learning: JoinHandle<()>,
    }

    impl Hub {
        pub fn start(me: Process, term: u64, bus: Arc<dyn Bus>, mut inbox: Inbox) -> Self {
            let members = Arc::new(Mutex::new(Members::new(me, term)));
            let (sender, mut learned) = mpsc::unbounded_channel();
            let of_task = members.clone();
            let running = tokio::spawn(async move {
                let describe = || Beat { term, protocol: [1, 1], ..Beat::default() };
                run(me, bus, &mut inbox, &of_task, describe, |_| 0, &sender).await
            });
            let told = Arc::<Mutex<(Vec<Frame>, Vec<Event>)>>::default();
            let of_task = told.clone();
            // A question is answered with the length of its body.
            let learning = tokio::spawn(async move {
                while let Some(learned) = learned.recv().await {
                    match learned {
                        Learned::Message(Incoming::Asked(question, reply)) => {
                            let _ = reply.answer(Frame::new(me, "answer", &question.body.len()).unwrap());
                        }
                        Learned::Message(Incoming::Told(frame)) => of_task.lock().0.push(frame),
                        Learned::Event(event) => of_task.lock().1.push(event),
                    }
                }
            });
            Self { members, told, running, learning }
        }

        pub fn sees(&self, process: Process) -> Option<State> {
            self.members.lock().state(process)
        }

        /// The messages that were passed on since the last call.
        pub fn messages(&self) -> Vec<Frame> {
            std::mem::take(&mut self.told.lock().0)
        }

        /// What happened to other processes since the last call.
        pub fn events(&self) -> Vec<Event> {
            std::mem::take(&mut self.told.lock().1)
        }

        /// Waits for what ends the process.
        pub async fn ended(&mut self) -> Option<Event> {
            (&mut self.running).await.unwrap()
        }
    }

    impl Drop for Hub {
        fn drop(&mut self) {
            self.running.abort();
            self.learning.abort();
        }
    }
}
