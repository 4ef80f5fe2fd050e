//! What is committed together, as the log tells it: each commit's last frame says how large the file is then.

use rusqlite::Connection;

use super::*;

const LARGE: usize = 1 << 20;

/// A store whose log is not folded as long as somebody reads of what it was before.
struct Watched {
    dir: tempfile::TempDir,
    store: SqliteStore,
    _reader: Connection,
}

impl Watched {
    async fn new(before: Vec<Change>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        store.pragma("wal_autocheckpoint", 0).await.unwrap();
        store.write(before).await.unwrap();
        let reader = Connection::open(dir.path().join("hub.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM sessions").unwrap();
        Self { dir, store, _reader: reader }
    }

    /// Bytes of each commit that the log has.
    fn commits(&self) -> Vec<usize> {
        let log = std::fs::read(self.dir.path().join("hub.db-wal")).unwrap();
        if log.is_empty() {
            return Vec::new();
        }
        let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
        let (page, mut commits, mut size) = (usize::try_from(number(8)).unwrap(), Vec::new(), 0);
        // Frames of an older log, which was begun anew, have other salts.
        let frames = (32..log.len()).step_by(24 + page).filter(|at| at + 24 + page <= log.len());
        for at in frames.take_while(|at| log[at + 8..at + 16] == log[16..24]) {
            size += page;
            if number(at + 4) > 0 {
                commits.push(std::mem::take(&mut size));
            }
        }
        commits
    }

    /// The commits of what all waits at once.
    async fn written(&self, all: impl IntoIterator<Item = Change>) -> Vec<usize> {
        let before = self.commits().len();
        let (go, wait) = std::sync::mpsc::channel();
        let busy = self.store.occupy(move || wait.recv().unwrap());
        let all: Vec<_> = all.into_iter().map(|change| self.store.write(vec![change])).collect();
        go.send(()).unwrap();
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

/// What is small waits for no more than some megabytes that are committed with it, be they written or erased.
#[tokio::test]
async fn a_commit_has_so_many_bytes() {
    let watched = Watched::new(Vec::new()).await;
    let commits = watched.written((0..24).map(|n| Change::PutTask(Box::new(large(n))))).await;
    assert_eq!(commits.len(), 3, "{commits:?}");
    assert!(commits.iter().all(|size| *size < 10 * LARGE), "{commits:?}");
    let commits = watched.written((0..24).map(|n| Change::DeleteTask(n.to_string()))).await;
    assert!(commits.iter().all(|size| *size < 10 * LARGE), "{commits:?}");
}

/// ... and for no more than some hundred changes of others. Those are committed together, all the same.
#[tokio::test]
async fn a_commit_has_so_many_changes() {
    let watched = Watched::new(Vec::new()).await;
    let commits = watched.written((0..1200).map(|n| Change::PutSession(session(&n.to_string())))).await;
    assert_eq!(commits.len(), 3, "{commits:?}");
}

/// What changes all the time is written once a second, also while other things are.
#[tokio::test]
async fn what_is_noted_is_not_committed_with_each_other_change() {
    let watched = Watched::new(Vec::new()).await;
    watched.store.note(vec![Change::PutLlm(Box::new(llm("0", "a")))]);
    watched.store.write(Vec::new()).await.unwrap();
    let before = watched.commits().len();
    for n in 0..50 {
        watched.store.note(vec![Change::PutLlm(Box::new(Llm { model: n.to_string(), ..llm("0", "a") }))]);
        watched.store.write(Vec::new()).await.unwrap();
    }
    let after = watched.commits().len() - before;
    assert!(after < 25, "{after} commits");
}

/// P7: what is kept no longer goes in small steps, each a commit of its own, and whoever wants something written waits for
/// one of them and not for all.
#[tokio::test]
async fn others_have_their_turn_while_much_is_deleted() {
    let record = |n: usize| Change::Audit(AuditRecord { created_at: Timestamp(1), ..audit(&n.to_string()) });
    for kept in [Kept { audit_rows: 9_000, ..KEEP_ALL }, Kept { audit_since: Timestamp(2), ..KEEP_ALL }] {
        let watched = Watched::new((0..18_000).map(record).collect()).await;
        let before = watched.commits().len();
        let (go, wait) = std::sync::mpsc::channel();
        let busy = watched.store.occupy(move || wait.recv().unwrap());
        let expired = watched.store.expire(kept);
        // Three commits, which all wait when the first step is due.
        let all: Vec<_> =
            (0..24).map(|n| watched.store.write(vec![Change::PutTask(Box::new(large(n)))])).collect();
        go.send(()).unwrap();
        busy.await.unwrap();
        for written in all {
            written.await.unwrap();
        }
        expired.await.unwrap();
        let commits = watched.commits().split_off(before);
        let is_step: Vec<bool> = commits.iter().map(|size| *size < 8 * LARGE).collect();
        assert_eq!(is_step[..5], [false, true, false, true, false], "{commits:?}");
        assert!(is_step.len() >= 5 + 7, "nine steps at least: {commits:?}");
    }
}
