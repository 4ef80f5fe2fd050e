//! What a token began ends with it: calls, those who wait for room, durable tasks that wait and that run.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::timeout;
use wire::row::Timestamp;

use super::http::PATIENCE;
use super::publisher::{Publisher, chunk, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub, hub_on};
use crate::model::{DurableTask, TaskStatus, Token};
use crate::store::{Change, SqliteStore, Store};

/// Two tokens of one user: ids and secrets.
async fn two_tokens(hub: &TestHub, user: &str) -> [(String, String); 2] {
    let make = async || {
        let body = json!({ "user": user }).to_string();
        let (status, made) = hub.ask("POST", "/api/v1/tokens").body(body).json().await;
        assert_eq!(status, 201);
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    };
    [make().await, make().await]
}

async fn revoke(hub: &TestHub, id: &str) {
    assert_eq!(hub.ask("DELETE", format!("/api/v1/tokens/{id}")).send().await.0, 204);
}

async fn enqueue(hub: &TestHub, token: &str, llm: &str) -> String {
    let body = json!({ "llm": llm, "request": { "messages": [] } }).to_string();
    let (status, task) = hub.ask_as(token, "POST", "/api/v1/inference-tasks").body(body).json().await;
    assert_eq!(status, 202, "{task}");
    task["id"].as_str().unwrap().to_owned()
}

async fn task(hub: &TestHub, id: &str) -> Value {
    hub.ask("GET", format!("/api/v1/inference-tasks/{id}")).json().await.1
}

async fn until_revoked(hub: &TestHub, id: &str) {
    eventually("the task ends with its token", async || task(hub, id).await["status"] == "error").await;
    assert_eq!(task(hub, id).await["code"], "invalid_api_key");
}

/// In each dialect, whole and streamed, before the first content; calls of the user's other token go on.
#[actix_rt::test]
async fn a_call_ends_with_its_token() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, endpoints")).await;
    for (path, stream) in [
        ("/v1/chat/completions", false),
        ("/v1/chat/completions", true),
        ("/v1/messages", false),
        ("/v1/responses", true),
        ("/api/v1/llms/a/infer", false),
    ] {
        let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
        let ask = |token: &str| hub.ask_as(token, "POST", path).body(chat("a", stream));
        let (mut ended, mut goes_on, stayed) = futures_util::join!(
            async { ask(&ends).open().await },
            async { ask(&stays).open().await },
            async {
                let both = [publisher.task().await, publisher.task().await];
                revoke(&hub, &id).await;
                let cancelled = publisher.cancelled().await;
                let stayed = both.iter().find(|task| task["taskId"] != cancelled.as_str()).unwrap().clone();
                assert_eq!(publisher.answer(&hub, &stayed, "hello").await, 200);
                stayed
            }
        );
        assert!(stayed["taskId"].is_string());
        let text = ended.rest().await;
        assert_eq!(ended.status, 401, "{path} {stream}: {text}");
        assert!(text.contains("not valid any more"), "{text}");
        let text = goes_on.rest().await;
        assert_eq!(goes_on.status, 200, "{path} {stream}: {text}");
    }
    hub.stop().await;
}

/// Nothing of the call is sent.
#[actix_rt::test]
async fn a_waiting_call_ends_with_its_token() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, status")).await;
    let room = |busy: u32| {
        json!({ "providers": [ { "name": "a", "status": "active", "inFlight": busy, "queued": 0,
            "maxConcurrency": 1 } ] })
    };
    assert_eq!(publisher.beat(&hub, room(1)).await, 200);
    let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
    let ask = |token: &str| {
        let ask = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat("a", false));
        ask.header("x-queue-timeout", "60")
    };
    let first = async { timeout(PATIENCE, ask(&ends).send()).await.expect("it waits on") };
    let first = futures_util::join!(first, async {
        eventually("it waits", async || {
            let (_, tasks) = hub.ask("GET", "/api/v1/inference-tasks").json().await;
            tasks.as_array().unwrap().len() == 1
        })
        .await;
        revoke(&hub, &id).await;
    });
    assert_eq!(first.0.0, 401, "{}", first.0.1);
    let second = ask(&stays);
    let (second, ()) = futures_util::join!(second.send(), async {
        assert_eq!(publisher.beat(&hub, room(0)).await, 200);
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(second.0, 200, "{}", second.1);
    hub.stop().await;
}

/// Pending and running tasks end; those of the user's other token do not.
#[actix_rt::test]
async fn durable_tasks_end_with_their_token() {
    let hub = hub().await;
    let mut publisher =
        Publisher::start(&hub, ADMIN, &[provider("here"), provider("other")], Some("cancel")).await;
    let away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
    let running = enqueue(&hub, &ends, "here").await;
    let sent = publisher.task().await;
    let (waiting, others) = (enqueue(&hub, &ends, "away").await, enqueue(&hub, &stays, "away").await);
    revoke(&hub, &id).await;
    assert_eq!(publisher.cancelled().await, sent["taskId"].as_str().unwrap());
    for ended in [&running, &waiting] {
        until_revoked(&hub, ended).await;
    }
    assert_eq!(publisher.answer(&hub, &sent, "late").await, 410);
    assert_eq!(task(&hub, &others).await["status"], "pending");
    let mut back = away;
    back.open(&hub, None).await;
    let taken = back.task().await;
    assert_eq!(back.answer(&hub, &taken, "hello").await, 200);
    eventually("the other token's task ends well", async || {
        task(&hub, &others).await["status"] == "completed"
    })
    .await;
    hub.stop().await;
}

fn stored(id: &str, owner: &str, target: &str, token: Option<&str>) -> DurableTask {
    DurableTask {
        id: id.into(),
        owner: owner.into(),
        token: token.map(str::to_owned),
        target: target.into(),
        state: TaskStatus::Pending,
        request: Some(r#"{"messages":[]}"#.into()),
        streaming: false,
        llm: None,
        session: None,
        result: None,
        error: None,
        code: None,
        created_at: crate::clock::now(),
        updated_at: crate::clock::now(),
    }
}

/// A task of an older version, without a token, lives as long as its owner has one.
#[actix_rt::test]
async fn a_revocation_reaches_tasks_from_before_a_restart() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let hub = hub_on(store.clone()).await;
    let _away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
    let (first, second) = (enqueue(&hub, &ends, "away").await, enqueue(&hub, &stays, "away").await);
    hub.stop().await;
    let mut tokens = store.load().await.unwrap().tokens;
    let mut token = tokens.remove(tokens.iter().position(|token| token.id == id).unwrap());
    token.revoked_at = Some(Timestamp(1));
    let gone = Token { id: "tok-gone".into(), hash: [7; 32], user: "gone".into(), ..token.clone() };
    let old = |id: &str, owner: &str| Change::PutTask(Box::new(stored(id, owner, "away", None)));
    let olds = [old("o1", "bob"), old("o2", "nobody"), old("o3", "gone")];
    store
        .write([Change::PutToken(token), Change::PutToken(gone)].into_iter().chain(olds).collect())
        .await
        .unwrap();
    let hub = hub_on(store.clone()).await;
    for ended in [first.as_str(), "o2", "o3"] {
        until_revoked(&hub, ended).await;
    }
    for waits in [second.as_str(), "o1"] {
        assert_eq!(task(&hub, waits).await["status"], "pending", "{waits}");
    }
    hub.stop().await;
}

/// A task of a former admin goes where its owner may send one now.
#[actix_rt::test]
async fn a_task_is_routed_by_the_role_at_its_claim() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let hub = hub_on(store.clone()).await;
    let alice = hub.member("alice").await;
    let mut secret = provider("secret");
    secret["visibility"] = "private".into();
    let mut publisher = Publisher::register(&hub, &alice, None, &[secret.clone()]).await;
    hub.member("bob").await;
    // Bob was an admin when he sent it, by the word of an older version: he is a member now.
    store.write(vec![Change::PutTask(Box::new(stored("o1", "bob", "secret", None)))]).await.unwrap();
    hub.stop().await;
    let hub = hub_on(store.clone()).await;
    publisher.open(&hub, Some("cancel")).await;
    // His came before hers: when the second of hers is claimed, a look at it was had.
    for _ in 0..2 {
        let own = enqueue(&hub, &alice, "secret").await;
        let taken = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &taken, "hello").await, 200);
        let done = async || task(&hub, &own).await["status"] == "completed";
        eventually("alice's own task ends well", done).await;
    }
    assert_eq!(task(&hub, "o1").await["status"], "pending");
    hub.stop().await;
}

/// Pending and running durable tasks, and waiting and running calls.
#[actix_rt::test]
async fn calls_and_tasks_end_when_their_token_expires() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let _away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let body = json!({ "user": "bob", "expires": "2s" }).to_string();
    let (_, made) = hub.ask("POST", "/api/v1/tokens").body(body).json().await;
    let (token, made_at) = (made["token"].as_str().unwrap(), tokio::time::Instant::now());
    let waits = enqueue(&hub, token, "away").await;
    let runs = enqueue(&hub, token, "a").await;
    publisher.task().await;
    let ask = |stream| hub.ask_as(token, "POST", "/v1/chat/completions").body(chat("a", stream));
    let (mut whole, mut stream) = timeout(PATIENCE, async {
        futures_util::join!(async { ask(false).open().await }, async { ask(true).open().await })
    })
    .await
    .unwrap();
    let texts = [whole.rest().await, stream.rest().await];
    assert_eq!((whole.status, stream.status), (401, 401), "{texts:?}");
    until_revoked(&hub, &waits).await;
    until_revoked(&hub, &runs).await;
    let took = made_at.elapsed().as_secs_f64();
    assert!((1.9..5.0).contains(&took), "{took} s");
    hub.stop().await;
}

/// A38: an upload ends with its publisher's token, without an end mark.
#[actix_rt::test]
async fn an_upload_ends_with_its_publishers_token() {
    let hub = hub().await;
    let [(id, alice), _] = two_tokens(&hub, "alice").await;
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, result-stream")).await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
    let (mut stream, mut upload) = futures_util::join!(ask.open(), async {
        let task = publisher.task().await;
        let mut upload = hub.ask_as(&alice, "POST", Publisher::upload_path(&task)).upload().await;
        upload.write(&format!("data: {}\n\n", chunk("one"))).await;
        upload
    });
    stream.until("one").await;
    revoke(&hub, &id).await;
    let rest = timeout(PATIENCE, stream.rest()).await.expect("it goes on");
    assert!(rest.contains("broke off") && !rest.contains("[DONE]"), "{rest}");
    upload.write(&format!("data: {}\n\n", chunk("two"))).await;
    assert_eq!(upload.answer().await.0, 401);
    hub.stop().await;
}

/// A38: a request whose body ends after its token was revoked does nothing, on any route.
#[actix_rt::test]
async fn a_body_that_outlives_its_token_does_nothing() {
    let hub = hub().await;
    let agent = json!({ "name": "late", "llmName": "a" });
    let register = json!({ "provider_session_id": "late", "providers": [provider("late")] });
    let task = json!({ "llm": "a", "request": { "messages": [] } });
    let _here = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    for (method, path, body) in [
        ("POST", "/api/v1/tokens", json!({ "user": "eve", "role": "admin" })),
        ("POST", "/api/v1/agents", agent),
        ("POST", "/api/v1/llms/_provider-register", register),
        ("PUT", "/api/v1/names/a", json!({ "ownerId": "eve" })),
        ("POST", "/api/v1/inference-tasks", task),
        ("POST", "/v1/chat/completions", serde_json::from_str(&chat("a", false)).unwrap()),
    ] {
        let made = json!({ "user": "root", "role": "admin" }).to_string();
        let (_, made) = hub.ask("POST", "/api/v1/tokens").body(made).json().await;
        let body = body.to_string();
        let (first, rest) = body.split_at(5);
        let mut upload = hub.ask_as(made["token"].as_str().unwrap(), method, path).upload().await;
        upload.write(first).await;
        revoke(&hub, made["id"].as_str().unwrap()).await;
        upload.write(rest).await;
        let (status, text) = upload.finish().await;
        assert_eq!(status, 401, "{path}: {text}");
        assert!(text.contains("not valid any more"), "{path}: {text}");
    }
    let (_, tokens) = hub.ask("GET", "/api/v1/tokens").json().await;
    assert!(!tokens.to_string().contains("eve"), "{tokens}");
    hub.stop().await;
}
