//! The queue of a store's jobs: how calls get into it, for both kinds of store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::job::{Job, Probes, Write};
use super::write_behind::Coalescer;
use super::{Change, RetentionLimits, StoreError, StoreFuture};

/// Maximum number of jobs in the queue: some seconds of the busiest hub. While a disk hangs for longer, new jobs are refused,
/// so that memory stays bounded and no caller waits forever.
pub(super) const MAX_WAITING: usize = 20_000;

/// What callers share with the writer.
#[derive(Default)]
pub(super) struct QueueState {
    /// Number of jobs in the queue.
    pub(super) waiting: AtomicUsize,
    pub(super) coalescer: Mutex<Coalescer>,
    pub(super) probes: Mutex<Probes>,
}

/// The callers' end of the queue.
pub(super) struct JobQueue<W> {
    /// Sends a job to the writer. `None` once the queue is closed.
    sender: Option<Box<dyn Fn(Job<W>) + Send + Sync>>,
    state: Arc<QueueState>,
}

impl<W> JobQueue<W> {
    /// A queue whose jobs `sender` sends to the writer. A job that it drops ends with an error, since its reply is dropped.
    pub(super) fn new(sender: impl Fn(Job<W>) + Send + Sync + 'static) -> Self {
        Self { sender: Some(Box::new(sender)), state: Arc::default() }
    }

    pub(super) fn state(&self) -> Arc<QueueState> {
        self.state.clone()
    }

    /// Closes the queue: the writer ends after the jobs that are in it.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    /// Sends a job whose reply comes by `result`.
    pub(super) fn send<T: Send + 'static>(
        &self,
        job: Job<W>,
        result: oneshot::Receiver<Result<T, StoreError>>,
    ) -> StoreFuture<T> {
        if !job.is_write_behind() && self.state.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return Box::pin(async { Err(StoreError::Unavailable("too many writes are waiting".into())) });
        }
        self.enqueue(&mut self.state.coalescer.lock(), job);
        wait_for(result)
    }

    /// Enqueues a job. The caller holds the coalescer's lock, so that its count of jobs follows their order.
    fn enqueue(&self, coalescer: &mut Coalescer, job: Job<W>) {
        coalescer.job_sent(job.changes());
        self.state.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(send) = &self.sender {
            send(job);
        }
    }

    /// See [`Store::write`](super::Store::write) and [`Store::write_behind`](super::Store::write_behind).
    pub(super) fn write(&self, changes: Vec<Change>, is_write_behind: bool) -> StoreFuture<()> {
        let (reply, result) = oneshot::channel();
        self.send(Job::Write(Write { changes, reply, is_write_behind, turn: None }), result)
    }

    /// Writes changes that are valid in the turn `turn` alone.
    pub(super) fn write_in_turn(&self, changes: Vec<Change>, turn: i64) -> StoreFuture<()> {
        let (reply, result) = oneshot::channel();
        self.send(Job::Write(Write { changes, reply, is_write_behind: false, turn: Some(turn) }), result)
    }

    /// See [`Store::probe`](super::Store::probe).
    pub(super) fn probe(&self) -> StoreFuture<()> {
        let (reply, result) = oneshot::channel();
        let is_scheduled = {
            let mut probes = self.state.probes.lock();
            probes.add(reply);
            std::mem::replace(&mut probes.is_scheduled, true)
        };
        if !is_scheduled {
            self.enqueue(&mut self.state.coalescer.lock(), Job::Probe);
        }
        wait_for(result)
    }

    /// See [`Store::write_coalesced`](super::Store::write_coalesced).
    pub(super) fn write_coalesced(&self, changes: Vec<Change>) {
        let mut coalescer = self.state.coalescer.lock();
        for change in changes {
            coalescer.add(change);
        }
        if !std::mem::replace(&mut coalescer.is_scheduled, true) {
            self.enqueue(&mut coalescer, Job::WriteCoalesced);
        }
    }

    /// See [`Store::expire`](super::Store::expire).
    pub(super) fn expire(&self, limits: RetentionLimits) -> StoreFuture<()> {
        let (reply, result) = oneshot::channel();
        self.send(Job::Expire(limits, reply), result)
    }
}

/// Waits for the reply of a job.
pub(super) fn wait_for<T: Send + 'static>(
    result: oneshot::Receiver<Result<T, StoreError>>,
) -> StoreFuture<T> {
    Box::pin(async { result.await.unwrap_or_else(|_| Err(stopped())) })
}

/// The error of a store whose writer has ended.
pub(super) fn stopped() -> StoreError {
    StoreError::Unavailable("the store has stopped".into())
}
