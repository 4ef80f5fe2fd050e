//! The control channels: one per session, from the hub to a publisher. Not here: the HTTP response that writes them
//! (`http/registrar/channel.rs`) and what is sent (`dispatch/`, `tasks/`).

mod event;
mod queue;
mod receiver;
mod relayed;
mod sent;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::quota::{ByteKind, ByteQuota, BytesPermit, MemoryBudget, Quota};

pub(crate) use event::{Event, EventKind};
use queue::{Queue, QueueFull};
pub(crate) use receiver::{NextEvent, Receiver};
pub(crate) use sent::SentEvent;

/// Why an event was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The session has no channel.
    Unreachable,
    /// The channel, or the quota of its owner, is full of unread events.
    Full,
    /// The caller's share of the channel, or of all channels, is used up by unread events.
    CallerLimit,
}

/// Smaller events count for a caller's memory, not for its share: a channel holds few of them.
const SMALL: usize = 64 << 10;
/// A caller's share for large events on all channels: this part of an owner's quota, but at least [`MIN_SHARE`] bytes.
const SHARE: usize = 4;
/// Two requests of the largest size.
const MIN_SHARE: usize = 64 << 20;

/// The last event on a channel that a newer one of the same session replaced. A registrar that reconnected does not read
/// it. Of two registrars that share a copied session file, the older one stops instead of taking the session back.
const SUPERSEDED: &[u8] = b"event: superseded\ndata: {}\n\n";

/// The open control channels.
#[derive(Default)]
pub(crate) struct Channels {
    open: Mutex<HashMap<String, Sender>>,
    /// The unread events on all channels of an owner.
    unread: Arc<Quota>,
    /// The unread events of a caller on all channels. These count for the caller's memory, not the owner's.
    unread_of_caller: Arc<Quota>,
    /// The last event number. They are unique over all channels.
    event_numbers: AtomicU64,
}

struct Sender {
    stream: String,
    /// Whether the registrar is not a classic one, and knows `event: superseded`.
    extended: bool,
    owner: ByteQuota,
    /// The owner's quota in bytes.
    max_bytes: usize,
    shared: Arc<Mutex<Shared>>,
}

/// The state that sender and receiver share.
#[derive(Default)]
struct Shared {
    queue: Queue,
    /// Written after everything else.
    last: Option<Bytes>,
    /// Whether the sender was dropped.
    ended: bool,
    /// Whether the receiver was dropped.
    left: bool,
    reader: Option<Waker>,
}

impl Shared {
    /// Drops what waits: nobody reads it.
    fn leave(&mut self) {
        self.left = true;
        self.queue = Queue::default();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.ended = true;
        shared.wake_reader();
    }
}

impl Channels {
    /// No channels. Unread events count in `memory`.
    pub(crate) fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self {
            unread: Quota::of_bytes(memory, ByteKind::Tasks),
            unread_of_caller: Quota::of_bytes(memory, ByteKind::Sent),
            ..Self::default()
        }
    }

    /// Opens the session's channel under the id `stream`, and ends an older one. Unread events count in the quota of
    /// `owner`, of `max_bytes`.
    pub(crate) fn open(
        &self,
        session: &str,
        stream: &str,
        extended: bool,
        owner: &str,
        max_bytes: usize,
    ) -> Receiver {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let owner = ByteQuota::new(&self.unread, owner, max_bytes, "tasks unread");
        let sender = Sender { stream: stream.to_owned(), extended, owner, max_bytes, shared: shared.clone() };
        let older = self.open.lock().insert(session.to_owned(), sender);
        if let Some(older) = older.filter(|older| older.extended) {
            older.shared.lock().last = Some(Bytes::from_static(SUPERSEDED));
        }
        Receiver::new(shared)
    }

    /// Whether an event of `size` bytes from `caller` can be sent now.
    pub(crate) fn has_room(&self, session: &str, caller: &str, size: usize) -> bool {
        let open = self.open.lock();
        open.get(session)
            .is_some_and(|sender| self.reserve(sender, &sender.shared.lock(), caller, size).is_ok())
    }

    /// Counts an event, if there is room for it.
    fn reserve(
        &self,
        to: &Sender,
        shared: &Shared,
        caller: &str,
        size: usize,
    ) -> Result<[BytesPermit; 2], SendError> {
        check_room(shared, caller, size)?;
        // A large event shares its bytes with the request body, which is counted until its last piece is dropped. A small
        // event is a copy.
        let (own, beside, most) =
            if size > SMALL { (0, size, share_of(to.max_bytes)) } else { (size, 0, usize::MAX) };
        let of_caller = ByteQuota::new(&self.unread_of_caller, caller, most, "tasks unread");
        let of_caller = of_caller.take_shared(own, beside).map_err(|_| SendError::CallerLimit)?;
        Ok([to.owner.take_shared(0, size).map_err(|_| SendError::Full)?, of_caller])
    }

    /// Whether the session has a channel.
    pub(crate) fn is_open(&self, session: &str) -> bool {
        self.open.lock().contains_key(session)
    }

    /// Closes the session's channel, if it still has the id `stream`.
    pub(crate) fn close(&self, session: &str, stream: &str) {
        let mut open = self.open.lock();
        if open.get(session).is_some_and(|sender| sender.stream == stream) {
            open.remove(session);
        }
    }

    /// Closes the session's channel.
    pub(crate) fn drop_session(&self, session: &str) {
        self.open.lock().remove(session);
    }

    /// Closes the session's channel, since a newer one was opened at another hub.
    pub(crate) fn supersede(&self, session: &str) {
        if let Some(older) = self.open.lock().remove(session).filter(|older| older.extended) {
            older.shared.lock().last = Some(Bytes::from_static(SUPERSEDED));
        }
    }

    /// Closes all channels.
    pub(crate) fn drop_all(&self) {
        self.open.lock().clear();
    }

    /// The sessions with an open channel.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.open.lock().keys().cloned().collect()
    }

    /// The number of open channels.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Sends an event of `caller` on the session's channel.
    pub(crate) fn send(&self, session: &str, caller: &str, event: Event) -> Result<SentEvent, SendError> {
        let open = self.open.lock();
        let sender = open.get(session).ok_or(SendError::Unreachable)?;
        let mut shared = sender.shared.lock();
        let held = self.reserve(sender, &shared, caller, event.size())?;
        Ok(self.push(sender, &mut shared, caller, event, held))
    }

    fn push(
        &self,
        sender: &Sender,
        shared: &mut Shared,
        caller: &str,
        event: Event,
        held: [BytesPermit; 2],
    ) -> SentEvent {
        // Event numbers ascend on each channel, because they are given out under this lock.
        let event_number = self.event_numbers.fetch_add(1, Ordering::Relaxed) + 1;
        shared.queue.push(event_number, caller, event, held);
        shared.wake_reader();
        SentEvent::new(&sender.shared, event_number)
    }

    /// Sends an event that is written before all events of callers. Without an open channel it is dropped.
    pub(crate) fn send_control(&self, session: &str, event: Event) {
        let open = self.open.lock();
        let Some(sender) = open.get(session) else { return };
        let mut shared = sender.shared.lock();
        if !shared.left && shared.queue.push_control(event).is_ok() {
            shared.wake_reader();
        }
    }

    /// Unread bytes that count for a user as the caller, and as the owner of channels.
    #[cfg(test)]
    pub(crate) fn unread_of(&self, user: &str) -> [usize; 2] {
        [&self.unread_of_caller, &self.unread].map(|quota| quota.taken_by(user))
    }
}

/// A caller's share for large events on all channels, of an owner's quota of `max_bytes`.
fn share_of(max_bytes: usize) -> usize {
    (max_bytes / SHARE).max(MIN_SHARE)
}

/// Checks that there is room for an event of `size` bytes.
fn check_room(shared: &Shared, caller: &str, size: usize) -> Result<(), SendError> {
    if shared.left {
        return Err(SendError::Unreachable);
    }
    shared.queue.check_room(caller, size).map_err(|full| match full {
        QueueFull::Channel => SendError::Full,
        QueueFull::Caller => SendError::CallerLimit,
    })
}

#[cfg(test)]
mod tests;
