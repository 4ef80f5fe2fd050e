//! The live dispatches, and for ten minutes those that ended. Pure: no runtime, no clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::commit::CommitReceipt;
use super::encode::EventFormat;
use super::ended::{EndedDispatch, EndedTable};
use super::response_channel::ResponseChannel;
use crate::channels::SentEvent;
use crate::model::UserId;

/// A live dispatch.
pub(crate) struct DispatchState {
    /// The owner of the row.
    pub(super) user: UserId,
    /// The session that runs the task; `None` for a public row.
    pub(super) session: Option<String>,
    /// The row whose capacity is used.
    pub(super) row: Arc<str>,
    /// The name that was called, if it is not the row's.
    pub(super) called: Option<Arc<str>>,
    pub(super) streaming: bool,
    pub(super) format: EventFormat,
    /// Whether the publisher has the feature `cancel`.
    pub(super) can_cancel: bool,
    /// The task's event on the publisher's channel. `None` before it is sent, and for a public row.
    pub(super) sent: Option<SentTask>,
    /// To the caller.
    pub(super) channel: ResponseChannel,
    /// Whether a chunk came or a stream began: the task cannot be sent again.
    pub(super) started: bool,
    /// The number of the next chunk POST (feature `chunk-seq`).
    pub(super) next_seq: u64,
    /// Ends the stream over a link when it is dropped.
    pub(super) stream: Option<oneshot::Sender<()>>,
    /// Ends the whole answer that comes over a link in parts when it is dropped.
    pub(super) assembly: Option<oneshot::Sender<()>>,
    /// Of a durable task: resolves when its end is committed.
    pub(super) receipt: Option<CommitReceipt>,
}

/// A task's event on a publisher's channel.
pub(super) struct SentTask {
    pub(super) event: SentEvent,
    /// Whether an earlier channel had the event, and its publisher may have read it.
    pub(super) is_resent: bool,
}

/// How a dispatch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DispatchEnd {
    /// By the publisher's last result, with this digest. The same result again is a duplicate.
    Answered(u64),
    /// Without a result: cancelled, timed out, its session lost, or its answer malformed or cut off.
    Gone,
}

impl DispatchState {
    /// The names whose next owner must not get the task: the row's and the one that was called. None for a public row,
    /// whose request the hub sends at once.
    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let names = std::iter::once(&self.row).chain(&self.called);
        names.filter(|_| self.session.is_some())
    }
}

#[derive(Default)]
pub(crate) struct DispatchTable {
    live: HashMap<String, DispatchState>,
    /// Number of live dispatches on sessions by each of their names.
    names: HashMap<Arc<str>, usize>,
    ended: EndedTable,
}

impl DispatchTable {
    pub(super) fn insert(&mut self, id: String, state: DispatchState) {
        for name in state.names() {
            *self.names.entry(name.clone()).or_default() += 1;
        }
        self.live.insert(id, state);
    }

    /// Notes what was sent of a live dispatch; `Err` if it has ended meanwhile, with whether by an answer.
    pub(super) fn sent(&mut self, id: &str, event: SentEvent) -> Result<(), (SentEvent, bool)> {
        let Some(state) = self.live.get_mut(id) else {
            let end = self.ended.get(id).map(|ended| ended.end);
            return Err((event, matches!(end, Some(DispatchEnd::Answered(_)))));
        };
        // On an older channel.
        let is_resent =
            state.sent.take().is_some_and(|older| !older.event.withdraw(state.can_cancel) || older.is_resent);
        state.sent = Some(SentTask { event, is_resent });
        Ok(())
    }

    /// The live dispatch `id`, whoever runs it.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut DispatchState> {
        self.live.get_mut(id)
    }

    /// The live dispatch `id`, if a session of `user` runs it: that of the id `session`, if one is given.
    pub(super) fn live(&mut self, user: &str, session: Option<&str>, id: &str) -> Option<&mut DispatchState> {
        let state = self.live.get_mut(id)?;
        runs_on(&state.user, state.session.as_deref(), user, session).then_some(state)
    }

    /// How the dispatch `id` ended, and its receipt, if a session of `user` ran it.
    pub(super) fn ended(
        &self,
        user: &str,
        session: Option<&str>,
        id: &str,
    ) -> Option<(DispatchEnd, Option<CommitReceipt>)> {
        let ended = self.ended.get(id)?;
        runs_on(&ended.user, ended.session.as_deref(), user, session)
            .then(|| (ended.end, ended.receipt.clone()))
    }

    /// Ends the dispatch `id`; `None` if it had ended before: the first end counts.
    pub(super) fn end(&mut self, id: &str, end: DispatchEnd, now: Duration) -> Option<DispatchState> {
        let state = self.live.remove(id)?;
        for name in state.names() {
            if let Some(count) = self.names.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.names.remove(name);
                }
            }
        }
        let (user, session, receipt) = (state.user.clone(), state.session.clone(), state.receipt.clone());
        self.ended.insert(id, EndedDispatch { user, session, end, receipt }, now);
        Some(state)
    }

    /// The ids of the dispatches on `session`.
    pub(crate) fn of_session(&self, session: &str) -> Vec<String> {
        let bound = self.live.iter().filter(|(_, state)| state.session.as_deref() == Some(session));
        bound.map(|(id, _)| id.clone()).collect()
    }

    /// The sessions on which dispatches run.
    pub(super) fn sessions(&self) -> HashSet<String> {
        self.live.values().filter_map(|state| state.session.clone()).collect()
    }

    /// The channels of the tasks on `session` without content that can be sent again, except those of which `is_kept`.
    pub(super) fn unstarted(&self, session: &str, is_kept: impl Fn(&str) -> bool) -> Vec<ResponseChannel> {
        let can_resend = |(id, state): &(&String, &DispatchState)| {
            state.session.as_deref() == Some(session)
                && state.can_cancel
                && !state.started
                && state.stream.is_none()
                && !is_kept(id)
        };
        self.live.iter().filter(can_resend).map(|(_, state)| state.channel.clone()).collect()
    }

    /// The channels of the tasks without content on rows that are called by one of `names`, or that have such a name.
    pub(super) fn unstarted_by(&self, names: &[String]) -> Vec<ResponseChannel> {
        let names: HashSet<&str> =
            names.iter().map(String::as_str).filter(|name| self.names.contains_key(*name)).collect();
        if names.is_empty() {
            // Of most claims nobody has called the name before: nothing is scanned.
            return Vec::new();
        }
        let is_concerned =
            |state: &&DispatchState| !state.started && state.names().any(|name| names.contains(&**name));
        self.live.values().filter(is_concerned).map(|state| state.channel.clone()).collect()
    }

    /// The ids of all live dispatches.
    pub(super) fn ids(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }

    /// The number of live dispatches.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

/// Whether a task of `owner` on the session `holder` belongs to `user`, and to `session` if one is given.
fn runs_on(owner: &str, holder: Option<&str>, user: &str, session: Option<&str>) -> bool {
    owner == user && holder.is_some() && session.is_none_or(|named| holder == Some(named))
}

#[cfg(test)]
mod tests {
    use wire::task::Endpoint;

    use super::*;
    use crate::quota::ByteQuota;

    fn state(session: Option<&str>, row: &str, called: Option<&str>) -> DispatchState {
        let (channel, _) = ResponseChannel::new(ByteQuota::new(&Arc::default(), "carl", 0, "answers"));
        DispatchState {
            user: "alice".into(),
            session: session.map(Into::into),
            row: row.into(),
            called: called.map(Into::into),
            streaming: false,
            format: EventFormat { endpoint: Endpoint::ChatCompletions, drops_usage: false },
            can_cancel: true,
            channel,
            started: false,
            next_seq: 0,
            stream: None,
            assembly: None,
            sent: None,
            receipt: None,
        }
    }

    /// A38: a claim concerns the unstarted tasks on its row, and those that called its name, and no public row's.
    #[test]
    fn a_claim_concerns_the_unstarted_tasks_of_its_name() {
        let mut table = DispatchTable::default();
        table.insert("1".into(), state(Some("s"), "a", None));
        table.insert("2".into(), state(Some("s"), "a", Some("ag")));
        table.insert("3".into(), state(None, "a", Some("ag")));
        table.insert("4".into(), DispatchState { started: true, ..state(Some("s"), "a", None) });
        let found = |table: &DispatchTable, name: &str| table.unstarted_by(&["x".into(), name.into()]).len();
        assert_eq!(["a", "ag", "b"].map(|name| found(&table, name)), [2, 1, 0]);
        table.end("2", DispatchEnd::Gone, Duration::ZERO);
        assert_eq!(["a", "ag"].map(|name| found(&table, name)), [1, 0]);
        for id in ["1", "3", "4", "4"] {
            table.end(id, DispatchEnd::Gone, Duration::ZERO);
        }
        assert!(table.names.is_empty(), "{:?}", table.names);
    }
}
