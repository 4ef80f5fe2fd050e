//! What waits on one channel, and what of it is written next. Pure.
//!
//! Callers have the channel in turn, by bytes: each event has a mark, which is where its caller's last one ended, or
//! where the channel is now, and its own size further; the lowest mark is written first. So a small event never waits
//! for another caller's large one that is not begun, and who has many has its share.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::Event;
use crate::model::UserId;
use crate::quota::BytesPermit;

/// Events that wait on one channel. A publisher queues tasks itself, so only one that does not read has any.
pub(super) const MAX_EVENTS: usize = 2048;
/// Bytes that wait on one channel: eight requests of the largest size.
pub(super) const MAX_BYTES: usize = 256 << 20;

/// What ends an event of which the rest is not written: what there is of it is no JSON, and is skipped.
const CUT: &[u8] = b"\n\n";

/// Why an event finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Nobody's event would.
    All,
    /// Its caller has as much as its share.
    Caller,
}

/// What waits on one channel, for one reader.
#[derive(Default)]
pub(super) struct Queue {
    /// Without a caller, and before all others.
    words: VecDeque<Event>,
    /// Of callers who have something here, and the last one who had.
    lanes: Vec<Lane>,
    writing: Option<Waiting>,
    /// The highest mark that was written.
    mark: u64,
    events: usize,
    bytes: usize,
}

#[derive(Default)]
struct Lane {
    caller: UserId,
    bytes: usize,
    events: VecDeque<Waiting>,
}

struct Waiting {
    ticket: u64,
    mark: u64,
    event: Event,
    /// What it counts for until it is written.
    _held: [BytesPermit; 2],
}

impl Queue {
    /// Whether there is room for an event of `caller`'s of `size` bytes. A caller may have as much here as is free beside
    /// it, so that there is always room for the next one: half of all where it is alone. Its first one needs room only.
    pub(super) fn room(&self, caller: &str, size: usize) -> Result<(), Full> {
        let (events, bytes) = (self.events + 1, self.bytes.saturating_add(size));
        if events > MAX_EVENTS || bytes > MAX_BYTES {
            return Err(Full::All);
        }
        let Some(lane) = self.lanes.iter().find(|lane| lane.caller == caller) else { return Ok(()) };
        let fits = lane.events.len() < MAX_EVENTS - events && lane.bytes + size <= MAX_BYTES - bytes;
        if fits || lane.events.is_empty() { Ok(()) } else { Err(Full::Caller) }
    }

    /// Adds an event for which there is [`room`](Self::room). Its ticket, for [`withdraw`](Self::withdraw), is higher than
    /// those before.
    pub(super) fn push(&mut self, ticket: u64, caller: &str, event: Event, held: [BytesPermit; 2]) {
        self.events += 1;
        self.bytes += event.size();
        let here = self.mark;
        let lane = self.lane_of(caller);
        let from = lane.events.back().map_or(here, |last| last.mark.max(here));
        lane.bytes += event.size();
        let mark = from.saturating_add(event.size() as u64);
        lane.events.push_back(Waiting { ticket, mark, event, _held: held });
    }

    /// The lane of a caller. Where it has none, what is left of the last one who had one serves.
    fn lane_of(&mut self, caller: &str) -> &mut Lane {
        let known = self.lanes.iter().position(|lane| lane.caller == caller);
        let unused = self.lanes.iter().position(|lane| lane.events.is_empty());
        let at = known.or(unused).unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[at];
        if known.is_none() {
            caller.clone_into(&mut lane.caller);
        }
        lane
    }

    /// Adds an event that nobody has to wait for: it goes before all others.
    pub(super) fn tell(&mut self, event: Event) -> Result<(), Full> {
        if self.words.len() >= MAX_EVENTS {
            return Err(Full::All);
        }
        self.words.push_back(event);
        Ok(())
    }

    /// Takes an event back. `true` where its reader will not have the whole of it: no byte of it is written yet, or, where
    /// `cuts`, some are and the rest is not written any more.
    pub(super) fn withdraw(&mut self, ticket: u64, cuts: bool) -> bool {
        if let Some(writing) = self.writing.as_mut().filter(|writing| writing.ticket == ticket) {
            let is_cut = cuts && !writing.event.is_over();
            if is_cut {
                writing.event = Bytes::from_static(CUT).into();
            }
            return is_cut;
        }
        let find = |lane: &Lane| lane.events.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok();
        let found = self.lanes.iter().enumerate().find_map(|(at, lane)| Some((at, find(lane)?)));
        found.is_some_and(|(lane, at)| self.take(lane, at).is_some())
    }

    fn take(&mut self, lane: usize, at: usize) -> Option<Waiting> {
        let of_caller = self.lanes.get_mut(lane)?;
        let waiting = of_caller.events.remove(at)?;
        of_caller.bytes -= waiting.event.size();
        self.events -= 1;
        self.bytes -= waiting.event.size();
        if of_caller.events.is_empty() && self.lanes.len() > 1 {
            self.lanes.swap_remove(lane);
        }
        Some(waiting)
    }

    /// The next bytes to be written, of one event after the other.
    pub(super) fn slice(&mut self) -> Option<Bytes> {
        loop {
            if let Some(slice) = self.writing.as_mut().and_then(|writing| writing.event.slice()) {
                return Some(slice);
            }
            self.writing = None;
            self.writing = Some(self.next()?);
        }
    }

    fn next(&mut self) -> Option<Waiting> {
        if let Some(event) = self.words.pop_front() {
            return Some(Waiting { ticket: 0, mark: 0, event, _held: <[BytesPermit; 2]>::default() });
        }
        let head = |(at, lane): (usize, &Lane)| Some((lane.events.front()?.mark, at));
        let (mark, lane) = self.lanes.iter().enumerate().filter_map(head).min()?;
        self.mark = self.mark.max(mark);
        self.take(lane, 0)
    }
}

#[cfg(test)]
mod tests;
