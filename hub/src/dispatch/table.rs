//! The dispatches under way, and for a while those that ended. Pure: no runtime, no clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use wire::task::Endpoint;

use super::receipt::Receipt;
use super::response_channel::ResponseChannel;
use crate::model::UserId;

/// Ended dispatches are remembered for so long: a registrar gives up a result after 60 s.
const REMEMBER: Duration = Duration::from_mins(10);
/// At most so many of them, about 200 bytes each.
const MAX_ENDED: usize = 16_384;

/// One dispatch.
pub struct DispatchState {
    /// Whose session serves it.
    pub user: UserId,
    /// The session that serves it; none for a public row.
    pub session: Option<String>,
    /// The row that it counts for.
    pub row: String,
    /// Whether chunks are wanted.
    pub streaming: bool,
    /// What is asked of the backend.
    pub endpoint: Endpoint,
    /// Whether the publisher is told when it is cancelled.
    pub tell_cancel: bool,
    /// To the caller.
    pub lane: ResponseChannel,
    /// Whether its first word came.
    pub started: bool,
    /// The number of the next chunk POST (feature `chunk-seq`).
    pub next_seq: u64,
    /// Dropped with this record: ends an upload that is under way.
    pub upload: Option<oneshot::Sender<()>>,
    /// What its publisher's last word waits for, of a durable task.
    pub receipt: Option<Receipt>,
}

/// How a dispatch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DispatchEnd {
    /// By the publisher's own word, of which this is a digest: the same word again is no news.
    Answered(u64),
    /// By the hub: cancelled, timed out, or its session was lost.
    Gone,
}

/// All of them.
#[derive(Default)]
pub struct DispatchTable {
    live: HashMap<String, DispatchState>,
    ended: HashMap<String, Ended>,
    order: VecDeque<(Duration, String)>,
}

struct Ended {
    user: UserId,
    session: Option<String>,
    how: DispatchEnd,
    receipt: Option<Receipt>,
}

impl DispatchTable {
    /// A dispatch begins.
    pub fn insert(&mut self, id: String, live: DispatchState) {
        self.live.insert(id, live);
    }

    /// The dispatch `id`, if it is under way at a session of `user`'s (`session`, where the request named one).
    pub fn live(&mut self, user: &str, session: Option<&str>, id: &str) -> Option<&mut DispatchState> {
        let bound = |live: &&mut DispatchState| is_bound(&live.user, live.session.as_deref(), user, session);
        self.live.get_mut(id).filter(bound)
    }

    /// How the dispatch `id` ended, for those who could have served it, and what one who repeats its last word waits for.
    pub fn ending(
        &self,
        user: &str,
        session: Option<&str>,
        id: &str,
    ) -> Option<(DispatchEnd, Option<Receipt>)> {
        let bound = |ended: &&Ended| is_bound(&ended.user, ended.session.as_deref(), user, session);
        self.ended.get(id).filter(bound).map(|ended| (ended.how, ended.receipt.clone()))
    }

    /// Ends the dispatch `id`; `None` when it had ended before: the first ending wins.
    pub fn end(&mut self, id: &str, how: DispatchEnd, now: Duration) -> Option<DispatchState> {
        let live = self.live.remove(id)?;
        let (user, session, receipt) = (live.user.clone(), live.session.clone(), live.receipt.clone());
        let ended = Ended { user, session, how, receipt };
        self.ended.insert(id.to_owned(), ended);
        self.order.push_back((now, id.to_owned()));
        while let Some((at, oldest)) = self.order.front() {
            if self.order.len() <= MAX_ENDED && now.saturating_sub(*at) < REMEMBER {
                break;
            }
            self.ended.remove(oldest);
            self.order.pop_front();
        }
        Some(live)
    }

    /// The dispatches that are bound to `session`.
    pub fn of_session(&self, session: &str) -> Vec<String> {
        let bound = self.live.iter().filter(|(_, live)| live.session.as_deref() == Some(session));
        bound.map(|(id, _)| id.clone()).collect()
    }

    /// The ways to those who wait for the first word of a task at `session`, and can have it sent again.
    pub fn unstarted(&self, session: &str) -> Vec<ResponseChannel> {
        let waiting = |live: &&DispatchState| {
            live.session.as_deref() == Some(session)
                && live.tell_cancel
                && !live.started
                && live.upload.is_none()
        };
        self.live.values().filter(waiting).map(|live| live.lane.clone()).collect()
    }

    /// All dispatches under way.
    pub fn ids(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

/// A task of one session's is nobody else's: not another user's, nor another session's where a request names one.
fn is_bound(owner: &str, holder: Option<&str>, user: &str, session: Option<&str>) -> bool {
    owner == user && holder.is_some() && session.is_none_or(|named| holder == Some(named))
}
