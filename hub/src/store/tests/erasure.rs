//! Deleted data is gone from all files.

use super::*;

#[tokio::test]
async fn deleted_data_is_in_no_file_after_a_quiet_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let secret = "canary-3f9a";
    let open = DurableTask { request: Some(secret.repeat(50)), ..task("t", TaskStatus::Pending) };
    store.write(vec![put_task(open)]).await.unwrap();
    store.write(vec![put_task(task("t", TaskStatus::Completed))]).await.unwrap();
    let found = || {
        std::fs::read_dir(dir.path()).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        })
    };
    assert!(found());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while found() {
        assert!(tokio::time::Instant::now() < deadline, "still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Neither empty writes, which check the store, nor other writes keep deleted data in the files.
#[tokio::test]
async fn deleted_data_is_gone_from_a_store_that_is_never_quiet() {
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
        assert!(holds(dir.path(), "canary-of-a-prompt"));
        store.write(vec![Change::DeleteTask("t".into())]).await.unwrap();
        wait_until("it is gone", || !holds(dir.path(), "canary-of-a-prompt")).await;
        busy.abort();
    }
}

#[tokio::test]
async fn deleted_data_is_gone_while_searches_overlap() {
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
    assert!(holds(dir.path(), "canary-of-a-prompt"));
    store.write(vec![Change::DeleteTask("t".into())]).await.unwrap();
    wait_until("it is gone", || !holds(dir.path(), "canary-of-a-prompt")).await;
    searchers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A WAL would contain deleted data.
#[tokio::test]
async fn a_closed_store_leaves_no_wal() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::Audit(audit("t"))]).await.unwrap();
    assert_eq!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
    drop(store);
    assert!(!dir.path().join("hub.db-wal").exists());
}
