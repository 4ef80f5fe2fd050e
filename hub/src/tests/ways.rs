//! How often a call is tried, and how it ends when its row is withdrawn while it waits.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::http::Ask;
use super::publisher::{Publisher, asleep, pooled, private, provider};
use super::road::chat;
use super::support::{TestHub, hub, hub_with};
use crate::options::PoolPolicy;

fn call(hub: &TestHub, token: &str, model: &str) -> Ask {
    hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(model, false))
}

/// A27: a call to a large pool is tried on 16 members at most; a refusal by the hub itself scans the pool twice.
#[actix_rt::test]
async fn the_tries_of_a_call_are_bounded() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows: Vec<Value> = (0..40).map(|number| pooled(&format!("row-{number}"), "lake")).collect();
    let mut alices = Publisher::start(&hub, &alice, &rows, None).await;
    let failing = call(&hub, &bob, "lake");
    let (answer, tried) = futures_util::join!(failing.json(), async {
        let mut tried = 0;
        while let Ok(task) = timeout(Duration::from_millis(500), alices.task()).await {
            assert_eq!(alices.post(&hub, &task, &json!({ "error": "it broke" })).await, 200);
            tried += 1;
        }
        tried
    });
    assert_eq!((answer.0, tried), (502, 16), "{}", answer.1);
    let scans = || hub.core().registry.lock().pool_scans;
    let before = scans();
    let body = json!({ "model": "lake", "messages": [ { "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "http://10.0.0.1/x.png" } } ] } ] });
    let refused = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(body.to_string());
    assert_eq!(refused.send().await.0, 400);
    assert_eq!(scans() - before, 2);
    let durable = json!({ "llm": "lake", "request": body });
    let (_, task) =
        hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(durable.to_string()).json().await;
    hub.until_task(&task, "code", "invalid_request").await;
    hub.stop().await;
}

/// A34, A37: a call or durable task that waits for a wake is not sent if the row is withdrawn before the wake ends.
#[actix_rt::test]
async fn a_row_withdrawn_while_it_wakes_gets_no_call() {
    for (name, way) in [
        ("lake", "DELETE /api/v1/pools/lake/members/second"),
        ("second", "DELETE /api/v1/llms/second"),
        ("lake", "DELETE /api/v1/llms/second"),
        ("second", "PUT /api/v1/names/second"),
        ("second", "register private"),
        ("desk", "DELETE /api/v1/agents/desk"),
        ("desk", "PUT /api/v1/agents/desk"),
    ] {
        for durable in [false, true] {
            let hub = hub_with(|options| options.pools = PoolPolicy::Ask).await;
            let (alice, bob, carol) =
                (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
            // Alice founds the pool; her row in it is not connected.
            Publisher::register(&hub, &alice, None, &[pooled("first", "lake")]).await;
            let session = Some("sess-bob");
            let row = asleep(pooled("second", "lake"));
            let mut bobs = Publisher::register(&hub, &bob, session, std::slice::from_ref(&row)).await;
            bobs.open(&hub, Some("cancel, status")).await;
            let admit = hub.ask_as(&alice, "PUT", "/api/v1/pools/lake/members/second");
            assert_eq!(admit.send().await.0, 200);
            hub.create_agent(&carol, &json!({ "name": "desk", "llmName": "second", "visibility": "public" }))
                .await;
            let ask = if durable {
                let task = json!({ "llm": name, "request": { "messages": [] } });
                hub.ask_as(&carol, "POST", "/api/v1/inference-tasks").body(task.to_string())
            } else {
                call(&hub, &carol, name)
            };
            let taken = async {
                let wake = bobs.task().await;
                assert_eq!(wake["kind"], "wake", "{wake}");
                let (method, path) = way.split_once(' ').unwrap();
                let (status, answer) = match method {
                    "register" => {
                        let body = json!({ "providerSessionId": session, "providers": [private(row)] });
                        let path = "/api/v1/llms/_provider-register";
                        hub.ask_as(&bob, "POST", path).body(body.to_string()).send().await
                    }
                    "PUT" if path.contains("agents") => {
                        let agent = json!({ "llmName": "first" });
                        hub.ask_as(&carol, "PUT", path).body(agent.to_string()).send().await
                    }
                    "PUT" => hub.ask("PUT", path).body(r#"{"ownerId":"alice"}"#).send().await,
                    _ => hub.ask("DELETE", path).send().await,
                };
                assert!(status < 300, "{way}: {status} {answer}");
                let woken = json!({ "status": 200, "body": { "ok": true, "ms": 1 } });
                bobs.post(&hub, &wake, &woken).await;
                // The wake of a row that was given away is cancelled.
                let task = async {
                    while let Some(event) = bobs.event().await {
                        if event.name() != "cancel" {
                            return event.data;
                        }
                    }
                    String::new()
                };
                timeout(Duration::from_millis(300), task).await.ok()
            };
            let (answer, after) = futures_util::join!(ask.send(), taken);
            assert_eq!(after, None, "{name} {way} {durable}");
            let is_taken_over = (name, way) == ("second", "PUT /api/v1/names/second");
            let expected = match (durable, is_taken_over) {
                (true, _) => 202,
                (false, true) => 404,
                (false, false) => 503,
            };
            assert_eq!(answer.0, expected, "{name} {way}: {}", answer.1);
            hub.stop().await;
        }
    }
}

/// A34: a call through an agent is not sent to the new owner of the name of the agent's LLM.
#[actix_rt::test]
async fn a_waiting_call_does_not_go_to_the_new_owner_of_its_llms_name() {
    let hub = hub().await;
    let (alice, bob, mallory) =
        (hub.member("alice").await, hub.member("bob").await, hub.member("mallory").await);
    let mut bobs = Publisher::start(&hub, &bob, &[provider("brain")], None).await;
    hub.create_agent(
        &alice,
        &json!({ "name": "desk", "llmName": "brain", "visibility": "public", "systemPrompt": "secret" }),
    )
    .await;
    bobs.close();
    hub.until_status("brain", "inactive").await;
    let waiting = call(&hub, &alice, "desk").header("x-queue-timeout", "2");
    let mut waiting = Box::pin(waiting.json());
    assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    let given = hub.ask("PUT", "/api/v1/names/brain").body(r#"{"ownerId":"mallory"}"#);
    assert_eq!(given.send().await.0, 200);
    let mut mallorys = Publisher::start(&hub, &mallory, &[provider("brain")], None).await;
    let (answer, task) = futures_util::join!(waiting, timeout(Duration::from_secs(3), mallorys.task()));
    assert!(task.is_err(), "{task:?}");
    assert_eq!(answer.0, 503, "{}", answer.1);
    hub.stop().await;
}
