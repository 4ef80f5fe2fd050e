//! Audit rows on their way to the store: collected in memory, written in batches, off the hot path.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Machine;
use crate::model::{AuditRecord, UserId};
use crate::news::news;
use crate::store::{Change, Store};

/// At most so long a row waits: what a crash of the hub may cost.
const EVERY: Duration = Duration::from_secs(1);
/// So many rows do not wait for the second to pass.
const BATCH: usize = 256;
/// Most rows that wait while the store cannot write, or not as fast as they come: some 4 MiB.
const MOST: usize = 16 * 1024;

pub(super) struct AuditLog {
    waiting: Mutex<Waiting>,
    full: Notify,
    store: Arc<dyn Store>,
    machine: Machine,
}

/// Rows that wait, by user: where they are too many, some of the user's are lost who has most.
#[derive(Default)]
struct Waiting {
    of: HashMap<UserId, VecDeque<(u64, AuditRecord)>>,
    count: usize,
    /// The place of the last one among all.
    last: u64,
}

impl Waiting {
    fn add(&mut self, record: AuditRecord) {
        self.last += 1;
        self.count += 1;
        let rows = if let Some(rows) = self.of.get_mut(&record.user) {
            rows
        } else {
            self.of.entry(record.user.clone()).or_default()
        };
        rows.push_back((self.last, record));
    }

    /// All of them, as they came.
    fn take(&mut self) -> Vec<AuditRecord> {
        let mut rows: Vec<_> = std::mem::take(&mut self.of).into_values().flatten().collect();
        self.count = 0;
        rows.sort_unstable_by_key(|(place, _)| *place);
        rows.into_iter().map(|(_, record)| record).collect()
    }

    /// Where there are more than may wait, the oldest one of the user who has most.
    fn lose(&mut self) -> Option<AuditRecord> {
        if self.count <= MOST {
            return None;
        }
        let rows = self.of.values_mut().max_by_key(|rows| rows.len())?;
        self.count -= 1;
        rows.pop_front().map(|(_, record)| record)
    }
}

impl AuditLog {
    pub(super) fn new(store: Arc<dyn Store>, machine: Machine) -> Self {
        Self { waiting: Mutex::default(), full: Notify::new(), store, machine }
    }

    pub(super) fn add(&self, record: AuditRecord) {
        let lost = {
            let mut waiting = self.waiting.lock();
            waiting.add(record);
            if waiting.count == BATCH {
                self.full.notify_one();
            }
            waiting.lose()
        };
        if let Some(lost) = lost {
            self.lost(&lost.user);
        }
    }

    /// One is lost, of this user's.
    fn lost(&self, user: &UserId) {
        self.machine.lost_an_audit_row();
        news!(
            warn,
            "lost audit rows",
            user,
            "an audit row is lost: more wait than the store has written, most of them of user={user}"
        );
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
        let batch = self.waiting.lock().take();
        if batch.is_empty() {
            return;
        }
        if self.store.write(batch.iter().cloned().map(Change::Audit).collect()).await.is_ok() {
            return;
        }
        let mut lost = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            let later = waiting.take();
            batch.into_iter().chain(later).for_each(|record| waiting.add(record));
            lost.extend(std::iter::from_fn(|| waiting.lose()));
        }
        for record in &lost {
            self.lost(&record.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuditQuery, SqliteStore};
    use crate::telemetry::Metrics;

    fn record(user: &str, task: &str) -> AuditRecord {
        AuditRecord {
            id: String::new(),
            task: task.into(),
            request_id: None,
            user: user.into(),
            address: None,
            llm: "a".into(),
            through: None,
            model: "m".into(),
            publisher: None,
            streaming: false,
            status: 200,
            code: None,
            created_at: wire::row::Timestamp(1),
            first_byte_ms: None,
            total_ms: 3,
            input_tokens: None,
            output_tokens: None,
        }
    }

    fn log() -> (AuditLog, Arc<SqliteStore>, Metrics) {
        let (store, metrics) = (Arc::new(SqliteStore::in_memory().unwrap()), Metrics::new().unwrap());
        (AuditLog::new(store.clone(), metrics.of_machine().unwrap()), store, metrics)
    }

    async fn of(store: &SqliteStore, user: &str) -> Vec<String> {
        let rows = store.audit(AuditQuery::of(Some(user), None, MOST * 2)).await.unwrap();
        rows.into_iter().map(|row| row.task).rev().collect()
    }

    /// A27: where more audit rows wait than may, those of the user go who has most, the oldest first, and are counted;
    /// another user's are all written, in their order.
    #[tokio::test]
    async fn a_flood_of_calls_loses_audit_rows_of_its_own_alone() {
        let (log, store, metrics) = log();
        for n in 0..MOST * 2 {
            log.add(record("mallory", &format!("m{n}")));
            if n % 100 == 0 {
                log.add(record("victim", &format!("v{}", n / 100)));
            }
        }
        let victims = MOST * 2 / 100 + 1;
        log.flush().await;
        let written = of(&store, "victim").await;
        assert_eq!(written, (0..victims).map(|n| format!("v{n}")).collect::<Vec<_>>());
        let written = of(&store, "mallory").await;
        assert_eq!(
            (written.len(), &written[written.len() - 1]),
            (MOST - victims, &format!("m{}", MOST * 2 - 1))
        );
        let lost = format!("virtual_llm_audit_rows_lost_total {}\n", MOST + victims);
        assert!(metrics.text().unwrap().contains(&lost), "{}", metrics.text().unwrap());
    }
}
