//! The embedded store: one `SQLite` file, owned by one thread. Whatever waits for the thread is committed together.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::oneshot;

use super::later::Later;
use super::reader::{Reader, Reading};
use super::schema::migrate;
use super::writer::{Job, Write, Writer};
use super::{
    AuditQuery, Change, HubDir, Kept, ListCursor, Pending, Snapshot, Store, StoreError, rows, search, shrink,
    tasks,
};
use crate::model::{AuditRecord, DurableTask};

/// How long another program may hold the file (a backup, a shell) before a write is refused.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// Jobs that wait for the thread: some seconds of the busiest hub. A disk that hangs for longer must not fill the memory
/// with what callers want written, nor keep them waiting for ever.
pub(super) const MAX_WAITING: usize = 20_000;

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// The store in one file, or in memory.
pub struct SqliteStore {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    /// How many jobs wait.
    waiting: Arc<AtomicUsize>,
    later: Arc<Mutex<Later>>,
    thread: Option<JoinHandle<()>>,
    /// Searches the audit. Of a file; one in memory has a single connection.
    searches: Option<Reader>,
}

impl SqliteStore {
    /// The store in `dir`, which stays locked while the store lives.
    pub fn open(dir: impl Into<Arc<HubDir>>) -> Result<Self, StoreError> {
        let dir = dir.into();
        let path = dir.database()?;
        let reading = Arc::<RwLock<()>>::default();
        let reader = |name| Reader::start(name, &path, reading.clone());
        let opened = connect(&path).and_then(|conn| Ok((conn, reader("hub-read")?, reader("hub-search")?)));
        let (conn, reader, searches) = opened.map_err(|error| match error {
            StoreError::Damaged(why) => StoreError::Damaged(format!("{}: {why}", path.display())),
            other => other.at_start(&path),
        })?;
        Self::start(conn, Some(dir), (Some(reader), Some(searches)), reading)
    }

    /// A store that dies with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut conn = Connection::open_in_memory().map_err(failed)?;
        shrink::prepare(&conn).map_err(failed)?;
        migrate(&mut conn)?;
        Self::start(conn, None, (None, None), Arc::default())
    }

    fn start(
        conn: Connection,
        dir: Option<Arc<HubDir>>,
        (reader, searches): (Option<Reader>, Option<Reader>),
        reading: Arc<RwLock<()>>,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel();
        let waiting = Arc::<AtomicUsize>::default();
        let later = Arc::<Mutex<Later>>::default();
        let writer = Writer::new(conn, waiting.clone(), later.clone(), reading, reader);
        let run = move || {
            writer.serve(&queue);
            drop(dir);
        };
        let thread = std::thread::Builder::new()
            .name("hub-store".into())
            .spawn(run)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), waiting, later, thread: Some(thread), searches })
    }

    fn send<T: Send + 'static>(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Pending<T> {
        if !job.is_owed() && self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return Box::pin(async { Err(StoreError::Unavailable("too much waits to be written".into())) });
        }
        self.give(&mut self.later.lock(), job);
        answered(answer)
    }

    /// The lock is held while the job is given: what waits in `later` knows its place among the jobs.
    fn give(&self, later: &mut Later, job: Job) {
        later.give(job.changes());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A failed send drops the job and with it the reply: the receiver then says so.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    pub(super) fn run<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Do(Box::new(move |conn| {
            // Who asked may be gone.
            if !reply.is_closed() {
                drop(reply.send(work(conn).map_err(failed)));
            }
        }));
        self.send(job, answer)
    }

    /// Reads what was written before, beside what is written meanwhile.
    fn read<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reading, answer) = reading(work);
        self.send(Job::Read(reading), answer)
    }

    /// Keeps the thread busy with this.
    #[cfg(test)]
    pub(super) fn occupy(&self, with: impl FnOnce() + Send + 'static) -> Pending<()> {
        self.run(move |_| {
            with();
            Ok(())
        })
    }

    #[cfg(test)]
    pub(super) fn stored(&self, owner: &str) -> Pending<u64> {
        let owner = owner.to_owned();
        self.run(move |conn| Ok(tasks::stored(conn, &owner)?.all))
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
                names: rows::all(conn, "SELECT * FROM names", [], rows::name)?,
                tokens: rows::all(conn, "SELECT * FROM tokens", [], rows::token)?,
                tasks: rows::all(conn, tasks::OPEN, [], tasks::task)?,
            })
        })
    }

    fn write(&self, changes: Vec<Change>) -> Pending<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Write { changes, reply, owed: false }), answer)
    }

    fn write_behind(&self, changes: Vec<Change>) -> Pending<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Write { changes, reply, owed: true }), answer)
    }

    fn note(&self, changes: Vec<Change>) {
        let mut later = self.later.lock();
        for change in changes {
            later.keep(change);
        }
        if !std::mem::replace(&mut later.told, true) {
            self.give(&mut later, Job::Settle);
        }
    }

    fn task(&self, id: &str) -> Pending<Option<DurableTask>> {
        let id = id.to_owned();
        self.run(move |conn| tasks::whole(conn, &id))
    }

    fn task_head(&self, id: &str) -> Pending<Option<(DurableTask, Option<u64>)>> {
        let id = id.to_owned();
        self.read(move |conn| Ok(rows::all(conn, tasks::HEAD, [id], tasks::head)?.pop()))
    }

    fn result_part(&self, id: &str, at: u64, most: usize) -> Pending<Option<Vec<u8>>> {
        let id = id.to_owned();
        self.read(move |conn| tasks::result_part(conn, &id, at, most))
    }

    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> Pending<Vec<DurableTask>> {
        let (owner, before) = (owner.map(str::to_owned), before.clone());
        self.read(move |conn| {
            let (at, id, limit) = (before.created_at.0, before.id, limit_of(limit));
            match owner {
                Some(owner) => rows::all(conn, tasks::ENDED_OF, params![at, id, limit, owner], tasks::task),
                None => rows::all(conn, tasks::ENDED, params![at, id, limit], tasks::task),
            }
        })
    }

    fn audit(&self, wanted: AuditQuery) -> Pending<Vec<AuditRecord>> {
        let is_lookup = wanted.is_lookup();
        let search = |conn: &Connection| search::audit(conn, wanted);
        let Some(searches) = self.searches.as_ref().filter(|_| !is_lookup) else { return self.read(search) };
        let (reading, answer) = reading(search);
        searches.send(reading);
        answered(answer)
    }

    fn expire(&self, kept: Kept) -> Pending<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Expire(kept, reply), answer)
    }
}

impl Drop for SqliteStore {
    /// Waits until all that was given is written.
    fn drop(&mut self) {
        // Before the writer's connection closes.
        self.searches = None;
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported by the panic hook; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// What reads, and where its answer comes.
fn reading<T, F>(work: F) -> (Reading, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let reading = move |conn: &Connection| {
        // Who asked may be gone.
        if !reply.is_closed() {
            drop(reply.send(work(conn).map_err(failed)));
        }
    };
    (Box::new(reading), answer)
}

fn answered<T: Send + 'static>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Pending<T> {
    Box::pin(async {
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store has stopped".into())))
    })
}

pub(super) fn limit_of(limit: usize) -> i64 {
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
    shrink::prepare(&conn).map_err(failed)?;
    migrate(&mut conn)?;
    // Overwrite what is deleted: a prompt must not outlive its task in free pages.
    conn.pragma_update(None, "secure_delete", true).map_err(failed)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(failed)?;
    // An answered 202 survives a power cut too; the commit is shared, and nobody on the hot path waits for it.
    conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    shrink::rebuild(&conn, path).map_err(failed)?;
    Ok(conn)
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
