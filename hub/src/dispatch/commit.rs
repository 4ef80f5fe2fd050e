//! The commit of a durable task's end, for which the publisher's last POST waits. Pure.
//!
//! The task's runner has one [`CommitNotifier`] per dispatch, the dispatch has its [`CommitReceipt`].

use std::sync::Arc;

use tokio::sync::{Notify, watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommitState {
    Pending,
    /// The commit failed this many times, and is tried again.
    Failed(u64),
    /// The end is stored, or the task went on to another publisher.
    Committed,
}

/// The runner's side. A drop means that the result is not wanted: the task was withdrawn or its token revoked.
#[derive(Debug)]
pub(crate) struct CommitNotifier {
    state: watch::Sender<CommitState>,
    retry: Arc<Notify>,
}

/// The publisher's side: the handler of its last message about the task waits on it.
#[derive(Debug, Clone)]
pub(crate) struct CommitReceipt {
    state: watch::Receiver<CommitState>,
    retry: Arc<Notify>,
}

/// The result of a wait for the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    Committed,
    /// The commit failed; the publisher can ask again.
    Failed,
    /// The task is gone.
    Abandoned,
}

impl Default for CommitNotifier {
    fn default() -> Self {
        Self { state: watch::Sender::new(CommitState::Pending), retry: Arc::default() }
    }
}

impl CommitNotifier {
    pub(crate) fn receipt(&self) -> CommitReceipt {
        CommitReceipt { state: self.state.subscribe(), retry: self.retry.clone() }
    }

    /// Reports that the end is stored, or need not be.
    pub(crate) fn commit(self) {
        self.state.send_replace(CommitState::Committed);
    }

    /// Reports a failed attempt.
    pub(crate) fn failed(&self) {
        self.state.send_modify(|state| {
            let before = if let CommitState::Failed(times) = state { *times } else { 0 };
            *state = CommitState::Failed(before + 1);
        });
    }

    /// Resolves when a publisher sends its result again after a failed commit.
    pub(crate) async fn retry_requested(&self) {
        self.retry.notified().await;
    }
}

impl CommitReceipt {
    /// Waits for the next outcome. After a failure, this requests another attempt at once.
    pub(super) async fn outcome(mut self) -> CommitOutcome {
        let before = *self.state.borrow();
        if before != CommitState::Pending {
            self.retry.notify_one();
        }
        let is_new = |state: &CommitState| match state {
            CommitState::Pending => false,
            CommitState::Failed(_) => *state != before,
            CommitState::Committed => true,
        };
        match self.state.wait_for(is_new).await.as_deref() {
            Ok(CommitState::Committed) => CommitOutcome::Committed,
            Ok(_) => CommitOutcome::Failed,
            Err(_) => CommitOutcome::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_failed_commit_is_reported_once_and_retried_on_request() {
        let notifier = CommitNotifier::default();
        let (first, second) = (notifier.receipt(), notifier.receipt());
        let mut waits = Box::pin(first.outcome());
        assert_eq!((&mut waits).now_or_never(), None);
        assert!(notifier.retry_requested().now_or_never().is_none(), "a retry is requested before a failure");
        notifier.failed();
        assert_eq!(waits.now_or_never(), Some(CommitOutcome::Failed));
        let mut again = Box::pin(second.outcome());
        assert_eq!((&mut again).now_or_never(), None, "the failure is reported twice");
        assert!(notifier.retry_requested().now_or_never().is_some());
        notifier.failed();
        assert_eq!(again.now_or_never(), Some(CommitOutcome::Failed));
    }

    #[test]
    fn every_receipt_is_notified_of_the_commit_or_of_a_dropped_notifier() {
        let notifier = CommitNotifier::default();
        let receipt = notifier.receipt();
        notifier.commit();
        for _ in 0..2 {
            assert_eq!(receipt.clone().outcome().now_or_never(), Some(CommitOutcome::Committed));
        }
        let dropped = CommitNotifier::default().receipt();
        assert_eq!(dropped.outcome().now_or_never(), Some(CommitOutcome::Abandoned));
    }
}
