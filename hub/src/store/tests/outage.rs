//! Changes that cannot be written at once: locked file, full disk, hanging disk.

use tokio::time::timeout;

use super::*;
use crate::store::queue::MAX_WAITING;
use crate::store::write_behind::WriteBehind;

fn put(id: &str, model: &str) -> Change {
    put_llm(Llm { model: model.into(), ..llm(id, &format!("name-of-{id}")) })
}

/// The id and model of each row in the file, read on a connection of its own.
fn models(dir: &Path) -> Vec<String> {
    let file = Connection::open(dir.join("hub.db")).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut rows = file.prepare("SELECT id || model FROM llms ORDER BY id").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// F64, F63: while the file is locked, write-behind changes wait, and a write is refused. When the lock is released, the
/// write-behind changes are written and the refused write is not.
#[tokio::test]
async fn write_behind_changes_are_written_when_the_file_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put("1", "old"), put("2", "old")]).await.unwrap();
    store.pragma("busy_timeout", 20).await.unwrap();
    let other = Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(store.write_behind(vec![put("1", "new"), put("3", "x")]));
    drop(store.write_behind(vec![Change::DeleteLlm("2".into()), put("3", "newest")]));
    let refused = store.write(vec![put("4", "refused")]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(models(dir.path()), ["1old", "2old"], "the file can be read while it is locked");
    other.execute_batch("COMMIT").unwrap();
    wait_until("the changes are written", || models(dir.path()) == ["1new", "3newest"]).await;
}

/// F63: a stopping store writes the write-behind changes that a full disk refused earlier.
#[tokio::test]
async fn a_stopping_store_writes_its_write_behind_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put("1", "old")]).await.unwrap();
    store.pragma("max_page_count", 1).await.unwrap();
    let large = "x".repeat(1 << 20);
    let refused = store.write_behind(vec![put("1", "new"), put("2", &large)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    store.pragma("max_page_count", 1 << 20).await.unwrap();
    drop(store);
    assert_eq!(models(dir.path()), ["1new".to_owned(), format!("2{large}")]);
}

/// P7: while the disk hangs, the number of waiting writes is limited; write-behind changes are never refused.
#[tokio::test]
async fn the_queue_is_bounded_while_the_disk_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let (release, busy) = hold(&store);
    let mut last = store.write(vec![put("1", "accepted")]);
    for _ in 0..MAX_WAITING {
        last = store.write(Vec::new());
    }
    assert!(matches!(last.await, Err(StoreError::Unavailable(_))));
    assert!(store.task("t").await.is_err());
    let written_behind = store.write_behind(vec![put("2", "owed")]);
    drop(release);
    busy.await.unwrap();
    written_behind.await.unwrap();
    assert_eq!(models(dir.path()), ["1accepted", "2owed"]);
    store.write(vec![put("3", "after")]).await.unwrap();
}

/// A27: a probe is answered by the next commit, and does not wait for all lists that were sent before it.
#[tokio::test]
async fn a_probe_is_answered_by_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.probe().await.unwrap();
    let (release, busy) = hold(&store);
    let first = store.write_behind(vec![put("1", "a")]);
    let (release_next, busy_next) = hold(&store);
    let second = store.write_behind(vec![put("2", "b")]);
    let probes: Vec<_> = (0..3).map(|_| store.probe()).collect();
    drop(release);
    for probe in probes {
        timeout(Duration::from_secs(10), probe).await.expect("the second list is held").unwrap();
    }
    assert_eq!(models(dir.path()), ["1a"]);
    drop(release_next);
    for written in [busy, first, busy_next, second] {
        written.await.unwrap();
    }
    store.probe().await.unwrap();
}

/// F64: a probe of a store that cannot write is an error, and writes what could not be written before once it can.
#[tokio::test]
async fn a_probe_of_a_locked_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.pragma("busy_timeout", 20).await.unwrap();
    let other = Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(store.write_behind(vec![put("1", "a")]));
    assert!(matches!(store.probe().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.probe().await, Err(StoreError::Unavailable(_))));
    other.execute_batch("COMMIT").unwrap();
    store.probe().await.unwrap();
    assert_eq!(models(dir.path()), ["1a"]);
}

proptest! {
    /// P7: at most one write-behind change per record waits, and applying them gives the state in memory.
    #[test]
    fn write_behind_keeps_the_newest_change_of_each_record(steps in prop::collection::vec((0..4u8, any::<bool>()), 0..40)) {
        let mut pending = WriteBehind::default();
        let mut memory = std::collections::BTreeSet::new();
        let mut file = memory.clone();
        let step = |into: &mut std::collections::BTreeSet<String>, change: &Change| match change {
            Change::PutLlm(llm) => drop(into.insert(llm.id.clone())),
            Change::DeleteLlm(id) => drop(into.remove(id)),
            other => panic!("{other:?}"),
        };
        for (id, puts) in steps {
            let id = id.to_string();
            let change = if puts { put(&id, "m") } else { Change::DeleteLlm(id) };
            step(&mut memory, &change);
            pending.add(vec![change]);
        }
        assert!(pending.changes().len() <= 4);
        pending.changes().iter().for_each(|change| step(&mut file, change));
        prop_assert_eq!(memory, file);
    }
}
