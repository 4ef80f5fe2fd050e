//! The writer thread: it runs jobs in order, commits waiting writes together, and cleans up between them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::RwLock;
use rusqlite::Connection;
use tokio::time::Instant;

use super::cleanup::Cleanup;
use super::job::{Job, Work, Write, write};
use super::pending::{GROUP_CHANGES, Pending};
use super::queue::QueueState;
use super::reader::{BUSY_TIMEOUT, Reader};
use super::{StoreError, tasks};
use crate::news::news;

/// Maximum number of jobs in one commit: bounds how long the first of them waits.
pub(super) const GROUP: usize = 512;
/// Bytes after which no further job joins a commit.
pub(super) const GROUP_BYTES: u64 = 8 << 20;
/// Cleanup backlog, in bytes, above which a commit is followed by two steps instead of one. A job then waits for at most
/// 16 MiB of cleanup.
const LARGE_BACKLOG: u64 = 64 << 20;
/// Cleanup backlog, in bytes, above which a commit is followed by as many steps as it added work for, so that the backlog
/// stops growing.
const MAX_BACKLOG: u64 = 512 << 20;
/// Interval between attempts to write the write-behind changes while no other job comes.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Idle time after which the WAL is checkpointed and truncated, so that deleted data is gone from both files.
const QUIET: Duration = Duration::from_millis(500);
/// Longest time without a checkpoint on a store that is never idle.
pub(super) const MAX_UNCHECKPOINTED: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    conn: Connection,
    pub(super) pending: Pending,
    /// The last transaction failed. Until one succeeds, no job waits for a locked file: each would wait behind the others.
    is_failing: bool,
    cleanup: Cleanup,
    /// Bytes written or deleted since the last time that nothing was left to clean up, less [`tasks::STEP_BYTES`] for each
    /// step since then.
    backlog: u64,
    state: Arc<QueueState>,
    /// When the WAL got its first frame after the last checkpoint.
    pub(super) uncheckpointed_since: Option<Instant>,
    /// Held by the readers while they read.
    read_lock: Arc<RwLock<()>>,
    /// `None` for a store in memory, which has a single connection.
    reader: Option<Reader>,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        state: Arc<QueueState>,
        read_lock: Arc<RwLock<()>>,
        reader: Option<Reader>,
    ) -> Self {
        Self {
            conn,
            pending: Pending::default(),
            is_failing: false,
            cleanup: Cleanup::default(),
            backlog: 0,
            state,
            uncheckpointed_since: None,
            read_lock,
            reader,
        }
    }

    /// Runs all jobs, until every sender is dropped.
    pub(super) fn serve(mut self, queue: &mpsc::Receiver<Job<Work>>) {
        while let Some(first) = self.next(queue) {
            let (mut group, mut reads) = (Vec::new(), Vec::new());
            let (mut weight, mut changes, mut is_probed) = (0, 0, false);
            let mut next = Some(first);
            while let Some(job) = next {
                self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                self.pending.jobs_done += 1;
                weight += job.weight(&self.conn);
                changes += job.changes().len();
                match job {
                    Job::Write(write) => group.push(write),
                    Job::Expire(retention, reply) => self.cleanup.expire(retention, reply),
                    Job::WriteCoalesced => self.pending.has_coalesced = true,
                    Job::Probe => is_probed = true,
                    Job::Work(Work::Read(read)) => reads.push(read),
                    Job::Work(Work::Run(work)) => {
                        self.commit(std::mem::take(&mut group));
                        work(&mut self.conn);
                    }
                }
                let has_room = group.len() < GROUP && changes < GROUP_CHANGES && weight < GROUP_BYTES;
                next = if has_room { queue.try_recv().ok() } else { None };
            }
            self.commit(group);
            if is_probed {
                self.probe();
            }
            for read in reads {
                match &self.reader {
                    Some(reader) => reader.send(read),
                    None => read(&self.conn),
                }
            }
            if self.pending.has_coalesced && self.pending.until_coalesced().is_zero() {
                self.write_coalesced();
            }
            // Also while jobs never cease.
            if self.pending.write_behind.is_empty() {
                self.clean_up_after(weight);
                if self.uncheckpointed_since.is_some_and(|since| since.elapsed() >= MAX_UNCHECKPOINTED) {
                    self.cleanup.check_vacuum(&self.conn);
                    self.checkpoint();
                }
            }
        }
        while let Some(write) = self.pending.take_last_coalesced(&self.state.coalescer) {
            self.commit(vec![write]);
        }
        self.flush_write_behind();
        // The writer's connection must close last: SQLite then checkpoints and deletes the WAL.
        self.reader = None;
    }

    /// The next job; meanwhile, [`work_while_idle`](Self::work_while_idle).
    fn next(&mut self, queue: &mpsc::Receiver<Job<Work>>) -> Option<Job<Work>> {
        loop {
            let wait = if !self.pending.write_behind.is_empty() {
                RETRY_EVERY
            } else if !self.cleanup.is_idle() {
                Duration::ZERO
            } else if self.pending.has_coalesced {
                self.pending.until_coalesced()
            } else if self.uncheckpointed_since.is_some() {
                QUIET
            } else {
                return queue.recv().ok();
            };
            match queue.recv_timeout(wait) {
                Ok(job) => return Some(job),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => self.work_while_idle(),
            }
        }
    }

    fn work_while_idle(&mut self) {
        if !self.pending.write_behind.is_empty() {
            self.flush_write_behind();
        } else if !self.cleanup.is_idle() {
            self.cleanup_step();
        } else if self.pending.has_coalesced {
            self.write_coalesced();
        } else if !self.cleanup.check_vacuum(&self.conn) {
            self.checkpoint();
        }
    }

    pub(super) fn write_coalesced(&mut self) {
        let write = self.pending.take_coalesced(&self.state.coalescer);
        self.commit(vec![write]);
    }

    /// Cleans up after a commit of `weight` bytes: one step; two with a large backlog; as many as `weight` needs with one above
    /// [`MAX_BACKLOG`].
    fn clean_up_after(&mut self, weight: u64) {
        self.backlog = self.backlog.saturating_add(weight);
        let steps = match self.backlog {
            backlog if backlog <= LARGE_BACKLOG => 1,
            backlog if backlog <= MAX_BACKLOG => 2,
            _ => 2 + weight / tasks::STEP_BYTES,
        };
        for step in 0..steps {
            if self.cleanup.is_idle() {
                break;
            }
            if step > 0 {
                self.cleanup.prefer_parts();
            }
            self.cleanup_step();
        }
        if self.cleanup.is_idle() {
            self.backlog = 0;
        }
    }

    fn cleanup_step(&mut self) {
        let busy_timeout = self.busy_timeout();
        self.cleanup.step(&mut self.conn, busy_timeout);
        self.backlog = self.backlog.saturating_sub(tasks::STEP_BYTES);
        self.uncheckpointed_since.get_or_insert_with(Instant::now);
    }

    /// Checkpoints and truncates the WAL. If another program is reading, the next quiet moment tries again.
    fn checkpoint(&mut self) {
        // Excludes our own readers: reads that overlap would never leave a moment for it.
        let _no_readers = self.read_lock.write();
        let checkpoint = || -> rusqlite::Result<bool> {
            self.conn.busy_timeout(Duration::ZERO)?;
            let is_busy = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
            self.conn.busy_timeout(self.busy_timeout())?;
            is_busy
        };
        self.uncheckpointed_since = match checkpoint() {
            Ok(false) => None,
            Ok(true) => Some(Instant::now()),
            Err(error) => {
                log::debug!("store: no checkpoint: {error}");
                Some(Instant::now())
            }
        };
    }

    /// Answers the probes that no commit has answered yet.
    fn probe(&mut self) {
        if !self.state.probes.lock().take_scheduled() {
            return;
        }
        if !self.pending.write_behind.is_empty() {
            self.uncheckpointed_since.get_or_insert_with(Instant::now);
        }
        if let Err(error) = self.transact(&[]) {
            news!(error, "failed writes", "the store", "{error}");
        }
    }

    fn busy_timeout(&self) -> Duration {
        if self.is_failing { Duration::ZERO } else { BUSY_TIMEOUT }
    }

    fn flush_write_behind(&mut self) {
        if !self.pending.write_behind.is_empty() && self.transact(&[]).is_ok() {
            self.uncheckpointed_since.get_or_insert_with(Instant::now);
            log::info!("store: wrote the changes that could not be written before");
        }
    }

    /// Writes the group in one transaction and replies to each.
    fn commit(&mut self, group: Vec<Write>) {
        if group.is_empty() {
            return;
        }
        for write in &group {
            self.cleanup.expect(&write.changes);
        }
        // A write without changes only asks whether the store can write.
        if group.iter().any(|write| !write.changes.is_empty()) {
            self.uncheckpointed_since.get_or_insert_with(Instant::now);
        }
        match self.transact(&group) {
            Ok(results) => {
                for (write, result) in group.into_iter().zip(results) {
                    self.cleanup.count_audit(&write.changes);
                    let _ = write.reply.send(result);
                }
            }
            Err(error) => {
                news!(error, "failed writes", "the store", "{error}");
                for write in group {
                    if write.is_write_behind {
                        self.pending.write_behind.add(write.changes);
                    }
                    let _ = write.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Writes the write-behind changes and the group in one transaction.
    fn transact(&mut self, group: &[Write]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let results = write(&mut self.conn, self.pending.write_behind.changes(), group);
        if results.is_err() != self.is_failing {
            self.is_failing = results.is_err();
            self.conn.busy_timeout(self.busy_timeout())?;
        }
        if results.is_ok() {
            self.pending.write_behind.clear();
        }
        self.state.probes.lock().answer(&results.as_ref().map(drop).map_err(Clone::clone));
        results
    }
}
