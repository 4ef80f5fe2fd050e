//! Which rows serve a pool: the rows of its owner and admitted rows of other users.

use serde_json::{Value, json};

use super::publisher::{Publisher, pooled, private, provider, report};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub_with};
use crate::options::PoolPolicy;

async fn hub_with_admission() -> TestHub {
    hub_with(|options| options.pools = PoolPolicy::Ask).await
}

async fn register(hub: &TestHub, token: &str, list: &[Value]) -> (u16, Value) {
    let body = json!({ "providers": list, "providerSessionId": format!("sess-{token}") });
    hub.register(token, &body).await
}

/// Calls `name` with all publishers answering. Returns the row that got the task; `None` if the call was refused.
async fn serving_row(
    hub: &TestHub,
    token: &str,
    name: &str,
    publishers: &mut [&mut Publisher],
) -> Option<String> {
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

/// A34, A37: a row that names another user's pool gets no calls of the pool until the owner admits it; its publisher
/// sees who owns the pool, and calls by the row's own name are served.
#[actix_rt::test]
async fn a_row_waits_until_the_pools_owner_admits_it() {
    let hub = hub_with_admission().await;
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
        let row = serving_row(&hub, &carol, "lake", &mut [&mut bobs, &mut alices]).await;
        assert_eq!(row.as_deref(), Some("first"));
    }
    let row = serving_row(&hub, &carol, "second", &mut [&mut bobs, &mut alices]).await;
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

    // Only the pool's owner and an admin may admit the row.
    for (token, path, status) in [
        (&bob, "lake/members/second", 403),
        (&carol, "lake/members/second", 403),
        (&alice, "lake/members/none", 404),
        (&alice, "pond/members/second", 404),
    ] {
        assert_eq!(pool(&hub, token, "PUT", path).await.0, status, "{path}");
    }
    let (status, admitted) = pool(&hub, &alice, "PUT", "lake/members/second").await;
    assert_eq!((status, &admitted["members"]), (200, &json!(["first", "second"])), "{admitted}");
    let mut served = Vec::new();
    for _ in 0..2 {
        served.extend(serving_row(&hub, &carol, "lake", &mut [&mut bobs, &mut alices]).await);
    }
    served.sort();
    assert_eq!(served, ["first", "second"]);
    // The admission survives a new registration by the row's owner.
    let (_, again) = register(&hub, &bob, &[pooled("second", "lake")]).await;
    assert!(again["warnings"].is_null(), "{again}");
    assert_eq!(pool(&hub, ADMIN, "DELETE", "lake/members/second").await.0, 200);
    assert_eq!(
        pool(&hub, &alice, "DELETE", "lake/members/first").await.0,
        409,
        "a row of the pool's owner was removed"
    );
    let row = serving_row(&hub, &carol, "lake", &mut [&mut bobs, &mut alices]).await;
    assert_eq!(row.as_deref(), Some("first"));
    hub.stop().await;
}

/// A35, A37: in every pool mode, no other user can join or see a pool of private rows; its name is just taken.
#[actix_rt::test]
async fn a_pool_of_private_rows_serves_its_owner_only() {
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

/// A27: each user may have a limited number of rows in a pool, admitted or not.
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
    assert_eq!(register(&hub, &alice, &rows("hers", 3)).await.0, 201, "existing rows are refused");
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

/// A34: the pool that a row waits to join is in the answer to its owner's register call, and not in tasks that the row
/// answered.
#[actix_rt::test]
async fn the_pool_that_a_row_waits_to_join_is_shown_to_its_owner_only() {
    let hub = hub_with_admission().await;
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
    eventually("the task is answered", async || {
        let (_, task) = hub.ask_as(&carol, "GET", path.clone()).json().await;
        assert_eq!(task["poolName"], Value::Null, "{task}");
        task["status"] == "completed" && task["model"] == "model-of-second"
    })
    .await;
    hub.stop().await;
}

/// A37: an admin may call another user's private row by its own name, not through its pool or another user's agent.
#[actix_rt::test]
async fn a_private_row_serves_an_admin_by_its_own_name_only() {
    let hub = hub_with_admission().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = [private(pooled("attic", "house")), pooled("hall", "house")];
    let mut alices = Publisher::start(&hub, &alice, &rows, None).await;
    hub.create_agent(&bob, &json!({ "name": "porter", "llmName": "attic", "visibility": "public" })).await;
    for _ in 0..3 {
        assert_eq!(serving_row(&hub, ADMIN, "house", &mut [&mut alices]).await.as_deref(), Some("hall"));
    }
    assert_eq!(serving_row(&hub, ADMIN, "attic", &mut [&mut alices]).await.as_deref(), Some("attic"));
    assert_eq!(serving_row(&hub, ADMIN, "porter", &mut [&mut alices]).await, None);
    let mut hers = Vec::new();
    for _ in 0..2 {
        hers.extend(serving_row(&hub, &alice, "house", &mut [&mut alices]).await);
    }
    hers.sort();
    assert_eq!(hers, ["attic", "hall"]);
    hub.stop().await;
}

/// A37: a heartbeat cannot raise a row's capacity above its registered `maxConcurrency`, nor above 256.
#[actix_rt::test]
async fn a_heartbeat_cannot_raise_the_registered_capacity() {
    let hub = hub_with(|_| ()).await;
    let with_capacity = |name: &str, room: Option<u32>| {
        let mut provider = provider(name);
        provider["maxConcurrency"] = room.into();
        provider
    };
    let rows =
        [with_capacity("said", Some(2)), with_capacity("unsaid", None), with_capacity("vast", Some(1 << 30))];
    let publisher = Publisher::start(&hub, ADMIN, &rows, Some("status")).await;
    let report = async |room: u32| {
        let status = |name: &str| report(name, "active", 0, room);
        let statuses = ["said", "unsaid", "vast"].map(status);
        assert_eq!(publisher.beat(&hub, json!({ "providers": statuses })).await, 200);
        let registry = hub.core().registry.lock();
        let admin = crate::model::Caller {
            user: "admin".into(),
            role: crate::model::Role::Admin,
            token_id: "t".into(),
            models: crate::model::AllowedModels::default(),
            secret: None,
        };
        ["said", "unsaid", "vast"].map(|name| registry.live_llm(&admin, name).unwrap().room.unwrap())
    };
    assert_eq!(report(7).await, [2, 7, 7]);
    assert_eq!(report(u32::MAX).await, [2, 7, 256]);
    assert_eq!(report(1).await, [1, 1, 1], "a smaller capacity counts");
    hub.stop().await;
}

/// A37: an admitted row keeps the capacity of its admission if it does not report one.
#[actix_rt::test]
async fn a_row_without_a_reported_capacity_keeps_its_admitted_one() {
    for features in [Some("status"), None] {
        let hub = hub_with_admission().await;
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

/// A35, A37: no other user can join a pool whose owner has emptied it and uses its name for a row.
#[actix_rt::test]
async fn a_name_that_is_no_longer_a_pool_cannot_be_joined() {
    for mode in [PoolPolicy::Ask, PoolPolicy::Members] {
        let hub = hub_with(|options| options.pools = mode).await;
        let (alice, bob, carol) =
            (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
        assert_eq!(register(&hub, &alice, &[pooled("x", "gpt")]).await.0, 201);
        // Bob joins the pool before its owner empties it, and carol tries afterwards.
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
            let row = serving_row(&hub, &carol, "gpt", &mut [&mut bobs, &mut alices]).await;
            assert_eq!(row.as_deref(), Some("gpt"), "{mode:?}");
        }
        // The owner's row joins the pool again, and so may carol's.
        let both = [pooled("x", "gpt"), provider("gpt")];
        assert_eq!(register(&hub, &alice, &both).await.0, 201);
        assert_eq!(register(&hub, &carol, &[pooled("y", "gpt")]).await.0, 201, "{mode:?}");
        hub.stop().await;
    }
}
