mod cleanup;
mod large;
mod lease;
mod outage;
mod quotas;
mod same;
mod several;
mod shared;

use backend::Secret;
use testkit::postgres::Database;
use testkit::wait::{eventually, wait_for};

use super::connection::Connection;
use super::lease::Lease;
use super::tls::Verified;
use super::*;
use crate::cluster::Process;
use crate::model::{Day, DurableTask, TaskStatus, UsageCounts, UsageKey, UsageSum};
use crate::options::ClusterOptions;
use crate::store::tests::{audit, llm, put_llm, put_task, task, token};
use crate::store::{AuditQuery, Change, ListCursor, RetentionLimits, Store, StoreError, UsageBy, UsageQuery};

fn options(database: &Database, hub: &str) -> ClusterOptions {
    ClusterOptions {
        cluster: "team".into(),
        hub_id: hub.into(),
        database_url: Secret::new(database.url()),
        nats: None,
    }
}

/// The store of the hub `a`.
async fn store_of(database: &Database) -> PostgresStore {
    PostgresStore::open(&options(database, "a")).await.unwrap()
}

fn refusal(opened: Result<PostgresStore, StoreError>) -> String {
    opened.err().unwrap().to_string()
}

#[actix_rt::test]
async fn records_are_there_after_a_restart() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let row = llm("1", "a\0b");
    let changes =
        vec![put_llm(row.clone()), Change::PutToken(token("t")), put_task(task("x", TaskStatus::Pending))];
    store.write(changes).await.unwrap();
    drop(store);
    let found = store_of(&database).await.load().await.unwrap();
    // A text in PostgreSQL has no NUL.
    assert_eq!(found.llms, [crate::model::Llm { name: "a\u{fffd}b".into(), ..row }]);
    assert_eq!((found.tokens, found.tasks.len()), (vec![token("t")], 1));
}

/// Statements of one list are sent without waiting for each other.
#[actix_rt::test]
async fn of_many_changes_of_one_record_the_last_one_stays() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let changes = (0..200).map(|n| put_llm(llm("1", &format!("n{n}")))).collect();
    store.write(changes).await.unwrap();
    assert_eq!(store.load().await.unwrap().llms, [llm("1", "n199")]);
}

#[actix_rt::test]
async fn a_list_that_is_refused_takes_no_other_with_it() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    // All are in one commit: the first job keeps the writer busy while the others come.
    let busy = store.write((0..500).map(|n| put_llm(llm(&n.to_string(), &format!("n{n}")))).collect());
    let before = store.write(vec![Change::PutToken(token("t"))]);
    let taken = store.write(vec![put_llm(llm("new", "n7")), Change::PutToken(token("never"))]);
    let after = store.write(vec![put_llm(llm("last", "m"))]);
    busy.await.unwrap();
    before.await.unwrap();
    let error = taken.await.unwrap_err().to_string();
    assert!(error.contains("23505") && !error.contains("n7"), "{error}");
    after.await.unwrap();
    let found = store.load().await.unwrap();
    assert_eq!((found.llms.len(), found.tokens), (501, vec![token("t")]));
}

/// A deletion and a write may lock rows in opposite orders.
#[actix_rt::test]
async fn a_deadlock_fails_no_write() {
    let Some(database) = Database::create().await else { return };
    // The store's transaction is the one that ends, 2.5 s after it began to wait.
    let patience = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 2500', current_database()); END $$";
    database.run(patience).await;
    let store = store_of(&database).await;
    let other = client_of(&database).await;
    store.write(vec![put_llm(llm("1", "a")), put_llm(llm("2", "b"))]).await.unwrap();
    other.batch_execute("SET deadlock_timeout = '1min'").await.unwrap();
    other.batch_execute("BEGIN; SELECT FROM llms WHERE id = '2' FOR UPDATE").await.unwrap();
    let write = store.write(vec![put_llm(llm("1", "c")), put_llm(llm("2", "d"))]);
    a_lock_is_waited_for(&database).await;
    other.batch_execute("SELECT FROM llms WHERE id = '1' FOR UPDATE; COMMIT").await.unwrap();
    write.await.unwrap();
    assert_eq!(store.load().await.unwrap().llms, [llm("1", "c"), llm("2", "d")]);
}

#[actix_rt::test]
async fn the_open_tasks_of_a_user_have_a_quota() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let new = |id: &str| {
        let task = Box::new(task(id, TaskStatus::Pending));
        store.write(vec![Change::NewTask { task, max_bytes: 1100 }])
    };
    new("1").await.unwrap();
    new("2").await.unwrap();
    assert!(matches!(new("3").await, Err(StoreError::OverQuota(1054))));
    // Ended tasks give way to new ones, the one that ended last excepted.
    store.write(vec![put_task(task("1", TaskStatus::Completed))]).await.unwrap();
    store.write(vec![put_task(task("2", TaskStatus::Completed))]).await.unwrap();
    new("3").await.unwrap();
    eventually("the older one is deleted", async || store.task("1").await.unwrap().is_none()).await;
    assert!(store.task("2").await.unwrap().is_some());
}

#[actix_rt::test]
async fn a_database_of_others_is_refused_and_unchanged() {
    let Some(database) = Database::create().await else { return };
    database.run("CREATE TABLE llms (id text)").await;
    let foreign = refusal(PostgresStore::open(&options(&database, "a")).await);
    assert!(foreign.contains("tables of another program"), "{foreign}");
    database.run("DROP TABLE llms").await;
    drop(store_of(&database).await);
    let mut other = options(&database, "a");
    other.cluster = "other".into();
    let error = refusal(PostgresStore::open(&other).await);
    assert!(error.contains("it holds the cluster 'team'; give --cluster team"), "{error}");
    database.run("UPDATE cluster SET schema = 99, compat = 98").await;
    let newer = refusal(PostgresStore::open(&options(&database, "a")).await);
    assert!(newer.contains("schema 99 needs a program that knows 98"), "{newer}");
    database.run("UPDATE cluster SET schema = 99, compat = 1").await;
    store_of(&database).await.probe().await.unwrap();
    let mut missing = options(&database, "a");
    missing.database_url = Secret::new(database.missing_url());
    let error = refusal(PostgresStore::open(&missing).await);
    assert!(error.contains("\"vl_missing\" does not exist; create it"), "{error}");
}

/// A search may take a while, which no other read waits for.
#[actix_rt::test]
async fn a_slow_search_delays_no_other_read() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    let other = client_of(&database).await;
    other.batch_execute("BEGIN; LOCK TABLE usage_sums, audit").await.unwrap();
    let usage = store.usage(UsageQuery::all(UsageBy::Day));
    let query = AuditQuery { id: Some("x".into()), limit: 9, ..AuditQuery::default() };
    let audit = store.audit(query);
    let mut reads = tokio::time::interval(std::time::Duration::from_millis(100));
    // 6 s: longer than another statement has.
    for _ in 0..60 {
        reads.tick().await;
        store.task("x").await.unwrap();
    }
    other.batch_execute("COMMIT").await.unwrap();
    usage.await.unwrap();
    audit.await.unwrap();
}

/// Another program's connection to the database.
async fn client_of(database: &Database) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::task::spawn_local(connection);
    client
}

fn connection_to(url: &str) -> Connection {
    Connection::new(address::parse(url, "a").unwrap(), Verified::new().unwrap())
}

/// The lease of a process that does nothing more.
async fn lease_of(database: &Database) -> Lease {
    let session = connection_to(&database.url()).session().await.unwrap();
    schema::open(&session, "team", Process::start("a").unwrap(), super::lease::Sharing::Sole).await.unwrap()
}

/// Deletes all records, which takes a tenth of the time that a new database does.
async fn empty(database: &Database) {
    let tables = super::store::RECORDS.into_iter().chain(["parts", "stored"]);
    let statements: Vec<_> = tables.map(|table| format!("DELETE FROM {table};")).collect();
    database.run(&statements.concat()).await;
}

/// Waits until a statement in the database waits for a lock.
async fn a_lock_is_waited_for(database: &Database) {
    let client = client_of(database).await;
    let waiting =
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a lock is waited for", async || !client.query(waiting, &[]).await.unwrap().is_empty()).await;
}
