//! The embedded store: one `SQLite` file, owned by one thread. Whatever waits for the thread is committed together.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;
use wire::row::Timestamp;

use super::failpoint;
use super::owed::Owed;
use super::rows;
use super::schema::migrate;
use super::{Change, HubDir, Pending, Snapshot, Store, StoreError};
use crate::model::{AuditRecord, DurableTask};

/// How long another program may hold the file (a backup, a shell) before a write is refused.
const BUSY: Duration = Duration::from_secs(5);
/// Most jobs in one commit: bounds how long the first of them waits for the others.
const GROUP: usize = 512;
/// Between two tries to write what is owed, while nothing else is to be written.
const AGAIN: Duration = Duration::from_secs(1);
/// After so long without work the log is folded into the file and cut, so that what was erased is gone from both.
const QUIET: Duration = Duration::from_millis(500);

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Job {
    Write(Write),
    Do(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// One list of changes.
struct Write {
    changes: Vec<Change>,
    reply: Reply<()>,
    /// Memory has them already: what cannot be written now is written later.
    owed: bool,
}

/// The store in one file, or in memory.
pub struct SqliteStore {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// The store in `dir`, which stays locked while the store lives.
    pub fn open(dir: impl Into<Arc<HubDir>>) -> Result<Self, StoreError> {
        let dir = dir.into();
        let path = dir.database()?;
        let conn = connect(&path).map_err(|error| match error {
            StoreError::Damaged(why) => StoreError::Damaged(format!("{}: {why}", path.display())),
            // Nobody waits for a hub that does not start to try again: what is to be done, and where.
            StoreError::Unavailable(why) if why.contains("full") => StoreError::Unusable {
                path,
                cause: "the disk is full; free some space, or choose another folder with --data-dir"
                    .to_owned(),
            },
            StoreError::Unavailable(cause) => StoreError::Unusable { path, cause },
            other => other,
        })?;
        Self::start(conn, Some(dir))
    }

    /// A store that dies with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut conn = Connection::open_in_memory().map_err(failed)?;
        migrate(&mut conn)?;
        Self::start(conn, None)
    }

    fn start(conn: Connection, dir: Option<Arc<HubDir>>) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel();
        let run = move || {
            serve(conn, &queue);
            drop(dir);
        };
        let thread = std::thread::Builder::new()
            .name("hub-store".into())
            .spawn(run)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn send<T: Send + 'static>(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Pending<T> {
        // A failed send drops the job and with it the reply: the receiver then says so.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        Box::pin(async {
            answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store has stopped".into())))
        })
    }

    fn run<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Do(Box::new(move |conn| drop(reply.send(work(conn).map_err(failed)))));
        self.send(job, answer)
    }

    #[cfg(test)]
    pub(super) fn pragma(&self, name: &'static str, value: i64) -> Pending<()> {
        self.run(move |conn| conn.execute_batch(&format!("PRAGMA {name} = {value}")))
    }
}

impl Store for SqliteStore {
    fn load(&self) -> Pending<Snapshot> {
        self.run(|conn| {
            Ok(Snapshot {
                llms: rows::all(conn, "SELECT * FROM llms", [], rows::llm)?,
                agents: rows::all(conn, "SELECT * FROM agents", [], rows::agent)?,
                sessions: rows::all(conn, "SELECT * FROM sessions", [], rows::session)?,
                tokens: rows::all(conn, "SELECT * FROM tokens", [], rows::token)?,
                tasks: rows::all(
                    conn,
                    "SELECT * FROM tasks WHERE state NOT IN ('completed', 'error', 'cancelled') ORDER BY seq",
                    [],
                    rows::task,
                )?,
            })
        })
    }

    fn write(&self, changes: Vec<Change>) -> Pending<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Write { changes, reply, owed: false }), answer)
    }

    fn owe(&self, changes: Vec<Change>) -> Pending<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Write { changes, reply, owed: true }), answer)
    }

    fn task(&self, id: &str) -> Pending<Option<DurableTask>> {
        let id = id.to_owned();
        self.run(
            move |conn| Ok(rows::all(conn, "SELECT * FROM tasks WHERE id = ?1", [id], rows::task)?.pop()),
        )
    }

    fn ended_tasks(&self, owner: Option<&str>, limit: usize) -> Pending<Vec<DurableTask>> {
        let owner = owner.map(str::to_owned);
        let sql =
            "SELECT seq, id, owner, role, target, state, NULL AS request, streaming, llm, session, result_status,
            NULL AS result_body, error, created_at, updated_at FROM tasks
            WHERE state IN ('completed', 'error', 'cancelled') AND (?1 IS NULL OR owner = ?1)
            ORDER BY updated_at DESC, seq DESC LIMIT ?2";
        self.run(move |conn| rows::all(conn, sql, params![owner, limit_of(limit)], rows::task))
    }

    fn audit(&self, user: Option<&str>, llm: Option<&str>, limit: usize) -> Pending<Vec<AuditRecord>> {
        let (user, llm) = (user.map(str::to_owned), llm.map(str::to_owned));
        // One statement a question: with `?1 IS NULL OR …` no index would be used.
        let sql = match (&user, &llm) {
            (None, None) => "SELECT * FROM audit WHERE ?1 IS NULL AND ?2 IS NULL ORDER BY seq DESC LIMIT ?3",
            (Some(_), None) => {
                "SELECT * FROM audit WHERE user = ?1 AND ?2 IS NULL ORDER BY seq DESC LIMIT ?3"
            }
            (None, Some(_)) => "SELECT * FROM audit WHERE ?1 IS NULL AND llm = ?2 ORDER BY seq DESC LIMIT ?3",
            (Some(_), Some(_)) => {
                "SELECT * FROM audit WHERE user = ?1 AND llm = ?2 ORDER BY seq DESC LIMIT ?3"
            }
        };
        self.run(move |conn| rows::all(conn, sql, params![user, llm, limit_of(limit)], rows::audit))
    }

    fn expire(&self, before: Timestamp) -> Pending<()> {
        self.run(move |conn| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute(
                "DELETE FROM tasks WHERE state IN ('completed', 'error', 'cancelled') AND updated_at < ?1",
                [before.0],
            )?;
            tx.execute("DELETE FROM audit WHERE created_at < ?1", [before.0])?;
            tx.commit()
        })
    }
}

impl Drop for SqliteStore {
    /// Waits until all that was given is written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported by the panic hook; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Opens and checks a file. What is damaged or newer is refused before anything is written to it.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let mut conn = Connection::open(path).map_err(failed)?;
    conn.busy_timeout(BUSY).map_err(failed)?;
    let health: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if health != "ok" {
        return Err(StoreError::Damaged(health));
    }
    migrate(&mut conn)?;
    // Overwrite what is deleted: a prompt must not outlive its task in free pages.
    conn.pragma_update(None, "secure_delete", true).map_err(failed)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(failed)?;
    // An answered 202 survives a power cut too; the commit is shared, and nobody on the hot path waits for it.
    conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    Ok(conn)
}

fn serve(mut conn: Connection, queue: &mpsc::Receiver<Job>) {
    let (mut folded, mut owed) = (true, Owed::default());
    loop {
        let first = if !owed.is_empty() {
            next_or_pay(&mut conn, &mut owed, queue)
        } else if folded {
            queue.recv().ok()
        } else {
            next_or_fold(&conn, queue)
        };
        let Some(first) = first else { return };
        folded = false;
        let mut group = Vec::new();
        for job in std::iter::once(first).chain(queue.try_iter().take(GROUP)) {
            match job {
                Job::Write(write) => group.push(write),
                Job::Do(work) => {
                    // In order: a read sees all that was given before it.
                    commit(&mut conn, &mut owed, std::mem::take(&mut group));
                    work(&mut conn);
                }
            }
        }
        commit(&mut conn, &mut owed, group);
    }
}

/// The next job; before it, in a quiet moment, the log is folded.
fn next_or_fold(conn: &Connection, queue: &mpsc::Receiver<Job>) -> Option<Job> {
    match queue.recv_timeout(QUIET) {
        Ok(job) => Some(job),
        Err(mpsc::RecvTimeoutError::Disconnected) => None,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // Best effort: where another program reads just now, the next quiet moment does it.
            if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                log::debug!("store: log not folded: {error}");
            }
            queue.recv().ok()
        }
    }
}

/// The next job; before it, again and again, what is owed is written, until it is. Before the end there is one more try.
fn next_or_pay(conn: &mut Connection, owed: &mut Owed, queue: &mpsc::Receiver<Job>) -> Option<Job> {
    while !owed.is_empty() {
        match queue.recv_timeout(AGAIN) {
            Ok(job) => return Some(job),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                pay(conn, owed);
                return None;
            }
            // Nobody waits for it, and whoever comes meanwhile must not wait for whom we wait for.
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let impatient = conn.busy_timeout(Duration::ZERO);
                pay(conn, owed);
                if let Err(error) = impatient.and_then(|()| conn.busy_timeout(BUSY)) {
                    log::debug!("store: {error}");
                }
            }
        }
    }
    queue.recv().ok()
}

/// Writes what is owed, if that is possible now.
fn pay(conn: &mut Connection, owed: &mut Owed) {
    if transact(conn, owed, &[]).is_ok() {
        log::info!("store: written what could not be written before");
    }
}

/// One transaction for the whole group, a savepoint for each list: one that cannot be applied fails alone. What is owed
/// comes first.
fn commit(conn: &mut Connection, owed: &mut Owed, group: Vec<Write>) {
    if group.is_empty() {
        return;
    }
    match transact(conn, owed, &group) {
        Ok(results) => {
            for (write, result) in group.into_iter().zip(results) {
                // A caller who did not wait has dropped the other end.
                let _ = write.reply.send(result);
            }
        }
        Err(error) => {
            log::error!("{error}");
            for write in group {
                if write.owed {
                    owed.keep(write.changes);
                }
                let _ = write.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Afterwards nothing is owed; the results are those of the group.
fn transact(
    conn: &mut Connection,
    owed: &mut Owed,
    group: &[Write],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    // Rolled back when dropped on the way out.
    let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for change in owed.changes() {
        // What cannot be applied is logged, and can never be.
        let _ = apply(&mut tx, std::slice::from_ref(change))?;
    }
    let results = group.iter().map(|write| apply(&mut tx, &write.changes)).collect::<Result<_, _>>()?;
    failpoint::reach("before commit");
    tx.commit().map_err(failed)?;
    failpoint::reach("after commit");
    owed.clear();
    Ok(results)
}

/// One list, whole or not at all. An error of the outer kind fails the whole transaction.
fn apply(tx: &mut Transaction<'_>, changes: &[Change]) -> Result<Result<(), StoreError>, StoreError> {
    let save = tx.savepoint().map_err(failed)?;
    match changes.iter().try_for_each(|change| rows::apply(&save, change)) {
        Ok(()) => {
            save.commit().map_err(failed)?;
            Ok(Ok(()))
        }
        Err(error) if is_constraint(&error) => {
            drop(save);
            let error = failed(error);
            log::error!("a change was not written: {error}");
            Ok(Err(error))
        }
        // The disk is full, or the like: nothing of the group can be kept.
        Err(error) => Err(failed(error)),
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// What an error of `SQLite`'s means to us. Its texts name tables and columns, never values.
#[expect(clippy::needless_pass_by_value, reason = "fits map_err as it stands")]
pub(super) fn failed(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error as E;
    let text = error.to_string();
    match error {
        E::SqliteFailure(cause, _)
            if matches!(cause.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            StoreError::Damaged(text)
        }
        E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => {
            StoreError::Damaged(text)
        }
        _ => StoreError::Unavailable(text),
    }
}
