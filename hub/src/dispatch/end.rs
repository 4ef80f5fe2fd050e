//! How a dispatch ends: by its publisher, by its caller, or with its session. A stream that is cut off ends it in `event_stream`.

use std::sync::Arc;

use tokio::time::sleep;
use wire::TaskId;

use super::piece::ResponsePiece;
use super::table::{DispatchEnd, DispatchState, SentTask};
use crate::channels::{Event, SentEvent};
use crate::clock::Now;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::telemetry::Limit;

/// What ends a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// An answer on the session's link, of which the registrar is told what was decided.
    Link,
    /// A POST, the caller, the hub, or the end of the session.
    Other,
}

impl Hub {
    /// Cancels a dispatch whose caller left.
    pub(super) fn cancel_dispatch(&self, id: &str) {
        let Some((state, true)) = self.end(id, DispatchEnd::Gone, EndedBy::Other) else { return };
        if let Some(session) = &state.session
            && state.can_cancel
            && let Ok(id) = TaskId::parse(id)
            && let Ok(event) = Event::cancel(id)
        {
            // Without an open channel the event is dropped: the publisher's next POST gets 410.
            self.channels.send_control(session, event);
        }
    }

    /// Ends a dispatch, frees its capacity, and drops what its channel and its link keep of it. `None` if it had ended before.
    pub(super) fn end_dispatch(&self, id: &str, end: DispatchEnd, by: EndedBy) -> Option<DispatchState> {
        self.end(id, end, by).map(|(state, _)| state)
    }

    /// Also returns whether the publisher has the task and was not told of its end.
    fn end(&self, id: &str, end: DispatchEnd, by: EndedBy) -> Option<(DispatchState, bool)> {
        let now = self.now();
        let mut state = self.dispatches.lock().end(id, end, now.mono)?;
        // Others that come over a link end with it.
        (state.stream, state.assembly) = (None, None);
        let must_cancel = match (&state.session, &state.sent) {
            (Some(session), Some(sent)) => self.drop_sent(id, session, sent, state.can_cancel, by),
            _ => false,
        };
        self.change(|registry| {
            // No caller joins a queue while the registry is locked. Durable tasks do, but their loop looks afterwards.
            let had_capacity = !self.has_waiters() || registry.has_capacity(&state.row);
            let changes = registry.task_ended(&state.row, &state.user, now);
            if !had_capacity {
                self.offer(registry, &state.row);
            }
            ((), changes)
        });
        self.dispatch_ended.send_replace(());
        Some((state, must_cancel))
    }

    /// Drops what the session's channel and its link keep of a task that has ended, so that nothing counts for its caller.
    /// Returns whether the publisher has the task and was not told by its link.
    fn drop_sent(&self, id: &str, session: &str, sent: &SentTask, can_cancel: bool, by: EndedBy) -> bool {
        // Only our registrars, which know `cancel`, are known to skip half an event.
        let has_task = !sent.event.end(can_cancel) || sent.is_resent;
        has_task && !self.links.ended(session, id, by == EndedBy::Link)
    }

    /// Notes that a task's event is on the channel of `session`, or drops it if the task has ended meanwhile.
    pub(super) fn note_sent(&self, id: &str, session: &str, event: SentEvent, can_cancel: bool) {
        let noted = self.dispatches.lock().sent(id, event);
        if let Err((event, is_answered)) = noted {
            let by = if is_answered { EndedBy::Link } else { EndedBy::Other };
            self.drop_sent(id, session, &SentTask { event, is_resent: false }, can_cancel, by);
        }
    }

    /// Ends the dispatch `id` on `session`, whose task another hub has not put on the session's channel.
    pub(crate) fn refuse_dispatch(&self, session: &str, id: &str) {
        let is_its =
            self.dispatches.lock().get_mut(id).is_some_and(|state| state.session.as_deref() == Some(session));
        if let Some(state) =
            is_its.then(|| self.end_dispatch(id, DispatchEnd::Gone, EndedBy::Other)).flatten()
        {
            let error =
                ApiError::new(ErrorKind::PublisherAway, "the publisher's channel is full, try again later");
            state.channel.deliver(vec![ResponsePiece::Error(error.refused_by(Limit::Channel))]);
        }
    }

    /// Ends the dispatch of a public row with its last piece.
    pub(super) fn finish_upstream(&self, id: &str, last: ResponsePiece) {
        // No publisher can repeat the result, so its digest is never compared.
        if let Some(state) = self.end_dispatch(id, DispatchEnd::Answered(0), EndedBy::Other) {
            state.channel.deliver(vec![last]);
        }
    }

    /// Has unstarted tasks sent again on the session's new channel, since they may be lost with the old one. Applies to
    /// publishers with the feature `cancel`: they run an id once, unless they were killed meanwhile; others would run it twice.
    pub(crate) fn resend_unstarted(&self, session: &str) {
        for channel in self.dispatches.lock().unstarted(session, |id| self.links.knows(session, id)) {
            channel.reattached();
        }
    }

    /// Ends the dispatches of a session that is still away at the end of its grace period. It left at `since`.
    pub(crate) fn lose_later(self: Arc<Self>, session: String, since: Now) {
        // Without a runtime the process is exiting, and all dispatches with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            sleep(self.options.timings.reattach_grace).await;
            // Another hub may have its channel now, over which its tasks run on.
            let is_relayed = self.shared.as_ref().is_some_and(|shared| shared.has_relay(&session));
            if !is_relayed && self.registry.lock().is_away_since(&session, since) {
                self.lose_session(&session);
            }
        });
    }

    /// Ends all dispatches of a lost session. Late results get 410.
    pub(crate) fn lose_session(&self, session: &str) {
        self.links.remove(session);
        let ids = self.dispatches.lock().of_session(session);
        self.abandon(ids);
    }

    /// Ends the dispatches whose publishers have their channels at other hubs than `own`, this one.
    pub(crate) fn lose_relayed(&self, own: &str) {
        let mut sessions = self.dispatches.lock().sessions();
        {
            let registry = self.registry.lock();
            sessions.retain(|session| registry.hub_of(session).is_some_and(|hub| hub != own));
        }
        for session in sessions {
            self.lose_session(&session);
        }
    }

    /// Ends all dispatches, as if every session were lost.
    pub(crate) fn lose_all(&self) {
        let ids = self.dispatches.lock().ids();
        self.abandon(ids);
    }

    fn abandon(&self, ids: Vec<String>) {
        for id in ids {
            // Drops the sender of the channel: the caller's side reads the end without a last piece.
            self.end_dispatch(&id, DispatchEnd::Gone, EndedBy::Other);
        }
    }
}
