//! Coalesced writes: frequent changes of a record are written once a second.

use super::*;

/// A row that changes continually is written once a second, and finally with its last change.
#[tokio::test]
async fn coalesced_changes_of_a_row_are_written_once() {
    const LARGE: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let row = |n: usize| Llm {
        tier: None,
        model: n.to_string(),
        description: Some("x".repeat(LARGE)),
        ..llm("0", "a")
    };
    store.write(vec![put_llm(row(0))]).await.unwrap();
    let log = || std::fs::metadata(dir.path().join("hub.db-wal")).unwrap().len();
    let before = log();
    for n in 1..=2000 {
        store.write_coalesced(vec![put_llm(row(n))]);
    }
    store.write(Vec::new()).await.unwrap();
    assert!(log() - before < 8 * LARGE as u64, "{} bytes", log() - before);
    drop(store);
    assert_eq!(open(dir.path()).unwrap().load().await.unwrap().llms, [row(2000)]);
}

#[tokio::test]
async fn a_coalesced_change_is_written_without_other_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put_llm(llm("0", "a"))]).await.unwrap();
    for n in 0..4 {
        let model = format!("model-{n}-of-the-row");
        store.write_coalesced(vec![put_llm(Llm { model: model.clone(), ..llm("0", "a") })]);
        wait_until("it is in a file", || files_contain(dir.path(), &model)).await;
    }
}
