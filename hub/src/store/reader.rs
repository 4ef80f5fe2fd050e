//! Reading on a thread and a connection of its own: no commit waits for it.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::{RwLock, RwLockReadGuard};
use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::sqlite::{BUSY, failed};

/// What is to be read, and whom it is told.
pub(super) type Reading = Box<dyn FnOnce(&Connection) + Send>;

/// A thread that reads.
pub(super) struct Reader {
    /// `None` only while it is dropped.
    wanted: Option<mpsc::Sender<Reading>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Reads the file at `path`, which is there and has its tables, on a thread of this name; `reading` is held meanwhile.
    pub(super) fn start(name: &str, path: &Path, reading: Arc<RwLock<()>>) -> Result<Self, StoreError> {
        let conn = open(path).map_err(failed)?;
        let (wanted, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&conn, &queue, &reading))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// It is done when it is its turn.
    pub(super) fn send(&self, reading: Reading) {
        // A failed send drops the reply with it: its receiver then says so.
        let _ = self.wanted.as_ref().map(|queue| queue.send(reading));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// A connection that can change nothing.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    Ok(conn)
}

fn serve(conn: &Connection, queue: &mpsc::Receiver<Reading>, reading: &RwLock<()>) {
    for work in queue {
        let held = reading.read();
        work(conn);
        // Whoever waits for a moment without readers has it next.
        RwLockReadGuard::unlock_fair(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{HubDir, SqliteStore};

    #[test]
    fn whoever_reads_can_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let _store = SqliteStore::open(HubDir::open(dir.path()).unwrap()).unwrap();
        let conn = open(&dir.path().join("hub.db")).unwrap();
        let changed = conn.execute("DELETE FROM audit", []).unwrap_err();
        assert_eq!(changed.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
        conn.query_row("SELECT count(*) FROM audit", [], |row| row.get::<_, i64>(0)).unwrap();
    }
}
