//! Searches of the audit, on a thread and a connection of their own: they read up to 200,000 rows, and no commit waits
//! for them.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};
use tokio::sync::oneshot;

use super::sqlite::{BUSY, Reply, failed, limit_of};
use super::{AuditQuery, StoreError, rows};
use crate::model::AuditRecord;

/// So many of the newest rows are searched for what has no index: some 100 ms.
const SEARCHED: usize = 200_000;

/// The thread that searches.
pub(super) struct Searches {
    /// `None` only while it is dropped.
    wanted: Option<mpsc::Sender<(AuditQuery, Reply<Vec<AuditRecord>>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Searches {
    /// Searches the file at `path`, which is there and has its tables; `searching` is held meanwhile.
    pub(super) fn start(path: &Path, searching: Arc<Mutex<()>>) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
        conn.busy_timeout(BUSY).map_err(failed)?;
        let (wanted, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("hub-search".into())
            .spawn(move || serve(&conn, &queue, &searching))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// The answer comes when it is this search's turn.
    pub(super) fn send(&self, wanted: AuditQuery) -> oneshot::Receiver<Result<Vec<AuditRecord>, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.wanted.as_ref().map(|queue| queue.send((wanted, reply)));
        answer
    }
}

impl Drop for Searches {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn serve(
    conn: &Connection,
    queue: &mpsc::Receiver<(AuditQuery, Reply<Vec<AuditRecord>>)>,
    searching: &Mutex<()>,
) {
    for (wanted, reply) in queue {
        // Who asked may be gone.
        if !reply.is_closed() {
            let held = searching.lock();
            let found = audit(conn, wanted);
            // Whoever waits for it has it next.
            MutexGuard::unlock_fair(held);
            drop(reply.send(found.map_err(failed)));
        }
    }
}

/// The newest audit records that fit.
pub(super) fn audit(conn: &Connection, wanted: AuditQuery) -> rows::Result<Vec<AuditRecord>> {
    // Only what is asked for stands in the statement: with `?1 IS NULL OR …` no index would be used.
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    // What an index finds.
    let mut found = Vec::new();
    // What is looked for in the newest of those.
    let mut looked_for = Vec::new();
    if let Some(user) = wanted.user {
        found.push("user = ?");
        values.push(Box::new(user));
    }
    match wanted.llm {
        Some(llm) if wanted.as_member => {
            looked_for.push("coalesce(through, llm) = ?");
            values.push(Box::new(llm));
        }
        Some(llm) => {
            found.push("llm = ?");
            values.push(Box::new(llm));
        }
        None => (),
    }
    if let Some(id) = wanted.id {
        looked_for.push("? IN (id, task, request_id)");
        values.push(Box::new(id));
    }
    if let Some(since) = wanted.since {
        let conditions = if looked_for.is_empty() { &mut found } else { &mut looked_for };
        conditions.push("created_at >= ?");
        values.push(Box::new(since.0));
    }
    values.push(Box::new(limit_of(wanted.limit)));
    let filter = |conditions: &[&str]| match conditions {
        [] => String::new(),
        some => format!("WHERE {}", some.join(" AND ")),
    };
    let found = format!("SELECT * FROM audit {} ORDER BY seq DESC LIMIT", filter(&found));
    let sql = if looked_for.is_empty() {
        format!("{found} ?")
    } else {
        let newest = format!("{found} {SEARCHED}");
        format!("SELECT * FROM ({newest}) {} ORDER BY seq DESC LIMIT ?", filter(&looked_for))
    };
    rows::all(conn, &sql, params_from_iter(values), rows::audit)
}
