//! The relays of a home: which there are, and what each sends next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::link::{BodyKind, Frame, MAX_PIECE, Piece};

use crate::channels::{EventKind, NextEvent, Receiver};
use crate::cluster::Process;
use crate::cluster::bus::Reply;
use crate::cluster::ended::Ended;
use crate::cluster::parts::{Answered, Arrival};
use crate::cluster::peers::Peers;
use crate::cluster::relay::PART;
use crate::cluster::relay::frames::Batch;
use crate::links::SessionLink;
use crate::model::UserId;
use crate::quota::BytesPermit;

/// The relays of this home.
#[derive(Default)]
pub(in crate::cluster) struct Homes {
    pub(super) carried: Mutex<CarriedTable>,
    /// Sessions for which a relay is being asked for.
    pub(super) wanted: Mutex<HashSet<String>>,
    /// Sessions whose relay broke, while a task runs there.
    pub(super) regained: Mutex<HashSet<String>>,
    /// Tells that a relay has begun.
    pub(super) begun: Notify,
    /// Relays that have ended: a word of their begin that comes late, or again, begins none.
    ended: Mutex<Ended>,
}

/// Relays by their session, and by their host and number there.
#[derive(Default)]
pub(super) struct CarriedTable {
    pub(super) of: HashMap<String, Arc<Carried>>,
    pub(super) numbered: HashMap<(Process, u64), Arc<Carried>>,
}

impl Homes {
    /// The relay `number` of `host`.
    pub(super) fn find(&self, host: Process, number: u64) -> Option<Arc<Carried>> {
        self.carried.lock().numbered.get(&(host, number)).cloned()
    }

    /// Whether the host's relay `number` has begun.
    pub(in crate::cluster::relay) fn arrival(&self, host: Process, number: u64) -> Arrival {
        if self.find(host, number).is_some() { Arrival::Taken } else { Arrival::Lacks }
    }

    /// Adds a relay in place of an older one of its session.
    pub(super) fn insert(&self, carried: &Arc<Carried>) {
        let mut table = self.carried.lock();
        table.numbered.insert((carried.host, carried.number), carried.clone());
        if let Some(older) = table.of.insert(carried.session.clone(), carried.clone()) {
            table.numbered.remove(&(older.host, older.number));
            self.ended.lock().add((older.host, older.number));
            older.ended.notify_one();
        }
    }

    /// Removes a relay. `false` if another one has taken its place.
    pub(super) fn remove(&self, carried: &Arc<Carried>) -> bool {
        let mut table = self.carried.lock();
        let is_current = table.of.get(&carried.session).is_some_and(|current| Arc::ptr_eq(current, carried));
        if is_current {
            table.of.remove(&carried.session);
            table.numbered.remove(&(carried.host, carried.number));
            self.ended.lock().add((carried.host, carried.number));
        }
        is_current
    }

    /// Whether the relay `number` of `host` has ended.
    pub(super) fn has_ended(&self, host: Process, number: u64) -> bool {
        self.ended.lock().has((host, number))
    }

    /// Whether the channel of `session` here is a relay.
    pub(in crate::cluster) fn has(&self, session: &str) -> bool {
        self.carried.lock().of.contains_key(session)
    }

    /// Ends the relays of a host that cannot be asked.
    pub(in crate::cluster) fn lose(&self, host: Process) {
        let table = self.carried.lock();
        table
            .of
            .values()
            .filter(|carried| carried.host == host)
            .for_each(|carried| carried.ended.notify_one());
    }
}

#[cfg(test)]
impl Homes {
    /// Number of relays, of those that are being asked for, and of sessions whose tasks wait for one.
    pub(in crate::cluster::relay) fn kept(&self) -> [usize; 3] {
        [self.carried.lock().numbered.len(), self.wanted.lock().len(), self.regained.lock().len()]
    }
}

/// A session for which a relay is being asked for.
pub(super) struct Wanted<'a>(&'a Homes, &'a str);

impl<'a> Wanted<'a> {
    /// `None` if it is being asked for already.
    pub(super) fn begin(homes: &'a Homes, session: &'a str) -> Option<Self> {
        // Not `then_some`: what is dropped would lock once more.
        homes.wanted.lock().insert(session.to_owned()).then(|| Self(homes, session))
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.wanted.lock().remove(self.1);
    }
}

/// The relay of a session.
pub(super) struct Carried {
    pub(super) host: Process,
    /// Its number among those of the host.
    pub(super) number: u64,
    pub(super) session: String,
    pub(super) stream: String,
    pub(super) owner: UserId,
    /// The session's link and the number of its connection, unless the registrar reads events.
    pub(super) link: Option<(Arc<SessionLink>, u64)>,
    /// The number of the host's part that comes next.
    pub(super) next: Mutex<u64>,
    /// The host's question when there is room for its next part.
    pub(super) waits: Mutex<Option<Reply>>,
    /// Ends the relay.
    pub(super) ended: Notify,
}

/// A task for a registrar that reads events, as far as it was not sent.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) task: Option<(Arc<str>, VecDeque<Bytes>, u64)>,
    pub(super) _held: [BytesPermit; 2],
}

impl Rest {
    pub(super) fn next_frame(&mut self) -> Option<Bytes> {
        let (task, data, seq) = self.task.as_mut()?;
        let mut bytes = Bytes::new();
        while let Some(front) = data.front_mut() {
            bytes = front.split_to(front.len().min(MAX_PIECE));
            if front.is_empty() {
                data.pop_front();
            }
            if !bytes.is_empty() {
                break;
            }
        }
        let is_last = data.is_empty();
        let piece = Piece { seq: *seq, kind: BodyKind::Json, is_last, bytes };
        *seq += 1;
        let frame = Frame::Piece { task, piece }.encode();
        if is_last {
            *self = Self::default();
        }
        Some(frame)
    }
}

impl Carried {
    /// Whether so much waits to be sent to the registrar that nothing more is taken of it.
    pub(super) fn has_backlog(&self) -> bool {
        self.link.as_ref().is_some_and(|(link, connection)| link.has_backlog(*connection))
    }

    /// Has the host wait until there is room, unless there is.
    pub(super) fn wait_for_room(&self, reply: Reply) -> Option<Answered<Reply>> {
        let mut waits = self.waits.lock();
        if !self.has_backlog() {
            return Some((reply, Arrival::Taken));
        }
        *waits = Some(reply);
        None
    }

    /// Tells the host if there is room.
    pub(super) fn has_room(&self, peers: &Peers) {
        let mut waits = self.waits.lock();
        if !self.has_backlog()
            && let Some(reply) = waits.take()
        {
            peers.reply(reply, Arrival::Taken);
        }
    }

    /// The next frames for the host; `None` when the channel has ended.
    pub(super) fn poll_part(
        &self,
        cx: &mut Context<'_>,
        events: &mut Receiver,
        rest: &mut Rest,
    ) -> Poll<Option<Bytes>> {
        let mut batch = Batch::default();
        while batch.len() < PART {
            let frame = match &self.link {
                Some((link, connection)) => link.poll_frame(*connection, cx, |cx| events.poll_event(cx)),
                None => poll_event(cx, events, rest),
            };
            match frame {
                Poll::Ready(Some(frame)) => batch.push(&frame),
                Poll::Ready(None) if batch.is_empty() => return Poll::Ready(None),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(batch.into_bytes()))
    }
}

/// The next frame for a registrar that reads events.
fn poll_event(cx: &mut Context<'_>, events: &mut Receiver, rest: &mut Rest) -> Poll<Option<Bytes>> {
    loop {
        if let Some(frame) = rest.next_frame() {
            return Poll::Ready(Some(frame));
        }
        match ready!(events.poll_event(cx)) {
            NextEvent::Event { kind: EventKind::Task(task), data, held } => {
                *rest = Rest { task: Some((task, data, 0)), _held: held };
            }
            NextEvent::Event { kind: EventKind::Cancel(task), .. } => {
                return Poll::Ready(Some(Frame::Cancel { task: &task }.encode()));
            }
            NextEvent::Superseded | NextEvent::Closed => return Poll::Ready(None),
        }
    }
}
