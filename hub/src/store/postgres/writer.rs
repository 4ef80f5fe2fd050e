//! The writer: it takes jobs in order and commits waiting writes together.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::connection::{Connection, Failure};
use super::lease::Lease;
use super::{expiry, transaction};
use crate::model::UserId;
use crate::news::news;
use crate::store::job::{Job as StoreJob, Reply, Write, written_bytes};
use crate::store::pending::{GROUP_CHANGES, Pending};
use crate::store::queue::QueueState;
use crate::store::writer::{GROUP, GROUP_BYTES, RETRY_EVERY};
use crate::store::{Change, RetentionLimits, StoreError};

/// A connection that several operations use in turn.
pub(super) type SharedConnection = Rc<AsyncMutex<Connection>>;

/// Reads on the connection for reads, and sends the result to its caller.
pub(super) type ReadFn = Box<dyn FnOnce(SharedConnection) -> LocalBoxFuture<'static, ()> + Send>;

/// A job of the writer. Its work is a read.
type Job = StoreJob<ReadFn>;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) lease: Lease,
    pub(super) reads: SharedConnection,
    /// For deletions and the lease.
    pub(super) upkeep: SharedConnection,
    pub(super) state: Arc<QueueState>,
    pub(super) pending: Pending,
}

impl Writer {
    /// Runs all jobs, until every sender is dropped.
    pub(super) async fn serve(mut self, mut queue: UnboundedReceiver<Job>) {
        while let Some(first) = self.next(&mut queue).await {
            let (mut group, mut reads) = (Vec::new(), Vec::new());
            let (mut changes, mut bytes, mut is_probed) = (0, 0, false);
            let mut next = Some(first);
            while let Some(job) = next {
                self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                self.pending.jobs_done += 1;
                changes += job.changes().len();
                bytes += job.changes().iter().map(written_bytes).sum::<u64>();
                match job {
                    Job::Write(write) => group.push(write),
                    Job::WriteCoalesced => self.pending.has_coalesced = true,
                    Job::Work(read) => reads.push(read),
                    Job::Probe => is_probed = true,
                    Job::Expire(limits, reply) => self.expire(limits, reply),
                }
                let has_room = group.len() < GROUP && changes < GROUP_CHANGES && bytes < GROUP_BYTES;
                next = if has_room { queue.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.commit(group).await;
            }
            if is_probed {
                self.probe().await;
            }
            for read in reads {
                spawn_local(read(self.reads.clone()));
            }
            if self.pending.has_coalesced && self.pending.until_coalesced().is_zero() {
                self.write_coalesced().await;
            }
        }
        // All jobs are done, so that one round has all changes.
        self.pending.round_has_more = false;
        while self.pending.has_coalesced {
            self.write_coalesced().await;
            if !self.pending.round_has_more {
                break;
            }
        }
        if !self.pending.write_behind.is_empty() {
            self.flush_write_behind().await;
        }
        if let Ok(session) = self.connection.session().await {
            drop(self.lease.release(&session).await);
        }
    }

    /// The next job; meanwhile, writes what is due.
    async fn next(&mut self, queue: &mut UnboundedReceiver<Job>) -> Option<Job> {
        loop {
            let wait = if !self.pending.write_behind.is_empty() {
                RETRY_EVERY
            } else if self.pending.has_coalesced {
                self.pending.until_coalesced()
            } else {
                return queue.recv().await;
            };
            if let Ok(job) = timeout(wait, queue.recv()).await {
                return job;
            }
            if self.pending.write_behind.is_empty() {
                self.write_coalesced().await;
            } else {
                self.flush_write_behind().await;
            }
        }
    }

    /// Writes a batch of coalesced changes: of the round under way if it has more, else of a new one.
    async fn write_coalesced(&mut self) {
        let changes = self.pending.take_coalesced(&mut self.state.coalescer.lock());
        self.commit(vec![Write { changes, reply: oneshot::channel().0, is_write_behind: true }]).await;
    }

    /// Answers the probes that no commit has answered yet.
    async fn probe(&mut self) {
        let is_waited_for = {
            let mut probes = self.state.probes.lock();
            probes.is_scheduled = false;
            !probes.waiting.is_empty()
        };
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

    /// Writes the write-behind changes and the group in one transaction, and replies to each.
    async fn commit(&mut self, group: Vec<Write>) {
        let owed = std::mem::take(&mut self.pending.write_behind);
        let only_asks = |write: &Write| write.is_write_behind && write.changes.is_empty();
        if owed.is_empty() && !group.is_empty() && group.iter().all(only_asks) {
            // They ask whether all earlier changes are written: an unchanged registration needs no database.
            return group.into_iter().for_each(|write| drop(write.reply.send(Ok(()))));
        }
        let of_group = group.iter().map(|write| &write.changes[..]);
        let lists: Vec<_> = owed.changes().chunks(1).chain(of_group).collect();
        let results = self.transact(&lists).await;
        let broken = results.iter().find_map(|result| match result {
            Err(Failure::Broken(error)) => Some(error.clone()),
            _ => None,
        });
        for probe in self.state.probes.lock().waiting.drain(..) {
            drop(probe.send(broken.clone().map_or(Ok(()), Err)));
        }
        if let Some(error) = broken {
            news!(error, "failed writes", "the store", "{error}");
        }
        let mut results = results.into_iter();
        for (change, result) in owed.changes().iter().zip(&mut results) {
            if let Err(Failure::Broken(_)) = result {
                self.pending.write_behind.add(vec![change.clone()]);
            }
        }
        for (write, result) in group.into_iter().zip(results) {
            match &result {
                Ok(()) => self.enforce_quotas(&write.changes),
                Err(Failure::Broken(_)) if write.is_write_behind => {
                    self.pending.write_behind.add(write.changes);
                }
                Err(Failure::Refused(error)) if !matches!(error, StoreError::OverQuota(_)) => {
                    news!(error, "changes not written", "the store", "a change was not written: {error}");
                }
                Err(_) => {}
            }
            drop(write.reply.send(result.map_err(Failure::into_error)));
        }
    }

    /// Commits `lists` together; if the database refuses one of them, each by itself.
    async fn transact(&mut self, lists: &[&[Change]]) -> Vec<Result<(), Failure>> {
        let outcome = transaction::run(&mut self.connection, &self.lease, lists).await;
        if !matches!(outcome, Err(Failure::Refused(_))) || lists.len() < 2 {
            return vec![outcome; lists.len().max(1)];
        }
        let mut results = Vec::with_capacity(lists.len());
        for list in lists {
            let result = match results.last() {
                Some(broken @ Err(Failure::Broken(_))) => broken.clone(),
                _ => transaction::run(&mut self.connection, &self.lease, &[*list]).await,
            };
            results.push(result);
        }
        results
    }

    /// Deletes ended tasks that are over their owner's quota after `changes`.
    fn enforce_quotas(&self, changes: &[Change]) {
        let quotas: BTreeMap<UserId, u64> = changes
            .iter()
            .filter_map(|change| match change {
                Change::NewTask { task, max_bytes } => Some((task.owner.clone(), *max_bytes)),
                Change::EnforceTaskQuota { owner, max_bytes } => Some((owner.clone(), *max_bytes)),
                _ => None,
            })
            .collect();
        if quotas.is_empty() {
            return;
        }
        let upkeep = self.upkeep.clone();
        spawn_local(async move {
            let mut connection = upkeep.lock().await;
            let Ok(session) = connection.session().await else { return };
            for (owner, max_bytes) in quotas {
                if let Err(failure) = expiry::enforce_quota(&session, &owner, max_bytes).await {
                    log::debug!("store: no cleanup: {}", failure.into_error());
                    return connection.close();
                }
            }
        });
    }

    fn expire(&self, limits: RetentionLimits, reply: Reply<()>) {
        let upkeep = self.upkeep.clone();
        spawn_local(async move {
            let mut connection = upkeep.lock().await;
            let expired = match connection.session().await {
                Ok(session) => expiry::expire(&session, limits).await.map_err(Failure::into_error),
                Err(error) => return drop(reply.send(Err(error))),
            };
            if expired.is_err() {
                connection.close();
            }
            drop(reply.send(expired));
        });
    }
}
