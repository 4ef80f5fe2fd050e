//! The way a task reaches the session that serves it: one trait, with the in-process form as its only implementation,
//! for now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::limits::{Account, Held, Seats};
use crate::memory::Memory;

/// The session has no channel here, or a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable;

/// The way to the publishers.
pub trait Dispatch: Send + Sync {
    /// Puts one event on the session's control channel.
    fn send(&self, session: &str, event: Event) -> Result<(), Unreachable>;
}

/// One event on its way to a publisher, as written by our encoder.
pub struct Event {
    /// Its bytes end to end.
    pieces: VecDeque<Bytes>,
    size: usize,
}

/// The server copies what it writes, this much of it at once: a large event must not keep its thread. Smaller events are
/// one piece.
const SLICE: usize = 64 << 10;

impl Event {
    /// An event whose bytes are these, end to end.
    pub fn of(pieces: Vec<Bytes>) -> Self {
        let size = pieces.iter().map(Bytes::len).sum();
        let pieces = if size <= SLICE { [pieces.concat().into()].into() } else { pieces.into() };
        Self { pieces, size }
    }

    /// The next bytes to be written.
    fn slice(&mut self) -> Option<Bytes> {
        loop {
            let front = self.pieces.front_mut()?;
            if front.len() > SLICE {
                // Between two characters, for readers who take each piece for a text of its own.
                let is_within = |at: &usize| front.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
                let cut = (SLICE - 3..=SLICE).rev().find(|at| !is_within(at)).unwrap_or(SLICE);
                return Some(front.split_to(cut));
            }
            let front = self.pieces.pop_front()?;
            // An empty chunk would end the body.
            if !front.is_empty() {
                return Some(front);
            }
        }
    }
}

impl From<Vec<u8>> for Event {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Bytes> for Event {
    fn from(bytes: Bytes) -> Self {
        Self { size: bytes.len(), pieces: [bytes].into() }
    }
}

/// Events that wait on one channel. A publisher queues tasks itself, so only one that does not read has any.
const MAX_EVENTS: usize = 1024;
/// Bytes that wait on one channel: four requests of the largest size.
const MAX_BYTES: usize = 128 << 20;

/// The last word to a registrar whose channel a newer one of the same session replaced. One that merely reconnected
/// does not listen there any more; two that share a session, by a copy of its file, must not take it from each other
/// again and again.
const SUPERSEDED: &[u8] = b"event: superseded\ndata: {}\n\n";

/// The control channels that are open in this process.
#[derive(Default)]
pub struct Channels {
    open: Mutex<HashMap<String, Sender>>,
    /// What waits on all channels of a user, who may have many: apart from what its callers hold.
    unread: Arc<Seats>,
}

struct Sender {
    stream: String,
    /// Whether its registrar knows more events than a classic one.
    extended: bool,
    events: mpsc::Sender<(Event, Held)>,
    owner: Account,
    waiting: Arc<AtomicUsize>,
}

/// What the body of an open channel reads. Ends when the channel is replaced or dropped.
pub struct Receiver {
    events: mpsc::Receiver<(Event, Held)>,
    waiting: Arc<AtomicUsize>,
    /// The event that is being written, and what it counts for.
    writing: Option<(Event, Held)>,
}

impl Channels {
    /// None yet; what waits on them counts there, too.
    pub fn new(memory: &Arc<Memory>) -> Self {
        Self { open: Mutex::default(), unread: Seats::of(memory) }
    }

    /// Opens the session's channel; an older one ends, and is told why if it is `extended`.
    /// What waits on it counts among the at most `most` bytes of `owner`.
    pub fn open(&self, session: &str, stream: &str, extended: bool, owner: &str, most: usize) -> Receiver {
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let owner = Account::new(&self.unread, owner, most, "tasks unread");
        let sender = Sender { stream: stream.to_owned(), extended, events, owner, waiting: waiting.clone() };
        let older = self.open.lock().insert(session.to_owned(), sender);
        if let Some(older) = older.filter(|older| older.extended) {
            older.waiting.fetch_add(SUPERSEDED.len(), Ordering::Relaxed);
            // One that does not read what was sent before learns it by the end of the channel.
            let _ = older.events.try_send((Bytes::from_static(SUPERSEDED).into(), Held::default()));
        }
        Receiver { events: receiver, waiting, writing: None }
    }

    /// Whether an event of `size` bytes would be taken now.
    pub fn has_room(&self, session: &str, size: usize) -> bool {
        let open = self.open.lock();
        open.get(session).is_some_and(|sender| {
            sender.waiting.load(Ordering::Relaxed).saturating_add(size) <= MAX_BYTES
                && sender.events.capacity() > 0
                && sender.owner.hold(size).is_ok()
        })
    }

    /// Drops the session's channel, if it is still this one: its body ends.
    pub fn close(&self, session: &str, stream: &str) {
        let mut open = self.open.lock();
        if open.get(session).is_some_and(|sender| sender.stream == stream) {
            open.remove(session);
        }
    }

    /// Drops the session's channel, whichever it is.
    pub fn drop_session(&self, session: &str) {
        self.open.lock().remove(session);
    }

    /// Drops all of them.
    pub fn drop_all(&self) {
        self.open.lock().clear();
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Dispatch for Channels {
    fn send(&self, session: &str, event: Event) -> Result<(), Unreachable> {
        let open = self.open.lock();
        let sender = open.get(session).ok_or(Unreachable)?;
        let size = event.size;
        if sender.waiting.load(Ordering::Relaxed).saturating_add(size) > MAX_BYTES {
            return Err(Unreachable);
        }
        let held = sender.owner.hold(size).map_err(|_| Unreachable)?;
        sender.events.try_send((event, held)).map_err(|_| Unreachable)?;
        sender.waiting.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }
}

impl Receiver {
    /// The next bytes to be written, of one event after the other; `None` when the channel is replaced or dropped. They
    /// are there at once within an event, so that nothing else gets into it.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            // More is wanted when what was given before is written.
            if let Some(slice) = self.writing.as_mut().and_then(|(event, _)| event.slice()) {
                return Some(slice);
            }
            self.writing = None;
            let (event, held) = self.events.recv().await?;
            // The sender adds after its send, maybe after this: the count wraps and comes round again.
            self.waiting.fetch_sub(event.size, Ordering::Relaxed);
            self.writing = Some((event, held));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A26, A27: what a user's publishers do not read is counted over all of their channels, however many, and no other
    /// user's tasks wait for it.
    #[tokio::test]
    async fn what_is_not_read_on_all_channels_of_a_user_is_counted_together() {
        const MOST: usize = 1 << 20;
        let channels = Channels::default();
        let mut one = channels.open("one", "stream-1", true, "alice", MOST);
        let two = channels.open("two", "stream-2", true, "alice", MOST);
        let _other = channels.open("other", "stream-3", true, "bob", MOST);
        let event = || Event::from(vec![0; 600 << 10]);
        channels.send("one", event()).unwrap();
        assert!(!channels.has_room("two", 600 << 10) && channels.has_room("two", 300 << 10));
        assert!(!channels.has_room("none", 0) && channels.has_room("other", 600 << 10));
        assert_eq!(channels.send("two", event()), Err(Unreachable));
        channels.send("other", event()).unwrap();
        // It is being written until the next one is asked for.
        one.next().await.unwrap();
        assert_eq!(channels.send("two", event()), Err(Unreachable));
        channels.send("one", Bytes::from_static(b"x").into()).unwrap();
        while one.next().await.unwrap() != "x" {}
        channels.send("two", event()).unwrap();
        // A channel that is replaced or closed takes nothing with it.
        channels.close("two", "stream-2");
        drop(two);
        channels.send("one", event()).unwrap();
    }

    #[tokio::test]
    async fn an_event_comes_whole_in_slices_however_it_was_put_together() {
        let channels = Channels::default();
        let mut receiver = channels.open("one", "stream-1", true, "alice", 1 << 30);
        for sizes in [&[3, 0, 4][..], &[0, SLICE, 0, 1], &[3 * SLICE + 1, 0, 5], &[0, 0]] {
            let pieces: Vec<_> =
                sizes.iter().zip(1..).map(|(size, byte)| Bytes::from(vec![byte; *size])).collect();
            channels.send("one", Event::of(pieces.clone())).unwrap();
            channels.send("one", Bytes::from_static(b"end").into()).unwrap();
            let mut read = Vec::new();
            loop {
                let slice = receiver.next().await.unwrap();
                assert!((1..=SLICE).contains(&slice.len()));
                if slice == "end" {
                    break;
                }
                read.extend_from_slice(&slice);
            }
            assert_eq!(read, pieces.concat());
        }
    }
}
