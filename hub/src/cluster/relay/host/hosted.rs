//! A channel that this hub holds, as its connection sees it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep;
use wire::link::Frame;

use super::HostedChannel;
use crate::cluster::parts::Arrival;
use crate::cluster::peers::Peers;
use crate::cluster::relay::HomeTables;
use crate::cluster::{Process, Shared};
use crate::hub::Hub;
use crate::model::UserId;

/// Bytes of a registrar's frames that wait for other hubs, above which no more is read of it. Credit bounds them too.
const MOST_WAITING: usize = 1 << 20;

/// Time between two looks at the lease of a process that is silent.
const BURY_EVERY: Duration = Duration::from_secs(1);

/// A channel of this hub, on which tasks of other hubs run until it is dropped.
pub(crate) struct Hosted {
    channel: Arc<HostedChannel>,
    peers: Arc<Peers>,
}

impl Hosted {
    /// Begins relays for `homes`, whose tasks the registrar of the channel has.
    fn open(
        peers: &Arc<Peers>,
        session: &str,
        stream: &str,
        owner: &UserId,
        is_link: bool,
        homes: HomeTables,
    ) -> Self {
        let (session, stream, owner) = (session.to_owned(), stream.to_owned(), owner.clone());
        let channel = Arc::new(HostedChannel { session, stream, owner, is_link, state: Mutex::default() });
        let older = peers.hosts.channels.lock().insert(channel.session.clone(), channel.clone());
        if let Some(older) = older {
            peers.hosts.close(&older);
        }
        for (home, tables) in homes {
            channel.begin(peers, home, Some(tables));
        }
        Self { channel, peers: peers.clone() }
    }

    /// The next frame to write; `None` if the registrar has to connect again.
    pub(crate) fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut replies = Vec::new();
        let frame = self.channel.state.lock().poll_frame(cx, &mut replies);
        for reply in replies {
            self.peers.reply(reply, Arrival::Taken);
        }
        frame
    }

    /// Passes a frame of the registrar, which is `bytes`, on to the home of its task. Without a relay the registrar sends it again.
    /// `false` if it is one that only hubs send: the home would believe it to be this hub's.
    pub(crate) fn pass(&self, home: Process, frame: &Frame<'_>, bytes: &[u8]) -> bool {
        if !matches!(frame, Frame::Piece { .. } | Frame::Credit { .. }) {
            return false;
        }
        let mut state = self.channel.state.lock();
        let number = state.homes.iter().find(|relay| relay.home == home).map(|relay| relay.number);
        if let Some(number) = number.filter(|_| !state.is_closed) {
            // A copy: the frame shares the block in which it was read.
            state.push(number, Bytes::copy_from_slice(bytes));
        }
        true
    }

    /// Whether the registrar has tasks of other hubs.
    pub(crate) fn has_tasks(&self) -> bool {
        let state = self.channel.state.lock();
        !state.broken.is_empty() || state.homes.iter().any(|relay| !relay.tasks.is_empty())
    }

    /// Has new tasks of other hubs go to the channel that the registrar opens next.
    pub(crate) fn leave(&self) {
        self.channel.state.lock().is_leaving = true;
    }

    /// Bytes that wait for other hubs.
    pub(crate) fn waiting(&self) -> usize {
        self.channel.state.lock().waiting()
    }

    /// Whether so much waits that nothing more is read.
    pub(crate) fn has_backlog(&self) -> bool {
        self.waiting() >= MOST_WAITING
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.peers.hosts.close(&self.channel);
    }
}

impl Hub {
    /// Has the tasks of `homes` run on a channel that has opened, whose registrar has them.
    pub(crate) fn host(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        session: &str,
        stream: &str,
        owner: &UserId,
        is_link: bool,
        homes: HomeTables,
    ) -> Hosted {
        // They told their tables, and were found dead before the registrar had greeted.
        let is_dead = |home: &Process| shared.peers.is_dead(*home);
        let dead: Vec<_> = homes.iter().map(|(home, _)| *home).filter(is_dead).collect();
        let hosted = Hosted::open(&shared.peers, session, stream, owner, is_link, homes);
        for home in dead {
            self.bury_later(shared, home);
        }
        hosted
    }

    /// Ends the tasks of a silent process at the registrars of this hub once its lease is over. Until then it may be cut off from
    /// the network alone, and its callers wait.
    pub(in crate::cluster) fn bury_later(self: &Arc<Self>, shared: &Arc<Shared>, process: Process) {
        let (hub, shared) = (self.clone(), shared.clone());
        tokio::spawn(async move {
            while shared.peers.is_dead(process) {
                if matches!(shared.store.has_lease(process).await, Ok(false)) {
                    return hub.bury(&shared.peers, process);
                }
                sleep(BURY_EVERY).await;
            }
        });
    }
}

#[cfg(test)]
impl super::Hosts {
    /// Number of channels and relays, of tasks at registrars, and of bytes that wait for homes.
    pub(in crate::cluster::relay) fn kept(&self) -> [usize; 4] {
        let mut kept = [self.channels.lock().len(), self.relays.lock().len(), 0, 0];
        for channel in self.all() {
            let state = channel.state.lock();
            kept[2] += state.broken.values().map(std::collections::HashSet::len).sum::<usize>();
            kept[2] += state.homes.iter().map(|relay| relay.tasks.len()).sum::<usize>();
            kept[3] += state.waiting();
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use wire::link::{BodyKind, Piece, Tables};

    use super::*;
    use crate::cluster::memory_bus::MemoryBus;

    #[tokio::test]
    async fn a_registrar_cannot_speak_for_the_host() {
        let [host, home] = ["a.aaaaaa", "b.bbbbbb"].map(|process| Process::parse(process).unwrap());
        let bus = MemoryBus::new(1);
        let ((port, _), _of_home) = (bus.join(host), bus.join(home));
        let peers = Arc::new(Peers::new(host, 1, Arc::new(port)));
        let homes = vec![(home, Tables::new())];
        let hosted = Hosted::open(&peers, "session", "stream", &"eve".to_owned(), true, homes);
        let task = "task-b.bbbbbb-1";
        for frame in [Frame::Taken { task, status: 503 }, Frame::Cancel { task }] {
            assert!(!hosted.pass(home, &frame, &frame.encode()), "{frame:?}");
        }
        assert_eq!(hosted.waiting(), 0);
        let piece = Piece { seq: 0, kind: BodyKind::Json, is_last: true, bytes: Bytes::new() };
        let frame = Frame::Piece { task, piece };
        assert!(hosted.pass(home, &frame, &frame.encode()));
        assert!(hosted.waiting() > 0);
    }
}
