//! The channels of this hub, on which tasks of other hubs run.

mod events;
mod hosted;
mod state;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use wire::link::{Frame, Tables};

use super::frames::Batch;
use super::{CARRY, Carry, PART, TO_HOME, Want};
pub(crate) use hosted::Hosted;
use state::{ChannelState, HomeEvent, HomeRelay};

use crate::cluster::Process;
use crate::cluster::bus::Reply;
use crate::cluster::calls::{About, lane_of};
use crate::cluster::parts::{Answered, Arrival, Parts};
use crate::cluster::peers::Peers;
use crate::model::UserId;
use crate::quota::BytesPermit;

/// Time in which a home wants a relay again for tasks that have not ended.
const WANT_WITHIN: Duration = Duration::from_secs(5);

/// The channels on which tasks of other hubs may run.
#[derive(Default)]
pub(in crate::cluster) struct Hosts {
    /// Number of the last relay.
    last: AtomicU64,
    channels: Mutex<HashMap<String, Arc<HostedChannel>>>,
    relays: Mutex<HashMap<u64, Arc<HostedChannel>>>,
}

struct HostedChannel {
    session: String,
    stream: String,
    owner: UserId,
    is_link: bool,
    state: Mutex<ChannelState>,
}

impl HostedChannel {
    /// Begins a relay. The registrar has greeted with `tables` of the home's tasks, if it has.
    fn begin(self: &Arc<Self>, peers: &Arc<Peers>, home: Process, tables: Option<Tables>) {
        let number = peers.hosts.last.fetch_add(1, Ordering::Relaxed) + 1;
        let relay = HomeRelay {
            home,
            number,
            is_begun: false,
            must_ask: false,
            arrived: Parts::default(),
            batch: Bytes::new(),
            partial: None,
            tasks: tables.iter().flat_map(Tables::keys).map(|task| task.as_str().into()).collect(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            has_more: Arc::default(),
        };
        let has_more = relay.has_more.clone();
        self.state.lock().homes.push_back(relay);
        peers.hosts.relays.lock().insert(number, self.clone());
        tokio::spawn(self.clone().to_home(peers.clone(), (home, number), tables, has_more));
    }

    /// Passes the registrar's frames on to a home.
    async fn to_home(
        self: Arc<Self>,
        peers: Arc<Peers>,
        (home, number): (Process, u64),
        tables: Option<Tables>,
        has_more: Arc<Notify>,
    ) {
        let (session, stream, owner) = (self.session.clone(), self.stream.clone(), self.owner.clone());
        let of = Carry { session, stream, owner, is_link: self.is_link };
        let about = About::new(number, false, (0, false), of);
        let body = Bytes::from(serde_json::to_vec(&tables).unwrap_or_default());
        let mut sent = peers.send_part(home, lane_of(body.len()), CARRY, &self.owner, about, body).await;
        if let Some(relay) = self.state.lock().relay(number) {
            relay.is_begun = true;
        }
        let mut part = 0;
        while sent.is_ok() {
            let Some((frames, last)) = self.next_part(number) else {
                has_more.notified().await;
                continue;
            };
            let (lane, about) = (lane_of(frames.len()), About::new(number, false, (part, last), ()));
            sent = peers.send_part(home, lane, TO_HOME, &self.owner, about, frames).await;
            part += 1;
            if last {
                break;
            }
        }
        self.state.lock().end(number);
        peers.hosts.relays.lock().remove(&number);
        self.end_broken(&peers, home).await;
    }

    /// Cancels the registrar's tasks of a home that lives and wants no relay for them, as far as they have ended there.
    async fn end_broken(&self, peers: &Peers, home: Process) {
        let is_broken = || {
            let state = self.state.lock();
            self.is_link && !state.is_closed && state.broken.contains_key(&home)
        };
        while is_broken() {
            sleep(WANT_WITHIN).await;
            if is_broken() && peers.is_alive(home) {
                self.end_what_is_over(peers, home).await;
            }
        }
    }

    /// Cancels the registrar's tasks of a home without a relay that have ended there.
    async fn end_what_is_over(&self, peers: &Peers, home: Process) {
        if let Some(tables) = peers.tables_of(home, &self.session).await {
            self.state.lock().end_broken(home, |task| !tables.contains_key(task));
        }
    }

    /// What is to be sent to a home, and whether it is the last; `None` if there is nothing.
    fn next_part(&self, number: u64) -> Option<(Bytes, bool)> {
        let mut state = self.state.lock();
        let is_closed = state.is_closed;
        let Some(relay) = state.relay(number) else { return Some((Bytes::new(), true)) };
        let mut batch = Batch::default();
        while batch.len() < PART
            && let Some(frame) = relay.pop()
        {
            batch.push(&frame);
        }
        let is_last = is_closed && relay.waiting.is_empty();
        let must_ask = std::mem::take(&mut relay.must_ask);
        if batch.is_empty() && !is_last && !must_ask {
            return None;
        }
        state.wake();
        Some((batch.into_bytes(), is_last))
    }

    /// Has the registrar connect again.
    fn greet_again(&self) {
        let mut state = self.state.lock();
        state.must_greet = true;
        state.wake();
    }

    fn want(self: &Arc<Self>, peers: &Arc<Peers>, home: Process, has_tasks: bool) -> bool {
        let mut state = self.state.lock();
        if state.is_closed || state.is_leaving {
            return false;
        }
        if let Some(relay) = state.homes.iter_mut().find(|relay| relay.home == home) {
            // It was asked for before it began, or the home has lost it: then it ends by this, and the home asks again.
            relay.must_ask = relay.is_begun;
            relay.has_more.notify_one();
            return true;
        }
        if self.is_link && has_tasks {
            drop(state);
            self.greet_again();
            return true;
        }
        if self.is_link && state.broken.contains_key(&home) {
            // The home is done with them, and its last word on them was lost; or this comes late. It asks again.
            let (channel, peers) = (self.clone(), peers.clone());
            tokio::spawn(async move { channel.end_what_is_over(&peers, home).await });
            return true;
        }
        state.broken.remove(&home);
        drop(state);
        self.begin(peers, home, None);
        true
    }
}

impl Hosts {
    /// Takes a part that a home has sent. Returns the reply if it is to be sent now.
    pub(super) fn take(
        &self,
        from: Process,
        about: &About<()>,
        frames: Bytes,
        reply: Reply,
    ) -> Option<Answered<Reply>> {
        let channel = self.relays.lock().get(&about.call).cloned();
        let Some(channel) = channel else { return Some((reply, Arrival::Unknown)) };
        let mut state = channel.state.lock();
        let relay = state.relay(about.call).filter(|relay| relay.home == from);
        let Some(relay) = relay else { return Some((reply, Arrival::Unknown)) };
        let answered = relay.arrived.arrive(about.part, about.asks, frames, about.last, reply);
        state.wake();
        answered
    }

    /// Gives a home that wants it a relay on the channel of a session. `false` if there is none.
    pub(super) fn want(&self, peers: &Arc<Peers>, home: Process, want: &Want) -> bool {
        let channel = self.channels.lock().get(&want.session).cloned();
        channel.is_some_and(|channel| channel.want(peers, home, want.has_tasks))
    }

    /// What has come on a relay for a registrar that reads events: its session, and what it is to get.
    /// A task counts in the `quota` of its publisher's owner.
    fn events(
        &self,
        peers: &Peers,
        number: u64,
        quota: impl Fn(&str) -> BytesPermit,
    ) -> Option<(String, Vec<HomeEvent>)> {
        let channel = self.relays.lock().get(&number).filter(|channel| !channel.is_link).cloned()?;
        let (mut events, mut replies) = (Vec::new(), Vec::new());
        let mut state = channel.state.lock();
        let cx = Context::from_waker(noop_waker_ref());
        let relay = state.relay(number)?;
        while let Some(frame) = relay.next_frame(&cx, false, &mut replies) {
            match Frame::decode(&frame) {
                Ok(Some(Frame::Piece { task, piece })) => {
                    events.extend(relay.add(task, &piece, || quota(&channel.owner)));
                }
                Ok(Some(Frame::Cancel { task })) => events.push(HomeEvent::Cancel(task.into())),
                _ => {}
            }
        }
        drop(state);
        for reply in replies {
            peers.reply(reply, Arrival::Taken);
        }
        Some((channel.session.clone(), events))
    }

    /// Tells a home what became of a task that its registrar does not get.
    fn refuse(&self, number: u64, task: &str, status: u16) {
        if let Some(channel) = self.relays.lock().get(&number).cloned() {
            channel.state.lock().push(number, Frame::Taken { task, status }.encode());
        }
    }

    /// Ends the relays of a process that cannot be asked. Its tasks run on at the registrars.
    pub(in crate::cluster) fn lose(&self, process: Process) {
        for channel in self.all() {
            let mut state = channel.state.lock();
            let of_process = state.homes.iter().filter(|relay| relay.home == process);
            let numbers: Vec<_> = of_process.map(|relay| relay.number).collect();
            for number in numbers {
                state.end(number);
            }
        }
    }

    /// Cancels the tasks of a process that is dead. Returns those of registrars that read events, by session.
    pub(in crate::cluster) fn bury(&self, process: Process) -> Vec<(String, Vec<Arc<str>>)> {
        self.lose(process);
        let mut of_events = Vec::new();
        for channel in self.all() {
            let mut state = channel.state.lock();
            if channel.is_link {
                state.end_broken(process, |_| true);
            } else if let Some(tasks) = state.broken.remove(&process) {
                of_events.push((channel.session.clone(), tasks.into_iter().collect()));
            }
        }
        of_events
    }

    /// Has all registrars connect again on whose channels tasks of other hubs ran.
    pub(in crate::cluster) fn greet_all_again(&self) {
        let has_tasks = |channel: &HostedChannel| {
            let state = channel.state.lock();
            !(state.homes.is_empty() && state.broken.is_empty())
        };
        let channels = self.all().into_iter().filter(|channel| channel.is_link && has_tasks(channel));
        channels.for_each(|channel| channel.greet_again());
    }

    fn all(&self) -> Vec<Arc<HostedChannel>> {
        self.channels.lock().values().cloned().collect()
    }

    fn close(&self, channel: &Arc<HostedChannel>) {
        let mut channels = self.channels.lock();
        if channels.get(&channel.session).is_some_and(|current| Arc::ptr_eq(current, channel)) {
            channels.remove(&channel.session);
        }
        drop(channels);
        let mut state = channel.state.lock();
        state.is_closed = true;
        state.homes.iter().for_each(|relay| relay.has_more.notify_one());
    }
}
