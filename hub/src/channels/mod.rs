//! The way a task reaches the session that serves it: one trait, with the in-process form as its only implementation,
//! for now.

mod event;
mod queue;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::quota::{ByteKind, ByteQuota, BytesPermit, MemoryBudget, Quota};

pub use event::Event;
use queue::{Full, Queue};

/// Why an event did not get onto a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The session has no channel here, or a full one.
    Unreachable,
    /// The publisher has not read what it has of the same caller's, which is as much as one caller may have there.
    Crowded,
}

/// Smaller events are no part of a caller's share, only of its memory: there are few enough on each channel.
const SMALL: usize = 64 << 10;
/// One caller's large events, on all channels together, are at most this part of what one owner may have there, and at
/// least two requests of the largest size.
const SHARE: usize = 4;
const LEAST: usize = 64 << 20;

/// The last word to a registrar whose channel a newer one of the same session replaced. One that merely reconnected
/// does not listen there any more; two that share a session, by a copy of its file, must not take it from each other
/// again and again.
const SUPERSEDED: &[u8] = b"event: superseded\ndata: {}\n\n";

/// The control channels that are open in this process.
#[derive(Default)]
pub struct Channels {
    open: Mutex<HashMap<String, Sender>>,
    /// What waits on all channels of a user, who may have many: apart from what its callers hold.
    unread: Arc<Quota>,
    /// What waits on all channels of one caller's events: they take none of an owner's part of the memory.
    unread_of_caller: Arc<Quota>,
    /// The last ticket that was given: no two channels have the same.
    tickets: AtomicU64,
}

struct Sender {
    stream: String,
    /// Whether its registrar knows more events than a classic one.
    extended: bool,
    owner: ByteQuota,
    most: usize,
    shared: Arc<Mutex<Shared>>,
}

/// What the two ends of a channel share.
#[derive(Default)]
struct Shared {
    queue: Queue,
    /// What is written when all else is.
    last: Option<Bytes>,
    /// Nothing more comes.
    ended: bool,
    /// Nobody reads any more.
    left: bool,
    reader: Option<Waker>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.ended = true;
        if let Some(reader) = shared.reader.take() {
            reader.wake();
        }
    }
}

/// What the body of an open channel reads. Ends when the channel is replaced or dropped.
pub struct Receiver(Arc<Mutex<Shared>>);

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.left = true;
        shared.queue = Queue::default();
    }
}

impl Channels {
    /// None yet; what waits on them counts there, too.
    pub fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self {
            unread: Quota::of_bytes(memory, ByteKind::Tasks),
            unread_of_caller: Quota::of_bytes(memory, ByteKind::Sent),
            ..Self::default()
        }
    }

    /// Opens the session's channel; an older one ends, and is told why if it is `extended`.
    /// What waits on it counts among the at most `most` bytes of `owner`.
    pub fn open(&self, session: &str, stream: &str, extended: bool, owner: &str, most: usize) -> Receiver {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let owner = ByteQuota::new(&self.unread, owner, most, "tasks unread");
        let sender = Sender { stream: stream.to_owned(), extended, owner, most, shared: shared.clone() };
        let older = self.open.lock().insert(session.to_owned(), sender);
        if let Some(older) = older.filter(|older| older.extended) {
            // One that does not read what was sent before learns it by the end of the channel.
            older.shared.lock().last = Some(Bytes::from_static(SUPERSEDED));
        }
        Receiver(shared)
    }

    /// Whether an event of `caller`'s of `size` bytes would be taken now.
    pub fn has_room(&self, session: &str, caller: &str, size: usize) -> bool {
        let open = self.open.lock();
        open.get(session).is_some_and(|sender| self.take(sender, &sender.shared.lock(), caller, size).is_ok())
    }

    /// What an event counts for, where there is room for it.
    fn take(
        &self,
        to: &Sender,
        shared: &Shared,
        caller: &str,
        size: usize,
    ) -> Result<[BytesPermit; 2], Unsent> {
        if shared.left {
            return Err(Unsent::Unreachable);
        }
        shared.queue.room(caller, size).map_err(|full| match full {
            Full::All => Unsent::Unreachable,
            Full::Caller => Unsent::Crowded,
        })?;
        // A large event's bytes are its caller's request, which counts for the memory until the last of them is gone; a
        // small one's are a copy.
        let (own, beside, most) =
            if size > SMALL { (0, size, (to.most / SHARE).max(LEAST)) } else { (size, 0, usize::MAX) };
        let of_caller = ByteQuota::new(&self.unread_of_caller, caller, most, "tasks unread");
        let of_caller = of_caller.take_shared(own, beside).map_err(|_| Unsent::Crowded)?;
        Ok([to.owner.take_shared(0, size).map_err(|_| Unsent::Unreachable)?, of_caller])
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
}

impl Channels {
    /// Puts an event of a caller's on the session's control channel. The ticket is for [`withdraw`](Self::withdraw).
    pub fn send(&self, session: &str, caller: &str, event: Event) -> Result<u64, Unsent> {
        let open = self.open.lock();
        let sender = open.get(session).ok_or(Unsent::Unreachable)?;
        let mut shared = sender.shared.lock();
        let held = self.take(sender, &shared, caller, event.size())?;
        // They ascend on each channel: all of them are given under this lock.
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed) + 1;
        shared.queue.push(ticket, caller, event, held);
        if let Some(reader) = shared.reader.take() {
            reader.wake();
        }
        Ok(ticket)
    }

    /// Puts an event there that goes before all tasks that are not begun. Without a channel there is nobody to tell.
    pub fn tell(&self, session: &str, event: Event) {
        let open = self.open.lock();
        let Some(sender) = open.get(session) else { return };
        let mut shared = sender.shared.lock();
        if !shared.left
            && shared.queue.tell(event).is_ok()
            && let Some(reader) = shared.reader.take()
        {
            reader.wake();
        }
    }

    /// Takes back what was sent. `true` where the publisher will not have the whole of it: no byte of it is written yet,
    /// or, where `cuts`, some are and the rest is left out: only for one who skips what is no JSON.
    pub fn withdraw(&self, session: &str, ticket: u64, cuts: bool) -> bool {
        let open = self.open.lock();
        open.get(session).is_some_and(|sender| sender.shared.lock().queue.withdraw(ticket, cuts))
    }
}

impl Receiver {
    /// The next bytes to be written, of one event after the other; `None` when the channel is replaced or dropped. They
    /// are there at once within an event, so that nothing else gets into it.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|context| {
            let mut shared = self.0.lock();
            // More is wanted when what was given before is written.
            if let Some(slice) = shared.queue.slice() {
                return Poll::Ready(Some(slice));
            }
            if shared.ended {
                return Poll::Ready(shared.last.take());
            }
            shared.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests;
