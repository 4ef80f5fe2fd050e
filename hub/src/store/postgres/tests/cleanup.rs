//! Deletion of what is past its retention or over a quota.

use std::rc::Rc;

use tokio::sync::{Mutex as AsyncMutex, oneshot};
use wire::row::Timestamp;

use super::*;
use crate::model::AuditRecord;
use crate::store::postgres::cleanup::Cleanup;

/// Retention limits under which nothing expires.
const KEEP_ALL: RetentionLimits = RetentionLimits {
    tasks_since: Timestamp(0),
    audit_since: Timestamp(0),
    audit_rows: u64::MAX,
    usage_since: Day(0),
};

/// Retention limits that keep nothing.
pub(super) const KEEP_NOTHING: RetentionLimits = RetentionLimits {
    tasks_since: Timestamp(i64::MAX),
    audit_since: Timestamp(i64::MAX),
    audit_rows: 0,
    usage_since: Day(i64::MAX),
};

#[actix_rt::test]
async fn what_is_past_its_retention_is_deleted() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let at = |id: &str, time| DurableTask { updated_at: Timestamp(time), ..task(id, TaskStatus::Completed) };
    let record = |user: &str, n: i64| AuditRecord {
        user: user.to_owned(),
        created_at: Timestamp(n),
        ..audit(&format!("{user}{n}"))
    };
    let mut changes =
        vec![put_task(at("old", 4)), put_task(at("new", 5)), put_task(task("open", TaskStatus::Pending))];
    changes.extend((0..700).map(|n| Change::Audit(record("alice", n))));
    changes.extend((0..9).map(|n| Change::Audit(record("bob", 695 + n))));
    changes.extend((0..600).map(|n| {
        let key = UsageKey { day: Day(n % 5), user: n.to_string(), ..UsageKey::default() };
        let counts = UsageCounts { calls: 1, ..UsageCounts::default() };
        Change::AddUsage { sum: Box::new(UsageSum { key, counts, ..UsageSum::default() }), batch: 1 }
    }));
    store.write(changes).await.unwrap();
    let limits = RetentionLimits {
        tasks_since: Timestamp(5),
        audit_since: Timestamp(100),
        audit_rows: 20,
        usage_since: Day(3),
    };
    store.expire(limits).await.unwrap();
    let ended = store.ended_tasks(None, &ListCursor::end(), 9).await.unwrap();
    assert_eq!(ended.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
    let days = store.usage(UsageQuery::all(UsageBy::Day)).await.unwrap();
    let days: Vec<_> = days.rows.iter().map(|(key, total)| (key.day.0, total.counts.calls)).collect();
    assert_eq!(days, [(4, 120), (3, 120)]);
    let of = async |user| {
        let records = store.audit(AuditQuery::of(user, None, 900)).await.unwrap();
        records.into_iter().map(|record| record.created_at.0).collect::<Vec<_>>()
    };
    // The user with most records loses the oldest.
    assert_eq!(of(Some("bob")).await, (695..704).rev().collect::<Vec<_>>());
    assert_eq!(of(Some("alice")).await, (689..700).rev().collect::<Vec<_>>());
}

/// Others wait for a deletion at most as long as for one step.
#[actix_rt::test]
async fn each_step_of_a_deletion_is_small() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let ended = |owner: &str, n: u32| {
        put_task(DurableTask { owner: owner.into(), ..task(&format!("{owner}{n}"), TaskStatus::Completed) })
    };
    let tasks = |owner: &'static str| (0..20).map(move |n| ended(owner, n));
    store.write(tasks("alice").chain(tasks("bob")).collect()).await.unwrap();
    // As if each had a result of 3 MiB.
    let steps = "UPDATE tasks SET result_text = seq, result_size = 3 << 20;
        CREATE TABLE steps (bytes bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO steps SELECT sum(virtual_llm_bytes(gone)) FROM gone;
            RETURN NULL;
        END $$;
        CREATE TRIGGER noted AFTER DELETE ON tasks REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION note()";
    database.run(steps).await;
    let client = client_of(&database).await;
    let most = async |deleted: i64| {
        let sql = "SELECT sum(bytes)::bigint / (3 << 20), max(bytes) FROM steps";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, Option<i64>>(0), Some(deleted));
        assert!(row.get::<_, i64>(1) < 12 << 20, "{row:?}");
        database.run("TRUNCATE steps").await;
    };
    let quota = Change::EnforceTaskQuota { owner: "alice".into(), max_bytes: 1 };
    store.write(vec![quota]).await.unwrap();
    let listed = async |owner| store.ended_tasks(Some(owner), &ListCursor::end(), 99).await.unwrap().len();
    eventually("the quota is enforced", async || listed("alice").await == 1).await;
    most(19).await;
    let limits = RetentionLimits {
        tasks_since: Timestamp(i64::MAX),
        audit_since: Timestamp(0),
        audit_rows: 9,
        usage_since: Day(0),
    };
    store.expire(limits).await.unwrap();
    assert_eq!((listed("alice").await, listed("bob").await), (0, 0));
    most(21).await;
}

/// What cannot be deleted, here since its table is locked, keeps nothing else.
#[actix_rt::test]
async fn a_deletion_that_fails_keeps_no_other_from_its_turn() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    store.write(vec![Change::Audit(audit("a")), put_task(task("t", TaskStatus::Completed))]).await.unwrap();
    let other = client_of(&database).await;
    other.batch_execute("BEGIN; LOCK TABLE tasks IN SHARE MODE").await.unwrap();
    store.expire(KEEP_NOTHING).await.unwrap_err();
    assert!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().is_empty());
    other.batch_execute("COMMIT").await.unwrap();
    store.expire(KEEP_NOTHING).await.unwrap();
    assert!(store.ended_tasks(None, &ListCursor::end(), 9).await.unwrap().is_empty());
}

#[actix_rt::test]
async fn audit_records_are_counted_only_when_there_may_be_too_many() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let write = async |records: usize| {
        store.write((0..records).map(|n| Change::Audit(audit(&n.to_string()))).collect()).await.unwrap();
    };
    let expire = async || {
        store.expire(RetentionLimits { audit_rows: 500, ..KEEP_ALL }).await.unwrap();
        store.audit(AuditQuery::of(None, None, 9999)).await.unwrap().len()
    };
    write(500).await;
    assert_eq!(expire().await, 500);
    write(1).await;
    assert_eq!(expire().await, 495, "with room for some more");
    // Records of which no number tells.
    let older =
        "INSERT INTO audit SELECT (jsonb_populate_record(a, jsonb_build_object('seq', a.seq - 1000))).*
        FROM audit AS a ORDER BY seq LIMIT 20";
    database.run(older).await;
    assert_eq!(expire().await, 515, "they are not counted");
    write(5).await;
    assert_eq!(expire().await, 520);
    write(1).await;
    assert_eq!(expire().await, 495);
}

/// Work is scheduled once, however often it is asked for.
#[actix_rt::test]
async fn a_clean_up_that_waits_takes_no_more_memory() {
    let Some(database) = Database::create().await else { return };
    let shared = || Rc::new(AsyncMutex::new(connection_to(&database.url())));
    let (upkeep, lease) = (shared(), lease_of(&database).await);
    let busy = upkeep.lock().await;
    let cleanup = Cleanup::new(upkeep.clone(), shared(), lease);
    let replies: Vec<_> = (0..100)
        .map(|n| {
            let owner = format!("user-{}", n % 3);
            cleanup.expect(&[Change::EnforceTaskQuota { owner, max_bytes: 1 }]);
            let (reply, expired) = oneshot::channel();
            cleanup.expire(KEEP_ALL, reply);
            expired
        })
        .collect();
    assert_eq!(Rc::strong_count(&cleanup), 1 + 2, "one task for quotas, one for what expires");
    drop(busy);
    for expired in replies {
        expired.await.unwrap().unwrap();
    }
    eventually("the tasks end", async || Rc::strong_count(&cleanup) == 1).await;
}
