//! The store on one `SQLite` file: one thread writes, one reads for callers, one searches the audit and the sums.
//!
//! One implementation of a trait with many methods is in one place: hence the length of this file.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::RwLock;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::columns::all;
use super::job::{Job, Reply, Work};
use super::queue::{JobQueue, wait_for};
use super::reader::connect;
use super::reader::{ReadFn, Reader};
use super::schema::migrate;
use super::writer::Writer;
use super::{
    AuditQuery, Change, HubDir, ListCursor, RetentionLimits, Snapshot, Store, StoreError, StoreFuture,
    UsageQuery, UsageTable, limit_of, parts, rows, search, tasks, usage, vacuum,
};
use crate::model::{AuditRecord, Day, DurableTask, UsageSum};

/// The store in one file, or in memory.
pub struct SqliteStore {
    queue: JobQueue<Work>,
    thread: Option<JoinHandle<()>>,
    /// Searches the audit; `None` for a store in memory, which has a single connection.
    searches: Option<Reader>,
}

impl SqliteStore {
    /// The store in `dir`, which stays locked while the store lives.
    pub fn open(dir: impl Into<Arc<HubDir>>) -> Result<Self, StoreError> {
        let dir = dir.into();
        let path = dir.database()?;
        let read_lock = Arc::<RwLock<()>>::default();
        let reader = |name| Reader::start(name, &path, read_lock.clone());
        let opened = connect(&path).and_then(|conn| Ok((conn, reader("hub-read")?, reader("hub-search")?)));
        let (conn, reader, searches) = opened.map_err(|error| match error {
            StoreError::Damaged(why) => StoreError::Damaged(format!("{}: {why}", path.display())),
            other => other.at_start(&path),
        })?;
        Self::start(conn, Some(dir), (Some(reader), Some(searches)), read_lock)
    }

    /// A store that dies with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut conn = Connection::open_in_memory()?;
        vacuum::enable_on_empty(&conn)?;
        migrate(&mut conn)?;
        Self::start(conn, None, (None, None), Arc::default())
    }

    fn start(
        conn: Connection,
        dir: Option<Arc<HubDir>>,
        (reader, searches): (Option<Reader>, Option<Reader>),
        read_lock: Arc<RwLock<()>>,
    ) -> Result<Self, StoreError> {
        let (sender, jobs) = mpsc::channel();
        let queue = JobQueue::new(move |job| drop(sender.send(job)));
        let writer = Writer::new(conn, queue.state(), read_lock, reader);
        let run = move || {
            writer.serve(&jobs);
            drop(dir);
        };
        let thread = std::thread::Builder::new()
            .name("hub-store".into())
            .spawn(run)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { queue, thread: Some(thread), searches })
    }

    pub(super) fn run<T, F>(&self, work: F) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let run = Work::Run(Box::new(move |conn| respond(reply, || work(conn))));
        self.queue.send(Job::Work(run), result)
    }

    /// Reads on the reader thread, after the commit of all earlier jobs.
    fn read<T, F>(&self, work: F) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (read, result) = read_fn(work);
        self.queue.send(Job::Work(Work::Read(read)), result)
    }

    /// Reads on the thread for searches.
    fn search<T, F>(&self, work: F) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let Some(searches) = &self.searches else { return self.read(work) };
        let (read, result) = read_fn(work);
        searches.send(read);
        wait_for(result)
    }

    /// Reads the `limit` oldest audit records behind the one with the sequence number `after`, with their own.
    pub(super) fn audit_after(&self, after: i64, limit: usize) -> StoreFuture<Vec<(i64, AuditRecord)>> {
        let sql = "SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        self.read(move |conn| {
            all(conn, sql, params![after, limit_of(limit)], |row| Ok((row.get("seq")?, search::record(row)?)))
        })
    }

    /// Reads the sums of the first day after `day` that has any.
    pub(super) fn usage_after(&self, day: Day) -> StoreFuture<Vec<UsageSum>> {
        self.read(move |conn| all(conn, usage::NEXT_DAY, [day.0], |row| usage::sum(row)))
    }

    /// Runs `with` on the writer thread.
    #[cfg(test)]
    pub(crate) fn occupy(&self, with: impl FnOnce() + Send + 'static) -> StoreFuture<()> {
        self.run(move |_| {
            with();
            Ok(())
        })
    }

    #[cfg(test)]
    pub(super) fn stored(&self, owner: &str) -> StoreFuture<u64> {
        let owner = owner.to_owned();
        self.run(move |conn| Ok(tasks::stored(conn, &owner)?.all))
    }

    #[cfg(test)]
    pub(crate) fn pragma(&self, name: &'static str, value: i64) -> StoreFuture<()> {
        self.run(move |conn| conn.execute_batch(&format!("PRAGMA {name} = {value}")))
    }
}

impl Store for SqliteStore {
    fn load(&self) -> StoreFuture<Snapshot> {
        self.run(|conn| {
            Ok(Snapshot {
                llms: all(conn, "SELECT * FROM llms", [], |row| rows::llm(row))?,
                agents: all(conn, "SELECT * FROM agents", [], |row| rows::agent(row))?,
                sessions: all(conn, "SELECT * FROM sessions", [], |row| rows::session(row))?,
                names: all(conn, "SELECT * FROM names", [], |row| rows::name(row))?,
                aliases: all(conn, "SELECT * FROM aliases", [], |row| rows::alias(row))?,
                tokens: all(conn, "SELECT * FROM tokens", [], |row| rows::token(row))?,
                limits: all(conn, "SELECT * FROM call_limits", [], |row| rows::limits(row))?,
                tasks: all(conn, tasks::OPEN, [], |row| tasks::task(row))?,
                usage: all(conn, usage::NEWEST, [], |row| usage::sum(row))?,
            })
        })
    }

    fn write(&self, changes: Vec<Change>) -> StoreFuture<()> {
        self.queue.write(changes, false)
    }

    fn probe(&self) -> StoreFuture<()> {
        self.queue.probe()
    }

    fn write_behind(&self, changes: Vec<Change>) -> StoreFuture<()> {
        self.queue.write(changes, true)
    }

    fn write_coalesced(&self, changes: Vec<Change>) {
        self.queue.write_coalesced(changes);
    }

    fn task(&self, id: &str) -> StoreFuture<Option<DurableTask>> {
        let id = id.to_owned();
        self.run(move |conn| tasks::whole(conn, &id))
    }

    fn task_head(&self, id: &str) -> StoreFuture<Option<(DurableTask, Option<u64>)>> {
        let id = id.to_owned();
        self.read(move |conn| Ok(all(conn, tasks::HEAD, [id], |row| tasks::head(row))?.pop()))
    }

    fn result_part(&self, id: &str, at: u64, max: usize) -> StoreFuture<Option<Vec<u8>>> {
        let id = id.to_owned();
        self.read(move |conn| parts::result_part(conn, &id, at, max))
    }

    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> StoreFuture<Vec<DurableTask>> {
        let (owner, before) = (owner.map(str::to_owned), before.clone());
        self.read(move |conn| {
            let (at, id, limit) = (before.created_at.0, before.id, limit_of(limit));
            match owner {
                Some(owner) => {
                    all(conn, tasks::ENDED_OF, params![at, id, limit, owner], |row| tasks::task(row))
                }
                None => all(conn, tasks::ENDED, params![at, id, limit], |row| tasks::task(row)),
            }
        })
    }

    fn audit(&self, wanted: AuditQuery) -> StoreFuture<Vec<AuditRecord>> {
        let is_lookup = wanted.is_lookup();
        let search = |conn: &Connection| search::audit(conn, wanted);
        if is_lookup { self.read(search) } else { self.search(search) }
    }

    fn usage(&self, query: UsageQuery) -> StoreFuture<UsageTable> {
        self.search(move |conn| usage::table(conn, &query))
    }

    fn expire(&self, limits: RetentionLimits) -> StoreFuture<()> {
        self.queue.expire(limits)
    }
}

impl Drop for SqliteStore {
    /// Waits until all earlier writes are done.
    fn drop(&mut self) {
        // Closed before the writer's connection, which checkpoints when it is the last.
        self.searches = None;
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic in the thread.
            let _ = thread.join();
        }
    }
}

/// A closure for a reader thread, and the receiver of its result.
fn read_fn<T, F>(work: F) -> (ReadFn, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    let (reply, result) = oneshot::channel();
    (Box::new(move |conn| respond(reply, || work(conn))), result)
}

/// Does the work and sends its result, unless the receiver was dropped.
fn respond<T>(reply: Reply<T>, work: impl FnOnce() -> rusqlite::Result<T>) {
    if !reply.is_closed() {
        drop(reply.send(work().map_err(StoreError::from)));
    }
}
