//! Calls and durable tasks end when the token that started them is revoked.

mod later;

use std::sync::Arc;

use serde_json::json;
use tokio::time::timeout;
use wire::row::Timestamp;

use super::http::PATIENCE;
use super::publisher::{Publisher, provider, report};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub, hub_on};
use crate::model::{DurableTask, TaskStatus, Token};
use crate::store::{Change, SqliteStore, Store};

/// Creates two tokens of one user. Returns the id and the secret of each.
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

async fn until_revoked(hub: &TestHub, id: &str) {
    eventually("the task ends with its token", async || hub.durable_task(id).await["status"] == "error")
        .await;
    assert_eq!(hub.durable_task(id).await["code"], "invalid_api_key");
}

/// A running call without content gets 401 in each dialect, whole and streamed; calls of the user's other token go on.
#[actix_rt::test]
async fn a_running_call_ends_when_its_token_is_revoked() {
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

/// A call that waits for capacity gets 401, and its task is not sent when there is capacity.
#[actix_rt::test]
async fn a_waiting_call_ends_when_its_token_is_revoked() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, status")).await;
    let report = |busy: u32| json!({ "providers": [ report("a", "active", busy, 1) ] });
    assert_eq!(publisher.beat(&hub, report(1)).await, 200);
    let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
    let ask = |token: &str| {
        let ask = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat("a", false));
        ask.header("x-queue-timeout", "60")
    };
    let first = async { timeout(PATIENCE, ask(&ends).send()).await.expect("the waiting call ends") };
    let first = futures_util::join!(first, async {
        eventually("the call waits", async || {
            let (_, tasks) = hub.ask("GET", "/api/v1/inference-tasks").json().await;
            tasks.as_array().unwrap().len() == 1
        })
        .await;
        revoke(&hub, &id).await;
    });
    assert_eq!(first.0.0, 401, "{}", first.0.1);
    let second = ask(&stays);
    let (second, ()) = futures_util::join!(second.send(), async {
        assert_eq!(publisher.beat(&hub, report(0)).await, 200);
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(second.0, 200, "{}", second.1);
    hub.stop().await;
}

/// Pending and running tasks of the token end; tasks of the user's other token do not.
#[actix_rt::test]
async fn durable_tasks_end_when_their_token_is_revoked() {
    let hub = hub().await;
    let mut publisher =
        Publisher::start(&hub, ADMIN, &[provider("here"), provider("other")], Some("cancel")).await;
    let away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
    let running = hub.enqueue(&ends, "here", false).await;
    let sent = publisher.task().await;
    let (waiting, others) =
        (hub.enqueue(&ends, "away", false).await, hub.enqueue(&stays, "away", false).await);
    revoke(&hub, &id).await;
    assert_eq!(publisher.cancelled().await, sent["taskId"].as_str().unwrap());
    for ended in [&running, &waiting] {
        until_revoked(&hub, ended).await;
    }
    assert_eq!(publisher.answer(&hub, &sent, "late").await, 410);
    assert_eq!(hub.durable_task(&others).await["status"], "pending");
    let mut back = away;
    back.open(&hub, None).await;
    let taken = back.task().await;
    assert_eq!(back.answer(&hub, &taken, "hello").await, 200);
    eventually("the other token's task is completed", async || {
        hub.durable_task(&others).await["status"] == "completed"
    })
    .await;
    hub.stop().await;
}

fn stored_task(id: &str, owner: &str, target: &str, token: Option<&str>) -> DurableTask {
    DurableTask {
        id: id.into(),
        owner: owner.into(),
        token: token.map(str::to_owned),
        target: target.into(),
        target_owner: Some("admin".into()),
        state: TaskStatus::Pending,
        request: Some(r#"{"messages":[]}"#.into()),
        streaming: false,
        llm: None,
        session: None,
        result: None,
        error: None,
        code: None,
        tokens: None,
        created_at: crate::clock::now(),
        updated_at: crate::clock::now(),
    }
}
