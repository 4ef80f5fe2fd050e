//! Rows that serve a pool: its owner's, and admitted ones.

use serde_json::{Value, json};

use super::publisher::{Publisher, pooled, private, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub_with};
use crate::options::PoolPolicy;

async fn asking() -> TestHub {
    hub_with(|options| options.pools = PoolPolicy::Ask).await
}

async fn register(hub: &TestHub, token: &str, list: &[Value]) -> (u16, Value) {
    let body = json!({ "providers": list, "providerSessionId": format!("sess-{token}") });
    hub.register(token, &body).await
}

/// Calls `name`; which of the publishers had the task.
async fn who(hub: &TestHub, token: &str, name: &str, publishers: &mut [&mut Publisher]) -> Option<String> {
    let ask = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(name, false));
    let mut call = Box::pin(ask.send());
    let mut answering = Box::pin(async {
        let tasks = publishers.iter_mut().map(|publisher| {
            Box::pin(async move {
                let task = publisher.task().await;
                publisher.answer(hub, &task, "hello").await;
                task["llmName"].as_str().unwrap().to_owned()
            })
        });
        futures_util::future::select_all(tasks).await.0
    });
    tokio::select! {
        (status, _) = &mut call => if status == 200 { Some(answering.await) } else { None },
        row = &mut answering => {
            assert_eq!(call.await.0, 200);
            Some(row)
        }
    }
}

async fn pool(hub: &TestHub, token: &str, method: &'static str, rest: &str) -> (u16, Value) {
    hub.ask_as(token, method, format!("/api/v1/pools/{rest}")).json().await
}

/// A34, A37: a row in another user's pool gets no calls of the pool before the owner admits it; its publisher sees
/// whose pool it is, and it is called by its own name meanwhile.
#[actix_rt::test]
async fn a_row_waits_until_the_pools_owner_admits_it() {
    let hub = asking().await;
    let (alice, bob, carol) = (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
    let mut alices = Publisher::start(&hub, &alice, &[pooled("first", "lake")], None).await;
    let (status, answer) = register(&hub, &bob, &[pooled("second", "lake")]).await;
    assert_eq!(status, 201, "{answer}");
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("waits for alice") && warning.contains("pool admit lake second"), "{warning}");
    let session = answer["providerSessionId"].as_str();
    let mut bobs = Publisher::register(&hub, &bob, session, &[pooled("second", "lake")]).await;
    bobs.open(&hub, None).await;
    for _ in 0..3 {
        let row = who(&hub, &carol, "lake", &mut [&mut bobs, &mut alices]).await;
        assert_eq!(row.as_deref(), Some("first"));
    }
    let row = who(&hub, &carol, "second", &mut [&mut bobs, &mut alices]).await;
    assert_eq!(row.as_deref(), Some("second"));
    for (token, shown) in [(&alice, true), (&bob, true), (&carol, false), (&ADMIN.to_owned(), true)] {
        let (_, row) = hub.ask_as(token, "GET", "/api/v1/llms/second").json().await;
        assert_eq!(row["waitsFor"].as_str(), shown.then_some("alice"), "{row}");
        assert_eq!(row["poolName"].as_str(), shown.then_some("lake"), "{row}");
    }
    assert_eq!(
        pool(&hub, &alice, "GET", "lake").await.1,
        json!({ "name": "lake", "ownerId": "alice", "members": ["first"],
            "waiting": [{ "name": "second", "ownerId": "bob" }] })
    );
    assert_eq!(pool(&hub, &carol, "GET", "lake").await.1["waiting"], json!([]));

    // Only its owner and an admin let it in.
    for (token, path, status) in [
        (&bob, "lake/members/second", 403),
        (&carol, "lake/members/second", 403),
        (&alice, "lake/members/none", 404),
        (&alice, "pond/members/second", 404),
    ] {
        assert_eq!(pool(&hub, token, "PUT", path).await.0, status, "{path}");
    }
    let (status, let_in) = pool(&hub, &alice, "PUT", "lake/members/second").await;
    assert_eq!((status, &let_in["members"]), (200, &json!(["first", "second"])), "{let_in}");
    let mut served = Vec::new();
    for _ in 0..2 {
        served.extend(who(&hub, &carol, "lake", &mut [&mut bobs, &mut alices]).await);
    }
    served.sort();
    assert_eq!(served, ["first", "second"]);
    // It is let in for as long as the name is bob's, also when his machine comes and goes.
    let (_, again) = register(&hub, &bob, &[pooled("second", "lake")]).await;
    assert!(again["warnings"].is_null(), "{again}");
    assert_eq!(pool(&hub, ADMIN, "DELETE", "lake/members/second").await.0, 200);
    assert_eq!(pool(&hub, &alice, "DELETE", "lake/members/first").await.0, 409, "it is her own");
    let row = who(&hub, &carol, "lake", &mut [&mut bobs, &mut alices]).await;
    assert_eq!(row.as_deref(), Some("first"));
    hub.stop().await;
}

/// A35, A37: in every pool mode, a pool of private rows serves its owner only, and is refused to others like any taken
/// name.
#[actix_rt::test]
async fn a_pool_of_private_rows_is_its_owners_alone() {
    for mode in [PoolPolicy::Ask, PoolPolicy::Members, PoolPolicy::Owner] {
        let hub = hub_with(|options| options.pools = mode).await;
        let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
        let _alices = Publisher::start(&hub, &alice, &[private(pooled("deep", "well"))], None).await;
        let (status, refused) = register(&hub, &bob, &[pooled("bucket", "well")]).await;
        assert_eq!((status, &refused["error"]), (409, &json!("name 'well' is taken")), "{mode:?}");
        for path in ["well", "well/members/deep"] {
            let (status, hidden) = pool(&hub, &bob, "GET", path).await;
            assert_eq!(status, if path == "well" { 404 } else { 405 }, "{mode:?} {path}: {hidden}");
        }
        hub.stop().await;
    }
}

/// A27: a pool has a bounded number of rows of each user, admitted or not.
#[actix_rt::test]
async fn the_rows_of_a_user_in_a_pool_are_bounded() {
    let hub = hub_with(|options| {
        options.pools = PoolPolicy::Ask;
        options.limits.pool_rows = 3;
    })
    .await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = |of: &str, count: usize| -> Vec<Value> {
        (0..count).map(|number| pooled(&format!("{of}-{number}"), "lake")).collect()
    };
    assert_eq!(register(&hub, &alice, &rows("hers", 3)).await.0, 201);
    assert_eq!(register(&hub, &alice, &rows("hers", 3)).await.0, 201, "they are there already");
    for (token, name) in [(&alice, "hers"), (&bob, "his")] {
        let (status, refused) = register(&hub, token, &rows(name, 4)).await;
        let text = "poolName 'lake': a pool has at most 3 LLMs of one user";
        assert_eq!((status, &refused["error"]), (409, &json!(text)), "{refused}");
    }
    assert_eq!(register(&hub, &bob, &rows("his", 3)).await.0, 201);
    let llm = |name: &str| json!({ "name": name, "type": "openai", "model": "m", "poolName": "lake", "url": "http://127.0.0.1:9/v1" });
    for number in 0..4 {
        let ask = hub.ask("POST", "/api/v1/llms").body(llm(&format!("hub-{number}")).to_string());
        assert_eq!(ask.send().await.0, if number < 3 { 201 } else { 409 });
    }
    hub.stop().await;
}

/// A34: the pool that a row waits for is not in the tasks that it answers; its owner sees it in the answer to the
/// register call.
#[actix_rt::test]
async fn the_pool_that_a_row_waits_for_is_shown_to_its_owner_only() {
    let hub = asking().await;
    let (alice, bob, carol) = (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
    let _alices = Publisher::start(&hub, &alice, &[pooled("first", "lake")], None).await;
    let (_, registered) = register(&hub, &bob, &[pooled("second", "lake")]).await;
    assert_eq!(registered["llms"][0]["waitsFor"], "alice", "{registered}");
    let session = registered["providerSessionId"].as_str();
    let mut bobs = Publisher::register(&hub, &bob, session, &[pooled("second", "lake")]).await;
    bobs.open(&hub, None).await;
    let create = hub.ask_as(&carol, "POST", "/api/v1/inference-tasks");
    let (_, task) = create.body(r#"{"llm":"second","request":{}}"#).json().await;
    let sent = bobs.task().await;
    bobs.answer(&hub, &sent, "hello").await;
    let path = format!("/api/v1/inference-tasks/{}", task["id"].as_str().unwrap());
    eventually("it is answered, and no pool is named", async || {
        let (_, task) = hub.ask_as(&carol, "GET", path.clone()).json().await;
        assert_eq!(task["poolName"], Value::Null, "{task}");
        task["status"] == "completed" && task["model"] == "model-of-second"
    })
    .await;
    hub.stop().await;
}

/// A37: an admin is served by a private row by its own name, not through its pool or another user's agent.
#[actix_rt::test]
async fn a_private_row_serves_an_admin_by_its_own_name_only() {
    let hub = asking().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = [private(pooled("attic", "house")), pooled("hall", "house")];
    let mut alices = Publisher::start(&hub, &alice, &rows, None).await;
    let agent = json!({ "name": "porter", "llmName": "attic", "visibility": "public" });
    let made = hub.ask_as(&bob, "POST", "/api/v1/agents").body(agent.to_string());
    assert_eq!(made.send().await.0, 201);
    for _ in 0..3 {
        assert_eq!(who(&hub, ADMIN, "house", &mut [&mut alices]).await.as_deref(), Some("hall"));
    }
    assert_eq!(who(&hub, ADMIN, "attic", &mut [&mut alices]).await.as_deref(), Some("attic"));
    assert_eq!(who(&hub, ADMIN, "porter", &mut [&mut alices]).await, None);
    let mut hers = Vec::new();
    for _ in 0..2 {
        hers.extend(who(&hub, &alice, "house", &mut [&mut alices]).await);
    }
    hers.sort();
    assert_eq!(hers, ["attic", "hall"]);
    hub.stop().await;
}

/// A37: a publisher's heartbeat gives it no greater share of a pool than it registered, and at most 256 tasks at once.
#[actix_rt::test]
async fn capacity_beyond_the_registered_one_does_not_count() {
    let hub = hub_with(|_| ()).await;
    let with_room = |name: &str, room: Option<u32>| {
        let mut provider = provider(name);
        provider["maxConcurrency"] = room.into();
        provider
    };
    let rows = [with_room("said", Some(2)), with_room("unsaid", None), with_room("vast", Some(1 << 30))];
    let publisher = Publisher::start(&hub, ADMIN, &rows, Some("status")).await;
    let report = async |room: u32| {
        let status = |name: &str| json!({ "name": name, "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": room });
        let statuses = ["said", "unsaid", "vast"].map(status);
        assert_eq!(publisher.beat(&hub, json!({ "providers": statuses })).await, 200);
        let registry = hub.core().registry.lock();
        let admin = crate::model::Caller {
            user: "admin".into(),
            role: crate::model::Role::Admin,
            token_id: "t".into(),
        };
        ["said", "unsaid", "vast"].map(|name| registry.live_llm(&admin, name).unwrap().room.unwrap())
    };
    assert_eq!(report(7).await, [2, 7, 7]);
    assert_eq!(report(u32::MAX).await, [2, 7, 256]);
    assert_eq!(report(1).await, [1, 1, 1], "less is believed");
    hub.stop().await;
}

/// A37: a row has no greater share of a pool than it was admitted with, also when it stops reporting its capacity.
#[actix_rt::test]
async fn a_row_without_a_reported_capacity_keeps_its_admitted_one() {
    for features in [Some("status"), None] {
        let hub = asking().await;
        let (alice, bob, carol) =
            (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
        let mut second = pooled("second", "lake");
        second["maxConcurrency"] = 1.into();
        register(&hub, &alice, &[pooled("first", "lake")]).await;
        let (status, answer) = register(&hub, &bob, std::slice::from_ref(&second)).await;
        assert_eq!(status, 201, "{answer}");
        assert_eq!(pool(&hub, &alice, "PUT", "lake/members/second").await.0, 200);
        let session = answer["providerSessionId"].as_str();
        let mut bobs = Publisher::register(&hub, &bob, session, &[second]).await;
        bobs.open(&hub, features).await;
        assert_eq!(bobs.beat(&hub, json!({})).await, 200);
        let call = |wait: &'static str| {
            let ask = hub.ask_as(&carol, "POST", "/v1/chat/completions").header("x-queue-timeout", wait);
            ask.body(chat("lake", false))
        };
        let one = call("5");
        let (first, ()) = futures_util::join!(one.send(), async {
            let task = bobs.task().await;
            let (status, body) = call("1").send().await;
            assert_eq!(status, 503, "{features:?}: {body}");
            bobs.answer(&hub, &task, "hello").await;
        });
        assert_eq!(first.0, 200);
        hub.stop().await;
    }
}

/// A35, A37: the owner of a former pool that has a row or an agent of its name now shares it with no other user.
#[actix_rt::test]
async fn a_former_pool_name_is_no_pool_to_join() {
    for mode in [PoolPolicy::Ask, PoolPolicy::Members] {
        let hub = hub_with(|options| options.pools = mode).await;
        let (alice, bob, carol) =
            (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
        assert_eq!(register(&hub, &alice, &[pooled("x", "gpt")]).await.0, 201);
        // One came before, and one comes afterwards.
        let mut bobs = Publisher::start(&hub, &bob, &[pooled("z", "gpt")], None).await;
        let (status, answer) = register(&hub, &alice, &[provider("x"), provider("gpt")]).await;
        assert_eq!(status, 201, "{answer}");
        let (status, answer) = register(&hub, &carol, &[pooled("y", "gpt")]).await;
        assert_eq!(status, 409, "{mode:?}: {answer}");
        let session = register(&hub, &alice, &[provider("x"), provider("gpt")]).await.1;
        let session = session["providerSessionId"].as_str();
        let mut alices = Publisher::register(&hub, &alice, session, &[provider("x"), provider("gpt")]).await;
        alices.open(&hub, None).await;
        for _ in 0..4 {
            let row = who(&hub, &carol, "gpt", &mut [&mut bobs, &mut alices]).await;
            assert_eq!(row.as_deref(), Some("gpt"), "{mode:?}");
        }
        // It is one again.
        let both = [pooled("x", "gpt"), provider("gpt")];
        assert_eq!(register(&hub, &alice, &both).await.0, 201);
        assert_eq!(register(&hub, &carol, &[pooled("y", "gpt")]).await.0, 201, "{mode:?}");
        hub.stop().await;
    }
}
