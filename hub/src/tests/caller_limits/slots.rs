//! Calls at a time: a slot is free again when its call has ended, however it ended.

use super::*;
use crate::tests::publisher::{completion, pooled};
use crate::tests::support::eventually;

fn stream(hub: &TestHub, token: &str, llm: &str) -> Ask {
    let body = json!({ "model": llm, "messages": [], "stream": true });
    hub.ask_as(token, "POST", "/v1/chat/completions").body(body.to_string())
}

/// A27: each ending of a call frees its slot: an answer, an error, a refusal, a caller that left, a lost publisher, a revoked token.
#[actix_rt::test]
async fn every_ending_of_a_call_frees_its_slot() {
    let hub = hub().await;
    let rows = [provider("a"), pooled("p1", "p"), pooled("p2", "p")];
    let mut publisher = Publisher::start(&hub, ADMIN, &rows, Some("cancel")).await;
    let (bob, _) = limited(&hub, "bob", &json!({ "maxConcurrent": 1 })).await;
    let whole = chat(&hub, &bob, "a");
    let streamed = stream(&hub, &bob, "a");
    let refused = async || {
        let answer = whole.open().await;
        assert_eq!((answer.status, header(&answer.head, "retry-after")), (429, Some("5")));
        let error = answer.json().await.1;
        let text = "an admin allows you no more than 1 call at a time: wait for one to end";
        assert_eq!(error["error"]["message"], text);
    };
    // An error, and a failed member before the second one answers.
    assert_eq!(publisher.post_for(&hub, &whole, &json!({ "error": "it broke" })).await.status, 502);
    let pooled = chat(&hub, &bob, "p");
    let (answer, ()) = futures_util::join!(pooled.send(), async {
        let task = publisher.task().await;
        publisher.post(&hub, &task, &json!({ "error": "it broke" })).await;
        let task = publisher.task().await;
        refused().await;
        publisher.post(&hub, &task, &json!({ "status": 200, "body": completion("hi") })).await;
    });
    assert_eq!(answer.0, 200);
    // A request that is refused before it is sent.
    let odd = hub.ask_as(&bob, "POST", "/v1/embeddings").body(r#"{"model":"a","input":""}"#);
    assert_eq!(odd.send().await.0, 400);
    // A stream that ends, and one whose caller leaves.
    let (answer, task) = publisher.begins(&hub, &streamed, "one").await;
    refused().await;
    publisher.done(&hub, &task).await;
    answer.text().await;
    let (answer, _) = publisher.begins(&hub, &streamed, "one").await;
    drop(answer);
    publisher.cancelled().await;
    // A caller that leaves before the first content.
    let waiting = whole.begin().await;
    publisher.task().await;
    refused().await;
    drop(waiting);
    publisher.cancelled().await;
    publisher.serves(&hub, &whole, "hi").await;
    // A publisher that is lost.
    let (answer, _) = publisher.begins(&hub, &streamed, "one").await;
    hub.core().lose_all();
    answer.text().await;
    publisher.serves(&hub, &whole, "hi").await;
    // A token that is revoked, of a user whose limit counts all its tokens.
    set_user(&hub, "bob", &json!({ "maxConcurrent": 1 })).await;
    let (other, id) = limited(&hub, "bob", &json!({})).await;
    let (answer, _) = publisher.begins(&hub, &stream(&hub, &other, "a"), "one").await;
    refused().await;
    assert_eq!(hub.ask("DELETE", format!("/api/v1/tokens/{id}")).send().await.0, 204);
    answer.text().await;
    publisher.cancelled().await;
    publisher.serves(&hub, &whole, "hi").await;
    hub.stop().await;
}

fn bob_caller(hub: &TestHub, secret: &str) -> crate::model::Caller {
    hub.core().tokens.caller(secret, crate::clock::now()).unwrap()
}

/// A27: durable tasks wait for a slot of their user, and those of others do not wait behind them.
#[actix_rt::test]
async fn durable_tasks_wait_for_a_slot_of_their_user() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let (bob, _) = limited(&hub, "bob", &json!({ "maxConcurrent": 1 })).await;
    let (answer, task) = publisher.begins(&hub, &stream(&hub, &bob, "a"), "one").await;
    let waits = hub.enqueue(&bob, "a", false).await;
    let carol = hub.member("carol").await;
    let runs = hub.enqueue(&carol, "a", false).await;
    let of_carol = publisher.task().await;
    assert_eq!(hub.durable_task(&waits).await["status"], "pending");
    publisher.answer(&hub, &of_carol, "hi").await;
    hub.until_task(&json!({ "id": runs }), "status", "completed").await;
    publisher.done(&hub, &task).await;
    answer.text().await;
    let of_bob = publisher.task().await;
    // A running task takes the slot.
    assert_eq!(chat(&hub, &bob, "a").send().await.0, 429);
    publisher.answer(&hub, &of_bob, "hi").await;
    hub.until_task(&json!({ "id": waits }), "status", "completed").await;
    eventually("the slot is free", async || {
        let limits = hub.core().tokens.limits();
        limits.admit(&bob_caller(&hub, &bob), hub.core().now()).is_ok()
    })
    .await;
    hub.stop().await;
}

/// A27: durable tasks of a token at a limit do not hold up those of the user's other tokens.
#[actix_rt::test]
async fn a_durable_task_does_not_wait_behind_one_whose_token_is_at_a_limit() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let (one, _) = limited(&hub, "bob", &json!({ "maxConcurrent": 1 })).await;
    let (other, _) = limited(&hub, "bob", &json!({})).await;
    let (answer, task) = publisher.begins(&hub, &stream(&hub, &one, "a"), "one").await;
    let waits = [hub.enqueue(&one, "a", false).await, hub.enqueue(&one, "a", false).await];
    let runs = hub.enqueue(&other, "a", false).await;
    let of_other = publisher.task().await;
    publisher.answer(&hub, &of_other, "hi").await;
    hub.until_task(&json!({ "id": runs }), "status", "completed").await;
    for id in &waits {
        assert_eq!(hub.durable_task(id).await["status"], "pending");
    }
    publisher.done(&hub, &task).await;
    answer.text().await;
    for id in waits {
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hi").await;
        hub.until_task(&json!({ "id": id }), "status", "completed").await;
    }
    hub.stop().await;
}
