//! Collects audit records and sums in memory and writes them to the store in batches.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::Machine;
use super::usage::UsageSums;
use crate::model::{AuditRecord, UsageCounts, UsageKey, UserId};
use crate::news::news;
use crate::store::{Change, Store};

/// Longest time that a record is pending; a crash of the hub loses those records.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Pending records that are written without pending for the interval.
const BATCH: usize = 256;
/// Most pending records, some 4 MiB, while the store cannot write or is slow.
const MAX_PENDING: usize = 16 * 1024;

pub(super) struct AuditLog {
    pending: Mutex<PendingRecords>,
    /// Notified when [`BATCH`] records are pending.
    full: Notify,
    /// Held during a write: a batch of sums is written before the next one is.
    writing: AsyncMutex<()>,
    store: Arc<dyn Store>,
    machine: Machine,
}

type RecordsByUser = HashMap<UserId, VecDeque<(u64, AuditRecord)>>;

/// The records in the order in which they were added.
fn in_order(records: RecordsByUser) -> impl Iterator<Item = AuditRecord> {
    let mut records: Vec<_> = records.into_values().flatten().collect();
    records.sort_unstable_by_key(|(number, _)| *number);
    records.into_iter().map(|(_, record)| record)
}

/// The pending records of each user, with numbers in the order in which they were added.
#[derive(Default)]
struct PendingRecords {
    by_user: RecordsByUser,
    count: usize,
    last_number: u64,
    /// Sums also count calls whose record was dropped.
    sums: UsageSums,
}

impl PendingRecords {
    fn add(&mut self, record: AuditRecord) {
        self.last_number += 1;
        self.count += 1;
        let rows = if let Some(rows) = self.by_user.get_mut(&record.user) {
            rows
        } else {
            self.by_user.entry(record.user.clone()).or_default()
        };
        rows.push_back((self.last_number, record));
    }

    /// Takes all records.
    fn take(&mut self) -> RecordsByUser {
        self.count = 0;
        std::mem::take(&mut self.by_user)
    }

    /// Removes the oldest record of the user with the most, if there are too many.
    fn drop_excess(&mut self) -> Option<AuditRecord> {
        if self.count <= MAX_PENDING {
            return None;
        }
        let rows = self.by_user.values_mut().max_by_key(|rows| rows.len())?;
        self.count -= 1;
        rows.pop_front().map(|(_, record)| record)
    }
}

impl AuditLog {
    pub(super) fn new(store: Arc<dyn Store>, machine: Machine) -> Self {
        Self {
            pending: Mutex::default(),
            full: Notify::new(),
            writing: AsyncMutex::default(),
            store,
            machine,
        }
    }

    /// Restores the keys of today's sums in the store.
    pub(super) fn restore_usage(&self, keys: Vec<UsageKey>) {
        self.pending.lock().sums.restore_keys(keys);
    }

    /// Adds the record of an inference, and its numbers to the sum `key`.
    pub(super) fn add(&self, record: AuditRecord, key: UsageKey, counts: UsageCounts) {
        let lost = {
            let mut pending = self.pending.lock();
            pending.sums.add(key, record.owner.as_deref().unwrap_or_default(), counts);
            pending.add(record);
            if pending.count == BATCH {
                self.full.notify_one();
            }
            pending.drop_excess()
        };
        if let Some(lost) = lost {
            self.report_lost(&lost.user);
        }
    }

    /// Adds what has no record to the sum `key`.
    pub(super) fn add_sum(&self, key: UsageKey, counts: UsageCounts) {
        self.pending.lock().sums.add(key, "", counts);
    }

    /// Whether records wait to be written. Those that are being written do not.
    #[cfg(test)]
    pub(super) fn is_pending(&self) -> bool {
        self.pending.lock().count > 0
    }

    fn report_lost(&self, user: &UserId) {
        self.machine.lost_an_audit_row();
        news!(
            warn,
            "lost audit rows",
            user,
            [user = user],
            "an audit row is lost: more wait than the store has written, most of them of user={user}"
        );
    }

    /// Waits until the pending records are to be written.
    pub(super) async fn due(&self) {
        let _ = tokio::time::timeout(FLUSH_INTERVAL, self.full.notified()).await;
    }

    /// Writes the pending records and sums in one transaction. If the store cannot write, sums stay pending, and as many records
    /// as may. Dropping the future loses the records of a write that fails.
    pub(super) async fn flush(&self) {
        let _turn = self.writing.lock().await;
        let mut batch = Vec::new();
        loop {
            let (records, (sums, is_again)) = {
                let mut pending = self.pending.lock();
                (pending.take(), pending.sums.take())
            };
            batch.extend(in_order(records));
            if batch.is_empty() && sums.is_none() {
                return;
            }
            let mut changes: Vec<_> = sums.iter().flat_map(|sums| sums.changes()).collect();
            changes.extend(batch.iter().cloned().map(Change::Audit));
            if self.store.write(changes).await.is_err() {
                break;
            }
            self.pending.lock().sums.written();
            batch.clear();
            if !is_again {
                return;
            }
        }
        let mut lost = Vec::new();
        {
            let mut pending = self.pending.lock();
            let later = pending.take();
            batch.into_iter().chain(in_order(later)).for_each(|record| pending.add(record));
            lost.extend(std::iter::from_fn(|| pending.drop_excess()));
        }
        for record in &lost {
            self.report_lost(&record.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TokenCounts;
    use crate::store::{AuditQuery, SqliteStore, UsageBy, UsageQuery, UsageTotal};
    use crate::telemetry::Metrics;

    fn record(user: &str, task: &str) -> AuditRecord {
        AuditRecord {
            id: String::new(),
            task: task.into(),
            request_id: None,
            user: user.into(),
            address: None,
            llm: "a".into(),
            owner: None,
            through: None,
            model: "m".into(),
            publisher: None,
            streaming: false,
            status: 200,
            code: None,
            created_at: wire::row::Timestamp(1),
            first_byte_ms: None,
            total_ms: 3,
            tokens: TokenCounts::default(),
        }
    }

    fn add(log: &AuditLog, user: &str, task: &str) {
        let key = UsageKey { user: user.into(), llm: "a".into(), ..UsageKey::default() };
        log.add(record(user, task), key, UsageCounts { calls: 1, output: 7, ..UsageCounts::default() });
    }

    fn log() -> (AuditLog, Arc<SqliteStore>, Metrics) {
        let (store, metrics) = (Arc::new(SqliteStore::in_memory().unwrap()), Metrics::new().unwrap());
        (AuditLog::new(store.clone(), metrics.of_machine().unwrap()), store, metrics)
    }

    async fn of(store: &SqliteStore, user: &str) -> Vec<String> {
        let rows = store.audit(AuditQuery::of(Some(user), None, MAX_PENDING * 2)).await.unwrap();
        rows.into_iter().map(|row| row.task).rev().collect()
    }

    /// A27: if too many records are pending, the oldest records of the user with the most are dropped and counted; another
    /// user's records are all written, in order.
    #[tokio::test]
    async fn a_flood_of_calls_loses_only_audit_records_of_its_own_user() {
        let (log, store, metrics) = log();
        for n in 0..MAX_PENDING * 2 {
            add(&log, "mallory", &format!("m{n}"));
            if n % 100 == 0 {
                add(&log, "victim", &format!("v{}", n / 100));
            }
        }
        let victims = MAX_PENDING * 2 / 100 + 1;
        log.flush().await;
        let written = of(&store, "victim").await;
        assert_eq!(written, (0..victims).map(|n| format!("v{n}")).collect::<Vec<_>>());
        let written = of(&store, "mallory").await;
        assert_eq!(
            (written.len(), &written[written.len() - 1]),
            (MAX_PENDING - victims, &format!("m{}", MAX_PENDING * 2 - 1))
        );
        let lost = format!("virtual_llm_audit_rows_lost_total {}\n", MAX_PENDING + victims);
        assert!(metrics.text().unwrap().contains(&lost), "{}", metrics.text().unwrap());
        // The sums have also the calls whose records are lost.
        let table = store.usage(UsageQuery::all(UsageBy::User)).await.unwrap();
        let calls: Vec<_> = table
            .rows
            .iter()
            .map(|(key, UsageTotal { counts, .. })| (&key.user[..], counts.calls, counts.output))
            .collect();
        let flood = MAX_PENDING as u64 * 2;
        assert_eq!(calls, [("mallory", flood, 7 * flood), ("victim", victims as u64, 7 * victims as u64)]);
    }
}
