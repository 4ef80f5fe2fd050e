//! Large texts of tasks: on slow lines, in outages, and what is left of them.

use std::rc::Rc;
use std::time::Duration;

use testkit::captured_log;
use testkit::proxy::{Network, Proxy};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::store::job::Write;
use crate::store::postgres::large::{Large, Unwritten};
use crate::store::{HubDir, SqliteStore, transfer};

/// A line on which the test's values take longer than the time for a statement of a few bytes.
const SLOW: Network = Network::Trickles(2_000_000);
const MIB: usize = 1 << 20;

/// An ended task with a result of `bytes` bytes.
fn ended(id: &str, owner: &str, bytes: usize) -> DurableTask {
    let result = Some((200, "0123456789abcdé".repeat(bytes / 16)));
    DurableTask { owner: owner.into(), result, ..task(id, TaskStatus::Completed) }
}

async fn through(proxy: &Proxy, database: &Database) -> PostgresStore {
    let address = Secret::new(database.url_at(proxy.port()));
    PostgresStore::open(&ClusterOptions { database_url: address, ..options(database, "a") }).await.unwrap()
}

/// Writes a token, which must be written soon.
async fn write_soon(store: &PostgresStore) {
    let start = Instant::now();
    store.write(vec![Change::PutToken(token("t"))]).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
}

/// Checks the whole record, without printing megabytes.
async fn assert_stored(store: &PostgresStore, expected: &DurableTask) {
    let found = store.task(&expected.id).await.unwrap().unwrap();
    let texts_are_same = found.request == expected.request && found.result == expected.result;
    assert!(texts_are_same, "the texts of {} differ", expected.id);
    let rest =
        |task: &DurableTask| format!("{:?}", DurableTask { request: None, result: None, ..task.clone() });
    assert_eq!(rest(&found), rest(expected));
    let (_, size) = store.task_head(&expected.id).await.unwrap().unwrap();
    assert_eq!(size, expected.result.as_ref().map(|(_, body)| body.len() as u64));
}

pub(super) async fn count_parts(database: &Database, parts: u32) {
    let sql = format!(
        "DO $$ BEGIN IF (SELECT count(*) FROM parts) <> {parts} THEN
            RAISE EXCEPTION 'there are % parts', (SELECT count(*) FROM parts); END IF; END $$"
    );
    database.run(&sql).await;
}

#[actix_rt::test]
async fn a_large_result_delays_no_other_write() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = through(&proxy, &database).await;
    proxy.set(SLOW);
    let large = ended("large", "alice", 11 * MIB);
    let mut written = store.write_behind(vec![put_task(large.clone())]);
    let mut writes = 0;
    while timeout(Duration::from_millis(200), &mut written).await.map(Result::unwrap).is_err() {
        write_soon(&store).await;
        writes += 1;
    }
    assert!(writes > 5, "{writes}");
    proxy.set(Network::Passes);
    assert_stored(&store, &large).await;
}

/// Each task's end is written in the end, and new changes meanwhile.
#[actix_rt::test]
async fn ends_that_an_outage_delayed_delay_no_other_write() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = through(&proxy, &database).await;
    store.write(vec![put_task(task("open", TaskStatus::Pending))]).await.unwrap();
    proxy.set(Network::Resets);
    let mut tasks: Vec<_> = (0..3).map(|n| ended(&format!("a{n}"), "alice", 3 * MIB)).collect();
    // Each in one piece.
    tasks.extend((0..8).map(|n| ended(&format!("b{n}"), "bob", MIB / 4)));
    tasks.push(ended("open", "alice", 100));
    for task in &tasks {
        assert!(store.write_behind(vec![put_task(task.clone())]).await.is_err());
        assert!(store.written(&task.id).await.is_err());
    }
    assert!(store.write_behind(Vec::new()).await.is_err());
    proxy.set(SLOW);
    eventually("the database is back", async || store.probe().await.is_ok()).await;
    store.write_behind(Vec::new()).await.unwrap();
    assert!(store.written("a2").await.is_err(), "11 MB cannot be written yet");
    let start = Instant::now();
    for task in &tasks {
        while store.written(&task.id).await.is_err() {
            write_soon(&store).await;
            assert!(start.elapsed() < Duration::from_secs(150), "{} is not written", task.id);
            sleep(Duration::from_millis(200)).await;
        }
    }
    proxy.set(Network::Passes);
    for task in tasks {
        assert_stored(&store, &task).await;
    }
}

/// Lists with changes of one task keep their order, whatever way its texts take.
#[actix_rt::test]
async fn a_deletion_follows_the_large_end_of_its_task() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let first = store.write_behind(vec![put_task(ended("t", "alice", 2 * MIB))]);
    let second = store.write_behind(vec![put_task(ended("t", "alice", 3 * MIB))]);
    let deleted = store.write(vec![Change::DeleteTask("t".into())]);
    for written in [first, second, deleted] {
        written.await.unwrap();
    }
    assert!(store.task("t").await.unwrap().is_none());
    drop(store);
    count_parts(&database, 0).await;
}

#[actix_rt::test]
async fn no_part_is_left_without_its_task() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let open =
        |id: &str, bytes| DurableTask { request: Some("x".repeat(bytes)), ..task(id, TaskStatus::Pending) };
    let new =
        |task: DurableTask, max_bytes| store.write(vec![Change::NewTask { task: Box::new(task), max_bytes }]);
    new(open("1", 2 * MIB + 1), u64::MAX).await.unwrap();
    count_parts(&database, 3).await;
    let refused = new(open("2", 2 * MIB), 3 << 20).await;
    assert!(matches!(refused, Err(StoreError::OverQuota(open)) if open == (2 << 20) + 513), "{refused:?}");
    count_parts(&database, 3).await;
    let (fits, over) = (new(open("3", 2 * MIB), 9 << 20), new(open("4", 6 * MIB), 9 << 20));
    fits.await.unwrap();
    assert!(matches!(over.await, Err(StoreError::OverQuota(_))));
    count_parts(&database, 5).await;
    // The end deletes the request; a second end changes nothing.
    store.write(vec![put_task(ended("1", "alice", 4 * MIB))]).await.unwrap();
    store.write(vec![put_task(ended("1", "alice", 7 * MIB))]).await.unwrap();
    store.write(vec![put_task(ended("other", "bob", 2 * MIB))]).await.unwrap();
    store.write(vec![Change::DeleteTask("other".into())]).await.unwrap();
    assert_stored(&store, &ended("1", "alice", 4 * MIB)).await;
    drop(store);
    count_parts(&database, 6).await;
    database.run("INSERT INTO parts VALUES (7, 0, 'of a process that died')").await;
    let store = store_of(&database).await;
    count_parts(&database, 6).await;
    assert_stored(&store, &ended("1", "alice", 4 * MIB)).await;
    let stored = "DO $$ BEGIN IF (SELECT sum(bytes) FROM stored) <> 6292480 THEN
        RAISE EXCEPTION '% bytes', (SELECT sum(bytes) FROM stored); END IF; END $$";
    database.run(stored).await;
}

/// What a full owner's end deletes does not wait for that owner's next write.
#[actix_rt::test]
async fn a_quota_is_enforced_after_an_outage() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = through(&proxy, &database).await;
    store.write(vec![put_task(ended("older", "alice", MIB / 2))]).await.unwrap();
    proxy.set(Network::Resets);
    let quota = Change::EnforceTaskQuota { owner: "alice".into(), max_bytes: 1000 };
    let newer = DurableTask { updated_at: wire::row::Timestamp(i64::MAX), ..ended("newer", "alice", 160) };
    assert!(store.write_behind(vec![put_task(newer.clone()), quota]).await.is_err());
    proxy.set(Network::Passes);
    eventually("the newer one is written", async || store.written("newer").await.is_ok()).await;
    eventually("the older one is deleted", async || matches!(store.task("older").await, Ok(None))).await;
    assert_stored(&store, &newer).await;
}

#[actix_rt::test]
async fn large_results_move_to_a_database_over_a_slow_line() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let directory = tempfile::tempdir().unwrap();
    let large = ended("large", "alice", 11 * MIB);
    let small = ended("small", "bob", 160);
    let alone = SqliteStore::open(HubDir::open(directory.path()).unwrap()).unwrap();
    alone.write(vec![put_task(large.clone()), put_task(small.clone())]).await.unwrap();
    drop(alone);
    let proxy = Proxy::to(port).await;
    let mut to = options(&database, "a");
    to.database_url = Secret::new(database.url_at(proxy.port()));
    proxy.set(SLOW);
    let moved = transfer(directory.path(), &to).await.unwrap();
    assert_eq!(moved.ended_tasks, 2);
    let store = store_of(&database).await;
    assert_stored(&store, &large).await;
    assert_stored(&store, &small).await;
}

/// An outage is logged also if no small change waits for its end.
#[actix_rt::test]
async fn a_large_text_that_cannot_be_stored_is_logged() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    proxy.set(Network::Resets);
    let connection = connection_to(&database.url_at(proxy.port()));
    let (staged, _lists) = mpsc::unbounded_channel();
    let lease = lease_of(&database).await;
    let large = Large::new(Rc::new(AsyncMutex::new(connection)), lease, staged, Unwritten::default());
    captured_log::listen("hub::store::postgres::large");
    let (reply, written) = oneshot::channel();
    let changes = vec![put_task(ended("t", "zoe", 2 * MIB))];
    large.push("zoe".into(), Write { changes, reply, is_write_behind: true, turn: None }.into());
    written.await.unwrap().unwrap_err();
    assert_eq!(captured_log::lines_with("a large text of user=zoe").len(), 1);
}
