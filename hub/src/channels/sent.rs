//! An event that was sent, by which what its channel keeps of it is dropped.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::Shared;
use crate::offload::MAX_BURST;

/// An event on one channel, which a newer one of the session may have replaced.
pub(crate) struct SentEvent {
    channel: Weak<Mutex<Shared>>,
    number: u64,
}

impl SentEvent {
    pub(super) fn new(channel: &Arc<Mutex<Shared>>, number: u64) -> Self {
        Self { channel: Arc::downgrade(channel), number }
    }

    /// Withdraws the event. Returns whether the publisher will not get all of it: no byte was written yet, or `can_cut` is
    /// set and the rest of it is left out. Only publishers that skip invalid JSON may get a cut event.
    pub(crate) fn withdraw(&self, can_cut: bool) -> bool {
        self.channel.upgrade().is_some_and(|channel| channel.lock().queue.withdraw(self.number, can_cut))
    }

    /// Withdraws the event of a call that is over, so that nothing of it counts for its caller. What a classic publisher has
    /// read in part counts for the publisher's owner from now on; if that user has no memory for it, the channel ends there.
    pub(crate) fn end(&self, can_cut: bool) -> bool {
        let Some(channel) = self.channel.upgrade() else { return false };
        let mut shared = channel.lock();
        if shared.queue.withdraw(self.number, can_cut) {
            return true;
        }
        if let Some(rest) = shared.queue.hand_over(self.number) {
            drop(shared);
            self.copy(rest);
        } else {
            // An event without its end is none, by the rules of SSE.
            shared.leave();
            shared.ended = true;
            shared.wake_reader();
        }
        false
    }

    /// Has a copy take the place of the rest of an event: for a large one later, on another thread.
    fn copy(&self, rest: Vec<Bytes>) {
        let size: usize = rest.iter().map(Bytes::len).sum();
        let (channel, number) = (self.channel.clone(), self.number);
        let copy = move || {
            let copy = rest.concat();
            // They share the caller's text.
            drop(rest);
            if let Some(channel) = channel.upgrade() {
                channel.lock().queue.replace_rest(number, copy.into());
            }
        };
        match Handle::try_current() {
            Ok(runtime) if size > MAX_BURST => drop(runtime.spawn_blocking(copy)),
            _ if size > 0 => copy(),
            _ => (),
        }
    }
}
