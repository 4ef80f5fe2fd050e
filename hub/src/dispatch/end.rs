//! How a dispatch ends: by its publisher, by its caller, or with its session. A stream that is cut off ends it in `event_stream`.

use std::sync::Arc;

use tokio::time::sleep;
use wire::TaskId;

use super::handle::SentEvent;
use super::piece::ResponsePiece;
use super::table::{DispatchEnd, DispatchState};
use crate::channels::Event;
use crate::clock::Now;
use crate::hub::Hub;

impl Hub {
    /// Cancels a dispatch whose caller left, and withdraws what its publisher has not read of it.
    pub(super) fn cancel_dispatch(&self, id: &str, sent: Option<SentEvent>) {
        let Some(state) = self.end_dispatch(id, DispatchEnd::Gone) else { return };
        let Some((session, sent)) = state.session.as_ref().zip(sent) else { return };
        // Only our registrars, which know `cancel`, are known to skip half an event.
        let is_unread =
            self.channels.withdraw(session, sent.event_number, state.can_cancel) && !sent.is_resent;
        if state.can_cancel
            && !is_unread
            && !self.links.cancel(session, id)
            && let Ok(id) = TaskId::parse(id)
            && let Ok(event) = Event::cancel(id)
        {
            // Without an open channel the event is dropped: the publisher's next POST gets 410.
            self.channels.send_control(session, event);
        }
    }

    /// Ends a dispatch and frees its capacity. `None` if it had ended before.
    pub(super) fn end_dispatch(&self, id: &str, end: DispatchEnd) -> Option<DispatchState> {
        let now = self.now();
        let state = self.dispatches.lock().end(id, end, now.mono)?;
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
        Some(state)
    }

    /// Ends the dispatch of a public row with its last piece.
    pub(super) fn finish_upstream(&self, id: &str, last: ResponsePiece) {
        // No publisher can repeat the result, so its digest is never compared.
        if let Some(state) = self.end_dispatch(id, DispatchEnd::Answered(0)) {
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
            if self.registry.lock().is_away_since(&session, since) {
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

    /// Ends all dispatches, as if every session were lost.
    pub(crate) fn lose_all(&self) {
        let ids = self.dispatches.lock().ids();
        self.abandon(ids);
    }

    fn abandon(&self, ids: Vec<String>) {
        for id in ids {
            // Drops the sender of the channel: the caller's side reads the end without a last piece.
            self.end_dispatch(&id, DispatchEnd::Gone);
        }
    }
}
