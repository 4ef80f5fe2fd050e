//! What changes again and again, and what a busy store does besides.

use super::tidy::{holds, until};
use super::*;

/// Whoever changes a large row as fast as anybody can has it written once a second, and the last of it is what stays.
#[tokio::test]
async fn what_changes_again_at_once_is_written_once_and_the_last_of_it_stays() {
    const LARGE: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let row = |n: usize| Llm {
        tier: None,
        model: n.to_string(),
        description: Some("x".repeat(LARGE)),
        ..llm("0", "a")
    };
    store.write(vec![Change::PutLlm(Box::new(row(0)))]).await.unwrap();
    let log = || std::fs::metadata(dir.path().join("hub.db-wal")).unwrap().len();
    let before = log();
    for n in 1..=2000 {
        store.note(vec![Change::PutLlm(Box::new(row(n)))]);
    }
    store.write(Vec::new()).await.unwrap();
    assert!(log() - before < 8 * LARGE as u64, "{} bytes", log() - before);
    drop(store);
    assert_eq!(open(dir.path()).unwrap().load().await.unwrap().llms, [row(2000)]);
}

/// It is written without anybody asking.
#[tokio::test]
async fn what_is_noted_is_in_the_file_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::PutLlm(Box::new(llm("0", "a")))]).await.unwrap();
    for n in 0..4 {
        let model = format!("model-{n}-of-the-row");
        store.note(vec![Change::PutLlm(Box::new(Llm { model: model.clone(), ..llm("0", "a") }))]);
        until("it is in a file", || holds(dir.path(), &model)).await;
    }
}

/// What is deleted is gone from the files, however often somebody asks whether the store can be written, and
/// however much is written.
#[tokio::test]
async fn what_is_erased_is_gone_though_the_store_is_never_quiet() {
    for changes in [Vec::new(), vec![Change::PutLlm(Box::new(llm("0", "a")))]] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(dir.path()).unwrap());
        let busy = {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    store.write(changes.clone()).await.unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
        };
        let prompt =
            DurableTask { request: Some("canary-of-a-prompt".into()), ..task("t", TaskStatus::Pending) };
        store.write(vec![Change::PutTask(Box::new(prompt))]).await.unwrap();
        assert!(holds(dir.path(), "canary-of-a-prompt"));
        store.write(vec![Change::DeleteTask("t".into())]).await.unwrap();
        until("it is gone", || !holds(dir.path(), "canary-of-a-prompt")).await;
        busy.abort();
    }
}

/// The same while somebody searches, one search after the other.
#[tokio::test]
async fn what_is_erased_is_gone_though_there_is_no_moment_without_a_search() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).unwrap());
    store.write((0..20_000).map(|n| Change::Audit(audit(&n.to_string()))).collect()).await.unwrap();
    let prompt = DurableTask { request: Some("canary-of-a-prompt".into()), ..task("t", TaskStatus::Pending) };
    store.write(vec![Change::PutTask(Box::new(prompt))]).await.unwrap();
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
    until("it is gone", || !holds(dir.path(), "canary-of-a-prompt")).await;
    searchers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A store that has ended leaves no log beside its file, and with it nothing that was erased.
#[tokio::test]
async fn a_store_that_has_ended_leaves_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::Audit(audit("t"))]).await.unwrap();
    assert_eq!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
    drop(store);
    assert!(!dir.path().join("hub.db-wal").exists());
}
