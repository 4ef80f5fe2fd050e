//! Tasks of one hub on a channel of another one.
//!
//! A task belongs to its home, the hub of its caller: the answer, its credit, and what is sent again. The hub that has
//! the channel is its *host*. It passes frames on. Of each it reads the kind, the task and whether a task begins, and
//! it joins the pieces of a task for a registrar that reads events.
//!
//! ```text
//! host: the hub of a channel                    home: the hub of a caller
//!
//! a channel opens     ── tables ───────────▶    what it has of its tasks on the session
//!                     ── carry ────────────▶    its link goes on over this relay, and what was not begun is sent again
//!                     ◀─────────── want ───     it has a task for the session, and no relay
//! writes it           ◀─── to-host, 0… ────     frames for the registrar
//! of the registrar    ──── to-home, 0… ────▶    takes it
//! ```
//!
//! Parts are numbered, and sent again until they are taken, so that a relay loses nothing while both hubs live. When it breaks all
//! the same, the host lets the registrar connect again: its greeting tells each home what the registrar has, as after a broken
//! connection.

mod frames;
mod home;
mod host;
#[cfg(test)]
mod schedules;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::sleep_until;
use wire::link::Tables;

pub(super) use home::Homes;
pub(crate) use host::Hosted;
pub(super) use host::Hosts;

use super::Process;
use super::bus::Reply;
use super::calls::About;
use super::frame::Frame;
use super::members::BEAT_EVERY;
use super::parts::{Arrival, Asks};
use super::peers::Peers;
use super::sending::TAKEN;
use crate::hub::Hub;
use crate::model::UserId;

/// The kinds of messages.
const TABLES: &str = "tables";
const CARRY: &str = "carry";
const WANT: &str = "want";
const TO_HOST: &str = "to-host";
const TO_HOME: &str = "to-home";

/// Bytes of frames above which no further one joins a part.
const PART: usize = 64 << 10;

/// What a host says when a relay begins. The body is what the registrar has of this home's tasks, `null` if it has not
/// greeted since they were sent: then there are none.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Carry {
    session: String,
    stream: String,
    owner: UserId,
    is_link: bool,
}

/// What a home wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Want {
    session: String,
    /// Whether its link has tasks, which only a greeting continues.
    has_tasks: bool,
}

/// What a home has of its tasks on a session.
pub(crate) type HomeTables = Vec<(Process, Tables)>;

impl Peers {
    /// What other hubs have of their tasks on `session`, of those that have any. A process that has just started first hears of
    /// them: a registrar ends the tasks that no table names.
    pub(crate) async fn tables(&self, session: &str) -> HomeTables {
        sleep_until(self.began + BEAT_EVERY * 2).await;
        let others = self.members.lock().all_alive();
        let asked = others.into_iter().map(|home| async move {
            let answer = self.ask(home, TABLES, &session).await.ok()?;
            let tables = serde_json::from_slice(&answer.body).ok().filter(|_| answer.kind == TAKEN)?;
            Some((home, tables))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// What the hub `home` has of its tasks on `session`. `None` if it does not say.
    async fn tables_of(&self, home: Process, session: &str) -> Option<Tables> {
        let answer = self.ask(home, TABLES, &session).await.ok()?;
        serde_json::from_slice::<Option<Tables>>(&answer.body).ok().map(Option::unwrap_or_default)
    }
}

impl Hub {
    /// Takes the word that a relay begins, from the hub that has the session's channel. One that is late may be of a hub that had it:
    /// it would replace a newer channel.
    fn take_begin(
        self: &Arc<Self>,
        peers: &Arc<Peers>,
        host: Process,
        about: About<Carry>,
        tables: Bytes,
        reply: Reply,
    ) {
        let (hub, peers) = (self.clone(), peers.clone());
        let is_its = {
            let (hub, session) = (hub.clone(), about.of.session.clone());
            move || hub.registry.lock().hub_of(&session) == Some(host.hub())
        };
        let answer = move |is_its: bool, hub: &Arc<Self>| {
            let is_taken = is_its && hub.carry(&peers, host, about, &tables);
            peers.reply(reply, Arrival::taken(is_taken));
        };
        if is_its() {
            return answer(true, &hub);
        }
        tokio::spawn(async move {
            // Without the table no session goes to another hub.
            let is_unknown = hub.read_changes().await.is_err();
            answer(is_unknown || is_its(), &hub);
        });
    }
}

/// Takes a message about a relay. Returns the reply of one that is about something else.
pub(super) fn asked(hub: &Arc<Hub>, peers: &Arc<Peers>, frame: &Frame, reply: Reply) -> Option<Reply> {
    let from = frame.from;
    let arrival = match &*frame.kind {
        TABLES => {
            let tables = frame.data::<String>().and_then(|session| hub.tables_of(&session));
            let arrival = Arrival::taken(tables.is_some());
            if let Ok(mut answer) = Frame::new(peers.process, arrival.as_str(), &()) {
                answer.body = serde_json::to_vec(&tables).unwrap_or_default().into();
                // The host asks again.
                let _ = reply.answer(answer);
            }
            return None;
        }
        CARRY => match frame.data::<About<Carry>>() {
            Some(about) => match peers.homes.arrival(from, about.call) {
                Arrival::Lacks if about.asks == Asks::Part => {
                    hub.take_begin(peers, from, about, frame.body.clone(), reply);
                    return None;
                }
                arrival => arrival,
            },
            None => Arrival::Unknown,
        },
        WANT => Arrival::taken(frame.data::<Want>().is_some_and(|want| peers.hosts.want(peers, from, &want))),
        TO_HOME => {
            let Some(about) = frame.data::<About<()>>() else {
                peers.reply(reply, Arrival::Unknown);
                return None;
            };
            if let Some((reply, arrival)) = hub.take_from_host(peers, from, &about, &frame.body, reply) {
                peers.reply(reply, arrival);
            }
            return None;
        }
        TO_HOST => {
            let Some(about) = frame.data::<About<()>>() else {
                peers.reply(reply, Arrival::Unknown);
                return None;
            };
            let taken = peers.hosts.take(from, &about, frame.body.clone(), reply);
            if let Some((reply, arrival)) = taken {
                peers.reply(reply, arrival);
            }
            hub.pass_to_events(peers, about.call);
            return None;
        }
        _ => return Some(reply),
    };
    peers.reply(reply, arrival);
    None
}
