//! The store's thread: jobs in their order, and whatever waits is committed together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::owed::Owed;
use super::sqlite::{BUSY, Reply, failed};
use super::tidy::Tidy;
use super::{Change, Kept, StoreError, failpoint, rows, tasks};
use crate::news::news;

/// Most jobs in one commit: bounds how long the first of them waits for the others.
const GROUP: usize = 512;
/// Between two tries to write what is owed, while nothing else is to be written.
const AGAIN: Duration = Duration::from_secs(1);
/// After so long without work the log is folded into the file and cut, so that what was erased is gone from both.
const QUIET: Duration = Duration::from_millis(500);

pub(super) enum Job {
    Write(Write),
    Expire(Kept, Reply<()>),
    Do(Box<dyn FnOnce(&mut Connection) + Send>),
}

impl Job {
    /// Whether it may not be refused: memory has it already, and there is as much of it as memory has.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self, Self::Write(Write { owed: true, .. }))
    }
}

/// One list of changes.
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    pub(super) reply: Reply<()>,
    /// Memory has them already: what cannot be written now is written later.
    pub(super) owed: bool,
}

/// Owns the file.
pub(super) struct Writer {
    conn: Connection,
    owed: Owed,
    /// The last commit failed. Until one succeeds nobody waits for whoever holds the file: all that comes would wait
    /// behind it, one after the other.
    stuck: bool,
    tidy: Tidy,
    /// How many jobs wait.
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) fn new(conn: Connection, waiting: Arc<AtomicUsize>) -> Self {
        Self { conn, owed: Owed::default(), stuck: false, tidy: Tidy::default(), waiting }
    }

    /// Does all jobs, until nobody can send any more.
    pub(super) fn serve(mut self, queue: &mpsc::Receiver<Job>) {
        // Whether all that was written is in the file itself.
        let mut folded = true;
        loop {
            let first = self.next(queue, &mut folded);
            let Some(first) = first else { return };
            folded = false;
            let mut group = Vec::new();
            for job in std::iter::once(first).chain(queue.try_iter().take(GROUP)) {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                match job {
                    Job::Write(write) => group.push(write),
                    Job::Expire(kept, reply) => self.tidy.expire(kept, reply),
                    Job::Do(work) => {
                        // In order: a read sees all that was given before it.
                        self.commit(std::mem::take(&mut group));
                        work(&mut self.conn);
                    }
                }
            }
            self.commit(group);
            // However busy it is, things are put in order.
            if !self.tidy.is_idle() && self.owed.is_empty() {
                self.put_in_order();
            }
        }
    }

    /// The next job; before it, while there is none, things are put in order, and in a quiet moment the log is folded.
    fn next(&mut self, queue: &mpsc::Receiver<Job>, folded: &mut bool) -> Option<Job> {
        loop {
            if !self.owed.is_empty() {
                return self.next_or_pay(queue);
            }
            if !self.tidy.is_idle() {
                match queue.try_recv() {
                    Ok(job) => return Some(job),
                    Err(mpsc::TryRecvError::Disconnected) => return None,
                    Err(mpsc::TryRecvError::Empty) => {
                        self.put_in_order();
                        *folded = false;
                    }
                }
                continue;
            }
            if *folded {
                return queue.recv().ok();
            }
            match queue.recv_timeout(QUIET) {
                Ok(job) => return Some(job),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) if self.tidy.look(&self.conn) => (),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    *folded = self.fold();
                }
            }
        }
    }

    fn put_in_order(&mut self) {
        let patience = self.patience();
        self.tidy.step(&mut self.conn, patience);
    }

    /// Whether it is done: where somebody reads just now nobody waits for that, and the next quiet moment does it.
    fn fold(&self) -> bool {
        let fold = || -> rusqlite::Result<bool> {
            self.conn.busy_timeout(Duration::ZERO)?;
            let is_busy: bool =
                self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            self.conn.busy_timeout(self.patience())?;
            Ok(!is_busy)
        };
        fold().unwrap_or_else(|error| {
            log::debug!("store: log not folded: {error}");
            false
        })
    }

    /// The next job; before it, again and again, what is owed is written, until it is. Before the end there is one more
    /// try.
    fn next_or_pay(&mut self, queue: &mpsc::Receiver<Job>) -> Option<Job> {
        while !self.owed.is_empty() {
            match queue.recv_timeout(AGAIN) {
                Ok(job) => return Some(job),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.pay();
                    return None;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.pay(),
            }
        }
        queue.recv().ok()
    }

    /// How long whoever holds the file is waited for.
    fn patience(&self) -> Duration {
        if self.stuck { Duration::ZERO } else { BUSY }
    }

    /// Writes what is owed, if that is possible now.
    fn pay(&mut self) {
        if self.transact(&[]).is_ok() {
            log::info!("store: written what could not be written before");
        }
    }

    /// One transaction for the whole group.
    fn commit(&mut self, group: Vec<Write>) {
        if group.is_empty() {
            return;
        }
        for write in &group {
            self.tidy.note(&write.changes);
        }
        match self.transact(&group) {
            Ok(results) => {
                for (write, result) in group.into_iter().zip(results) {
                    self.tidy.wrote(&write.changes);
                    // A caller who did not wait has dropped the other end.
                    let _ = write.reply.send(result);
                }
            }
            Err(error) => {
                news!(error, "failed writes", "the store", "{error}");
                for write in group {
                    if write.owed {
                        self.owed.keep(write.changes);
                    }
                    let _ = write.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// What is owed first, then a savepoint for each list. Afterwards nothing is owed; the results are those of the
    /// lists.
    fn transact(&mut self, group: &[Write]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let results = write(&mut self.conn, self.owed.changes(), group);
        if results.is_err() != self.stuck {
            self.stuck = results.is_err();
            self.conn.busy_timeout(self.patience()).map_err(failed)?;
        }
        if results.is_ok() {
            self.owed.clear();
        }
        results
    }
}

fn write(
    conn: &mut Connection,
    owed: &[Change],
    group: &[Write],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    // Rolled back when dropped on the way out.
    let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for change in owed {
        // What cannot be applied is logged, and can never be.
        let _ = apply(&mut tx, std::slice::from_ref(change))?;
    }
    let results = group.iter().map(|write| apply(&mut tx, &write.changes)).collect::<Result<_, _>>()?;
    failpoint::reach("before commit");
    tx.commit().map_err(failed)?;
    failpoint::reach("after commit");
    Ok(results)
}

/// One list, whole or not at all: one that cannot be applied fails alone. An error of the outer kind fails the whole
/// transaction.
fn apply(tx: &mut Transaction<'_>, changes: &[Change]) -> Result<Result<(), StoreError>, StoreError> {
    let save = tx.savepoint().map_err(failed)?;
    for change in changes {
        if let Change::NewTask { task, most } = change {
            let stored = tasks::stored(&save, &task.owner).map_err(failed)?;
            let open = stored.all.saturating_sub(stored.ended);
            if open.saturating_add(tasks::size(task)) > *most {
                return Ok(Err(StoreError::OverQuota(open)));
            }
        }
    }
    match changes.iter().try_for_each(|change| rows::apply(&save, change)) {
        Ok(()) => {
            save.commit().map_err(failed)?;
            Ok(Ok(()))
        }
        Err(error) if is_constraint(&error) => {
            drop(save);
            let error = failed(error);
            news!(error, "changes not written", "the store", "a change was not written: {error}");
            Ok(Err(error))
        }
        // The disk is full, or the like: nothing of the group can be kept.
        Err(error) => Err(failed(error)),
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
