//! Answers to tasks that have ended: a registrar may repeat one whose decision it did not get.

use std::sync::Arc;

use super::SessionLink;

/// Late answers that a link puts together at a time. A registrar that sends more is told to send them again.
const MAX_LATE: usize = 64;

/// Counts a late answer at its link until it is dropped.
pub(crate) struct LateAnswer(Arc<SessionLink>);

impl LateAnswer {
    pub(super) fn begin(link: &Arc<SessionLink>) -> Option<Self> {
        let mut state = link.0.lock();
        if state.late >= MAX_LATE {
            return None;
        }
        state.late += 1;
        Some(Self(link.clone()))
    }
}

impl Drop for LateAnswer {
    fn drop(&mut self) {
        self.0.0.lock().late -= 1;
    }
}
