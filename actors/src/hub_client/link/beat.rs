//! Heartbeats as frames of the link (SPEC.md section 4, `beat`), and the round trip of the link.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::link::{Frame, MAX_PIECE};

use super::RegistrarLink;

/// A measured round trip is shown for as long as a silent channel stands.
const FRESH: Duration = Duration::from_mins(1);

/// The hub's answer to a heartbeat.
pub(in crate::hub_client) struct Beaten {
    pub(in crate::hub_client) status: u16,
    pub(in crate::hub_client) body: Bytes,
}

/// The heartbeats of one connection. At most one waits for its answer, also if its sender has given it up.
#[derive(Default)]
pub(super) struct Beats {
    /// Whether the hub takes them.
    is_on: Cell<bool>,
    number: Cell<u64>,
    waiting: RefCell<Option<Waiting>>,
    /// When a ping was sent that has no answer yet.
    pinged: Cell<Option<Instant>>,
    /// The last round trip, and when it ended.
    round_trip: Cell<Option<(Duration, Instant)>>,
}

struct Waiting {
    number: u64,
    sent: Instant,
    answer: oneshot::Sender<Beaten>,
}

impl Beats {
    /// Notes the hub's hello.
    pub(super) fn greeted(&self, has_beat: bool) {
        self.is_on.set(has_beat);
    }

    /// Notes that the connection has ended: what waits gets no answer.
    pub(super) fn disconnected(&self) {
        self.is_on.set(false);
        self.waiting.take();
        self.pinged.set(None);
        self.round_trip.set(None);
    }

    /// Notes an answer. One that nobody waits for changes nothing.
    pub(super) fn beaten(&self, number: u64, status: u16, body: Bytes) {
        let waiting = self.waiting.borrow_mut().take_if(|waiting| waiting.number == number);
        if let Some(Waiting { sent, answer, .. }) = waiting {
            self.took(sent);
            // A receiver that is gone has given up.
            let _ = answer.send(Beaten { status, body });
        }
    }

    /// Notes that a ping was written.
    pub(super) fn pinged(&self) {
        self.pinged.set(Some(Instant::now()));
    }

    /// Notes the answer to a ping.
    pub(super) fn ponged(&self) {
        if let Some(sent) = self.pinged.take() {
            self.took(sent);
        }
    }

    fn took(&self, sent: Instant) {
        self.round_trip.set(Some((sent.elapsed(), Instant::now())));
    }
}

impl RegistrarLink {
    /// Sends a heartbeat. `None` if it has to be a POST: without a connection or the feature, beside another heartbeat that
    /// waits, or if it is longer than a frame. The answer fails with the connection.
    pub(in crate::hub_client) fn beat(&self, body: Bytes) -> Option<oneshot::Receiver<Beaten>> {
        let mut waiting = self.beats.waiting.borrow_mut();
        if !self.is_connected.get() || !self.beats.is_on.get() || waiting.is_some() || body.len() > MAX_PIECE
        {
            return None;
        }
        let number = self.beats.number.get() + 1;
        self.beats.number.set(number);
        let (answer, receiver) = oneshot::channel();
        *waiting = Some(Waiting { number, sent: Instant::now(), answer });
        self.link.borrow_mut().send_control(&Frame::Beat { number, body });
        self.writable.notify_one();
        Some(receiver)
    }

    /// The last round trip of the connection, unless it is older than a minute.
    pub(in crate::hub_client) fn round_trip(&self) -> Option<Duration> {
        let (took, at) = self.beats.round_trip.get()?;
        (at.elapsed() < FRESH).then_some(took)
    }
}
