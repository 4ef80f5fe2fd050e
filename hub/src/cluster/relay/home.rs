//! The tasks of this hub that run on channels of other hubs.
//!
//! A relay is to them what a connection of the registrar is to others: it reads the session's channel, and carries its link.

mod carried;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::poll_fn;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use wire::link::{Frame, Resume, Tables};

use super::frames;
use super::{Carry, TO_HOST, WANT, Want};
pub(in crate::cluster) use carried::Homes;
use carried::{Carried, Rest, Wanted};

use crate::channels::Receiver;
use crate::cluster::Process;
use crate::cluster::bus::Reply;
use crate::cluster::calls::{About, lane_of};
use crate::cluster::parts::{Answered, Arrival as PartArrival, Asks};
use crate::cluster::peers::Peers;
use crate::cluster::sending::TAKEN;
use crate::http::pass_on_answer;
use crate::hub::Hub;
use crate::links::Arrival;
use crate::news::news;

/// Time between two words to a host that is silent while a task runs there.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// Time between two tries to have a relay.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// Time in which a host that was asked for a relay has to begin it.
const BEGIN_WITHIN: Duration = Duration::from_secs(2);
impl Peers {
    /// Asks `host` for a relay. Returns whether it begins one.
    async fn want(&self, host: Process, session: &str, has_tasks: bool) -> bool {
        let want = Want { session: session.to_owned(), has_tasks };
        let answer = self.ask(host, WANT, &want).await;
        answer.is_ok_and(|answer| answer.kind == TAKEN)
    }
}

impl Hub {
    /// What this hub has of its tasks on `session`; `None` if it has no task there.
    pub(super) fn tables_of(&self, session: &str) -> Option<Tables> {
        let tables = self.links.tables(session);
        let has_tasks = !tables.is_empty() || !self.dispatches.lock().of_session(session).is_empty();
        has_tasks.then_some(tables)
    }

    /// Takes a relay as the session's channel. `false` if it is refused.
    pub(super) fn carry(
        self: &Arc<Self>,
        peers: &Arc<Peers>,
        host: Process,
        about: About<Carry>,
        tables: &[u8],
    ) -> bool {
        let About { call: number, of: Carry { session, stream, owner, is_link }, .. } = about;
        let older = peers.homes.carried.lock().of.get(&session).filter(|older| older.host == host).cloned();
        if let Some(older) = older.filter(|older| older.number >= number) {
            return older.number == number;
        }
        if peers.homes.has_ended(host, number) {
            return false;
        }
        let Ok(tables) = serde_json::from_slice::<Option<Tables>>(tables) else { return false };
        let link = if is_link {
            let Some(link) = self.links.carry(&session, tables.map(|tasks| Resume { tasks })) else {
                return false;
            };
            Some(link)
        } else {
            // Its answers come by POST.
            self.links.remove(&session);
            None
        };
        let events = self.channels.open(&session, &stream, false, &owner, self.options.limits.bytes);
        let (next, waits, ended) = (Mutex::default(), Mutex::default(), Notify::new());
        let carried = Arc::new(Carried { host, number, session, stream, owner, link, next, waits, ended });
        peers.homes.insert(&carried);
        let session = &carried.session;
        self.resend_unstarted(session);
        {
            let mut registry = self.registry.lock();
            self.channel_opened(&registry, session);
            self.offer_rows_of(&mut registry, session);
        }
        peers.homes.begun.notify_waiters();
        news!(debug, "relays", session, "tasks for {session} go over hub {host}");
        tokio::spawn(self.clone().to_host(peers.clone(), carried, events));
        true
    }

    /// Passes what is for the registrar on to the host, until the relay ends.
    async fn to_host(self: Arc<Self>, peers: Arc<Peers>, carried: Arc<Carried>, mut events: Receiver) {
        let (host, session) = (carried.host, &carried.session);
        let (mut part, mut rest) = (0, Rest::default());
        let send = async {
            loop {
                let next = poll_fn(|cx| carried.poll_part(cx, &mut events, &mut rest));
                let frames = match timeout(WATCH_EVERY, next).await {
                    Ok(Some(frames)) => frames,
                    Ok(None) => break,
                    Err(_) if self.dispatches.lock().of_session(session).is_empty() => continue,
                    Err(_) => Bytes::new(),
                };
                carried.has_room(&peers);
                let (lane, about) =
                    (lane_of(frames.len()), About::new(carried.number, false, (part, false), ()));
                let sent = peers.send_part(host, lane, TO_HOST, &carried.owner, about, frames).await;
                if sent.is_err() {
                    break;
                }
                part += 1;
            }
        };
        tokio::select! {
            () = send => (),
            () = carried.ended.notified() => (),
        }
        if let Some((link, connection)) = &carried.link {
            link.disconnect(*connection);
            self.links.remove_unused(session);
        }
        news!(debug, "relays", session, "tasks for {session} do not go over hub {host} any more");
        if peers.homes.remove(&carried) {
            self.channels.close(session, &carried.stream);
            self.regain(&peers, session);
        }
    }

    /// Takes a message about a part that a host sends. Returns what is to be answered now. While too much waits to be sent to the
    /// registrar, no further part is taken: each can cause more of it.
    pub(super) fn take_from_host(
        self: &Arc<Self>,
        peers: &Arc<Peers>,
        host: Process,
        about: &About<()>,
        frames: &Bytes,
        reply: Reply,
    ) -> Option<Answered<Reply>> {
        let Some(carried) = peers.homes.find(host, about.call) else {
            return Some((reply, PartArrival::Unknown));
        };
        let mut next = carried.next.lock();
        if about.part > *next {
            carried.ended.notify_one();
            return Some((reply, PartArrival::Unknown));
        }
        if about.part == *next {
            if about.asks != Asks::Part {
                return Some((reply, PartArrival::Lacks));
            }
            *next += 1;
            if !self.take_frames(&carried, frames.clone()) {
                carried.ended.notify_one();
                return Some((reply, PartArrival::Unknown));
            }
            if about.last {
                carried.ended.notify_one();
            }
        }
        if about.part + 1 < *next || !carried.has_backlog() {
            return Some((reply, PartArrival::Taken));
        }
        if about.asks != Asks::Room {
            return Some((reply, PartArrival::Held));
        }
        carried.wait_for_room(reply)
    }

    /// Takes the frames of a part. `false` if one is against the rules.
    fn take_frames(self: &Arc<Self>, carried: &Carried, mut frames: Bytes) -> bool {
        while let Some(frame) = frames::next(&mut frames) {
            if !self.take_frame(carried, &frame) {
                return false;
            }
        }
        if let Some((link, _)) = &carried.link {
            // Credit may have come.
            link.wake_writer();
        }
        true
    }

    /// Takes a frame that the registrar has sent. `false` if it is against the rules.
    fn take_frame(self: &Arc<Self>, carried: &Carried, frame: &Bytes) -> bool {
        let Ok(Some(frame)) = Frame::decode(frame) else { return false };
        if let Frame::Taken { task, .. } = frame {
            self.refuse_dispatch(&carried.session, task);
            return true;
        }
        let Some((link, connection)) = &carried.link else { return true };
        match link.receive(*connection, frame, &self.results_of(&carried.owner)) {
            Ok(Arrival::Answer { task, kind, pieces }) => {
                let (user, session) = (carried.owner.clone(), carried.session.clone());
                let passing = pass_on_answer(self.clone(), user, session, link.clone(), (task, kind, pieces));
                let mut passing = passing.boxed_local();
                // Most whole answers are one small piece.
                if (&mut passing).now_or_never().is_none() {
                    actix_rt::spawn(passing);
                }
                true
            }
            Ok(Arrival::Beat(..) | Arrival::Nothing) => true,
            Err(_) => false,
        }
    }

    /// Waits until tasks can be sent to a session whose channel is at another hub. `false` if they cannot.
    pub(crate) async fn reach(&self, session: &str) -> bool {
        let Some(shared) = &self.shared else { return true };
        let (peers, until) = (&shared.peers, Instant::now() + BEGIN_WITHIN);
        while Instant::now() < until {
            let mut begun = std::pin::pin!(peers.homes.begun.notified());
            begun.as_mut().enable();
            if self.channels.is_open(session) {
                return true;
            }
            let host = self.registry.lock().hub_of(session).and_then(|hub| peers.process_of(hub));
            let Some(host) = host else { break };
            if let Some(_wanted) = Wanted::begin(&peers.homes, session)
                && !peers.want(host, session, self.links.has_tasks(session)).await
            {
                break;
            }
            let _ = timeout(TRY_EVERY, begun).await;
        }
        if !self.channels.is_open(session) {
            // Nobody tries again in a loop without a pause.
            sleep(TRY_EVERY).await;
        }
        self.channels.is_open(session)
    }

    fn has_tasks_on(&self, session: &str) -> bool {
        self.links.has_tasks(session) || !self.dispatches.lock().of_session(session).is_empty()
    }

    /// Has the tasks of this hub on `session`, whose channel was lost, go on at the hub that has it now. Ends them if there is none
    /// within the grace.
    pub(in crate::cluster) fn regain(self: &Arc<Self>, peers: &Arc<Peers>, session: &str) {
        if !self.has_tasks_on(session) {
            self.links.remove_unused(session);
            return;
        }
        if !peers.homes.regained.lock().insert(session.to_owned()) {
            return;
        }
        let (hub, peers, session) = (self.clone(), peers.clone(), session.to_owned());
        tokio::spawn(async move {
            let until = Instant::now() + hub.options.timings.reattach_grace;
            while !hub.reach(&session).await && hub.has_tasks_on(&session) {
                if Instant::now() >= until {
                    news!(info, "relays", &session, "no hub has the channel of {session}: its tasks end");
                    hub.lose_session(&session);
                    break;
                }
            }
            peers.homes.regained.lock().remove(&session);
            // The last of its tasks may have ended in the meantime.
            hub.links.remove_unused(&session);
        });
    }
}

#[cfg(test)]
mod tests;
