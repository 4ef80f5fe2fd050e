//! Which rows a caller may see and use.

use serde_json::json;

use super::http::is_stable;
use super::publisher::{Publisher, pooled, private, provider, report};
use super::road::chat;
use super::support::{eventually, hub};

/// A35: a caller gets the same bytes for a hidden and for an unknown row, on every route that names a row.
#[actix_rt::test]
async fn the_answers_for_a_hidden_and_an_unknown_row_are_the_same_bytes() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let hidden = private(pooled("hidden", "hidden-pool"));
    let _publisher = Publisher::start(&hub, &alice, &[hidden], Some("endpoints")).await;
    for (name, unknown) in [("hidden", "nobody"), ("hidden-pool", "nobody-pool")] {
        for (method, path, body) in [
            ("GET", "/api/v1/llms/NAME", String::new()),
            ("GET", "/api/v1/llms/NAME/members", String::new()),
            ("GET", "/api/v1/llms/NAME/tasks", String::new()),
            ("POST", "/api/v1/llms/NAME/infer", chat("x", false)),
            ("GET", "/v1/models/NAME", String::new()),
            ("POST", "/v1/chat/completions", chat("NAME", true)),
            ("POST", "/v1/embeddings", chat("NAME", false)),
            ("POST", "/v1/messages", chat("NAME", false)),
        ] {
            let ask = |name: &str| {
                hub.ask_as(&bob, method, path.replace("NAME", name)).body(body.replace("NAME", name))
            };
            let mut answers = Vec::new();
            for name in [name, unknown] {
                let mut answer = ask(name).open().await;
                let body = answer.rest().await.replace(name, "NAME");
                let mut head: Vec<_> = answer.head.lines().map(str::to_owned).collect();
                // actix writes headers in random order.
                head.sort();
                let stable = |line: &&String| is_stable(line);
                answers.push((answer.status, head.iter().filter(stable).cloned().collect::<Vec<_>>(), body));
            }
            assert_eq!(answers[0], answers[1], "{method} {path}");
            assert_eq!(answers[0].0, 404);
        }
    }
    for path in ["/api/v1/llms", "/v1/models"] {
        assert!(!hub.ask_as(&bob, "GET", path).send().await.1.contains("hidden"));
        assert!(hub.ask_as(&alice, "GET", path).send().await.1.contains("hidden"));
        assert!(hub.ask("GET", path).send().await.1.contains("hidden"));
    }
    hub.stop().await;
}

/// A37: a call of a pool is not served by a member that the caller cannot see, not even if no other member is left.
#[actix_rt::test]
async fn a_call_on_a_shared_pool_goes_to_members_that_its_caller_may_use() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let secret = private(pooled("secret", "p"));
    let mut bobs = Publisher::start(&hub, &bob, &[pooled("open", "p")], None).await;
    let mut alices = Publisher::start(&hub, &alice, &[secret], None).await;
    for _ in 0..3 {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("p", false));
        bobs.serves(&hub, &call, "hello").await;
    }
    bobs.close();
    hub.until_status("open", "inactive").await;
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("p", false));
    assert_eq!(call.send().await.0, 503, "the private member served bob");
    let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("p", false));
    alices.serves(&hub, &call, "hello").await;
    hub.stop().await;
}

/// A38: new and waiting calls of strangers to a row that becomes private are refused; an answer that has begun goes on.
#[actix_rt::test]
async fn a_row_that_becomes_private_takes_no_calls_of_strangers() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, status")).await;
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", true));
    let (mut answer, task) = publisher.begins(&hub, &call, "one").await;
    // The row has no free capacity, so that the next call waits.
    let full = json!([report("a", "active", 1, 1)]);
    assert_eq!(publisher.beat(&hub, json!({ "providers": full })).await, 200);
    let waiting = call.clone().header("x-queue-timeout", "1").begin().await;
    let enqueue = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(r#"{"llm":"a","request":{}}"#);
    assert_eq!(enqueue.send().await.0, 202);
    let mut private = provider("a");
    private["visibility"] = "private".into();
    let again = Publisher::register(&hub, &alice, Some(&publisher.session), &[private]).await;
    assert_eq!(again.session, publisher.session);
    assert_eq!(call.send().await.0, 404);
    assert_eq!(enqueue.send().await.0, 404);
    // The row has capacity again.
    assert_eq!(publisher.done(&hub, &task).await, 200);
    assert!(answer.rest().await.ends_with("data: [DONE]\n\n"));
    assert_eq!(super::http::Answer::of(waiting).await.status, 503);
    let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("a", false));
    // The publisher's next task is the owner's call.
    publisher.serves(&hub, &call, "hello").await;
    hub.stop().await;
}

/// A38: the streams that a token opened end when it is revoked.
#[actix_rt::test]
async fn a_revoked_tokens_streams_end() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let bob = hub.member("bob").await;
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", true));
    let (mut answer, task) = publisher.begins(&hub, &call, "one").await;
    hub.revoke("bob").await;
    assert!(answer.rest().await.contains("token is not valid"));
    eventually("a chunk gets 410", async || publisher.chunk(&hub, &task, "two").await == 410).await;
    hub.revoke("alice").await;
    assert!(publisher.event().await.is_none());
    hub.stop().await;
}
