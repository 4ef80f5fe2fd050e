//! The store and its thread.
//!
//! One implementation of a trait with many methods is in one place: hence the length of this file.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use super::cleanup::Cleanup;
use super::connection::{Connection, Failure, Session};
use super::large::{Large, Unwritten};
use super::lease::{Lease, RENEW_EVERY, Sharing};
use super::shared::adopt;
use super::tls::Verified;
use super::writer::{Read, ReadFn, SharedConnection, Writer};
use super::{address, parts, processes, schema, tasks};
use crate::cluster::{Process, Report, Reports};
use crate::model::{AuditRecord, CallLimits, DurableTask, Token};
use crate::options::ClusterOptions;
use crate::store::columns::{StoredRow, StoredValue, Value};
use crate::store::job::{Job, Reply};
use crate::store::pending::Pending;
use crate::store::queue::{JobQueue, stopped, wait_for};
use crate::store::{
    AuditQuery, Change, ClusterRecord, ListCursor, RetentionLimits, Snapshot, Store, StoreError, StoreFuture,
    UsageQuery, UsageTable, limit_of, rows, search, tasks as task_rows, usage,
};

/// The tables whose rows are records.
pub(super) const RECORDS: [&str; 10] = [
    "llms",
    "agents",
    "sessions",
    "names",
    "aliases",
    "tokens",
    "call_limits",
    "tasks",
    "audit",
    "usage_sums",
];

/// The store in a database, which this hub alone writes while it has the lease.
pub struct PostgresStore {
    /// The process that has the lease.
    pub(super) process: Process,
    /// Where the database is, for texts.
    address: String,
    pub(super) queue: JobQueue<Read>,
    /// The writer; its result is the number of changes that it could not write.
    thread: Option<JoinHandle<usize>>,
    /// Why the lease has ended, when it has.
    lost: watch::Receiver<Option<StoreError>>,
    unwritten: Unwritten,
    /// What this process and others say of themselves.
    reports: Arc<Reports>,
    /// Work on the connection for turns and the feed, in order.
    pub(super) shared: mpsc::UnboundedSender<ReadFn>,
}

impl PostgresStore {
    /// Opens the database: takes the lease and brings it to the newest schema.
    pub async fn open(options: &ClusterOptions) -> Result<Self, StoreError> {
        let process = Process::start(&options.hub_id)
            .ok_or_else(|| StoreError::Database("a hub's id is 1 to 16 of a-z and 0-9".into()))?;
        let address = address::parse(options.database_url.reveal(), process.hub())?;
        let shown = address.shown.clone();
        let tls = Verified::new().map_err(|error| StoreError::Database(error.to_string()))?;
        let connection = {
            let (address, tls) = (address.clone(), tls.clone());
            move || Connection::new(address.clone(), tls.clone())
        };
        let (sender, jobs) = mpsc::unbounded_channel();
        let queue = JobQueue::new(move |job| drop(sender.send(job)));
        let state = queue.state();
        let (opened, is_open) = oneshot::channel();
        let (losing, lost) = watch::channel(None);
        let cluster = options.cluster.clone();
        let sharing = if options.nats.is_some() { Sharing::Shared } else { Sharing::Sole };
        let (shared, mut works) = mpsc::unbounded_channel::<ReadFn>();
        let unwritten = Unwritten::default();
        let marks = unwritten.clone();
        let reports = Arc::<Reports>::default();
        let of_lease = reports.clone();
        let run = async move || {
            let mut upkeep = connection();
            let lease = match open(&mut upkeep, &cluster, process, sharing).await {
                Ok(lease) => lease,
                Err(error) => {
                    drop(opened.send(Err(error)));
                    return 0;
                }
            };
            drop(opened.send(Ok(())));
            let shared = |connection| Rc::new(AsyncMutex::new(connection));
            let turns = shared(connection());
            let working = async {
                while let Some(work) = works.recv().await {
                    work(turns.clone()).await;
                }
                std::future::pending::<()>().await;
            };
            let (reads, searches) = (shared(connection()), shared(Connection::for_searches(address, tls)));
            let cleanup = Cleanup::new(shared(upkeep), searches.clone(), lease.clone());
            let renewing = keep(lease.clone(), shared(connection()), &of_lease, losing);
            let pending = Pending::default();
            let (sender, staged) = mpsc::unbounded_channel();
            let large = Large::new(shared(connection()), lease.clone(), sender, marks);
            let connection = connection();
            let writer =
                Writer { connection, lease, reads, searches, cleanup, state, pending, large, staged };
            tokio::select! {
                left = writer.serve(jobs) => left,
                () = renewing => 0,
                () = working => 0,
            }
        };
        let thread = std::thread::Builder::new()
            .name("hub-store".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => LocalSet::new().block_on(&runtime, run()),
                    Err(error) => {
                        log::error!("store: no runtime: {error}");
                        0
                    }
                }
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        wait_for(is_open).await?;
        Ok(Self { process, address: shown, queue, thread: Some(thread), lost, unwritten, reports, shared })
    }

    /// The process that has the lease.
    pub fn process(&self) -> Process {
        self.process
    }

    /// What this process and others say of themselves.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Reads after the commit of all earlier jobs.
    fn read<T, F>(&self, work: impl FnOnce(Rc<Session>) -> F + Send + 'static) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        self.read_on(false, work)
    }

    /// As [`read`](Self::read), of many rows: other reads do not wait for it.
    fn search<T, F>(&self, work: impl FnOnce(Rc<Session>) -> F + Send + 'static) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        self.read_on(true, work)
    }

    fn read_on<T, F>(
        &self,
        is_search: bool,
        work: impl FnOnce(Rc<Session>) -> F + Send + 'static,
    ) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let (reply, result) = oneshot::channel();
        let run: ReadFn = Box::new(move |connection| Box::pin(respond(connection, work, reply)));
        self.queue.send(Job::Work(Read { is_search, run }), result)
    }

    /// Whether no hub has written a record yet.
    pub(in crate::store) async fn is_empty(&self) -> Result<bool, StoreError> {
        let conditions = RECORDS.map(|table| format!("NOT EXISTS (SELECT FROM {table})"));
        let sql = format!("SELECT {} AS empty", conditions.join(" AND "));
        let found = self.select(sql, Vec::new(), |row| row.field::<bool>("empty")).await?;
        Ok(found == [true])
    }

    /// A store of `process` without a database, which takes writes and has nothing to read.
    #[cfg(test)]
    pub(crate) fn absent(process: Process) -> Self {
        let (queue, lost) = (JobQueue::new(drop), watch::channel(None).1);
        let (unwritten, reports) = (Unwritten::default(), Arc::default());
        let (address, thread, shared) = (String::new(), None, mpsc::unbounded_channel().0);
        Self { process, address, queue, thread, lost, unwritten, reports, shared }
    }

    /// Whether there is no database. Then all leases are over.
    #[cfg(test)]
    pub(super) fn is_absent(&self) -> bool {
        self.thread.is_none()
    }

    /// Makes the store's thread panic.
    #[cfg(test)]
    pub(super) fn crash(&self) {
        let (_, result) = oneshot::channel::<Result<(), StoreError>>();
        let read = Read { is_search: false, run: Box::new(|_| panic!("as the test wants it")) };
        drop(self.queue.send(Job::Work(read), result));
    }

    /// Reads the rows that `sql` selects.
    pub(super) fn select<T: Send + 'static>(
        &self,
        sql: impl Into<String>,
        values: Vec<StoredValue>,
        record: impl Fn(&tokio_postgres::Row) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<Vec<T>> {
        let sql = sql.into();
        self.read(async move |session: Rc<Session>| all(&session, &sql, &values, record).await)
    }
}

/// Opens the database by its lease.
async fn open(
    connection: &mut Connection,
    cluster: &str,
    process: Process,
    sharing: Sharing,
) -> Result<Lease, StoreError> {
    let session = connection.session().await?;
    let lease = schema::open(&session, cluster, process, sharing).await?;
    adopt(&session, process).await.map_err(Failure::into_error)?;
    // Before this process stores any.
    if let Err(failure) = parts::delete_all_unnamed(&session, process.hub()).await {
        log::debug!("store: parts without a task are left: {}", failure.into_error());
        connection.close();
    }
    Ok(lease)
}

/// Renews the lease until it has ended, and tells that. While the database is away it may end only by another hub.
async fn keep(
    lease: Lease,
    connection: SharedConnection,
    reports: &Reports,
    losing: watch::Sender<Option<StoreError>>,
) {
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut connection = connection.lock().await;
        let Ok(session) = connection.session().await else {
            reports.failed();
            continue;
        };
        // A lease that was renewed is one of a hub that has the database.
        let own = Report { has_database: true, ..reports.own() };
        match lease.renew(&session, &own).await {
            Ok(true) => match processes::reports(&session, lease.process()).await {
                Ok(others) => reports.renewed(others),
                Err(_) => connection.close(),
            },
            Ok(false) => {
                losing.send_replace(Some(lease.lost()));
                // The writer continues, and refuses each write with an error.
                return std::future::pending().await;
            }
            Err(_) => {
                reports.failed();
                connection.close();
            }
        }
    }
}

/// Does the work and sends its result, unless the receiver was dropped.
pub(super) async fn respond<T, F>(
    connection: SharedConnection,
    work: impl FnOnce(Rc<Session>) -> F,
    reply: Reply<T>,
) where
    F: Future<Output = Result<T, Failure>>,
{
    if reply.is_closed() {
        return;
    }
    let session = connection.lock().await.session().await;
    let result = match session {
        Ok(session) => work(session).await,
        Err(error) => Err(Failure::Broken(error)),
    };
    if let Err(Failure::Broken(_)) = result {
        connection.lock().await.close();
    }
    drop(reply.send(result.map_err(Failure::into_error)));
}

async fn all<T>(
    session: &Session,
    sql: &str,
    values: &[StoredValue],
    record: impl Fn(&tokio_postgres::Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, Failure> {
    let values: Vec<Value<'_>> = values.iter().map(StoredValue::as_value).collect();
    let rows = session.query(sql, &values).await?;
    rows.iter().map(record).collect::<Result<_, _>>().map_err(Failure::Refused)
}

impl Store for PostgresStore {
    fn load(&self) -> StoreFuture<Snapshot> {
        let hub = self.process.hub().to_owned();
        self.read(async move |session: Rc<Session>| {
            let session = &*session;
            Ok(Snapshot {
                llms: all(session, "SELECT * FROM llms ORDER BY id", &[], rows::llm).await?,
                agents: all(session, "SELECT * FROM agents ORDER BY id", &[], rows::agent).await?,
                sessions: all(session, "SELECT * FROM sessions ORDER BY id", &[], rows::session).await?,
                names: all(session, "SELECT * FROM names ORDER BY name", &[], rows::name).await?,
                aliases: all(session, "SELECT * FROM aliases ORDER BY \"user\", name", &[], rows::alias)
                    .await?,
                tokens: all(session, "SELECT * FROM tokens ORDER BY id", &[], rows::token).await?,
                limits: all(session, "SELECT * FROM call_limits ORDER BY kind, id", &[], rows::limits)
                    .await?,
                tasks: all(session, tasks::OPEN, &[StoredValue::Text(hub)], task_rows::task).await?,
                usage: all(session, usage::NEWEST, &[], usage::sum).await?,
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

    fn written(&self, task: &str) -> StoreFuture<()> {
        // A thread that has panicked writes nothing any more.
        let result = if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            Err(stopped())
        } else if self.unwritten.lock().contains(task) {
            Err(StoreError::Unavailable("the database could not be written yet".into()))
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }

    fn write_coalesced(&self, changes: Vec<Change>) {
        self.queue.write_coalesced(changes);
    }

    fn task(&self, id: &str) -> StoreFuture<Option<DurableTask>> {
        let id = id.to_owned();
        self.read(async move |session: Rc<Session>| parts::whole(&session, &id).await)
    }

    fn task_head(&self, id: &str) -> StoreFuture<Option<(DurableTask, Option<u64>)>> {
        let found = self.select(tasks::HEAD, vec![StoredValue::Text(id.to_owned())], task_rows::head);
        Box::pin(async { Ok(found.await?.pop()) })
    }

    fn result_part(&self, id: &str, at: u64, max: usize) -> StoreFuture<Option<Vec<u8>>> {
        let id = id.to_owned();
        self.read(async move |session: Rc<Session>| parts::result_part(&session, &id, at, max).await)
    }

    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> StoreFuture<Vec<DurableTask>> {
        let mut values = vec![
            StoredValue::Integer(before.created_at.0),
            StoredValue::Text(before.id.clone()),
            StoredValue::Integer(limit_of(limit)),
        ];
        values.extend(owner.map(|owner| StoredValue::Text(owner.to_owned())));
        let sql = if owner.is_some() { tasks::ENDED_OF } else { tasks::ENDED };
        self.select(sql, values, task_rows::task)
    }

    fn audit(&self, query: AuditQuery) -> StoreFuture<Vec<AuditRecord>> {
        let is_search = !query.is_lookup();
        let (sql, values) = search::select(query);
        self.read_on(is_search, async move |session: Rc<Session>| {
            all(&session, &numbered(&sql), &values, search::record).await
        })
    }

    fn usage(&self, query: UsageQuery) -> StoreFuture<UsageTable> {
        let (sql, values) = usage::select(&query, usage::postgres_sum);
        self.search(async move |session: Rc<Session>| {
            let found = all(&session, &numbered(&sql), &values, |row| usage::placed(row, query.by)).await?;
            Ok(usage::collect(found, query.limit))
        })
    }

    fn token(&self, hash: [u8; 32]) -> StoreFuture<Option<(Token, CallLimits)>> {
        let hash = vec![StoredValue::Bytes(hash.to_vec())];
        self.read(async move |session: Rc<Session>| {
            let sql = "SELECT * FROM tokens WHERE $1 IN (hash, old_hash, link_hash)";
            let Some(token) = all(&session, sql, &hash, rows::token).await?.pop() else { return Ok(None) };
            let id = [StoredValue::Text(token.id.clone())];
            let sql = "SELECT * FROM call_limits WHERE kind = 'token' AND id = $1";
            let limits = all(&session, sql, &id, rows::limits).await?.pop();
            Ok(Some((token, limits.map(|record| record.limits).unwrap_or_default())))
        })
    }

    fn expire(&self, limits: RetentionLimits) -> StoreFuture<()> {
        self.queue.expire(limits)
    }

    fn cluster(&self) -> StoreFuture<Option<ClusterRecord>> {
        let address = self.address.clone();
        self.read(async move |session: Rc<Session>| processes::record(&session, address).await.map(Some))
    }

    fn lost(&self) -> StoreFuture<()> {
        let mut lost = self.lost.clone();
        Box::pin(async move {
            let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            Err(why.unwrap_or_else(stopped))
        })
    }
}

impl Drop for PostgresStore {
    /// Waits until all earlier writes are done, and the lease is released.
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic in the thread.
            let left = thread.join().unwrap_or_default();
            if left > 0 {
                log::error!("store: {left} changes were not written: the database did not take them");
            }
        }
    }
}

/// SQL whose parameters are numbered, of one with `?` for each.
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.zip(1..).fold(first, |sql, (part, n)| format!("{sql}${n}{part}"))
}
