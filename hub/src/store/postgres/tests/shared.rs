//! Several hubs on one database: their turns, the feed of changes, and what they take over from hubs that are gone.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::feed::Merge;
use super::*;
use crate::model::SessionRecord;
use crate::options::NatsOptions;
use crate::store::columns::StoredRow;

/// The store of the hub `hub`, which shares the database.
async fn shared_by(database: &Database, hub: &str) -> PostgresStore {
    // The store itself uses no network.
    let nats = Some(NatsOptions { url: String::new(), credentials: None });
    PostgresStore::open(&ClusterOptions { nats, ..options(database, hub) }).await.unwrap()
}

fn session(id: &str, hub: &str) -> Change {
    let at = wire::row::Timestamp(1);
    let (id, owner, hub) = (id.into(), "alice".into(), Some(hub.into()));
    Change::PutSession(SessionRecord { id, owner, last_heartbeat_at: at, created_at: at, hub })
}

/// The sessions among what was pulled, with the hubs that they belong to.
fn sessions(records: &[Merge]) -> Vec<(&str, Option<&str>)> {
    let found = records.iter().filter_map(|record| match record {
        Merge::Session(id, of) => Some((&**id, of.as_ref().and_then(|of| of.hub.as_deref()))),
        _ => None,
    });
    found.collect()
}

async fn hub_of(store: &PostgresStore, id: &str) -> Option<String> {
    store.load().await.unwrap().sessions.into_iter().find(|of| of.id == id)?.hub
}

#[actix_rt::test]
async fn a_turn_excludes_those_of_other_hubs_until_it_ends() {
    let Some(database) = Database::create().await else { return };
    let (a, b) = (shared_by(&database, "a").await, shared_by(&database, "b").await);
    let first = a.begin_turn().await.unwrap();
    let mut waiting = b.begin_turn();
    a_lock_is_waited_for(&database).await;
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    a.write_in_turn(vec![session("s1", "a")], first).await.unwrap();
    a.end_turn();
    let second = waiting.await.unwrap();
    assert!(second > first);
    // Written too late.
    let late = a.write_in_turn(vec![session("s2", "a")], first).await.unwrap_err().to_string();
    assert!(late.contains("another hub has changed"), "{late}");
    b.write_in_turn(vec![session("s3", "b")], second).await.unwrap();
    let found: Vec<_> = b.load().await.unwrap().sessions.into_iter().map(|of| of.id).collect();
    assert_eq!(found, ["s1", "s3"]);
}

/// A hub that is stopped keeps its connections, and with them the lock of its turn.
#[actix_rt::test]
async fn a_turn_of_a_stopped_hub_is_over_in_seconds() {
    let Some(database) = Database::create().await else { return };
    let (a, b) = (shared_by(&database, "a").await, shared_by(&database, "b").await);
    let first = a.begin_turn().await.unwrap();
    let stopped = Instant::now();
    let second = b.begin_turn().await.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
    assert!(a.write_in_turn(vec![session("s1", "a")], first).await.is_err());
    b.write_in_turn(vec![session("s2", "b")], second).await.unwrap();
    // It goes on.
    a.end_turn();
    b.end_turn();
    wait_for("the first has a turn again", async || a.begin_turn().await.ok()).await;
}

/// What a transaction changes is read when it has committed, though later ones were read before.
#[actix_rt::test]
async fn a_transaction_that_is_open_across_a_look_is_read_later() {
    let Some(database) = Database::create().await else { return };
    let (a, b) = (shared_by(&database, "a").await, shared_by(&database, "b").await);
    let cursor = b.cursor().await.unwrap();
    let other = client_of(&database).await;
    other
        .batch_execute("BEGIN; INSERT INTO sessions (id, owner, last_heartbeat_at, created_at) VALUES ('slow', 'u', 1, 1)")
        .await
        .unwrap();
    a.write(vec![session("fast", "a")]).await.unwrap();
    let early = b.pull(cursor).await.unwrap();
    assert_eq!(sessions(&early.records), [("fast", Some("a"))]);
    other.batch_execute("COMMIT").await.unwrap();
    let late = b.pull(early.cursor).await.unwrap();
    assert!(sessions(&late.records).contains(&("slow", None)), "{late:?}");
    a.write(vec![Change::DeleteSession("fast".into())]).await.unwrap();
    let gone = b.pull(late.cursor).await.unwrap();
    assert!(sessions(&gone.records).contains(&("fast", None)), "{gone:?}");
}

/// A hub that starts takes over what hubs without a lease had, one that runs what those had that are gone for 5 minutes.
#[actix_rt::test]
async fn the_sessions_of_hubs_that_are_gone_are_taken_over() {
    let Some(database) = Database::create().await else { return };
    let a = shared_by(&database, "a").await;
    let lease = |hub: &str, ago: &str| {
        format!(
            "INSERT INTO hubs (id, boot, until, version, shared) VALUES ('{hub}', 'x', now() - interval '{ago}', '0', true)"
        )
    };
    database.run(&lease("long", "301 s")).await;
    database.run(&lease("short", "240 s")).await;
    a.write(["a", "long", "short", "none"].map(|hub| session(&format!("of-{hub}"), hub)).into())
        .await
        .unwrap();
    a.adopt_sessions().await.unwrap();
    let hub = async |of: &str| hub_of(&a, &format!("of-{of}")).await.unwrap();
    assert_eq!((&*hub("long").await, &*hub("none").await, &*hub("short").await), ("a", "a", "short"));
    let b = shared_by(&database, "b").await;
    assert_eq!((&*hub("short").await, &*hub("a").await), ("b", "a"));
    assert!(
        a.has_lease(b.process()).await.unwrap() && !b.has_lease(Process::start("a").unwrap()).await.unwrap()
    );
    database.run("UPDATE hubs SET until = now() - interval '1 s' WHERE id = 'a'").await;
    assert!(!b.has_lease(a.process()).await.unwrap());
}

/// A revocation is not undone by a hub that does not know of it, and writes the token with another secret.
#[actix_rt::test]
async fn a_revocation_outlasts_a_later_write() {
    let Some(database) = Database::create().await else { return };
    let (a, b) = (shared_by(&database, "a").await, shared_by(&database, "b").await);
    let revoked = crate::model::Token { revoked_at: Some(wire::row::Timestamp(7)), ..token("t") };
    let rotated = crate::model::Token { hash: [9; 32], ..token("t") };
    a.write(vec![Change::PutToken(token("t"))]).await.unwrap();
    b.write(vec![Change::PutToken(revoked.clone())]).await.unwrap();
    a.write(vec![Change::PutToken(rotated)]).await.unwrap();
    let found = a.load().await.unwrap().tokens;
    assert_eq!((found[0].hash, found[0].revoked_at), ([9; 32], revoked.revoked_at));
}

/// Poolers change the name of a connection, with `application_name_add_host` for one.
#[actix_rt::test]
async fn a_record_names_its_hub_whatever_the_connection_is_called() {
    let Some(database) = Database::create().await else { return };
    drop(shared_by(&database, "a").await);
    let session = connection_to(&database.url()).session().await.unwrap();
    session.batch("SET application_name = 'virtual-llm hub a - 10.0.0.1:5'").await.unwrap();
    let hub = async || {
        let rows = session.query("SELECT virtual_llm_hub() AS hub", &[]).await.unwrap();
        rows[0].field::<Option<String>>("hub").unwrap()
    };
    assert_eq!(hub().await.as_deref(), Some("a"));
    // An older version has the name alone.
    session.batch("RESET virtual_llm.hub; SET application_name = 'virtual-llm hub b'").await.unwrap();
    assert_eq!(hub().await.as_deref(), Some("b"));
}
