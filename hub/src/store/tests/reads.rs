//! Reads during writes, and queries for audit records.

use super::*;

#[tokio::test]
async fn audit_records_are_found_by_user_and_by_llm() {
    let store = SqliteStore::in_memory().unwrap();
    let of = |user: &str, llm: &str| {
        Change::Audit(AuditRecord { user: user.into(), llm: llm.into(), ..audit(&format!("{user}-{llm}")) })
    };
    store.write(vec![of("alice", "a"), of("alice", "b"), of("bob", "a")]).await.unwrap();
    for (user, llm, expected) in [
        (None, None, vec!["bob-a", "alice-b", "alice-a"]),
        (Some("alice"), None, vec!["alice-b", "alice-a"]),
        (None, Some("a"), vec!["bob-a", "alice-a"]),
        (Some("bob"), Some("a"), vec!["bob-a"]),
        (Some("bob"), Some("b"), vec![]),
    ] {
        let found = store.audit(AuditQuery::of(user, llm, 9)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.task.as_str()).collect::<Vec<_>>(), expected);
    }
}

/// A search by id finds the inference with that id first, although callers may give any request id to their requests.
#[tokio::test]
async fn a_search_by_id_finds_the_inference_before_requests_with_that_id() {
    let store = SqliteStore::in_memory().unwrap();
    let own = AuditRecord { tokens: TokenCounts::default(), ..audit("x") };
    let named = |id: &str, n: usize| AuditRecord {
        task: format!("m{n}"),
        id: format!("inf-m{n}"),
        user: "mallory".into(),
        request_id: Some(id.into()),
        ..own.clone()
    };
    store.write(vec![Change::Audit(own.clone())]).await.unwrap();
    for id in ["x", "inf-x"] {
        store.write((0..30).map(|n| Change::Audit(named(id, n))).collect()).await.unwrap();
        let wanted = AuditQuery { id: Some(id.into()), ..AuditQuery::of(None, None, 20) };
        let found = store.audit(wanted).await.unwrap();
        assert_eq!((found.len(), &found[0]), (20, &own), "{id}");
        assert_eq!(found[1], named(id, 29), "the newest request comes first");
    }
}

#[tokio::test]
async fn a_commit_does_not_wait_for_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let rows = (0..40_000).map(|n| Change::Audit(audit(&n.to_string())));
    let large = DurableTask { result: Some((200, "x".repeat(20_000))), ..task("t", TaskStatus::Completed) };
    let tasks = (0..200).map(|n| put_task(DurableTask { id: n.to_string(), ..large.clone() }));
    store.write(rows.chain(tasks).collect()).await.unwrap();
    let ended = AtomicUsize::new(0);
    let search = || async {
        let wanted = AuditQuery { id: Some("none".into()), ..AuditQuery::of(None, None, 9) };
        assert!(store.audit(wanted).await.unwrap().is_empty());
        ended.fetch_add(1, Ordering::Relaxed);
    };
    let list = || async {
        assert_eq!(store.ended_tasks(None, &ListCursor::end(), 200).await.unwrap().len(), 200);
        ended.fetch_add(1, Ordering::Relaxed);
    };
    let write = async {
        store.write(vec![Change::PutSession(session("s"))]).await.unwrap();
        ended.load(Ordering::Relaxed)
    };
    let (_, _, before) = futures_util::join!(
        futures_util::future::join_all((0..24).map(|_| search())),
        futures_util::future::join_all((0..200).map(|_| list())),
        write
    );
    assert!(before < 100, "{before} reads ended before the commit");
}

#[tokio::test]
async fn a_read_whose_future_was_dropped_is_skipped() {
    let store = SqliteStore::in_memory().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let (release, busy) = hold(&store);
    for _ in 0..100 {
        let read = read.clone();
        drop(store.run(move |_| Ok(read.fetch_add(1, Ordering::Relaxed))));
    }
    drop(release);
    busy.await.unwrap();
    store.load().await.unwrap();
    assert_eq!(read.load(Ordering::Relaxed), 0);
}
