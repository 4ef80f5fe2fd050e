//! What is deleted in small steps, and a file that shrinks again.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::*;

const KIB: usize = 1 << 10;

fn ended(id: &str, size: usize) -> Change {
    let body = format!(r#"{{"x":"canary-3f9a{}"}}"#, "y".repeat(size));
    Change::PutTask(Box::new(DurableTask { result: Some((200, body)), ..task(id, TaskState::Completed) }))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn size(dir: &Path) -> u64 {
    files(dir).iter().map(|file| std::fs::metadata(file).map_or(0, |file| file.len())).sum()
}

pub(super) fn holds(dir: &Path, text: &str) -> bool {
    files(dir)
        .iter()
        .any(|file| memchr::memmem::find(&std::fs::read(file).unwrap(), text.as_bytes()).is_some())
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn number(dir: &Path, sql: &str) -> i64 {
    let file = Connection::open(dir.join("hub.db")).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// F90: what is deleted is gone from the file, and so is the room that it took; what lies between stays as it was.
#[tokio::test]
async fn a_file_shrinks_when_what_was_in_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::PutLlm(Box::new(llm("0", "a")))]).await.unwrap();
    let before = size(dir.path());
    for n in 0..60 {
        let row = Llm {
            description: Some(format!("kept-{n}").repeat(200)),
            ..llm(&n.to_string(), &format!("n{n}"))
        };
        store.write(vec![ended(&format!("t{n}"), 200 * KIB), Change::PutLlm(Box::new(row))]).await.unwrap();
    }
    assert!(size(dir.path()) > 12 << 20);
    assert!(holds(dir.path(), "canary-3f9a"));
    store.write((0..60).map(|n| Change::DeleteTask(format!("t{n}"))).collect()).await.unwrap();
    // The kept rows take some hundred kilobytes, and some pages stay free.
    until("the file is small again", || size(dir.path()) < before + (1 << 20)).await;
    assert!(!holds(dir.path(), "canary-3f9a"));
    let rows = store.load().await.unwrap().llms;
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| row.description == Some(format!("kept-{}", row.id).repeat(200))));
    drop(store);
    assert_eq!(open(dir.path()).unwrap().load().await.unwrap().llms.len(), 60);
}

/// F89: a file of an older version, which does not shrink, is rebuilt when it is opened, with all that is in it.
#[tokio::test]
async fn a_file_that_does_not_shrink_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::PutLlm(Box::new(llm("1", "a"))), ended("t", 300 * KIB)]).await.unwrap();
    drop(store);
    let file = Connection::open(dir.path().join("hub.db")).unwrap();
    file.execute_batch("PRAGMA auto_vacuum = 0; VACUUM").unwrap();
    drop(file);
    assert_eq!(number(dir.path(), "PRAGMA auto_vacuum"), 0);
    let store = open(dir.path()).unwrap();
    assert_eq!(number(dir.path(), "PRAGMA auto_vacuum"), 2);
    assert_eq!(store.load().await.unwrap().llms, [llm("1", "a")]);
    assert_eq!(store.task("t").await.unwrap().unwrap().result.unwrap().1.len(), 300 * KIB + 19);
    for file in files(dir.path()) {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

/// A part of a result is read without the rest, wherever it begins and ends.
#[tokio::test]
async fn a_result_is_read_in_parts() {
    let store = SqliteStore::in_memory().unwrap();
    let large = "é,ü0123456789".repeat(30_000);
    let done = DurableTask { result: Some((200, large.clone())), ..task("large", TaskState::Completed) };
    let open = Change::PutTask(Box::new(task("open", TaskState::Running)));
    store.write(vec![Change::PutTask(Box::new(done)), open]).await.unwrap();
    let (head, size) = store.task_head("large").await.unwrap().unwrap();
    assert_eq!((head.result, size), (Some((200, String::new())), Some(large.len() as u64)));
    for most in [977, 4096, 300_000, 1 << 30] {
        let mut read = Vec::new();
        loop {
            let part = store.result_part("large", read.len() as u64, most).await.unwrap().unwrap();
            if part.is_empty() {
                break;
            }
            assert!(part.len() <= most);
            read.extend(part);
        }
        assert_eq!(read, large.as_bytes());
    }
    assert_eq!(store.result_part("large", u64::MAX, 9).await.unwrap(), Some(Vec::new()));
    assert_eq!(store.task_head("open").await.unwrap().unwrap().1, None);
    assert!(store.result_part("open", 0, 9).await.unwrap().is_none());
    assert!(store.result_part("none", 0, 9).await.unwrap().is_none());
}

fn record(user: &str, n: usize, at: i64) -> Change {
    let of = AuditRecord { user: user.into(), created_at: Timestamp(at), ..audit(&format!("{user}-{n}")) };
    Change::Audit(of)
}

/// F90: of too many audit rows the oldest go, of the user who has most: nobody pushes out what others did. Rows that come
/// afterwards count, too.
#[tokio::test]
async fn audit_rows_are_bounded_and_go_where_there_are_most() {
    let store = SqliteStore::in_memory().unwrap();
    let kept = Kept { audit_rows: 300, ..KEEP_ALL };
    let users = async |user: &str| store.audit(AuditQuery::of(Some(user), None, 9999)).await.unwrap();
    let many = |user: &'static str, from: usize, count: usize| {
        (from..from + count).map(move |n| record(user, n, 1)).collect::<Vec<_>>()
    };
    store.write(many("bob", 0, 40)).await.unwrap();
    store.write(many("alice", 0, 2500)).await.unwrap();
    store.write(many("carol", 0, 120)).await.unwrap();
    store.expire(kept).await.unwrap();
    assert_eq!((users("bob").await.len(), users("carol").await.len()), (40, 120));
    let left = users("alice").await;
    assert_eq!(
        (left.len(), left[0].task.as_str(), left[139].task.as_str()),
        (140, "alice-2499", "alice-2360")
    );
    store.write(many("carol", 120, 400)).await.unwrap();
    store.expire(kept).await.unwrap();
    assert_eq!(users("bob").await.len(), 40);
    let (alice, carol) = (users("alice").await, users("carol").await);
    assert_eq!(alice.len() + carol.len(), 260);
    assert_eq!((alice[0].task.as_str(), carol[0].task.as_str()), ("alice-2499", "carol-519"));
    assert!(alice.len().abs_diff(carol.len()) < 30, "{} {}", alice.len(), carol.len());
    store.expire(Kept { audit_since: Timestamp(2), ..KEEP_ALL }).await.unwrap();
    assert!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().is_empty());
}

/// P7: whoever wants something written waits for a step and not for all that is to be deleted.
#[tokio::test]
async fn others_have_their_turn_while_much_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for batch in 0..20 {
        store.write((0..3000).map(|n| record("alice", batch * 3000 + n, 1)).collect()).await.unwrap();
    }
    let mut expired = store.expire(Kept { audit_since: Timestamp(2), ..KEEP_ALL });
    // The steps go on while this thread waits for its turn: there are many more of them than writes.
    for n in 0..2 {
        store.write(vec![Change::PutLlm(Box::new(llm(&n.to_string(), &format!("n{n}"))))]).await.unwrap();
        assert!(futures_util::poll!(&mut expired).is_pending(), "all at once, before write {n}");
    }
    expired.await.unwrap();
    assert!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().is_empty());
}

/// F63, F64: a file that is held, or a disk that is full, is not tidied, and loses nothing; afterwards it is.
#[tokio::test]
async fn what_cannot_be_tidied_stays_and_is_tidied_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write((0..40).map(|n| ended(&format!("t{n}"), 100 * KIB)).collect()).await.unwrap();
    let other = Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let all = Kept { tasks_since: Timestamp(9), ..KEEP_ALL };
    let begun = tokio::time::Instant::now();
    let refused = store.expire(all).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "nobody waits for it");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    assert_eq!(store.ended_tasks(None, &ListCursor::end(), 99).await.unwrap().len(), 40);

    store.pragma("max_page_count", 1).await.unwrap();
    let quota = DurableTask { request: Some("x".repeat(1 << 20)), ..task("new", TaskState::Pending) };
    let new = Change::NewTask { task: Box::new(quota), most: 5 << 20 };
    let refused = store.write(vec![new.clone()]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(
        store.ended_tasks(None, &ListCursor::end(), 99).await.unwrap().len(),
        40,
        "there was room for it"
    );
    // What is deleted needs no room: a full disk is emptied by what is kept no longer, and then takes new tasks.
    store.expire(all).await.unwrap();
    store.pragma("max_page_count", 1 << 20).await.unwrap();
    store.write(vec![new]).await.unwrap();
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
    until("the file is small again", || size(dir.path()) < 3 << 20).await;
}
