//! A task that has not ended, or whose end the store has not written yet.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::chunks::Chunks;
use super::state::TaskState;
use crate::dispatch::ActiveCall;
use crate::error::ApiError;
use crate::model::DurableTask;
use crate::quota::{BytesPermit, QuotaPermit};
use crate::registry::Candidate;
use crate::store::ListCursor;

/// Largest streamed answer in bytes, as for a whole one.
const MAX_ANSWER: usize = 64 << 20;

/// Delay before a task that was requeued once may be claimed again: its publisher may be stopping and would refuse it.
const REQUEUE_DELAY: Duration = Duration::from_secs(1);
/// The largest such delay.
const MAX_REQUEUE_DELAY: Duration = Duration::from_mins(1);

/// An open task. The store has its request. Times are readings of the monotonic clock.
pub(super) struct OpenTask {
    /// The record of the task, without its request.
    pub(super) task: DurableTask,
    pub(super) state: TaskState,
    /// The member that the task was last sent to.
    pub(super) member: Option<Candidate>,
    /// For metrics and audit, from the first dispatch on.
    pub(super) call: Option<Arc<ActiveCall>>,
    /// The time before which the task may not be claimed.
    pub(super) not_before: Duration,
    requeues: u32,
    /// The time at which a waiting task expires.
    pub(super) deadline: Duration,
    /// Bytes of the request; unknown for a task from before a restart until it is sent.
    pub(super) size: Option<usize>,
    /// The chunks of a streamed answer.
    pub(super) chunks: Chunks,
    /// The bytes of the answer, counted until the store has written them.
    pub(super) answer_bytes: BytesPermit,
    /// Notified of every change; dropped when the task is closed.
    pub(super) changed: watch::Sender<()>,
    pub(super) runner: Option<AbortHandle>,
    _permit: QuotaPermit,
}

impl OpenTask {
    pub(super) fn new(mut task: DurableTask, deadline: Duration, permit: QuotaPermit) -> Self {
        let size = task.request.take().map(|request| request.len());
        Self {
            task,
            size,
            state: TaskState::new(),
            member: None,
            call: None,
            not_before: Duration::ZERO,
            requeues: 0,
            deadline,
            chunks: Chunks::default(),
            answer_bytes: BytesPermit::default(),
            changed: watch::Sender::new(()),
            runner: None,
            _permit: permit,
        }
    }

    /// Appends a chunk of a streamed answer, if its owner's quota allows it.
    pub(super) fn push(&mut self, chunk: &str) -> Result<(), ApiError> {
        let cost = Chunks::cost(chunk);
        if self.chunks.size().saturating_add(cost) > MAX_ANSWER {
            return Err(ApiError::bad_gateway("the answer is too large to be kept"));
        }
        self.answer_bytes.grow(cost)?;
        self.chunks.push(chunk);
        self.changed.send_replace(());
        Ok(())
    }

    /// Takes the task from its member and delays its next claim, each time twice as long.
    pub(super) fn requeue(&mut self, now: Duration) {
        let delay = (REQUEUE_DELAY * 2u32.pow(self.requeues.min(31))).min(MAX_REQUEUE_DELAY);
        self.not_before = now.saturating_add(delay);
        self.requeues = self.requeues.saturating_add(1);
        self.task.llm = None;
        self.task.session = None;
        self.member = None;
    }

    pub(super) fn assign(&mut self, member: &Candidate) {
        // The owner reads the record, which must not name a row that is hidden behind an agent.
        let is_shown = member.through.is_none();
        self.task.llm = is_shown.then(|| member.name.clone());
        self.task.session = member.session.clone().filter(|_| is_shown);
        self.member = Some(member.clone());
    }

    pub(super) fn cursor(&self) -> ListCursor {
        ListCursor { created_at: self.task.created_at, id: self.task.id.clone() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock;
    use crate::model::TaskStatus;
    use crate::tasks::table::DurableTasks;

    /// A task of alice for a target that does not exist.
    pub(in crate::tasks) fn pending_task(id: &str) -> DurableTask {
        DurableTask {
            id: id.into(),
            owner: "alice".into(),
            token: None,
            target: "nobody".into(),
            target_owner: None,
            state: TaskStatus::Pending,
            request: Some("{}".into()),
            streaming: false,
            llm: None,
            session: None,
            result: None,
            error: None,
            code: None,
            tokens: None,
            created_at: clock::now(),
            updated_at: clock::now(),
        }
    }

    /// A task that its publisher refuses again and again is sent less and less often, finally once a minute.
    #[test]
    fn the_delay_of_a_requeued_task_doubles_up_to_a_minute() {
        let permit = DurableTasks::default().restored_permit("alice");
        let mut open = OpenTask::new(pending_task("t"), Duration::MAX, permit);
        let now = Duration::from_hours(1);
        let delays: Vec<u64> = (0..40)
            .map(|_| {
                open.requeue(now);
                open.not_before.saturating_sub(now).as_secs()
            })
            .collect();
        assert_eq!(delays[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delays[39], 60);
    }
}
