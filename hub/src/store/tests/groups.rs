//! Group commits, counted in the WAL: the last frame of each commit contains the size of the file.

use super::*;
use crate::store::pending::GROUP_CHANGES;

const LARGE: usize = 1 << 20;

/// A store whose WAL is not checkpointed, because a reader holds a snapshot: all commits stay in the WAL.
struct StoreWithWal {
    dir: tempfile::TempDir,
    store: SqliteStore,
    _reader: Connection,
}

impl StoreWithWal {
    async fn new(before: Vec<Change>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        store.pragma("wal_autocheckpoint", 0).await.unwrap();
        store.write(before).await.unwrap();
        let reader = Connection::open(dir.path().join("hub.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM sessions").unwrap();
        Self { dir, store, _reader: reader }
    }

    /// The size of each commit in the WAL, in bytes.
    fn commits(&self) -> Vec<usize> {
        let log = std::fs::read(self.dir.path().join("hub.db-wal")).unwrap();
        if log.is_empty() {
            return Vec::new();
        }
        let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
        let (page, mut commits, mut size) = (usize::try_from(number(8)).unwrap(), Vec::new(), 0);
        // Frames with other salts date from before the last restart of the WAL.
        let frames = (32..log.len()).step_by(24 + page).filter(|at| at + 24 + page <= log.len());
        for at in frames.take_while(|at| log[at + 8..at + 16] == log[16..24]) {
            size += page;
            if number(at + 4) > 0 {
                commits.push(std::mem::take(&mut size));
            }
        }
        commits
    }

    /// Writes changes that all wait at once. Returns the size of each commit, in bytes.
    async fn write_at_once(&self, all: impl IntoIterator<Item = Change>) -> Vec<usize> {
        let before = self.commits().len();
        let (release, busy) = hold(&self.store);
        let all: Vec<_> = all.into_iter().map(|change| self.store.write(vec![change])).collect();
        drop(release);
        busy.await.unwrap();
        for written in all {
            written.await.unwrap();
        }
        self.commits().split_off(before)
    }
}

fn large(n: usize) -> DurableTask {
    DurableTask { request: Some("x".repeat(LARGE)), ..task(&n.to_string(), TaskStatus::Pending) }
}

/// A commit writes or deletes at most some megabytes, so that a small change in it does not wait long.
#[tokio::test]
async fn the_bytes_of_a_commit_are_bounded() {
    let with_wal = StoreWithWal::new(Vec::new()).await;
    let commits = with_wal.write_at_once((0..24).map(|n| put_task(large(n)))).await;
    assert_eq!(commits.len(), 3, "{commits:?}");
    assert!(commits.iter().all(|size| *size < 10 * LARGE), "{commits:?}");
    let commits = with_wal.write_at_once((0..24).map(|n| Change::DeleteTask(n.to_string()))).await;
    assert!(commits.iter().all(|size| *size < 10 * LARGE), "{commits:?}");
}

#[tokio::test]
async fn the_changes_of_a_commit_are_bounded() {
    let with_wal = StoreWithWal::new(Vec::new()).await;
    let commits =
        with_wal.write_at_once((0..1200).map(|n| Change::PutSession(session(&n.to_string())))).await;
    assert_eq!(commits.len(), 3, "{commits:?}");
}

/// A27: long lists of changes share a commit only up to a number of changes.
#[tokio::test]
async fn the_changes_of_long_lists_in_a_commit_are_bounded() {
    let with_wal = StoreWithWal::new(Vec::new()).await;
    let before = with_wal.commits().len();
    let (release, busy) = hold(&with_wal.store);
    let list = |list| {
        (0..GROUP_CHANGES / 2).map(move |n| Change::PutSession(session(&format!("{list}-{n}")))).collect()
    };
    let all: Vec<_> = (0..8).map(|n| with_wal.store.write(list(n))).collect();
    drop(release);
    busy.await.unwrap();
    for written in all {
        written.await.unwrap();
    }
    assert_eq!(with_wal.commits().len() - before, 4);
}

/// A27: coalesced changes are written in several commits, so that other writes do not wait for all of them.
#[tokio::test]
async fn many_coalesced_changes_are_written_in_several_commits() {
    const MANY: usize = 3 * GROUP_CHANGES - 1;
    let rows = |model: &str| -> Vec<Change> {
        let row = |n: usize| llm(&n.to_string(), &format!("name-{n}"));
        (0..MANY).map(|n| put_llm(Llm { model: model.into(), ..row(n) })).collect()
    };
    let with_wal = StoreWithWal::new(rows("old")).await;
    let before = with_wal.commits().len();
    with_wal.store.write_coalesced(rows("new"));
    let is_old = "SELECT count(*) FROM llms WHERE model = 'old'";
    wait_until("all are written", || number(with_wal.dir.path(), is_old) == 0).await;
    assert_eq!(with_wal.commits().len() - before, 3);
    // Also when the store stops.
    let (release, busy) = hold(&with_wal.store);
    with_wal.store.write_coalesced(rows("newest"));
    let StoreWithWal { dir, store, .. } = with_wal;
    drop(release);
    busy.await.unwrap();
    drop(store);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM llms WHERE model <> 'newest'"), 0);
}

/// Coalesced changes are written once a second, also while other changes are committed.
#[tokio::test]
async fn coalesced_changes_are_not_part_of_every_commit() {
    let with_wal = StoreWithWal::new(Vec::new()).await;
    with_wal.store.write_coalesced(vec![put_llm(llm("0", "a"))]);
    with_wal.store.write(Vec::new()).await.unwrap();
    let before = with_wal.commits().len();
    for n in 0..50 {
        with_wal.store.write_coalesced(vec![put_llm(Llm { model: n.to_string(), ..llm("0", "a") })]);
        with_wal.store.write(Vec::new()).await.unwrap();
    }
    let after = with_wal.commits().len() - before;
    assert!(after < 25, "{after} commits");
}

/// P7: expiry deletes in small steps with a commit each, and a write waits for one step at most.
#[tokio::test]
async fn a_write_waits_for_one_step_of_an_expiry() {
    let record = |n: usize| Change::Audit(AuditRecord { created_at: Timestamp(1), ..audit(&n.to_string()) });
    for retention in [
        RetentionLimits { audit_rows: 9_000, ..KEEP_ALL },
        RetentionLimits { audit_since: Timestamp(2), ..KEEP_ALL },
    ] {
        let with_wal = StoreWithWal::new((0..18_000).map(record).collect()).await;
        let before = with_wal.commits().len();
        let (release, busy) = hold(&with_wal.store);
        let expired = with_wal.store.expire(retention);
        // These writes need three commits. All of them wait before the first step of the expiry.
        let all: Vec<_> = (0..24).map(|n| with_wal.store.write(vec![put_task(large(n))])).collect();
        drop(release);
        busy.await.unwrap();
        for written in all {
            written.await.unwrap();
        }
        expired.await.unwrap();
        let commits = with_wal.commits().split_off(before);
        let is_step: Vec<bool> = commits.iter().map(|size| *size < 8 * LARGE).collect();
        assert_eq!(is_step[..5], [false, true, false, true, false], "{commits:?}");
        assert!(is_step.len() >= 5 + 7, "fewer than nine steps: {commits:?}");
    }
}
