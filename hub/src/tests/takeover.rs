//! When another user takes over a name, calls and durable tasks that wait for the name end and are not sent to that user.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::http::PATIENCE;
use super::publisher::{Publisher, pooled, provider, report};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub_on, hub_with};
use crate::store::{SqliteStore, Store};

/// A hub with alice's row `al`, which has no free capacity. Carl calls, and bob takes names over.
struct World {
    hub: TestHub,
    alice: String,
    bob: String,
    carl: String,
    alices: Publisher,
}

impl World {
    async fn new(row: Value, retention: Duration, names: usize) -> Self {
        let hub = hub_with(|options| {
            options.timings.inactive_retention = retention;
            options.timings.name_retention = retention;
            // Names expire in a sweep. The other tests go without frequent sweeps: the change itself has to end the calls.
            if retention < Duration::from_secs(1) {
                options.timings.sweep_interval = Duration::from_millis(10);
            }
            options.limits.names = names;
        })
        .await;
        let [alice, bob, carl] =
            [hub.member("alice").await, hub.member("bob").await, hub.member("carl").await];
        let alices = Publisher::start(&hub, &alice, &[row], Some("status")).await;
        let busy = json!({ "providers": [ report("al", "active", 1, 1) ] });
        assert_eq!(alices.beat(&hub, busy).await, 200);
        Self { hub, alice, bob, carl, alices }
    }

    async fn with_long_retention(row: Value) -> Self {
        Self::new(row, Duration::from_hours(1), 1024).await
    }

    async fn ask(&self, token: &str, method: &'static str, path: &str, body: &Value) {
        let ask = self.hub.ask_as(token, method, path).body(body.to_string());
        let (status, answer) = ask.send().await;
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
    }

    async fn delete(&self, token: &str, path: &str) {
        let (status, answer) = self.hub.ask_as(token, "DELETE", path).send().await;
        assert_eq!(status, 204, "{path}: {answer}");
    }

    async fn create_agent(&self, token: &str, name: &str, llm: &str) {
        let agent = json!({ "name": name, "llmName": llm, "visibility": "public" });
        self.ask(token, "POST", "/api/v1/agents", &agent).await;
    }

    async fn bob_publishes(&self, row: Value) -> Publisher {
        Publisher::start(&self.hub, &self.bob, &[row], None).await
    }

    /// Waits until a call and a durable task wait.
    async fn both_wait(&self) {
        eventually("the call and the durable task wait", async || {
            let (_, tasks) = self.hub.ask("GET", "/api/v1/inference-tasks").json().await;
            tasks.as_array().unwrap().len() == 2
        })
        .await;
    }

    /// Starts a call and a durable task of carl for `name`, runs `change`, and checks that both end with 404.
    async fn assert_change_ends_calls<T>(&self, change: impl AsyncFnOnce() -> T, name: &str) -> T {
        let durable = self.hub.enqueue(&self.carl, name, false).await;
        let call = self.hub.ask_as(&self.carl, "POST", "/v1/chat/completions").body(chat(name, false));
        let waiting = call.header("x-queue-timeout", "60");
        let waits = async { timeout(PATIENCE, waiting.send()).await.expect("the waiting call ends") };
        let (answer, changed) = futures_util::join!(waits, async {
            self.both_wait().await;
            change().await
        });
        assert_eq!(answer.0, 404, "{}", answer.1);
        assert!(answer.1.contains("model_not_found"), "{}", answer.1);
        eventually("the task ends", async || self.hub.durable_task(&durable).await["status"] == "error")
            .await;
        assert_eq!(self.hub.durable_task(&durable).await["code"], "model_not_found");
        changed
    }

    /// Like [`assert_change_ends_calls`](Self::assert_change_ends_calls), where `change` makes bob the publisher of `name`:
    /// the first task that bob gets is of a later call.
    async fn assert_takeover_ends_calls(&self, name: &str, change: impl AsyncFnOnce() -> Publisher) {
        let mut bobs = self.assert_change_ends_calls(change, name).await;
        let later = self.hub.ask_as(&self.carl, "POST", "/v1/chat/completions").body(chat(name, false));
        bobs.serves(&self.hub, &later, "hello").await;
    }
}

#[actix_rt::test]
async fn calls_for_a_pool_end_when_another_user_founds_a_pool_of_its_name() {
    let world = World::with_long_retention(pooled("al", "lake")).await;
    let take_over = async || {
        let again =
            json!({ "providerSessionId": world.alices.session.as_str(), "providers": [provider("al")] });
        assert_eq!(world.hub.register(&world.alice, &again).await.0, 201);
        world.delete(&world.alice, "/api/v1/names/lake").await;
        world.bob_publishes(pooled("bl", "lake")).await
    };
    world.assert_takeover_ends_calls("lake", take_over).await;
    world.hub.stop().await;
}

#[actix_rt::test]
async fn calls_for_an_agent_end_when_another_user_creates_an_agent_of_its_name() {
    let world = World::with_long_retention(provider("al")).await;
    world.create_agent(&world.alice, "ag", "al").await;
    let take_over = async || {
        world.delete(&world.alice, "/api/v1/agents/ag").await;
        world.delete(&world.alice, "/api/v1/names/ag").await;
        let bobs = world.bob_publishes(provider("bl")).await;
        world.create_agent(&world.bob, "ag", "bl").await;
        bobs
    };
    world.assert_takeover_ends_calls("ag", take_over).await;
    world.hub.stop().await;
}

#[actix_rt::test]
async fn calls_end_when_a_name_beyond_the_limit_is_taken_over() {
    let world = World::new(provider("al"), Duration::from_hours(1), 1).await;
    world.create_agent(&world.alice, "ag", "al").await;
    let take_over = async || {
        for name in ["ag", "other"] {
            if name == "other" {
                world.create_agent(&world.alice, name, "al").await;
            }
            world.delete(&world.alice, &format!("/api/v1/agents/{name}")).await;
        }
        let bobs = world.bob_publishes(provider("bl")).await;
        world.create_agent(&world.bob, "ag", "bl").await;
        bobs
    };
    world.assert_takeover_ends_calls("ag", take_over).await;
    world.hub.stop().await;
}

#[actix_rt::test]
async fn calls_end_when_an_admin_frees_a_name_and_another_user_claims_it() {
    let world = World::with_long_retention(provider("al")).await;
    let take_over = async || {
        world.delete(ADMIN, "/api/v1/llms/al").await;
        world.delete(ADMIN, "/api/v1/names/al").await;
        world.bob_publishes(provider("al")).await
    };
    world.assert_takeover_ends_calls("al", take_over).await;
    world.hub.stop().await;
}

#[actix_rt::test]
async fn calls_end_when_an_admin_transfers_their_name() {
    let world = World::with_long_retention(provider("al")).await;
    let transfer = async || {
        world.ask(ADMIN, "PUT", "/api/v1/names/al", &json!({ "ownerId": "bob" })).await;
        world.bob_publishes(provider("al")).await
    };
    world.assert_takeover_ends_calls("al", transfer).await;
    world.hub.stop().await;
}

/// The calls end although no row of that name exists.
#[actix_rt::test]
async fn calls_end_when_their_name_is_transferred_to_a_user_without_rows() {
    let world = World::with_long_retention(provider("al")).await;
    let transfer = async || {
        world.ask(ADMIN, "PUT", "/api/v1/names/al", &json!({ "ownerId": "bob" })).await;
    };
    world.assert_change_ends_calls(transfer, "al").await;
    world.hub.stop().await;
}

#[actix_rt::test]
async fn calls_end_when_an_expired_name_is_taken_over() {
    let mut world = World::new(provider("al"), Duration::from_millis(50), 1024).await;
    let mut alices = Some(std::mem::replace(
        &mut world.alices,
        Publisher::register(&world.hub, ADMIN, None, &[provider("unrelated")]).await,
    ));
    let expire = async || {
        drop(alices.take());
        eventually("the name is free", async || {
            world.hub.ask("GET", "/api/v1/names/al").send().await.0 == 404
        })
        .await;
        world.bob_publishes(provider("al")).await
    };
    world.assert_takeover_ends_calls("al", expire).await;
    world.hub.stop().await;
}

/// Calls are served if the same owner registers the freed name again.
#[actix_rt::test]
async fn calls_go_on_when_a_freed_name_returns_to_its_owner() {
    let world = World::with_long_retention(provider("al")).await;
    let durable = world.hub.enqueue(&world.carl, "al", false).await;
    let call = world.hub.ask_as(&world.carl, "POST", "/v1/chat/completions").body(chat("al", false));
    let waiting = call.header("x-queue-timeout", "60");
    let (answer, ()) = futures_util::join!(waiting.send(), async {
        world.both_wait().await;
        world.delete(ADMIN, "/api/v1/llms/al").await;
        world.delete(ADMIN, "/api/v1/names/al").await;
        let mut alices = Publisher::start(&world.hub, &world.alice, &[provider("al")], None).await;
        for _ in 0..2 {
            let task = alices.task().await;
            assert_eq!(alices.answer(&world.hub, &task, "hello").await, 200);
        }
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    eventually("the task is completed", async || {
        world.hub.durable_task(&durable).await["status"] == "completed"
    })
    .await;
    world.hub.stop().await;
}

#[actix_rt::test]
async fn a_durable_task_keeps_the_owner_of_its_target_after_a_restart() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let hub = hub_on(store.clone()).await;
    let (alice, carl) = (hub.member("alice").await, hub.member("carl").await);
    let away = Publisher::register(&hub, &alice, None, &[provider("al")]).await;
    let durable = hub.enqueue(&carl, "al", false).await;
    drop(away);
    hub.stop().await;
    let hub = hub_on(store).await;
    let bob = hub.member("bob").await;
    let transfer = hub.ask("PUT", "/api/v1/names/al").body(r#"{ "ownerId": "bob" }"#);
    assert_eq!(transfer.send().await.0, 200);
    let _bobs = Publisher::start(&hub, &bob, &[provider("al")], None).await;
    eventually("the task ends", async || hub.durable_task(&durable).await["status"] == "error").await;
    assert_eq!(hub.durable_task(&durable).await["code"], "model_not_found");
    hub.stop().await;
}
