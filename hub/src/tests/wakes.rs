//! A wake belongs to a row at its owner: another user who gets the name has wakes of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tokio::time::timeout;
use wire::row::Status;

use super::http::{Ask, PATIENCE};
use super::interceptor::StoreInterceptor;
use super::publisher::{Publisher, asleep, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub, hub_on};
use crate::store::{Change, SqliteStore, Store, StoreFuture};

/// Counts the writes of rows that are active: at once, and coalesced.
struct CountingStore {
    store: SqliteStore,
    at_once: AtomicUsize,
    coalesced: AtomicUsize,
}

fn active_rows(changes: &[Change]) -> usize {
    let is_active = |change: &&Change| matches!(change, Change::PutLlm(llm) if llm.status == Status::Active);
    changes.iter().filter(is_active).count()
}

impl StoreInterceptor for CountingStore {
    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn intercept(&self, is_write_behind: bool, changes: Vec<Change>) -> StoreFuture<()> {
        self.at_once.fetch_add(active_rows(&changes), Relaxed);
        if is_write_behind { self.store.write_behind(changes) } else { self.store.write(changes) }
    }

    fn on_coalesced(&self, changes: &[Change]) {
        self.coalesced.fetch_add(active_rows(changes), Relaxed);
    }
}

/// A27: the status of a row that was woken is stored with the coalesced changes.
#[actix_rt::test]
async fn a_wake_is_stored_with_the_coalesced_changes() {
    let store = SqliteStore::in_memory().unwrap();
    let store = Arc::new(CountingStore { store, at_once: 0.into(), coalesced: 0.into() });
    let hub = hub_on(store.clone()).await;
    let mut alices = alices(&hub).await;
    let call = call(&hub, ADMIN);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let wake = alices.task().await;
        let woken = json!({ "status": 200, "body": { "ok": true, "ms": 1 } });
        assert_eq!(alices.post(&hub, &wake, &woken).await, 200);
        let task = alices.task().await;
        assert_eq!(alices.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert_eq!((store.at_once.load(Relaxed), store.coalesced.load(Relaxed)), (0, 1));
    hub.stop().await;
}

fn call(hub: &TestHub, token: &str) -> Ask {
    hub.ask_as(token, "POST", "/v1/chat/completions").body(chat("a", false))
}

async fn give_to_bob(hub: &TestHub) {
    let give = hub.ask_as(ADMIN, "PUT", "/api/v1/names/a").body(r#"{ "ownerId": "bob" }"#);
    assert_eq!(give.send().await.0, 200);
}

/// Alice's row `a`, which sleeps.
async fn alices(hub: &TestHub) -> Publisher {
    Publisher::start(hub, &hub.member("alice").await, &[asleep(provider("a"))], Some("cancel")).await
}

#[actix_rt::test]
async fn a_call_that_waits_for_a_wake_ends_when_its_name_gets_another_owner() {
    let hub = hub().await;
    let mut alices = alices(&hub).await;
    let (carl, _) = (hub.member("carl").await, hub.member("bob").await);
    let call = call(&hub, &carl);
    let waits = async { timeout(PATIENCE, call.send()).await.expect("it waits on") };
    let (answer, ()) = futures_util::join!(waits, async {
        assert_eq!(alices.task().await["kind"], "wake");
        give_to_bob(&hub).await;
    });
    assert_eq!(answer.0, 404, "{}", answer.1);
    assert!(answer.1.contains("model_not_found"), "{}", answer.1);
    hub.stop().await;
}

/// A38: neither the failure nor the success of a former owner's wake counts for the new owner's row.
#[actix_rt::test]
async fn the_wake_of_a_former_owner_is_none_of_the_new_owner() {
    let hub = hub().await;
    let (carl, bob) = (hub.member("carl").await, hub.member("bob").await);
    for result in [json!({ "error": "forged" }), json!({ "status": 200, "body": { "ok": true, "ms": 1 } })] {
        let mut alices = alices(&hub).await;
        let (first, second) = (call(&hub, &carl), call(&hub, &carl));
        let (_, answer, ()) = futures_util::join!(
            first.send(),
            async {
                hub.until_owned("a", "bob", "hibernating").await;
                second.send().await
            },
            async {
                let old = alices.task().await;
                give_to_bob(&hub).await;
                let mut bobs = Publisher::start(&hub, &bob, &[asleep(provider("a"))], Some("cancel")).await;
                let wake = timeout(PATIENCE, bobs.task()).await.expect("bob's row is woken");
                assert_eq!(wake["kind"], "wake");
                alices.post(&hub, &old, &result).await;
                assert_eq!(hub.row("a").await["status"], "hibernating");
                assert!(hub.is_waking("a"));
                let woken: Value = json!({ "status": 200, "body": { "ok": true, "ms": 1 } });
                assert_eq!(bobs.post(&hub, &wake, &woken).await, 200);
                let task = bobs.task().await;
                assert_eq!(bobs.answer(&hub, &task, "hello").await, 200);
            }
        );
        assert_eq!(answer.0, 200, "{}", answer.1);
        for path in ["/api/v1/llms/a", "/api/v1/names/a"] {
            eventually("it is gone", async || matches!(hub.ask("DELETE", path).send().await.0, 204 | 404))
                .await;
        }
    }
    hub.stop().await;
}

/// A38: a wake is not sent again to a publisher whose row is another user's now.
#[actix_rt::test]
async fn a_wake_of_a_deleted_row_is_not_sent_again() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let rows = [asleep(provider("a")), provider("other")];
    let mut alices = Publisher::start(&hub, &alice, &rows, Some("cancel")).await;
    let carl = hub.member("carl").await;
    let (waiting, later) = (call(&hub, &carl), hub.ask_as(&carl, "POST", "/v1/chat/completions"));
    let (answer, ()) = futures_util::join!(waiting.send(), async {
        assert_eq!(alices.task().await["kind"], "wake");
        assert_eq!(hub.ask("DELETE", "/api/v1/llms/a").send().await.0, 204);
        alices.open(&hub, Some("cancel")).await;
    });
    assert_eq!(answer.0, 503, "{}", answer.1);
    // The hub gave the wake up.
    alices.cancelled().await;
    let later = later.body(chat("other", false));
    assert_eq!(alices.serves(&hub, &later, "hello").await["llmName"], "other");
    hub.stop().await;
}
