//! What a call is charged in the line.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::caller_queues::Spent;
use crate::hub::Hub;

/// What a call that waited was charged in the line: corrected when it ends. Dropping it is an end without an answer.
pub(in crate::dispatch) struct TurnCharge {
    hub: Arc<Hub>,
    /// The place that the caller had.
    place: u64,
    /// When it got its slot.
    since: Instant,
}

impl TurnCharge {
    /// The charge of the caller that had this place and got its slot now.
    pub(super) fn new(hub: &Arc<Hub>, place: u64) -> Self {
        Self { hub: hub.clone(), place, since: Instant::now() }
    }

    /// The call took so many tokens, or at least so many if its answer is not whole.
    pub(in crate::dispatch) fn settle(&self, tokens: u64, is_whole: bool) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let spent = Spent { tokens, is_whole, millis };
        self.hub.capacity.queues.lock().callers.settle(self.place, spent);
    }
}

impl Drop for TurnCharge {
    fn drop(&mut self) {
        self.settle(0, false);
    }
}
