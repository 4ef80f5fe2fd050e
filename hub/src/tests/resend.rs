//! A task that is sent again goes only to a member that may serve it now; the same holds of one that nobody has read.

mod unread;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use wire::Features;

use super::http::{Ask, PATIENCE};
use super::publisher::{Publisher, pooled, private, provider};
use super::road::chat;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub_with};
use crate::channels::Receiver;
use crate::cluster::TableTurn;
use crate::model::{Caller, Role};
use crate::options::PoolPolicy;

/// A hub with bob's row `b` and his row `other`, which stays as it is.
struct World {
    hub: TestHub,
    bob: String,
    carl: String,
    dave: String,
    bobs: Publisher,
}

impl World {
    async fn new(row: Value) -> Self {
        let hub = hub_with(|options| options.pools = PoolPolicy::Ask).await;
        let [bob, carl, dave] = [hub.member("bob").await, hub.member("carl").await, hub.member("dave").await];
        let bobs = Publisher::start(&hub, &bob, &[row, provider("other")], Some("cancel")).await;
        Self { hub, bob, carl, dave, bobs }
    }

    fn call(&self, name: &str) -> Ask {
        self.hub.ask_as(&self.carl, "POST", "/v1/chat/completions").body(chat(name, false))
    }

    async fn ask(&self, token: &str, method: &'static str, path: &str, body: &str) {
        let (status, answer) = self.hub.ask_as(token, method, path).body(body).send().await;
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
    }

    /// Bob registers `row` in place of his row `b`, and `agents`.
    async fn registers(&self, row: &Value, agents: &Value) {
        let call = json!({ "providerSessionId": self.bobs.session, "providers": [row, provider("other")],
            "agents": agents });
        assert_eq!(self.hub.register(&self.bob, &call).await.0, 201);
    }

    async fn give(&self) {
        self.ask(ADMIN, "PUT", "/api/v1/names/b", r#"{ "ownerId": "dave" }"#).await;
    }

    /// Bob reads the task of `call`, then comes `change`, then bob opens a new channel. Returns how the call ended: its
    /// task is not sent again.
    async fn ends(&mut self, call: Ask, change: impl AsyncFnOnce(&Self)) -> (u16, String) {
        let waits = async { timeout(PATIENCE, call.send()).await.expect("it waits on") };
        let (answer, ()) = futures_util::join!(waits, async {
            self.bobs.task().await;
            change(self).await;
            self.bobs.open(&self.hub, Some("cancel")).await;
        });
        self.gets_only_later().await;
        answer
    }

    /// The next task that bob gets is of a later call.
    async fn gets_only_later(&mut self) {
        let later = self.hub.ask_as(&self.carl, "POST", "/v1/chat/completions").body(chat("other", false));
        let ((status, answer), task) = futures_util::join!(later.send(), async {
            let task = loop {
                let event = self.bobs.event().await.unwrap();
                if event.name() == "task" {
                    break serde_json::from_str::<Value>(&event.data).unwrap();
                }
            };
            self.bobs.answer(&self.hub, &task, "hello").await;
            task
        });
        assert_eq!((status, &task["llmName"]), (200, &json!("other")), "{answer}");
    }
}

#[track_caller]
fn assert_ended((status, answer): &(u16, String), expected: u16, code: &str) {
    assert_eq!(*status, expected, "{answer}");
    assert!(answer.contains(code), "{answer}");
}

/// A38: the former owner of a name does not get the task a second time.
#[actix_rt::test]
async fn a_task_for_a_name_with_another_owner_is_not_sent_again() {
    let mut world = World::new(provider("b")).await;
    let call = world.call("b");
    let answer = world.ends(call, World::give).await;
    assert_ended(&answer, 404, "model_not_found");
    world.hub.stop().await;
}

/// A38: nobody gets what was for a deleted row.
#[actix_rt::test]
async fn a_task_of_a_deleted_row_is_not_sent_again() {
    let mut world = World::new(provider("b")).await;
    let call = world.call("b");
    let delete = async |world: &World| world.ask(ADMIN, "DELETE", "/api/v1/llms/b", "").await;
    let answer = world.ends(call, delete).await;
    assert_ended(&answer, 503, "publisher_away");
    world.hub.stop().await;
}

/// A38: a row that became private gets no more tasks of other users.
#[actix_rt::test]
async fn a_task_of_a_row_made_private_is_not_sent_again() {
    let mut world = World::new(provider("b")).await;
    let call = world.call("b");
    let hide = async |world: &World| world.registers(&private(provider("b")), &json!([])).await;
    let answer = world.ends(call, hide).await;
    assert_ended(&answer, 503, "publisher_away");
    world.hub.stop().await;
}

fn open_row(is_open: bool) -> Value {
    let mut row = provider("b");
    row["allowRemoteUrls"] = is_open.into();
    row
}

fn with_address(name: &str) -> String {
    json!({ "model": name, "messages": [ { "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "http://127.0.0.1/x" } } ] } ] })
    .to_string()
}

/// A38: what the row's owner allowed no longer is refused as on a new call.
#[actix_rt::test]
async fn a_task_that_its_row_no_longer_allows_is_refused_instead_of_sent_again() {
    let mut world = World::new(open_row(true)).await;
    let call = world.call("b").body(with_address("b"));
    let narrow = async |world: &World| world.registers(&open_row(false), &json!([])).await;
    let answer = world.ends(call, narrow).await;
    let new = world.call("b").body(with_address("b")).send().await;
    assert_eq!((answer.0, &answer), (400, &new));
    world.hub.stop().await;
}

/// A38: the other members of the pool are tried, as after a refusal.
#[actix_rt::test]
async fn a_task_that_its_row_no_longer_allows_goes_to_another_member() {
    let pool = |mut row: Value| {
        row["poolName"] = "p".into();
        row
    };
    let mut world = World::new(pool(open_row(true))).await;
    let call = world.call("p").body(with_address("p"));
    let mut second = open_row(true);
    second["name"] = "b2".into();
    let (answer, ()) = futures_util::join!(call.send(), async {
        assert_eq!(world.bobs.task().await["llmName"], "b");
        let mut others = Publisher::start(&world.hub, &world.bob, &[pool(second)], Some("cancel")).await;
        world.registers(&pool(open_row(false)), &json!([])).await;
        world.bobs.open(&world.hub, Some("cancel")).await;
        let task = others.task().await;
        others.answer(&world.hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    world.hub.stop().await;
}

/// A37: a row that left the pool gets no more of its calls.
#[actix_rt::test]
async fn a_task_of_a_row_removed_from_its_pool_is_not_sent_again() {
    let mut world = World::new(provider("b")).await;
    let alice = world.hub.member("alice").await;
    let _alices = Publisher::register(&world.hub, &alice, None, &[pooled("a", "p")]).await;
    world.registers(&pooled("b", "p"), &json!([])).await;
    world.bobs.open(&world.hub, Some("cancel")).await;
    world.ask(&alice, "PUT", "/api/v1/pools/p/members/b", "").await;
    let call = world.call("p");
    let remove = async |world: &World| world.ask(&alice, "DELETE", "/api/v1/pools/p/members/b", "").await;
    let answer = world.ends(call, remove).await;
    assert_ended(&answer, 503, "publisher_away");
    world.hub.stop().await;
}

/// A34: an agent opens its owner's private row only while it is there.
#[actix_rt::test]
async fn a_task_of_a_withdrawn_agent_is_not_sent_again() {
    let row = private(provider("b"));
    let mut world = World::new(row.clone()).await;
    let agent = json!([{ "name": "ag", "llmName": "b", "visibility": "public" }]);
    world.registers(&row, &agent).await;
    let call = world.call("ag");
    let withdraw = async |world: &World| world.registers(&row, &json!([])).await;
    let answer = world.ends(call, withdraw).await;
    assert_ended(&answer, 503, "publisher_away");
    world.hub.stop().await;
}

/// A38: the same of a durable task.
#[actix_rt::test]
async fn a_durable_task_for_a_name_with_another_owner_is_not_sent_again() {
    let mut world = World::new(provider("b")).await;
    let durable = world.hub.enqueue(&world.carl, "b", false).await;
    world.bobs.task().await;
    world.give().await;
    world.bobs.open(&world.hub, Some("cancel")).await;
    eventually("it ends", async || world.hub.durable_task(&durable).await["status"] == "error").await;
    assert_eq!(world.hub.durable_task(&durable).await["code"], "model_not_found");
    world.gets_only_later().await;
    world.hub.stop().await;
}

/// A38: a call that the former owner has read ends as usual.
#[actix_rt::test]
async fn a_call_that_was_read_is_not_affected_by_a_new_owner() {
    let mut world = World::new(provider("b")).await;
    let call = world.call("b");
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = world.bobs.task().await;
        world.give().await;
        assert_eq!(world.bobs.answer(&world.hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    world.hub.stop().await;
}

/// P2, A38: the results of a former owner's tasks free no capacity of the new owner's row.
#[actix_rt::test]
async fn tasks_of_a_former_owner_do_not_count_on_the_row_of_the_new_one() {
    let world = World::new(provider("b")).await;
    let (old, new) = (world.call("b"), world.call("b"));
    let World { hub, mut bobs, dave, .. } = world;
    let core = hub.core();
    let in_flight = || core.registry.lock().in_flight("b");
    let (old, new, ()) = futures_util::join!(
        old.send(),
        async {
            // Begins when the row is dave's.
            hub.until_owned("b", "dave", "active").await;
            new.send().await
        },
        async {
            let first = bobs.task().await;
            let give = hub.ask("PUT", "/api/v1/names/b").body(r#"{ "ownerId": "dave" }"#);
            assert_eq!(give.send().await.0, 200);
            let mut daves = Publisher::start(&hub, &dave, &[provider("b")], None).await;
            let second = daves.task().await;
            assert_eq!(in_flight(), 1);
            assert_eq!(bobs.answer(&hub, &first, "hello").await, 200);
            assert_eq!(in_flight(), 1);
            assert_eq!(daves.answer(&hub, &second, "hello").await, 200);
            assert_eq!(in_flight(), 0);
        }
    );
    assert_eq!((old.0, new.0), (200, 200), "{} {}", old.1, new.1);
    hub.stop().await;
}
