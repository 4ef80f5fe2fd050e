//! The store's thread: jobs in their order, and whatever waits is committed together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::later::Later;
use super::reader::{Reader, Reading};
use super::sqlite::{BUSY, Reply, failed};
use super::tidy::Tidy;
use super::write_behind::WriteBehind;
use super::{Change, Kept, StoreError, failpoint, rows, tasks};
use crate::news::news;
use crate::registry::usage;

/// Most jobs in one commit: bounds how long the first of them waits for the others.
const GROUP: usize = 512;
/// Bytes after which nothing more is taken into a commit.
const GROUP_BYTES: u64 = 8 << 20;
/// Where steps were for so much less than what was written, there are two after each commit: whoever waits has his turn
/// after 16 MiB.
const MUCH_DEBT: u64 = 64 << 20;
/// ... and where they were for so much less, as many as a commit needs: disk that is nobody's does not grow beyond.
const MOST_DEBT: u64 = 512 << 20;
/// What is erased counts for so much where that cannot be asked.
const UNKNOWN: u64 = 1 << 20;
/// Between two tries to write what is owed, while nothing else is to be written.
const AGAIN: Duration = Duration::from_secs(1);
/// After so long without work the log is folded into the file and cut, so that what was erased is gone from both.
const QUIET: Duration = Duration::from_millis(500);
/// Where there is no quiet moment, it is folded all the same.
const LONGEST_UNFOLDED: Duration = Duration::from_secs(5);
/// Between two writes of what is in `later`.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

pub(super) enum Job {
    Write(Write),
    Expire(Kept, Reply<()>),
    /// There is something in `later`.
    Settle,
    /// Sees all that was given before it.
    Read(Reading),
    Do(Box<dyn FnOnce(&mut Connection) + Send>),
}

impl Job {
    /// What it writes.
    pub(super) fn changes(&self) -> &[Change] {
        match self {
            Self::Write(write) => &write.changes,
            Self::Expire(..) | Self::Settle | Self::Read(_) | Self::Do(_) => &[],
        }
    }

    /// What it counts for in a commit, in bytes: others wait for it meanwhile.
    fn weight(&self, conn: &Connection) -> u64 {
        // What is erased with a row, each page of which is overwritten; what is in parts goes later.
        let erased = |id: &str| tasks::in_row(conn, id).unwrap_or(UNKNOWN);
        let weigh = |change: &Change| match change {
            Change::NewTask { task, .. } => tasks::size(task),
            Change::PutTask(task) => tasks::size(task).saturating_add(erased(&task.id)),
            Change::DeleteTask(id) => erased(id),
            Change::PutLlm(llm) => usage::llm_bytes(llm) as u64,
            Change::PutAgent(agent) => usage::agent_bytes(agent) as u64,
            _ => 0,
        };
        self.changes().iter().map(weigh).fold(0, u64::saturating_add)
    }

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
    owed: WriteBehind,
    /// The last commit failed. Until one succeeds nobody waits for whoever holds the file: all that comes would wait
    /// behind it, one after the other.
    stuck: bool,
    tidy: Tidy,
    /// Bytes that were written, or erased with a row, since all was in order, beyond those that steps were for.
    debt: u64,
    /// How many jobs wait.
    waiting: Arc<AtomicUsize>,
    /// Jobs that are done.
    done: u64,
    later: Arc<Mutex<Later>>,
    /// There is something in `later`.
    unsettled: bool,
    /// When that was written last.
    settled: Option<Instant>,
    /// Since when there is something in the log that is not in the file itself.
    unfolded: Option<Instant>,
    /// BytesPermit by whoever reads elsewhere.
    reading: Arc<RwLock<()>>,
    /// Of a file; one in memory has a single connection.
    reader: Option<Reader>,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        waiting: Arc<AtomicUsize>,
        later: Arc<Mutex<Later>>,
        reading: Arc<RwLock<()>>,
        reader: Option<Reader>,
    ) -> Self {
        Self {
            conn,
            owed: WriteBehind::default(),
            stuck: false,
            tidy: Tidy::default(),
            debt: 0,
            waiting,
            done: 0,
            later,
            unsettled: false,
            settled: None,
            unfolded: None,
            reading,
            reader,
        }
    }

    /// Does all jobs, until nobody can send any more.
    pub(super) fn serve(mut self, queue: &mpsc::Receiver<Job>) {
        while let Some(first) = self.next(queue) {
            let (mut group, mut readings) = (Vec::new(), Vec::new());
            let mut weight = 0;
            let mut next = Some(first);
            while let Some(job) = next {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.done += 1;
                weight += job.weight(&self.conn);
                match job {
                    Job::Write(write) => group.push(write),
                    Job::Expire(kept, reply) => self.tidy.expire(kept, reply),
                    Job::Settle => self.unsettled = true,
                    Job::Read(reading) => readings.push(reading),
                    Job::Do(work) => {
                        // In order: a read sees all that was given before it.
                        self.commit(std::mem::take(&mut group));
                        work(&mut self.conn);
                    }
                }
                let has_room = group.len() < GROUP && weight < GROUP_BYTES;
                next = if has_room { queue.try_recv().ok() } else { None };
            }
            self.commit(group);
            for reading in readings {
                match &self.reader {
                    Some(reader) => reader.send(reading),
                    None => reading(&self.conn),
                }
            }
            if self.settled.is_none_or(|last| last.elapsed() >= SETTLE_EVERY) {
                self.settle();
            }
            // However busy it is, things are put in order.
            if self.owed.is_empty() {
                self.tidy_after(weight);
                if self.unfolded.is_some_and(|since| since.elapsed() >= LONGEST_UNFOLDED) {
                    self.tidy.look(&self.conn);
                    self.fold();
                }
            }
        }
        self.settle();
        self.pay();
        // This connection is the last to close: that one folds the log into the file.
        self.reader = None;
    }

    /// The next job; before it, while there is none, what waits is written, things are put in order, and in a quiet moment
    /// the log is folded.
    fn next(&mut self, queue: &mpsc::Receiver<Job>) -> Option<Job> {
        loop {
            if !self.owed.is_empty() {
                match queue.recv_timeout(AGAIN) {
                    Ok(job) => return Some(job),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                    Err(mpsc::RecvTimeoutError::Timeout) => self.pay(),
                }
                continue;
            }
            if !self.tidy.is_idle() {
                match queue.try_recv() {
                    Ok(job) => return Some(job),
                    Err(mpsc::TryRecvError::Disconnected) => return None,
                    Err(mpsc::TryRecvError::Empty) => self.put_in_order(),
                }
                continue;
            }
            if self.unfolded.is_none() && !self.unsettled {
                return queue.recv().ok();
            }
            match queue.recv_timeout(QUIET) {
                Ok(job) => return Some(job),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) if self.unsettled => self.settle(),
                Err(mpsc::RecvTimeoutError::Timeout) if self.tidy.look(&self.conn) => (),
                Err(mpsc::RecvTimeoutError::Timeout) => self.fold(),
            }
        }
    }

    /// Writes what waited for that.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let changes = {
            let mut later = self.later.lock();
            let changes = later.take(self.done);
            self.unsettled = later.told;
            changes
        };
        self.settled = Some(Instant::now());
        let (reply, _) = oneshot::channel();
        self.commit(vec![Write { changes, reply, owed: true }]);
    }

    /// Puts things in order after a commit that weighed so much: a step, or two where many were too few for what came. Only
    /// where that is not enough either there are as many as it takes, so that what is to go never falls further behind.
    fn tidy_after(&mut self, weight: u64) {
        self.debt = self.debt.saturating_add(weight);
        let steps = match self.debt {
            debt if debt <= MUCH_DEBT => 1,
            debt if debt <= MOST_DEBT => 2,
            _ => 2 + weight / tasks::STEP_BYTES,
        };
        for step in 0..steps {
            if self.tidy.is_idle() {
                break;
            }
            if step > 0 {
                self.tidy.prefer_erasing();
            }
            self.put_in_order();
        }
        if self.tidy.is_idle() {
            self.debt = 0;
        }
    }

    fn put_in_order(&mut self) {
        let patience = self.patience();
        self.tidy.step(&mut self.conn, patience);
        self.debt = self.debt.saturating_sub(tasks::STEP_BYTES);
        self.unfolded.get_or_insert_with(Instant::now);
    }

    /// Folds the log into the file, and cuts it. Where somebody reads just now nobody waits for that: the next quiet moment
    /// does it.
    fn fold(&mut self) {
        // With one reading after the other there would never be a moment without.
        let _quiet = self.reading.write();
        let fold = || -> rusqlite::Result<bool> {
            self.conn.busy_timeout(Duration::ZERO)?;
            let is_busy = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
            self.conn.busy_timeout(self.patience())?;
            is_busy
        };
        self.unfolded = match fold() {
            Ok(false) => None,
            Ok(true) => Some(Instant::now()),
            Err(error) => {
                log::debug!("store: log not folded: {error}");
                Some(Instant::now())
            }
        };
    }

    /// How long whoever holds the file is waited for.
    fn patience(&self) -> Duration {
        if self.stuck { Duration::ZERO } else { BUSY }
    }

    /// Writes what is owed, if that is possible now.
    fn pay(&mut self) {
        if !self.owed.is_empty() && self.transact(&[]).is_ok() {
            self.unfolded.get_or_insert_with(Instant::now);
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
        // One without a change only asks whether there could be one.
        if group.iter().any(|write| !write.changes.is_empty()) {
            self.unfolded.get_or_insert_with(Instant::now);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DurableTask, TaskStatus};
    use crate::store::schema::migrate;
    use crate::store::tests::{agent, llm, task};

    /// A commit takes in no more where what it writes, or erases, is much: an ended task's request, what is deleted, rows
    /// and agents.
    #[test]
    fn a_change_weighs_what_it_writes_and_erases() {
        const SIZE: usize = 600_000;
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        let asked = DurableTask { request: Some("x".repeat(SIZE)), ..task("t", TaskStatus::Pending) };
        rows::apply(&conn, &Change::PutTask(Box::new(asked))).unwrap();
        let (mut row, mut wordy) = (llm("l", "a"), agent("g"));
        row.description = Some("x".repeat(SIZE));
        wordy.system_prompt = Some("x".repeat(SIZE));
        for change in [
            Change::PutTask(Box::new(task("t", TaskStatus::Error))),
            Change::DeleteTask("t".into()),
            Change::PutLlm(Box::new(row)),
            Change::PutAgent(Box::new(wordy)),
        ] {
            let (reply, _) = oneshot::channel();
            let job = Job::Write(Write { changes: vec![change.clone()], reply, owed: true });
            let weight = job.weight(&conn);
            assert!((600_000..602_000).contains(&weight), "{weight}: {change:?}");
        }
    }

    /// So many parts, small ones, that nothing leads to any more.
    fn gone(conn: &Connection, parts: i64) {
        let sql = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT ?1)
            INSERT INTO parts (task, what, n, bytes) SELECT 'gone', 0, n, x'00' FROM n";
        conn.execute(sql, [parts]).unwrap();
        conn.execute("INSERT INTO erased (task, what) VALUES ('gone', 0)", []).unwrap();
    }

    /// F90: the log is folded and cut also where there is a job whenever the writer looks, and something to tidy.
    #[test]
    fn the_log_is_folded_while_others_write_without_a_pause() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = Connection::open(dir.path().join("hub.db")).unwrap();
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        migrate(&mut conn).unwrap();
        gone(&conn, 100);
        let log = dir.path().join("hub.db-wal");
        let write = |change| {
            let (reply, _) = oneshot::channel();
            Job::Write(Write { changes: vec![change], reply, owed: true })
        };
        let (sender, queue) = mpsc::channel();
        sender.send(write(Change::PutAgent(Box::new(agent("g"))))).unwrap();
        // No more is taken into a commit; there is something to tidy after it.
        (1..GROUP).for_each(|_| sender.send(write(Change::DeleteTask("none".into()))).unwrap());
        let (tell, told) = mpsc::channel();
        let look = move |_: &mut Connection| tell.send(std::fs::metadata(log).unwrap().len()).unwrap();
        sender.send(Job::Do(Box::new(look))).unwrap();
        drop(sender);
        let waiting = Arc::new(AtomicUsize::new(GROUP + 1));
        let mut writer = Writer::new(conn, waiting, Arc::default(), Arc::default(), None);
        writer.unfolded = Instant::now().checked_sub(LONGEST_UNFOLDED);
        writer.serve(&queue);
        assert_eq!(told.recv().unwrap(), 0);
    }

    /// A27: as long as others write there is a step after each commit, then there are two, however much a commit has; but what
    /// is to be erased does not fall behind what comes for ever.
    #[test]
    fn a_commit_of_much_is_followed_by_few_steps_until_far_too_much_is_to_be_erased() {
        const PARTS: i64 = 2000;
        const LARGE: usize = 32 << 20;
        /// Looks how many parts are left, and has the next large commit behind it.
        fn look(
            sender: mpsc::Sender<Job>,
            done: DurableTask,
            left: Arc<Mutex<Vec<i64>>>,
            more: usize,
        ) -> Job {
            Job::Do(Box::new(move |conn| {
                let parts = conn.query_row("SELECT count(*) FROM parts", [], |row| row.get(0)).unwrap();
                left.lock().push(parts);
                if more > 0 {
                    // Written twice, it changes nothing, and weighs the same.
                    let changes = vec![Change::PutTask(Box::new(done.clone()))];
                    let (reply, _) = oneshot::channel();
                    sender.send(Job::Write(Write { changes, reply, owed: true })).unwrap();
                    sender.clone().send(look(sender, done, left, more - 1)).unwrap();
                }
            }))
        }
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        let done = DurableTask { result: Some((200, "x".repeat(LARGE))), ..task("t", TaskStatus::Completed) };
        let ended = task("t", TaskStatus::Error);
        rows::apply(&conn, &Change::PutTask(Box::new(ended))).unwrap();
        gone(&conn, PARTS);
        let (sender, queue) = mpsc::channel();
        let left = Arc::<Mutex<Vec<i64>>>::default();
        let first = look(sender.clone(), done, left.clone(), 40);
        sender.send(first).unwrap();
        drop(sender);
        let waiting = Arc::new(AtomicUsize::new(usize::MAX / 2));
        Writer::new(conn, waiting, Arc::default(), Arc::default(), None).serve(&queue);
        let left = left.lock();
        let erased: Vec<i64> = left.windows(2).map(|pair| pair[0] - pair[1]).collect();
        let step = i64::try_from(tasks::STEP_BYTES >> 20).unwrap();
        assert!(erased[..2].iter().all(|parts| *parts == step), "{erased:?}");
        assert!(erased[..28].iter().all(|parts| *parts <= 2 * step), "{erased:?}");
        let written = i64::try_from(LARGE >> 20).unwrap();
        assert!(erased[32..].iter().sum::<i64>() >= 8 * written, "{erased:?}");
    }
}
