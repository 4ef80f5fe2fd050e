//! The events that wait on one channel, and their order. Pure.
//!
//! Callers share the channel by bytes (weighted fair queuing): each event has a finish mark, which is its size behind the
//! mark of the caller's previous event, or behind the channel's mark if that is higher. The event with the lowest mark is
//! written first. So a small event waits for no other caller's large event that has not begun, and a caller with many
//! events gets its share.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::{Event, EventKind};
use crate::model::UserId;
use crate::quota::BytesPermit;

/// Most events on one channel. Publishers queue tasks themselves, so events wait only if the publisher does not read.
const MAX_EVENTS: usize = 2048;
/// Most bytes on one channel: eight requests of the largest size.
const MAX_BYTES: usize = 256 << 20;

/// Ends an event that was cut. Its reader skips it as invalid JSON.
const CUT: &[u8] = b"\n\n";

/// Why there is no room for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueFull {
    /// The channel is full.
    Channel,
    /// The caller's share is used up.
    Caller,
}

/// The events of one channel.
#[derive(Default)]
pub(super) struct Queue {
    /// The hub's own events, written before those of callers.
    control: VecDeque<Event>,
    /// The callers with events. The last caller's entry is kept when it is empty.
    callers: Vec<CallerEvents>,
    writing: Option<QueuedEvent>,
    /// The channel's mark: the highest one that was written.
    mark: u64,
    /// The number and size of the callers' events, without the one that is being written.
    events: usize,
    bytes: usize,
}

#[derive(Default)]
struct CallerEvents {
    caller: UserId,
    bytes: usize,
    events: VecDeque<QueuedEvent>,
}

struct QueuedEvent {
    event_number: u64,
    mark: u64,
    event: Event,
    /// Counts the event until it is written.
    held: [BytesPermit; 2],
}

impl Queue {
    /// Checks that there is room for an event of `size` bytes from `caller`. A caller's first event needs only free space.
    /// Further events may use as much as stays free, so a lone caller gets half of the channel.
    pub(super) fn check_room(&self, caller: &str, size: usize) -> Result<(), QueueFull> {
        let (events, bytes) = (self.events + 1, self.bytes.saturating_add(size));
        if events > MAX_EVENTS || bytes > MAX_BYTES {
            return Err(QueueFull::Channel);
        }
        let Some(own) = self.callers.iter().find(|own| own.caller == caller) else { return Ok(()) };
        let fits = own.events.len() < MAX_EVENTS - events && own.bytes + size <= MAX_BYTES - bytes;
        if fits || own.events.is_empty() { Ok(()) } else { Err(QueueFull::Caller) }
    }

    /// Adds an event after [`check_room`](Self::check_room). Event numbers ascend; [`withdraw`](Self::withdraw) takes them.
    pub(super) fn push(&mut self, event_number: u64, caller: &str, event: Event, held: [BytesPermit; 2]) {
        self.events += 1;
        self.bytes += event.size();
        let channel_mark = self.mark;
        let own = self.events_of(caller);
        let from = own.events.back().map_or(channel_mark, |last| last.mark.max(channel_mark));
        own.bytes += event.size();
        let mark = from.saturating_add(event.size() as u64);
        own.events.push_back(QueuedEvent { event_number, mark, event, held });
    }

    /// The entry of a caller: its own, an empty one, or a new one.
    fn events_of(&mut self, caller: &str) -> &mut CallerEvents {
        let known = self.callers.iter().position(|own| own.caller == caller);
        let unused = self.callers.iter().position(|own| own.events.is_empty());
        let at = known.or(unused).unwrap_or_else(|| {
            self.callers.push(CallerEvents::default());
            self.callers.len() - 1
        });
        let own = &mut self.callers[at];
        if known.is_none() {
            caller.clone_into(&mut own.caller);
        }
        own
    }

    /// Adds an event of the hub itself.
    pub(super) fn push_control(&mut self, event: Event) -> Result<(), QueueFull> {
        if self.control.len() >= MAX_EVENTS {
            return Err(QueueFull::Channel);
        }
        self.control.push_back(event);
        Ok(())
    }

    /// Withdraws an event; see [`SentEvent::withdraw`](super::SentEvent::withdraw).
    pub(super) fn withdraw(&mut self, event_number: u64, can_cut: bool) -> bool {
        if let Some(writing) = self.being_written(event_number) {
            let is_cut = can_cut && !writing.event.is_empty();
            if is_cut {
                writing.event.pieces = [Bytes::from_static(CUT)].into();
                writing.held = Default::default();
            }
            return is_cut;
        }
        let find = |own: &CallerEvents| {
            own.events.binary_search_by_key(&event_number, |queued| queued.event_number).ok()
        };
        let found = self.callers.iter().enumerate().find_map(|(caller, own)| Some((caller, find(own)?)));
        found.is_some_and(|(caller, at)| self.take(caller, at).is_some())
    }

    /// The number of the event that is the task `task`.
    pub(super) fn number_of(&self, task: &str) -> Option<u64> {
        let waiting = self.callers.iter().flat_map(|own| &own.events);
        let is_task =
            |queued: &&QueuedEvent| matches!(&queued.event.kind, EventKind::Task(of) if **of == *task);
        self.writing.iter().chain(waiting).find(is_task).map(|queued| queued.event_number)
    }

    /// Has the rest of the event, if it is being written, count for the channel's owner and not for its caller. Returns its
    /// pieces, of which a copy has to take the place: the text of a large request counts for its caller as long as anything
    /// shares it. `None` if the owner has no memory for the rest.
    pub(super) fn hand_over(&mut self, event_number: u64) -> Option<Vec<Bytes>> {
        let Some(writing) = self.being_written(event_number) else { return Some(Vec::new()) };
        let [mut of_owner, _] = std::mem::take(&mut writing.held);
        // The server has copied what was taken.
        if writing.event.is_empty() {
            return Some(Vec::new());
        }
        of_owner.own_shared().then(|| {
            writing.held[0] = of_owner;
            writing.event.pieces.iter().cloned().collect()
        })
    }

    /// Replaces the rest of an event by a copy of what [`hand_over`](Self::hand_over) returned.
    pub(super) fn replace_rest(&mut self, event_number: u64, mut copy: Bytes) {
        let Some(writing) = self.being_written(event_number) else { return };
        let left = writing.event.pieces.iter().map(Bytes::len).sum();
        // The beginning may have been written meanwhile.
        writing.event.pieces = [copy.split_off(copy.len().saturating_sub(left))].into();
    }

    fn being_written(&mut self, event_number: u64) -> Option<&mut QueuedEvent> {
        self.writing.as_mut().filter(|writing| writing.event_number == event_number)
    }

    /// Takes an event of the caller at the index `caller`.
    fn take(&mut self, caller: usize, at: usize) -> Option<QueuedEvent> {
        let own = self.callers.get_mut(caller)?;
        let queued = own.events.remove(at)?;
        own.bytes -= queued.event.size();
        self.events -= 1;
        self.bytes -= queued.event.size();
        if own.events.is_empty() && self.callers.len() > 1 {
            self.callers.swap_remove(caller);
        }
        Some(queued)
    }

    /// The next event as a whole, with what counts it.
    pub(super) fn next_event(&mut self) -> Option<(Event, [BytesPermit; 2])> {
        self.next().map(|queued| (queued.event, queued.held))
    }

    /// The next bytes to write, event by event.
    pub(super) fn next_slice(&mut self) -> Option<Bytes> {
        loop {
            if let Some(slice) = self.writing.as_mut().and_then(|writing| writing.event.next_slice()) {
                return Some(slice);
            }
            self.writing = None;
            self.writing = Some(self.next()?);
        }
    }

    fn next(&mut self) -> Option<QueuedEvent> {
        if let Some(event) = self.control.pop_front() {
            return Some(QueuedEvent {
                event_number: 0,
                mark: 0,
                event,
                held: <[BytesPermit; 2]>::default(),
            });
        }
        let head = |(caller, own): (usize, &CallerEvents)| Some((own.events.front()?.mark, caller));
        let (mark, caller) = self.callers.iter().enumerate().filter_map(head).min()?;
        self.mark = self.mark.max(mark);
        self.take(caller, 0)
    }
}

#[cfg(test)]
mod tests;
