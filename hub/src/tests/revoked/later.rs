//! Tokens that are revoked after a restart, during an answer or a request, or that expire.

use super::*;
use crate::tests::link::peer::Peer;
use crate::tests::publisher::private;

/// A restarted hub ends stored tasks whose token was revoked. A task without a token, from an older version, ends if
/// its owner has no valid token.
#[actix_rt::test]
async fn tasks_of_a_revoked_token_end_after_a_restart() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let hub = hub_on(store.clone()).await;
    let _away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let [(id, ends), (_, stays)] = two_tokens(&hub, "bob").await;
    let (first, second) = (hub.enqueue(&ends, "away", false).await, hub.enqueue(&stays, "away", false).await);
    hub.stop().await;
    let mut tokens = store.load().await.unwrap().tokens;
    let mut token = tokens.remove(tokens.iter().position(|token| token.id == id).unwrap());
    token.revoked_at = Some(Timestamp(1));
    let other_users = Token { id: "tok-gone".into(), hash: [7; 32], user: "gone".into(), ..token.clone() };
    let old = |id: &str, owner: &str| Change::PutTask(Box::new(stored_task(id, owner, "away", None)));
    let olds = [old("o1", "bob"), old("o2", "nobody"), old("o3", "gone")];
    store
        .write([Change::PutToken(token), Change::PutToken(other_users)].into_iter().chain(olds).collect())
        .await
        .unwrap();
    let hub = hub_on(store.clone()).await;
    for ended in [first.as_str(), "o2", "o3"] {
        until_revoked(&hub, ended).await;
    }
    for waits in [second.as_str(), "o1"] {
        assert_eq!(hub.durable_task(waits).await["status"], "pending", "{waits}");
    }
    hub.stop().await;
}

/// A stored task of a former admin is not sent to a row that its owner, now a member, cannot see.
#[actix_rt::test]
async fn a_task_is_routed_by_its_owners_role_at_its_claim() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let hub = hub_on(store.clone()).await;
    let alice = hub.member("alice").await;
    let secret = private(provider("secret"));
    let mut publisher = Publisher::register(&hub, &alice, None, std::slice::from_ref(&secret)).await;
    hub.member("bob").await;
    // The task for alice's private row dates from when bob was an admin. He is a member now.
    let sent = DurableTask { target_owner: Some("alice".into()), ..stored_task("o1", "bob", "secret", None) };
    store.write(vec![Change::PutTask(Box::new(sent))]).await.unwrap();
    hub.stop().await;
    let hub = hub_on(store.clone()).await;
    publisher.open(&hub, Some("cancel")).await;
    // Bob's task is the older one: when alice's second task is claimed, the hub has tried bob's.
    for _ in 0..2 {
        let own = hub.enqueue(&alice, "secret", false).await;
        let taken = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &taken, "hello").await, 200);
        let done = async || hub.durable_task(&own).await["status"] == "completed";
        eventually("alice's task is completed", done).await;
    }
    assert_eq!(hub.durable_task("o1").await["status"], "pending");
    hub.stop().await;
}

/// An expiry ends pending and running durable tasks, and waiting and running calls.
#[actix_rt::test]
async fn calls_and_tasks_end_when_their_token_expires() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let _away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let body = json!({ "user": "bob", "expires": "2s" }).to_string();
    let (_, made) = hub.ask("POST", "/api/v1/tokens").body(body).json().await;
    let (token, made_at) = (made["token"].as_str().unwrap(), tokio::time::Instant::now());
    let waits = hub.enqueue(token, "away", false).await;
    let runs = hub.enqueue(token, "a", false).await;
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

/// A38: a stream over a link ends when its publisher's token is revoked, and the caller gets an error instead of an end mark.
#[actix_rt::test]
async fn a_stream_ends_when_its_publishers_token_is_revoked() {
    let hub = hub().await;
    let [(id, alice), _] = two_tokens(&hub, "alice").await;
    let mut peer = Peer::start(&hub, &alice, &[provider("a")]).await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
    let (mut stream, _) = peer.begins(&ask, "one").await;
    revoke(&hub, &id).await;
    let rest = timeout(PATIENCE, stream.rest()).await.expect("the stream ends");
    assert!(rest.contains("broke off") && !rest.contains("[DONE]"), "{rest}");
    while peer.received().await.is_some() {}
    hub.stop().await;
}

/// A38: a request whose token is revoked before the end of its body gets 401 and changes nothing, on any route.
#[actix_rt::test]
async fn a_request_whose_token_is_revoked_during_its_body_is_refused() {
    let hub = hub().await;
    let agent = json!({ "name": "late", "llmName": "a" });
    let register = json!({ "provider_session_id": "late", "providers": [provider("late")] });
    let task = json!({ "llm": "a", "request": { "messages": [] } });
    let _here = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let calls = [
        ("POST", "/api/v1/tokens", json!({ "user": "eve", "role": "admin" })),
        ("POST", "/api/v1/agents", agent),
        ("POST", "/api/v1/llms/_provider-register", register),
        ("PUT", "/api/v1/names/a", json!({ "ownerId": "eve" })),
        ("POST", "/api/v1/inference-tasks", task),
        ("POST", "/v1/chat/completions", serde_json::from_str(&chat("a", false)).unwrap()),
    ];
    for (number, (method, path, body)) in calls.into_iter().enumerate() {
        let user = format!("root-{number}");
        let made = json!({ "user": user, "role": "admin" }).to_string();
        let (_, made) = hub.ask("POST", "/api/v1/tokens").body(made).json().await;
        let body = body.to_string();
        let (first, rest) = body.split_at(5);
        let mut upload = hub.ask_as(made["token"].as_str().unwrap(), method, path).upload().await;
        upload.write(first).await;
        eventually("its token is checked", async || hub.core().quotas.heads.taken_by(&user) > 0).await;
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
