//! A public agent for its owner's private LLM: it serves everybody, and the LLM stays hidden.

use serde_json::json;

use super::publisher::{Publisher, pooled, private, report};
use super::road::chat;
use super::support::{TASKS, TestHub, hub};

/// Starts a publisher of the private row `deep-row` in the pool `deep-pool`.
async fn publish_private_row(hub: &TestHub, token: &str) -> Publisher {
    let hidden = private(pooled("deep-row", "deep-pool"));
    Publisher::start(hub, token, &[hidden], Some("cancel, status")).await
}

async fn create_agent(hub: &TestHub, token: &str, name: &str, llm: &str, visibility: &str) {
    hub.create_agent(
        token,
        &json!({ "name": name, "llmName": llm, "visibility": visibility, "systemPrompt": "Be brief." }),
    )
    .await;
}

/// A34: a stranger uses a private LLM through its owner's public agent, whole, streamed and durable; no header, list,
/// event, record or error reveals the LLM.
#[actix_rt::test]
async fn a_public_agent_serves_its_owners_private_llm_and_hides_it() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = publish_private_row(&hub, &alice).await;
    create_agent(&hub, &alice, "clerk", "deep-row", "public").await;
    create_agent(&hub, &alice, "pooler", "deep-pool", "public").await;
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
    hub.until_task(&queued, "status", "completed").await;
    // Errors of the publisher name the row; the agent's name replaces it.
    for result in [
        json!({ "error": "provider 'deep-row' did not come up within 5ms" }),
        json!({ "status": 429, "body": { "error": "the queue of 'deep-row' is full" } }),
    ] {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("clerk", false));
        let answer = publisher.post_for(&hub, &call, &result).await.text().await;
        assert!(answer.0 >= 400 && answer.1.contains("'clerk'"), "{answer:?}");
        read += &answer.1;
    }
    // The same holds after the first chunk and for a durable task.
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
    let (_, failed) = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(streaming).json().await;
    let task = publisher.task().await;
    publisher.chunk(&hub, &task, "hello").await;
    publisher.post(&hub, &task, &json!({ "error": "provider 'deep-row' died" })).await;
    hub.until_task(&failed, "status", "error").await;
    let failed = format!("{TASKS}/{}", failed["id"].as_str().unwrap());
    let (_, failed) = hub.ask_as(&bob, "GET", failed).json().await;
    assert!(failed["error"].as_str().unwrap().contains("'clerk' died"), "{failed}");
    for path in [
        format!("{TASKS}/{}", queued["id"].as_str().unwrap()).as_str(),
        "/api/v1/agents",
        "/api/v1/agents/clerk",
        "/api/v1/llms",
        "/v1/models",
        "/api/v1/inference-tasks",
        "/api/v1/audit",
        "/api/v1/usage?by=llm",
    ] {
        read += &hub.ask_as(&bob, "GET", path).send().await.1;
    }
    let mut events = hub.ask_as(&bob, "GET", "/api/v1/events").open().await;
    read += &events.until("snapshot").await;
    for secret in ["deep-row", "deep-pool", &publisher.session] {
        assert!(!read.contains(secret), "{secret}: {read}");
    }
    let (_, audit) = hub.ask_as(&bob, "GET", "/api/v1/audit?llm=clerk").json().await;
    assert!(
        audit.as_array().unwrap().len() >= 5,
        "records of the stranger's calls lack the agent's name: {audit}"
    );
    let (_, audit) = hub.ask_as(&bob, "GET", "/api/v1/audit?llm=deep-row").json().await;
    assert_eq!(audit, json!([]), "the stranger finds records by the hidden row's name");
    for method in [("GET", "/api/v1/llms/deep-row"), ("GET", "/api/v1/llms/deep-pool/members")] {
        assert_eq!(hub.ask_as(&bob, method.0, method.1).send().await.0, 404);
    }
    for model in ["deep-row", "deep-pool"] {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat(model, false));
        assert_eq!(call.send().await.0, 404, "the hidden row can be called by its own name");
    }
    // The LLM's owner and an admin see the calls of the row.
    let (_, tasks) = hub.ask_as(&alice, "GET", "/api/v1/llms/deep-row/tasks").json().await;
    assert!(tasks.as_array().unwrap().len() >= 7, "{tasks}");
    assert!(hub.ask("GET", "/api/v1/audit").send().await.1.contains("deep-row"));
    assert!(hub.ask_as(&alice, "GET", "/api/v1/agents/clerk").send().await.1.contains("deep-row"));
    hub.stop().await;
}

/// A37: a public agent gives access to the private row that it names if both have one owner, and to no other row.
#[actix_rt::test]
async fn an_agent_gives_access_only_to_the_row_of_its_owner_that_it_names() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = publish_private_row(&hub, &alice).await;
    // Agents of another user and of an admin name alice's private row.
    create_agent(&hub, &bob, "thief", "deep-row", "public").await;
    create_agent(&hub, super::support::ADMIN, "office", "deep-row", "public").await;
    // An agent of alice names her public row in the pool of the private one.
    let mut open = Publisher::start(&hub, &alice, &[pooled("open-row", "deep-pool")], None).await;
    create_agent(&hub, &alice, "front", "open-row", "public").await;
    open.close();
    hub.until_status("open-row", "inactive").await;
    let carol = hub.member("carol").await;
    for model in ["thief", "office", "front"] {
        let call = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(chat(model, false));
        let (status, body) = call.send().await;
        assert_eq!(status, 503, "{model}: {body}");
        assert!(!body.contains("deep"), "{body}");
    }
    create_agent(&hub, &alice, "clerk", "deep-row", "public").await;
    let call = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(chat("clerk", false));
    publisher.serves(&hub, &call, "hello").await;
    let hide = json!({ "llmName": "deep-row", "visibility": "private" }).to_string();
    assert_eq!(hub.ask_as(&alice, "PUT", "/api/v1/agents/clerk").body(hide).send().await.0, 200);
    assert_eq!(call.send().await.0, 404);
    hub.stop().await;
}

/// A34: a call or durable task that waits through an agent does not run while the agent is not registered; the durable
/// task runs when the agent is back.
#[actix_rt::test]
async fn no_call_runs_through_an_agent_that_is_not_registered() {
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
    let status = |busy: u32| json!({ "providers": [report("deep-row", "active", busy, 1)] });
    register(std::slice::from_ref(&clerk)).await;
    publisher.beat(&hub, status(1)).await;
    let ask = hub.ask_as(&bob, "POST", "/v1/chat/completions").header("x-queue-timeout", "2");
    let waiting = ask.body(chat("clerk", false));
    let waiting = waiting.send();
    futures_util::pin_mut!(waiting);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await.is_err());
    let enqueue = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(r#"{"llm":"clerk","request":{}}"#);
    let (_, queued) = enqueue.json().await;

    register(&[]).await;
    publisher.beat(&hub, status(0)).await;
    let (status_of, body) = waiting.await;
    assert_eq!(status_of, 503, "{body}");
    hub.until_task(&queued, "status", "pending").await;
    let own = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("deep-row", false));
    let task = publisher.serves(&hub, &own, "hello").await;
    assert_eq!(task["request"]["messages"][0]["content"], "hi", "the stranger's call ran");

    register(&[clerk]).await;
    publisher.beat(&hub, status(0)).await;
    let task = publisher.task().await;
    publisher.answer(&hub, &task, "hello").await;
    hub.until_task(&queued, "status", "completed").await;
    hub.stop().await;
}
