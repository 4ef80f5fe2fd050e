//! Deleted data is removed from all files of the store.

use super::*;

#[tokio::test]
async fn deleted_data_is_removed_from_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let secret = "canary-3f9a";
    let open = DurableTask { request: Some(secret.repeat(50)), ..task("t", TaskStatus::Pending) };
    store.write(vec![put_task(open)]).await.unwrap();
    store.write(vec![put_task(task("t", TaskStatus::Completed))]).await.unwrap();
    assert!(files_contain(dir.path(), secret));
    wait_until("the deleted data is in no file", || !files_contain(dir.path(), secret)).await;
}

/// Deleted data is removed although writes follow each other without a pause; empty writes check the store.
#[tokio::test]
async fn deleted_data_is_removed_while_other_writes_go_on() {
    for changes in [Vec::new(), vec![put_llm(llm("0", "a"))]] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(dir.path()).unwrap());
        let busy = {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    store.write(changes.clone()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let prompt =
            DurableTask { request: Some("canary-of-a-prompt".into()), ..task("t", TaskStatus::Pending) };
        store.write(vec![put_task(prompt)]).await.unwrap();
        assert!(files_contain(dir.path(), "canary-of-a-prompt"));
        store.write(vec![Change::DeleteTask("t".into())]).await.unwrap();
        wait_until("the deleted data is in no file", || !files_contain(dir.path(), "canary-of-a-prompt"))
            .await;
        busy.abort();
    }
}

#[tokio::test]
async fn deleted_data_is_removed_while_searches_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).unwrap());
    store.write((0..20_000).map(|n| Change::Audit(audit(&n.to_string()))).collect()).await.unwrap();
    let prompt = DurableTask { request: Some("canary-of-a-prompt".into()), ..task("t", TaskStatus::Pending) };
    store.write(vec![put_task(prompt)]).await.unwrap();
    let searchers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    let wanted = AuditQuery { id: Some("none".into()), ..AuditQuery::of(None, None, 9) };
                    store.audit(wanted).await.unwrap();
                }
            })
        })
        .collect();
    assert!(files_contain(dir.path(), "canary-of-a-prompt"));
    store.write(vec![Change::DeleteTask("t".into())]).await.unwrap();
    wait_until("the deleted data is in no file", || !files_contain(dir.path(), "canary-of-a-prompt")).await;
    searchers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A WAL that remains after closing could contain deleted data.
#[tokio::test]
async fn a_closed_store_leaves_no_wal() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::Audit(audit("t"))]).await.unwrap();
    assert_eq!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
    drop(store);
    assert!(!dir.path().join("hub.db-wal").exists());
}
