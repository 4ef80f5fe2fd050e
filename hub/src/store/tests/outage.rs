//! What becomes of changes that cannot be written when they are made.

use std::time::Duration;

use super::*;
use crate::store::sqlite::MAX_WAITING;
use crate::store::write_behind::WriteBehind;

fn put(id: &str, model: &str) -> Change {
    Change::PutLlm(Box::new(Llm { model: model.into(), ..llm(id, &format!("name-of-{id}")) }))
}

/// What another process sees in the file.
fn models(dir: &Path) -> Vec<String> {
    let file = rusqlite::Connection::open(dir.join("hub.db")).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut rows = file.prepare("SELECT id || model FROM llms ORDER BY id").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

async fn until_models(dir: &Path, expected: &[&str]) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while models(dir) != expected {
        assert!(tokio::time::Instant::now() < deadline, "{:?} is not {expected:?}", models(dir));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// F64, F63: what the hub knows already is owed while the file is locked, and written when it is free without anybody
/// asking; what a caller was told has failed is not.
#[tokio::test]
async fn what_could_not_be_written_is_written_when_the_file_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put("1", "old"), put("2", "old")]).await.unwrap();
    store.pragma("busy_timeout", 20).await.unwrap();
    let other = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(store.write_behind(vec![put("1", "new"), put("3", "x")]));
    drop(store.write_behind(vec![Change::DeleteLlm("2".into()), put("3", "newest")]));
    let refused = store.write(vec![put("4", "refused")]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(models(dir.path()), ["1old", "2old"], "readers are not held up");
    other.execute_batch("COMMIT").unwrap();
    until_models(dir.path(), &["1new", "3newest"]).await;
}

/// F63: when a full disk has room again, a hub that stops has written all that it owed.
#[tokio::test]
async fn a_store_that_ends_has_written_what_it_owed() {
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

/// P7: while the disk hangs, so much waits and no more; what memory has already is never refused.
#[tokio::test]
async fn only_so_much_waits_for_a_disk_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let (go, held) = std::sync::mpsc::channel::<()>();
    let occupied = store.occupy(move || {
        let _ = held.recv();
    });
    let mut last = store.write(vec![put("1", "accepted")]);
    for _ in 0..MAX_WAITING {
        last = store.write(Vec::new());
    }
    assert!(matches!(last.await, Err(StoreError::Unavailable(_))));
    assert!(store.task("t").await.is_err());
    let owed = store.write_behind(vec![put("2", "owed")]);
    drop(go);
    occupied.await.unwrap();
    owed.await.unwrap();
    assert_eq!(models(dir.path()), ["1accepted", "2owed"]);
    store.write(vec![put("3", "after")]).await.unwrap();
}

proptest! {
    /// P7: what is owed is as much as there are records, and brings a file to where memory is.
    #[test]
    fn what_is_owed_is_the_newest_of_each_record(steps in prop::collection::vec((0..4u8, any::<bool>()), 0..40)) {
        let mut owed = WriteBehind::default();
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
            owed.keep(vec![change]);
        }
        assert!(owed.changes().len() <= 4);
        owed.changes().iter().for_each(|change| step(&mut file, change));
        prop_assert_eq!(memory, file);
    }
}
