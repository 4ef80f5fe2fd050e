//! Connections to the database file, and reads on a thread and a connection of their own, so that no commit waits for them.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};
use rusqlite::{Connection, OpenFlags};

use super::schema::migrate;
use super::{StoreError, vacuum};

/// Reads, and sends the result to its caller.
pub(super) type ReadFn = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Reader {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<ReadFn>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts a thread `name` that reads the file at `path`, which has its tables already. `read_lock` is held during each
    /// read.
    pub(super) fn start(name: &str, path: &Path, read_lock: Arc<RwLock<()>>) -> Result<Self, StoreError> {
        let conn = open(path)?;
        let (sender, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&conn, &queue, &read_lock))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { queue: Some(sender), thread: Some(thread) })
    }

    pub(super) fn send(&self, read: ReadFn) {
        // A failed send drops the reply, and its receiver reports that.
        let _ = self.queue.as_ref().map(|queue| queue.send(read));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic in the thread.
            let _ = thread.join();
        }
    }
}

/// Opens a read-only connection.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(conn)
}

fn serve(conn: &Connection, queue: &mpsc::Receiver<ReadFn>, read_lock: &RwLock<()>) {
    for read in queue {
        let guard = read_lock.read();
        read(conn);
        // A waiting checkpoint gets the lock before the next read.
        RwLockReadGuard::unlock_fair(guard);
    }
}

/// How long a write waits for another program that locks the file (a backup, a shell) before it fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens and checks a file. A damaged or newer file is refused before anything is written to it.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let mut conn = Connection::open(path)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    let health: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if health != "ok" {
        return Err(StoreError::Damaged(health));
    }
    vacuum::enable_on_empty(&conn)?;
    // Deleted data is overwritten: a prompt must not outlive its task in free pages. Migrations rewrite requests, too.
    conn.pragma_update(None, "secure_delete", true)?;
    migrate(&mut conn)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // FULL: a task answered with 202 survives a power cut. Commits are shared, and the hot path waits for none.
    conn.pragma_update(None, "synchronous", "FULL")?;
    vacuum::enable_by_rebuild(&conn, path)?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{HubDir, SqliteStore};

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let _store = SqliteStore::open(HubDir::open(dir.path()).unwrap()).unwrap();
        let conn = open(&dir.path().join("hub.db")).unwrap();
        let changed = conn.execute("DELETE FROM audit", []).unwrap_err();
        assert_eq!(changed.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
        conn.query_row("SELECT count(*) FROM audit", [], |row| row.get::<_, i64>(0)).unwrap();
    }
}
