//! A database that goes away, and connections that break.

use std::time::Duration;

use testkit::captured_log;
use testkit::proxy::{Network, Proxy};
use testkit::wait::port_is_free;
use tokio::time::{Instant, timeout};

use super::*;

/// Options to reach the database through `proxy`.
fn through(proxy: &Proxy, database: &Database) -> ClusterOptions {
    ClusterOptions { database_url: Secret::new(database.url_at(proxy.port())), ..options(database, "a") }
}

#[actix_rt::test]
async fn what_the_registry_has_applied_is_written_after_an_outage() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = PostgresStore::open(&through(&proxy, &database)).await.unwrap();
    store.write(vec![Change::PutToken(token("t"))]).await.unwrap();
    proxy.set(Network::Resets);
    let refused = store.write(vec![put_llm(llm("never", "never"))]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    store.write_behind(Vec::new()).await.expect("nothing is left to write");
    let start = Instant::now();
    for n in 0..50 {
        assert!(store.write_behind(vec![put_llm(llm("1", &format!("n{n}")))]).await.is_err());
        assert!(store.probe().await.is_err());
    }
    // Between two attempts to connect, nothing waits.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(store.write_behind(Vec::new()).await.is_err(), "earlier changes are not written");
    store.write_coalesced(vec![put_llm(llm("2", "two"))]);
    assert!(store.task("x").await.is_err());
    proxy.set(Network::Passes);
    eventually("the database is back", async || store.probe().await.is_ok()).await;
    let rows = async || store.load().await.map(|found| found.llms);
    eventually("all is written", async || rows().await.is_ok_and(|rows| rows.len() == 2)).await;
    assert_eq!(rows().await.unwrap(), [llm("1", "n49"), llm("2", "two")]);
}

/// A frozen network must not hold a caller for longer than a statement may take.
#[actix_rt::test]
async fn a_silent_database_ends_in_an_error_in_time() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = PostgresStore::open(&through(&proxy, &database)).await.unwrap();
    proxy.set(Network::BlackHole);
    let write = timeout(Duration::from_secs(15), store.write(vec![Change::PutToken(token("t"))]));
    assert!(write.await.unwrap().is_err());
    let read = timeout(Duration::from_secs(15), store.task("x"));
    assert!(read.await.unwrap().is_err());
    proxy.set(Network::Resets);
    proxy.set(Network::Passes);
    eventually("the database answers again", async || store.probe().await.is_ok()).await;
}

/// Wherever and whenever a connection is cut, a caller is told what happened: a write that succeeded is there once, one that
/// failed is not.
#[actix_rt::test]
async fn a_write_is_there_if_and_only_if_its_caller_was_told_so() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = PostgresStore::open(&through(&proxy, &database)).await.unwrap();
    let lag = Duration::from_millis(20);
    // A transaction sends some 350 bytes. With a lag, the answer to its commit is on its way from 100 to 120 ms.
    let cuts = (0..400).step_by(10).map(|bytes| (Network::CutsAfter(bytes), Duration::from_millis(50)));
    let times = (50..150).step_by(3).map(|after| (Network::Lags(lag), Duration::from_millis(after)));
    let (mut told, mut failed) = (0, 0);
    for (fault, after) in cuts.chain(times) {
        // With its statements prepared, each write sends the same bytes.
        let prepare = async || store.write(vec![Change::Audit(audit("before"))]).await.is_ok();
        eventually("the database is back", prepare).await;
        let id = format!("case-{told}-{failed}");
        proxy.set(fault);
        let mut write = store.write(vec![Change::Audit(audit(&id))]);
        let early = timeout(after, &mut write).await;
        proxy.set(Network::Resets);
        tokio::task::yield_now().await;
        proxy.set(Network::Passes);
        let result = match early {
            Ok(result) => result,
            Err(_) => write.await,
        };
        let query = AuditQuery { id: Some(format!("inf-{id}")), limit: 9, ..AuditQuery::default() };
        let found = wait_for("the database answers", async || store.audit(query.clone()).await.ok()).await;
        assert_eq!(found.len(), usize::from(result.is_ok()), "{fault:?}, reset after {after:?}: {result:?}");
        *if result.is_ok() { &mut told } else { &mut failed } += 1;
    }
    assert!(told > 5 && failed > 5, "{told} writes succeeded, {failed} failed");
}

/// A result is acknowledged once its end is written, not once another change of its task is.
#[actix_rt::test]
async fn an_end_that_waits_behind_a_claim_is_not_written_with_it() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = PostgresStore::open(&through(&proxy, &database)).await.unwrap();
    let other = client_of(&database).await;
    store.write(vec![put_task(task("t", TaskStatus::Pending)), put_llm(llm("1", "old"))]).await.unwrap();
    proxy.set(Network::Resets);
    // More than one commit takes.
    let mut changes = vec![Change::UnclaimTask("t".into())];
    changes.extend((0..1023).map(|n| Change::DeleteLlm(format!("other-{n}"))));
    changes.extend([put_llm(llm("1", "new")), put_task(task("t", TaskStatus::Completed))]);
    assert!(store.write_behind(changes).await.is_err());
    other.batch_execute("BEGIN; SELECT FROM llms FOR UPDATE").await.unwrap();
    proxy.set(Network::Passes);
    // The first commit is done.
    a_lock_is_waited_for(&database).await;
    assert!(store.written("t").await.is_err());
    other.batch_execute("COMMIT").await.unwrap();
    eventually("the end is written", async || store.written("t").await.is_ok()).await;
    assert_eq!(store.task("t").await.unwrap().unwrap().state, TaskStatus::Completed);
}

#[actix_rt::test]
async fn nothing_is_written_by_a_store_whose_thread_has_ended() {
    let Some(database) = Database::create().await else { return };
    let store = store_of(&database).await;
    store.written("t").await.unwrap();
    store.crash();
    eventually("the thread has ended", async || store.written("t").await.is_err()).await;
    assert!(store.write_behind(vec![put_task(task("t", TaskStatus::Completed))]).await.is_err());
    assert!(store.written("t").await.is_err());
}

/// A machine that loses its power, or its network, tells the database nothing.
#[actix_rt::test]
async fn a_transaction_of_a_hub_that_went_silent_ends() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    database.run("CREATE TABLE locked ()").await;
    let mut connection = connection_to(&database.url_at(proxy.port()));
    let session = connection.session().await.unwrap();
    session.batch("BEGIN; LOCK TABLE locked").await.unwrap();
    proxy.set(Network::BlackHole);
    database.run("SET lock_timeout = '15s'; BEGIN; LOCK TABLE locked").await;
}

/// A host that accepts connections and does not answer takes no time from the others.
#[actix_rt::test]
async fn the_second_host_is_reached_when_the_first_does_not_answer() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    proxy.set(Network::BlackHole);
    let host = |port| format!("127.0.0.1:{port}");
    let both = database.url_at(port).replace(&host(port), &format!("{},{}", host(proxy.port()), host(port)));
    let mut connection = connection_to(&both);
    connection.session().await.unwrap().batch("SELECT").await.unwrap();
    // It is the first one from now on.
    connection.close();
    timeout(Duration::from_secs(4), connection.session()).await.unwrap().unwrap();
    assert_eq!(proxy.accepted(), 1);
}

#[actix_rt::test]
async fn what_is_lost_at_the_end_is_logged() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let store = PostgresStore::open(&through(&proxy, &database)).await.unwrap();
    proxy.set(Network::Resets);
    let large = DurableTask { result: Some((200, "x".repeat(2 << 20))), ..task("t", TaskStatus::Completed) };
    for changes in [vec![put_llm(llm("1", "a")), put_llm(llm("2", "b"))], vec![put_task(large)]] {
        assert!(store.write_behind(changes).await.is_err());
    }
    let port = proxy.port();
    drop(proxy);
    // Connections are refused at once from now on: this thread waits for the store's end.
    port_is_free(port).await;
    captured_log::listen("hub::store::postgres");
    drop(store);
    assert_eq!(captured_log::lines_with("3 changes were not written").len(), 1);
}
