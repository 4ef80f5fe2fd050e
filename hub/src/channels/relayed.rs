//! Tasks that other hubs send on channels of this one.

use super::{Channels, Event, SendError, SentEvent, check_room, share_of};
use crate::quota::{ByteQuota, BytesPermit};

impl Channels {
    /// Counts the bytes of a task for `owner`, whose publisher it is for, before it is whole. Nothing else counts them here.
    pub(crate) fn count(&self, owner: &str, max_bytes: usize) -> BytesPermit {
        ByteQuota::new(&self.unread_of_caller, owner, share_of(max_bytes), "tasks unread").empty()
    }

    /// Sends a task of another hub, which `counted` counts, on the session's channel.
    pub(crate) fn send_counted(
        &self,
        session: &str,
        event: Event,
        counted: BytesPermit,
    ) -> Result<SentEvent, SendError> {
        let open = self.open.lock();
        let sender = open.get(session).ok_or(SendError::Unreachable)?;
        let mut shared = sender.shared.lock();
        let caller = sender.owner.user().to_owned();
        check_room(&shared, &caller, event.size())?;
        let of_owner = sender.owner.take_shared(0, event.size()).map_err(|_| SendError::Full)?;
        Ok(self.push(sender, &mut shared, &caller, event, [of_owner, counted]))
    }

    /// Ends the event of a task that waits on the session's channel, as [`SentEvent::end`] does. Returns whether the publisher
    /// will not get all of it.
    pub(crate) fn end_task(&self, session: &str, task: &str) -> bool {
        let shared = self.open.lock().get(session).map(|sender| sender.shared.clone());
        let Some(shared) = shared else { return false };
        let number = shared.lock().queue.number_of(task);
        number.is_some_and(|number| SentEvent::new(&shared, number).end(true))
    }
}
