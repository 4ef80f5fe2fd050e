//! The writer: it takes jobs in order and commits waiting writes together.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::cleanup::Cleanup;
use super::connection::Connection;
use super::large::{Entry, Large};
use super::lease::Lease;
use crate::store::job::{Job as StoreJob, written_bytes};
use crate::store::pending::{GROUP_CHANGES, Pending};
use crate::store::queue::QueueState;
use crate::store::writer::{GROUP, GROUP_BYTES, RETRY_EVERY};

/// A connection that several operations use in turn.
pub(super) type SharedConnection = Rc<AsyncMutex<Connection>>;

/// Reads on a connection, and sends the result to its caller.
pub(super) type ReadFn = Box<dyn FnOnce(SharedConnection) -> LocalBoxFuture<'static, ()> + Send>;

/// A read of a caller.
pub(super) struct Read {
    /// It may read many rows, for which no other read waits.
    pub(super) is_search: bool,
    pub(super) run: ReadFn,
}

/// A job of the writer. Its work is a read.
type Job = StoreJob<Read>;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) lease: Lease,
    pub(super) reads: SharedConnection,
    pub(super) searches: SharedConnection,
    pub(super) cleanup: Rc<Cleanup>,
    pub(super) state: Arc<QueueState>,
    pub(super) pending: Pending,
    pub(super) large: Rc<Large>,
    /// Lists whose large texts are stored.
    pub(super) staged: UnboundedReceiver<Entry>,
}

/// What the writer takes.
enum Next {
    Job(Job),
    Staged(Entry),
}

impl Writer {
    /// Runs all jobs, until every sender is dropped. Returns the number of changes, and of lists with large texts, that could not
    /// be written.
    pub(super) async fn serve(mut self, mut queue: UnboundedReceiver<Job>) -> usize {
        while let Some(first) = self.next(&mut queue).await {
            let (mut group, mut reads) = (Vec::new(), Vec::new());
            let (mut changes, mut bytes, mut is_probed) = (0, 0, false);
            let mut next = Some(first);
            while let Some(arrived) = next {
                let mut join = |entry: Entry| {
                    changes += entry.changes.len();
                    bytes += entry.changes.iter().map(written_bytes).sum::<u64>();
                    group.push(entry);
                };
                if let Next::Job(_) = arrived {
                    self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.pending.jobs_done += 1;
                }
                match arrived {
                    Next::Staged(entry) => join(entry),
                    Next::Job(job) => match job {
                        Job::Write(write) => match self.large.queue_of(&write.changes) {
                            Some(owner) => self.large.push(owner, write.into()),
                            None => join(write.into()),
                        },
                        Job::WriteCoalesced => self.pending.has_coalesced = true,
                        Job::Work(read) => reads.push(read),
                        Job::Probe => is_probed = true,
                        Job::Expire(limits, reply) => self.cleanup.expire(limits, reply),
                    },
                }
                let has_room = group.len() < GROUP && changes < GROUP_CHANGES && bytes < GROUP_BYTES;
                next = if has_room { self.try_next(&mut queue) } else { None };
            }
            if !group.is_empty() {
                self.commit(group).await;
            }
            if is_probed {
                self.probe().await;
            }
            for read in reads {
                let connection = if read.is_search { &self.searches } else { &self.reads };
                spawn_local((read.run)(connection.clone()));
            }
            if self.pending.has_coalesced && self.pending.until_coalesced().is_zero() {
                self.write_coalesced().await;
            }
        }
        self.finish_queues().await;
        while let Some(write) = self.pending.take_last_coalesced(&self.state.coalescer) {
            self.commit(vec![write.into()]).await;
        }
        if !self.pending.write_behind.is_empty() {
            self.flush_write_behind().await;
        }
        if let Ok(session) = self.connection.session().await {
            drop(self.lease.release(&session).await);
        }
        self.pending.write_behind.changes().len() + self.large.given_up.get()
    }

    fn try_next(&mut self, queue: &mut UnboundedReceiver<Job>) -> Option<Next> {
        queue.try_recv().map(Next::Job).or_else(|_| self.staged.try_recv().map(Next::Staged)).ok()
    }

    /// What comes next; meanwhile, writes what is due. `None` once the queue has ended.
    async fn next(&mut self, queue: &mut UnboundedReceiver<Job>) -> Option<Next> {
        loop {
            let staged = &mut self.staged;
            let arrival = async {
                tokio::select! {
                    job = queue.recv() => job.map(Next::Job),
                    Some(entry) = staged.recv() => Some(Next::Staged(entry)),
                }
            };
            let wait = if !self.pending.write_behind.is_empty() {
                RETRY_EVERY
            } else if self.pending.has_coalesced {
                self.pending.until_coalesced()
            } else {
                return arrival.await;
            };
            if let Ok(next) = timeout(wait, arrival).await {
                return next;
            }
            if self.pending.write_behind.is_empty() {
                self.write_coalesced().await;
            } else {
                self.flush_write_behind().await;
            }
        }
    }

    /// Writes the lists in the queues, each once.
    async fn finish_queues(&mut self) {
        self.large.is_closing.set(true);
        while !self.large.is_empty() {
            tokio::select! {
                Some(entry) = self.staged.recv() => self.commit(vec![entry]).await,
                () = self.large.ended.notified() => {}
            }
        }
    }

    async fn write_coalesced(&mut self) {
        let write = self.pending.take_coalesced(&self.state.coalescer);
        self.commit(vec![write.into()]).await;
    }

    /// Answers the probes that no commit has answered yet.
    async fn probe(&mut self) {
        let is_waited_for = self.state.probes.lock().take_scheduled();
        if is_waited_for {
            self.commit(Vec::new()).await;
        }
    }

    async fn flush_write_behind(&mut self) {
        self.commit(Vec::new()).await;
        if self.pending.write_behind.is_empty() {
            log::info!("store: wrote the changes that could not be written before");
        }
    }
}
