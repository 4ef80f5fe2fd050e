//! Deletion in small steps, and the vacuum of the database file.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::store::apply::apply;
use crate::store::cleanup::Cleanup;
use crate::store::schema::migrate;
use crate::store::tasks;

const KIB: usize = 1 << 10;

fn ended(id: &str, size: usize) -> Change {
    let body = format!(r#"{{"x":"canary-3f9a{}"}}"#, "y".repeat(size));
    put_task(DurableTask { result: Some((200, body)), ..task(id, TaskStatus::Completed) })
}

/// F90: the pages of deleted tasks are freed and contain none of their data; other records are not changed.
#[tokio::test]
async fn a_file_shrinks_after_deletions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put_llm(llm("0", "a"))]).await.unwrap();
    let before = size(dir.path());
    for n in 0..60 {
        let row = Llm {
            description: Some(format!("kept-{n}").repeat(200)),
            ..llm(&n.to_string(), &format!("n{n}"))
        };
        store.write(vec![ended(&format!("t{n}"), 200 * KIB), put_llm(row)]).await.unwrap();
    }
    assert!(size(dir.path()) > 12 << 20);
    assert!(files_contain(dir.path(), "canary-3f9a"));
    store.write((0..60).map(|n| Change::DeleteTask(format!("t{n}"))).collect()).await.unwrap();
    // The remaining rows take some hundred kilobytes, and some pages stay free.
    wait_until("the file is small again", || size(dir.path()) < before + (1 << 20)).await;
    assert!(!files_contain(dir.path(), "canary-3f9a"));
    let rows = store.load().await.unwrap().llms;
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| row.description == Some(format!("kept-{}", row.id).repeat(200))));
    drop(store);
    assert_eq!(open(dir.path()).unwrap().load().await.unwrap().llms.len(), 60);
}

/// F89: a file without incremental vacuum, of an older version, is rebuilt with all its records when it is opened.
#[tokio::test]
async fn a_file_without_incremental_vacuum_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![put_llm(llm("1", "a")), ended("t", 300 * KIB)]).await.unwrap();
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

#[tokio::test]
async fn a_result_is_read_in_parts() {
    let small = "é,ü0123456789".repeat(30_000);
    assert_is_read_in_parts(small.clone()).await;
    // In this longer text some parts end within a character.
    assert_is_read_in_parts(small.repeat(7)).await;
}

async fn assert_is_read_in_parts(large: String) {
    let store = SqliteStore::in_memory().unwrap();
    let done = DurableTask { result: Some((200, large.clone())), ..task("large", TaskStatus::Completed) };
    let open = put_task(task("open", TaskStatus::Running));
    store.write(vec![put_task(done), open]).await.unwrap();
    let (head, size) = store.task_head("large").await.unwrap().unwrap();
    assert_eq!((head.result, size), (Some((200, String::new())), Some(large.len() as u64)));
    for most in [9_777, 300_000, 1 << 30] {
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

/// A27, F90: large requests and results are deleted in steps between other writes. From the first step on they are
/// neither readable nor counted; after the last step none of their bytes are in the file.
#[tokio::test]
async fn large_texts_are_deleted_in_steps_between_writes() {
    const LARGE: usize = 24 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let text = || format!(r#"{{"x":"canary-3f9a{}"}}"#, "é".repeat(LARGE / 2));
    for n in 0..5 {
        let task = DurableTask { request: Some(text()), ..task(&format!("t{n}"), TaskStatus::Pending) };
        store.write(vec![Change::NewTask { task: Box::new(task), max_bytes: u64::MAX }]).await.unwrap();
    }
    store.write(vec![ended("r", LARGE)]).await.unwrap();
    assert!(store.stored("alice").await.unwrap() > 6 * LARGE as u64);
    assert_eq!(store.task("t0").await.unwrap().unwrap().request, Some(text()));
    let left = || number(dir.path(), "SELECT count(*) FROM parts");
    assert!(left() > 6 * 24);
    for n in 0..5 {
        drop(store.write_behind(vec![put_task(task(&format!("t{n}"), TaskStatus::Error))]));
    }
    drop(store.write(vec![Change::DeleteTask("r".into())]));
    let begun = tokio::time::Instant::now();
    for n in 0..2 {
        store.write(vec![put_llm(llm(&n.to_string(), &format!("n{n}")))]).await.unwrap();
        assert!(left() > 0, "everything was deleted before write {n}, after {:?}", begun.elapsed());
    }
    let found = store.task("t0").await.unwrap().unwrap();
    assert_eq!((found.state, found.request), (TaskStatus::Error, None));
    assert!(store.task_head("r").await.unwrap().is_none());
    assert!(store.stored("alice").await.unwrap() < 10 << 10, "deleted texts are counted");
    wait_until("all parts are deleted", || left() == 0 && !files_contain(dir.path(), "canary-3f9a")).await;
    assert_eq!(number(dir.path(), "SELECT count(*) FROM erased"), 0);
}

/// A27: a step deletes at most 8 MiB of parts.
#[test]
fn a_step_deletes_at_most_8_mib_of_parts() {
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn).unwrap();
    let asked = DurableTask { request: Some("x".repeat(20 << 20)), ..task("t", TaskStatus::Pending) };
    apply(&conn, &put_task(asked)).unwrap();
    let left = || -> i64 { conn.query_row("SELECT count(*) FROM parts", [], |row| row.get(0)).unwrap() };
    assert!(!parts::delete_some(&conn).unwrap(), "parts of an existing task are deleted");
    apply(&conn, &put_task(task("t", TaskStatus::Cancelled))).unwrap();
    let steps: Vec<i64> = std::iter::from_fn(|| parts::delete_some(&conn).unwrap().then(left)).collect();
    assert_eq!(steps, [12, 4, 0]);
}

type Step<'a> = &'a dyn Fn(&Connection) -> rusqlite::Result<bool>;

/// A27: a step deletes at most 8 MiB of ended tasks, for the retention time and for a quota.
#[test]
fn a_step_deletes_at_most_8_mib_of_tasks() {
    let expire = |conn: &Connection| tasks::expire(conn, Timestamp(i64::MAX));
    let enforce_quota = |conn: &Connection| tasks::enforce_quota(conn, "alice", 0);
    let cases: [(Step<'_>, _); 2] = [(&expire, [12, 4, 0]), (&enforce_quota, [12, 4, 1])];
    for (step, expected) in cases {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        for n in 0..20 {
            apply(&conn, &ended(&n.to_string(), 1 << 20)).unwrap();
        }
        let left = || -> i64 { conn.query_row("SELECT count(*) FROM tasks", [], |row| row.get(0)).unwrap() };
        let steps: Vec<i64> = std::iter::from_fn(|| step(&conn).unwrap().then(left)).collect();
        assert_eq!(steps, expected);
    }
}

/// A27: each owner over the quota has a step in turn, so that an owner with many tasks does not delay others.
#[test]
fn owners_over_their_quotas_have_steps_in_turn() {
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn).unwrap();
    let mut cleanup = Cleanup::default();
    let owners = ["alice", "bob", "carol"];
    for owner in owners {
        for n in 0..600 {
            let task =
                DurableTask { owner: owner.into(), ..task(&format!("{owner}-{n}"), TaskStatus::Completed) };
            apply(&conn, &put_task(task)).unwrap();
        }
        cleanup.expect(&[Change::EnforceTaskQuota { owner: owner.into(), max_bytes: 0 }]);
    }
    for _ in &owners {
        cleanup.step(&mut conn, Duration::ZERO);
    }
    let sql = "SELECT count(*) FROM tasks WHERE owner = ?1";
    let left = owners.map(|owner| conn.query_row(sql, [owner], |row| row.get::<_, i64>(0)).unwrap());
    assert_eq!(left, [600 - 256; 3]);
}

/// Parts that a crash left of deleted texts are deleted when the store is opened.
#[tokio::test]
async fn parts_of_deleted_texts_are_deleted_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![ended("r", 3 << 20), ended("kept", 3 << 20)]).await.unwrap();
    drop(store);
    let file = Connection::open(dir.path().join("hub.db")).unwrap();
    file.execute("DELETE FROM tasks WHERE id = 'r'", []).unwrap();
    drop(file);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM parts"), 8);
    let store = open(dir.path()).unwrap();
    wait_until("the parts are deleted", || number(dir.path(), "SELECT count(*) FROM parts") == 4).await;
    assert_eq!(store.task("kept").await.unwrap().unwrap().result.unwrap().1.len(), (3 << 20) + 19);
}

/// Cleanup steps without a scheduled vacuum leave free pages in the file for the next writes.
#[test]
fn steps_without_a_scheduled_vacuum_keep_free_pages() {
    let mut conn = Connection::open_in_memory().unwrap();
    vacuum::enable_on_empty(&conn).unwrap();
    migrate(&mut conn).unwrap();
    apply(&conn, &ended("t", 600 * KIB)).unwrap();
    apply(&conn, &Change::DeleteTask("t".into())).unwrap();
    let free = |conn: &Connection| -> i64 {
        conn.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap()
    };
    let before = free(&conn);
    assert!(before > 100, "{before}");
    let mut cleanup = super::super::cleanup::Cleanup::default();
    for _ in 0..4 {
        cleanup.step(&mut conn, Duration::ZERO);
    }
    assert!(cleanup.is_idle());
    assert_eq!(free(&conn), before);
}

fn record(user: &str, n: usize, at: i64) -> Change {
    let of = AuditRecord { user: user.into(), created_at: Timestamp(at), ..audit(&format!("{user}-{n}")) };
    Change::Audit(of)
}

/// F90: if there are too many audit records, the oldest records of the user with the most are deleted.
#[tokio::test]
async fn excess_audit_records_of_the_user_with_the_most_are_deleted() {
    let store = SqliteStore::in_memory().unwrap();
    let retention = RetentionLimits { audit_rows: 300, ..KEEP_ALL };
    let users = async |user: &str| store.audit(AuditQuery::of(Some(user), None, 9999)).await.unwrap();
    let many = |user: &'static str, from: usize, count: usize| {
        (from..from + count).map(move |n| record(user, n, 1)).collect::<Vec<_>>()
    };
    store.write(many("bob", 0, 40)).await.unwrap();
    store.write(many("alice", 0, 2500)).await.unwrap();
    store.write(many("carol", 0, 120)).await.unwrap();
    store.expire(retention).await.unwrap();
    assert_eq!((users("bob").await.len(), users("carol").await.len()), (40, 120));
    let left = users("alice").await;
    assert_eq!(
        (left.len(), left[0].task.as_str(), left[139].task.as_str()),
        (140, "alice-2499", "alice-2360")
    );
    store.write(many("carol", 120, 400)).await.unwrap();
    store.expire(retention).await.unwrap();
    assert_eq!(users("bob").await.len(), 40);
    let (alice, carol) = (users("alice").await, users("carol").await);
    assert_eq!(alice.len() + carol.len(), 260);
    assert_eq!((alice[0].task.as_str(), carol[0].task.as_str()), ("alice-2499", "carol-519"));
    assert!(alice.len().abs_diff(carol.len()) < 30, "{} {}", alice.len(), carol.len());
    store.expire(RetentionLimits { audit_since: Timestamp(2), ..KEEP_ALL }).await.unwrap();
    assert!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().is_empty());
}

/// F63, F64: cleanup on a locked file or a full disk fails without losing records, and succeeds afterwards.
#[tokio::test]
async fn failed_cleanup_is_done_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write((0..40).map(|n| ended(&format!("t{n}"), 100 * KIB)).collect()).await.unwrap();
    let other = Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let all = RetentionLimits { tasks_since: Timestamp(9), ..KEEP_ALL };
    let begun = tokio::time::Instant::now();
    let refused = store.expire(all).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "expiry waits for the lock");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    assert_eq!(store.ended_tasks(None, &ListCursor::end(), 99).await.unwrap().len(), 40);

    store.pragma("max_page_count", 1).await.unwrap();
    let quota = DurableTask { request: Some("x".repeat(1 << 20)), ..task("new", TaskStatus::Pending) };
    let new = Change::NewTask { task: Box::new(quota), max_bytes: 5 << 20 };
    let refused = store.write(vec![new.clone()]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(
        store.ended_tasks(None, &ListCursor::end(), 99).await.unwrap().len(),
        40,
        "a result was deleted although the write failed"
    );
    // Deletion needs no free space: expiry frees space on a full disk, and a new task is accepted.
    store.expire(all).await.unwrap();
    store.pragma("max_page_count", 1 << 20).await.unwrap();
    store.write(vec![new]).await.unwrap();
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
    wait_until("the file is small again", || size(dir.path()) < 3 << 20).await;
}
