//! Audit rows on their way to the store: collected in memory, written in batches, off the hot path.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::AuditRecord;
use crate::store::{Change, Store};

/// At most so long a row waits: what a crash of the hub may cost.
const EVERY: Duration = Duration::from_secs(1);
/// So many rows do not wait for the second to pass.
const BATCH: usize = 256;
/// Most rows that wait while the store cannot write: some 4 MiB.
const MOST: usize = 16 * 1024;

pub(super) struct AuditLog {
    waiting: Mutex<Vec<AuditRecord>>,
    full: Notify,
    store: Arc<dyn Store>,
}

impl AuditLog {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { waiting: Mutex::default(), full: Notify::new(), store }
    }

    pub(super) fn add(&self, record: AuditRecord) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST {
            waiting.push(record);
        }
        if waiting.len() == BATCH {
            self.full.notify_one();
        }
    }

    pub(super) async fn run(&self) {
        loop {
            // Either way it is time.
            let _ = tokio::time::timeout(EVERY, self.full.notified()).await;
            self.flush().await;
        }
    }

    /// Writes what waits; what cannot be written waits on, as long as there is room.
    pub(super) async fn flush(&self) {
        let mut batch = std::mem::take(&mut *self.waiting.lock());
        if batch.is_empty() {
            return;
        }
        if self.store.write(batch.iter().cloned().map(Change::Audit).collect()).await.is_err() {
            let mut waiting = self.waiting.lock();
            batch.append(&mut waiting);
            if batch.len() > MOST {
                log::warn!("{} audit rows lost: the store cannot be written", batch.len() - MOST);
                batch.truncate(MOST);
            }
            *waiting = batch;
        }
    }
}
