//! A task that has not ended, or whose end is not written yet.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::chunks::{Batch, Chunks};
use super::state::TaskState;
use crate::dispatch::ActiveCall;
use crate::error::ApiError;
use crate::model::DurableTask;
use crate::quota::{BytesPermit, QuotaPermit};
use crate::registry::Candidate;
use crate::store::ListCursor;

/// Largest streamed answer that is kept: as the largest whole one.
const LARGEST: usize = 64 << 20;

/// What a task rests for when it came back for the first time: its publisher may be on its way down, and would refuse it
/// again at once.
const REST: Duration = Duration::from_secs(1);
/// The longest rest: who refuses whatever comes costs the hub a look a minute.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// One open task. Its request is in the store.
pub(super) struct Open {
    pub(super) task: DurableTask,
    pub(super) life: TaskState,
    /// Who took it last.
    pub(super) taker: Option<Candidate>,
    /// Notes for metrics and audit, from its first dispatch on.
    pub(super) call: Option<Arc<ActiveCall>>,
    /// Not before this reading of the clock: it just came back.
    pub(super) rest: Duration,
    /// How often it came back.
    returns: u32,
    /// Waits no longer than to this reading of the clock.
    pub(super) due: Duration,
    /// Bytes of its request; unknown of one from before a restart, until it is sent out.
    pub(super) size: Option<usize>,
    /// What came of a streamed answer.
    pub(super) chunks: Chunks,
    /// What its answer counts for among its owner's, until it is written down.
    pub(super) held: BytesPermit,
    /// Sends with every change; gone when the task is only in the store.
    pub(super) changed: watch::Sender<()>,
    pub(super) worker: Option<AbortHandle>,
    /// Its place among its owner's open tasks.
    _seat: QuotaPermit,
}

/// What there is to read of a task's stream.
pub enum Peek {
    /// Some of what came from the place that was asked for on, and a way to wait for more.
    Open(Batch, watch::Receiver<()>),
    /// It is not open any more: the store has it, if anybody.
    Closed,
}

impl Open {
    /// A task that waits up to `due`.
    pub(super) fn new(mut task: DurableTask, due: Duration, seat: QuotaPermit) -> Self {
        // Its request can be large, and there may be many.
        let size = task.request.take().map(|request| request.len());
        Self {
            task,
            size,
            life: TaskState::new(),
            taker: None,
            call: None,
            rest: Duration::ZERO,
            returns: 0,
            due,
            chunks: Chunks::default(),
            held: BytesPermit::default(),
            changed: watch::Sender::new(()),
            worker: None,
            _seat: seat,
        }
    }

    /// A piece of a streamed answer came: it is kept, if its owner has room for it.
    pub(super) fn push(&mut self, chunk: &str) -> Result<(), ApiError> {
        let cost = Chunks::cost(chunk);
        if self.chunks.size().saturating_add(cost) > LARGEST {
            return Err(ApiError::bad_gateway("the answer is too large to be kept"));
        }
        self.held.grow(cost)?;
        self.chunks.push(chunk);
        self.changed.send_replace(());
        Ok(())
    }

    /// It came back: it rests, each time for twice as long, and is nobody's.
    pub(super) fn came_back(&mut self, now: Duration) {
        self.rest = now.saturating_add((REST * 2u32.pow(self.returns.min(31))).min(LONGEST_REST));
        self.returns = self.returns.saturating_add(1);
        self.task.llm = None;
        self.task.session = None;
        self.taker = None;
    }

    /// Sent to this member.
    pub(super) fn taken_by(&mut self, candidate: &Candidate) {
        // Its owner reads the record: nothing of a row that is hidden behind an agent stands in it.
        let shown = candidate.through.is_none();
        self.task.llm = shown.then(|| candidate.name.clone());
        self.task.session = candidate.session.clone().filter(|_| shown);
        self.taker = Some(candidate.clone());
    }

    pub(super) fn cursor(&self) -> ListCursor {
        ListCursor { created_at: self.task.created_at, id: self.task.id.clone() }
    }
}
