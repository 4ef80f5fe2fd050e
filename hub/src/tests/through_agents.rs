//! A public agent over its owner's private LLM: it serves, and the LLM stays hidden.

use serde_json::json;

use super::publisher::{Publisher, pooled};
use super::road::chat;
use super::support::{TestHub, eventually, hub};

/// A private row `deep-row` in the pool `deep-pool`.
async fn private(hub: &TestHub, token: &str) -> Publisher {
    let mut hidden = pooled("deep-row", "deep-pool");
    hidden["visibility"] = "private".into();
    Publisher::start(hub, token, &[hidden], Some("cancel, status")).await
}

async fn agent(hub: &TestHub, token: &str, name: &str, llm: &str, visibility: &str) {
    let agent =
        json!({ "name": name, "llmName": llm, "visibility": visibility, "systemPrompt": "Be brief." });
    let ask = hub.ask_as(token, "POST", "/api/v1/agents").body(agent.to_string());
    assert_eq!(ask.send().await.0, 201);
}

/// A34: a stranger uses a private LLM through a public agent of its owner, whole, streamed and durable, and reads
/// nothing of it in heads, lists, events, records or errors.
#[actix_rt::test]
async fn a_public_agent_serves_its_owners_private_llm_and_hides_it() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = private(&hub, &alice).await;
    agent(&hub, &alice, "clerk", "deep-row", "public").await;
    agent(&hub, &alice, "pooler", "deep-pool", "public").await;
    let mut read = String::new();

    for (path, model) in [
        ("/v1/chat/completions", "clerk"),
        ("/api/v1/agents/clerk/infer", "x"),
        ("/v1/chat/completions", "pooler"),
    ] {
        for streaming in [false, true] {
            let call = hub.ask_as(&bob, "POST", path).body(chat(model, streaming));
            let (mut answer, ()) = futures_util::join!(call.open(), async {
                let task = publisher.task().await;
                assert_eq!(task["llmName"], "deep-row");
                assert_eq!(task["request"]["messages"][0]["content"], "Be brief.");
                if streaming {
                    publisher.chunk(&hub, &task, "hello").await;
                    publisher.done(&hub, &task).await;
                } else {
                    publisher.answer(&hub, &task, "hello").await;
                }
            });
            let body = answer.rest().await;
            assert!(answer.status == 200 && body.contains("hello"), "{path} {model}: {body}");
            read += &(answer.head.clone() + &body);
        }
    }
    let enqueue = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(r#"{"llm":"clerk","request":{}}"#);
    let (status, queued) = enqueue.json().await;
    assert_eq!(status, 202);
    let task = publisher.task().await;
    publisher.answer(&hub, &task, "hello").await;
    let path = format!("/api/v1/inference-tasks/{}", queued["id"].as_str().unwrap());
    eventually("the task ends", async || {
        hub.ask_as(&bob, "GET", path.clone()).json().await.1["status"] == "completed"
    })
    .await;
    // What its publisher says of it by name.
    for result in [
        json!({ "error": "provider 'deep-row' did not come up within 5ms" }),
        json!({ "status": 429, "body": { "error": "the queue of 'deep-row' is full" } }),
    ] {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("clerk", false));
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            publisher.post(&hub, &task, &result).await;
        });
        assert!(answer.0 >= 400 && answer.1.contains("'clerk'"), "{answer:?}");
        read += &answer.1;
    }
    // Also after its first word, and of a task that is kept.
    for last in [
        json!({ "error": "provider 'deep-row' died" }),
        json!({ "status": 500, "body": { "error": { "message": "'deep-row' died" } } }),
    ] {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("clerk", true));
        let (mut answer, ()) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            publisher.chunk(&hub, &task, "hello").await;
            publisher.post(&hub, &task, &last).await;
        });
        let body = answer.rest().await;
        assert!(body.contains("'clerk' died"), "{body}");
        read += &body;
    }
    let streaming = r#"{"llm":"clerk","request":{},"streaming":true}"#;
    let (_, queued) = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(streaming).json().await;
    let task = publisher.task().await;
    publisher.chunk(&hub, &task, "hello").await;
    publisher.post(&hub, &task, &json!({ "error": "provider 'deep-row' died" })).await;
    let failed = format!("/api/v1/inference-tasks/{}", queued["id"].as_str().unwrap());
    eventually("the task fails", async || {
        let (_, task) = hub.ask_as(&bob, "GET", failed.clone()).json().await;
        task["error"].as_str().is_some_and(|error| error.contains("'clerk' died"))
    })
    .await;
    for path in [
        path.as_str(),
        "/api/v1/agents",
        "/api/v1/agents/clerk",
        "/api/v1/llms",
        "/v1/models",
        "/api/v1/inference-tasks",
        "/api/v1/audit",
    ] {
        read += &hub.ask_as(&bob, "GET", path).send().await.1;
    }
    let mut events = hub.ask_as(&bob, "GET", "/api/v1/events").open().await;
    read += &events.until("snapshot").await;
    for secret in ["deep-row", "deep-pool", &publisher.session] {
        assert!(!read.contains(secret), "{secret}: {read}");
    }
    let (_, audit) = hub.ask_as(&bob, "GET", "/api/v1/audit?llm=clerk").json().await;
    assert!(audit.as_array().unwrap().len() >= 5, "his calls have the agent's name: {audit}");
    let (_, audit) = hub.ask_as(&bob, "GET", "/api/v1/audit?llm=deep-row").json().await;
    assert_eq!(audit, json!([]), "he cannot ask for what he must not know");
    for method in [("GET", "/api/v1/llms/deep-row"), ("GET", "/api/v1/llms/deep-pool/members")] {
        assert_eq!(hub.ask_as(&bob, method.0, method.1).send().await.0, 404);
    }
    for model in ["deep-row", "deep-pool"] {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat(model, false));
        assert_eq!(call.send().await.0, 404, "by itself it does not exist");
    }
    // Its owner and an admin know what happened there.
    let (_, tasks) = hub.ask_as(&alice, "GET", "/api/v1/llms/deep-row/tasks").json().await;
    assert!(tasks.as_array().unwrap().len() >= 7, "{tasks}");
    assert!(hub.ask("GET", "/api/v1/audit").send().await.1.contains("deep-row"));
    assert!(hub.ask_as(&alice, "GET", "/api/v1/agents/clerk").send().await.1.contains("deep-row"));
    hub.stop().await;
}

/// A37: a public agent opens the row of its owner that it names; no row of a third user, and none if the agent is
/// private.
#[actix_rt::test]
async fn an_agent_opens_only_the_row_of_its_owner_that_it_names() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = private(&hub, &alice).await;
    // Another user's agent, and an admin's, over what is not theirs.
    agent(&hub, &bob, "thief", "deep-row", "public").await;
    agent(&hub, super::support::ADMIN, "office", "deep-row", "public").await;
    // An agent of alice's over a public row that shares the pool.
    let mut open = Publisher::start(&hub, &alice, &[pooled("open-row", "deep-pool")], None).await;
    agent(&hub, &alice, "front", "open-row", "public").await;
    open.close();
    hub.until_status("open-row", "inactive").await;
    let carol = hub.member("carol").await;
    for model in ["thief", "office", "front"] {
        let call = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(chat(model, false));
        let (status, body) = call.send().await;
        assert_eq!(status, 503, "{model}: {body}");
        assert!(!body.contains("deep"), "{body}");
    }
    agent(&hub, &alice, "clerk", "deep-row", "public").await;
    let call = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(chat("clerk", false));
    publisher.serves(&hub, &call, "hello").await;
    let hide = json!({ "llmName": "deep-row", "visibility": "private" }).to_string();
    assert_eq!(hub.ask_as(&alice, "PUT", "/api/v1/agents/clerk").body(hide).send().await.0, 200);
    assert_eq!(call.send().await.0, 404);
    hub.stop().await;
}

/// A34: a call or durable task that was accepted through an agent does not run while the agent is withdrawn, and goes
/// on when it is back.
#[actix_rt::test]
async fn no_call_passes_through_a_withdrawn_agent() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut hidden = super::publisher::provider("deep-row");
    hidden["visibility"] = "private".into();
    hidden["maxConcurrency"] = 1.into();
    let clerk = json!({ "name": "clerk", "llmName": "deep-row", "visibility": "public" });
    let mut publisher =
        Publisher::start(&hub, &alice, std::slice::from_ref(&hidden), Some("cancel, status")).await;
    let session = publisher.session.clone();
    let register = async |agents: &[serde_json::Value]| {
        let body = json!({ "providerSessionId": session, "providers": [hidden], "agents": agents });
        let path = "/api/v1/llms/_provider-register";
        assert_eq!(hub.ask_as(&alice, "POST", path).body(body.to_string()).send().await.0, 201);
    };
    let status = |busy: u32| {
        json!({ "providers": [{ "name": "deep-row", "status": "active", "inFlight": busy, "queued": 0,
            "maxConcurrency": 1 }] })
    };
    register(std::slice::from_ref(&clerk)).await;
    publisher.beat(&hub, status(1)).await;
    let ask = hub.ask_as(&bob, "POST", "/v1/chat/completions").header("x-queue-timeout", "2");
    let waiting = ask.body(chat("clerk", false));
    let waiting = waiting.send();
    futures_util::pin_mut!(waiting);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await.is_err());
    let enqueue = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(r#"{"llm":"clerk","request":{}}"#);
    let (_, queued) = enqueue.json().await;
    let path = format!("/api/v1/inference-tasks/{}", queued["id"].as_str().unwrap());

    register(&[]).await;
    publisher.beat(&hub, status(0)).await;
    let (status_of, body) = waiting.await;
    assert_eq!(status_of, 503, "{body}");
    assert_eq!(hub.ask_as(&bob, "GET", path.clone()).json().await.1["status"], "pending");
    let own = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("deep-row", false));
    let (answer, ()) = futures_util::join!(own.send(), async {
        let task = publisher.task().await;
        assert_eq!(task["request"]["messages"][0]["content"], "hi", "the first that comes is its owner's");
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);

    register(&[clerk]).await;
    publisher.beat(&hub, status(0)).await;
    let task = publisher.task().await;
    publisher.answer(&hub, &task, "hello").await;
    eventually("the task ends", async || {
        hub.ask_as(&bob, "GET", path.clone()).json().await.1["status"] == "completed"
    })
    .await;
    hub.stop().await;
}
