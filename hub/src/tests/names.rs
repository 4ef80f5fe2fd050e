//! Owners of names: a row, a pool and an agent with one name have one owner, also for a time after their deletion.

use std::time::Duration;

use serde_json::{Value, json};

use super::publisher::{Publisher, pooled, private, provider, report};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};

async fn create_agent(hub: &TestHub, token: &str, name: &str, llm: &str, visibility: &str) -> (u16, Value) {
    let agent = json!({ "name": name, "llmName": llm, "visibility": visibility });
    hub.ask_as(token, "POST", "/api/v1/agents").body(agent.to_string()).json().await
}

/// Calls `name` and answers the call as `publisher`. Returns the task.
async fn answered_call(hub: &TestHub, token: &str, name: &str, publisher: &mut Publisher) -> Value {
    let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(name, false));
    publisher.serves(hub, &call, "hello").await
}

fn providers(list: &[Value]) -> Value {
    json!({ "providers": list })
}

/// A34: no user gets another user's calls by registering the name of an agent, row or pool; the error for a hidden name
/// does not say what has it.
#[actix_rt::test]
async fn a_name_has_one_owner_among_rows_pools_and_agents() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut alices =
        Publisher::start(&hub, &alice, &[provider("lama"), pooled("lama-big", "herd")], None).await;
    assert_eq!(create_agent(&hub, &alice, "diary", "lama", "private").await.0, 201);
    assert_eq!(create_agent(&hub, ADMIN, "desk", "lama", "public").await.0, 201);
    let agents =
        |name: &str| json!({ "agents": [{ "name": name, "llmName": "lama", "visibility": "public" }] });
    let conflict = |text: &str| (409, json!({ "error": text, "code": "conflict" }));
    for (body, text) in [
        (providers(&[provider("diary")]), "name 'diary' is taken"),
        (providers(&[pooled("x", "diary")]), "name 'diary' is taken"),
        (agents("diary"), "name 'diary' is taken"),
        (providers(&[provider("desk")]), "name 'desk' is the name of another user's agent"),
        (providers(&[pooled("x", "desk")]), "poolName 'desk' is the name of another user's agent"),
        (agents("lama"), "name 'lama' is the name of another user's LLM"),
        (agents("herd"), "name 'herd' is the name of another user's pool"),
        (providers(&[provider("herd")]), "name 'herd' is the name of another user's pool"),
    ] {
        assert_eq!(hub.register(&bob, &body).await, conflict(text), "{body}");
    }
    let (status, refused) = create_agent(&hub, &bob, "herd", "lama", "public").await;
    assert_eq!(status, 409, "{refused}");
    // The same holds for an admin.
    let llm = json!({ "name": "diary", "type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1" });
    let (status, refused) = hub.ask("POST", "/api/v1/llms").body(llm.to_string()).json().await;
    assert_eq!(status, 409, "{refused}");
    // A user may have a row and an agent with one name; calls go to the row.
    assert_eq!(create_agent(&hub, &alice, "lama", "lama-big", "public").await.0, 201);
    let task = answered_call(&hub, &bob, "lama", &mut alices).await;
    assert_eq!(task["llmName"], "lama");
    hub.stop().await;
}

/// A34: a name stays reserved for its owner after its row was deleted; an admin can free it.
#[actix_rt::test]
async fn a_name_stays_reserved_after_its_row_was_deleted() {
    let hub = hub_with(|options| {
        options.timings.inactive_retention = Duration::from_millis(50);
        options.timings.sweep_interval = Duration::from_millis(10);
    })
    .await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut alices = Publisher::start(&hub, &alice, &[pooled("night", "owls")], None).await;
    let office = create_agent(&hub, ADMIN, "office", "night", "public").await;
    assert_eq!(office.0, 201);
    alices.close();
    eventually("the row is deleted", async || hub.row("night").await["id"].is_null()).await;
    for body in [providers(&[provider("night")]), providers(&[provider("owls")])] {
        let (status, refused) = hub.register(&bob, &body).await;
        assert_eq!(status, 409, "{refused}");
        assert!(refused["error"].as_str().unwrap().ends_with("is taken"), "{refused}");
    }
    let names = |token: String| hub.ask_as(&token, "GET", "/api/v1/names");
    assert_eq!(names(bob.clone()).json().await.1, json!([]));
    let mine = names(alice.clone()).json().await.1;
    assert_eq!((&mine[0]["name"], &mine[0]["ownerId"]), (&json!("night"), &json!("alice")), "{mine}");
    assert!(mine[0]["freeAt"].is_string() && mine[0]["usedBy"] == json!([]), "{mine}");
    // Alice registers the name again.
    let mut alices = Publisher::start(&hub, &alice, &[provider("night")], None).await;
    let free = |token: &str, name: &str| hub.ask_as(token, "DELETE", format!("/api/v1/names/{name}"));
    assert_eq!(free(&bob, "night").send().await.0, 404);
    assert_eq!(free(ADMIN, "night").send().await.0, 409, "a name in use was freed");
    alices.close();
    eventually("the row is deleted", async || hub.row("night").await["id"].is_null()).await;
    assert_eq!(free(ADMIN, "night").send().await.0, 204);
    let _bobs = Publisher::start(&hub, &bob, &[provider("night")], None).await;
    // The admin's agent was made for alice's LLM and does not lead to bob's.
    let call = hub.ask("POST", "/v1/chat/completions").body(chat("office", false));
    let (status, refused) = call.json().await;
    assert_eq!((status, refused["error"]["code"].as_str()), (503, Some("unavailable")), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("another owner"), "{refused}");
    hub.stop().await;
}

/// A34: a refused register call with 256 names counts as 256 guesses.
#[actix_rt::test]
async fn each_taken_name_in_a_call_counts() {
    let hub = hub().await;
    let (alice, eve) = (hub.member("alice").await, hub.member("eve").await);
    assert_eq!(hub.register(&alice, &providers(&[provider("taken")])).await.0, 201);
    let mut tried: Vec<Value> = (0..255).map(|number| provider(&format!("free-{number}"))).collect();
    tried.push(provider("taken"));
    assert_eq!(hub.register(&eve, &providers(&tried)).await.0, 409);
    assert_eq!(hub.register(&eve, &providers(&tried)).await.0, 429);
    assert_eq!(
        hub.register(&alice, &providers(&[provider("other")])).await.0,
        201,
        "another user is refused"
    );
    hub.stop().await;
}

/// A34, A35: an agent for an LLM that its creator cannot see does not reveal whether the LLM exists, and does not lead
/// to it when it becomes public.
#[actix_rt::test]
async fn an_agent_does_not_reveal_a_hidden_llm_of_its_llms_name() {
    let hub = hub().await;
    let (alice, mallory) = (hub.member("alice").await, hub.member("mallory").await);
    let hidden = |name: &str| private(provider(name));
    let mut mallorys = Publisher::start(&hub, &mallory, &[hidden("squat")], None).await;
    for (name, llm) in [("desk", "squat"), ("wire", "later")] {
        assert_eq!(create_agent(&hub, &alice, name, llm, "public").await.0, 201);
    }
    let call = async |name: &str| {
        let ask = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat(name, false));
        ask.json().await
    };
    let before = call("wire").await;
    assert_eq!((before.0, &before.1["error"]["code"]), (503, &json!("publisher_away")), "{}", before.1);
    mallorys.close();
    let session = Some(mallorys.session.clone());
    let rows = [hidden("squat"), hidden("later")];
    let mut mallorys = Publisher::register(&hub, &mallory, session.as_deref(), &rows).await;
    mallorys.open(&hub, None).await;
    assert_eq!(call("wire").await, before, "the answer reveals that the name is taken");
    // The LLM becomes public: the agent does not lead to it.
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/squat").send().await.0, 204);
    let rows = [provider("squat"), hidden("later")];
    let mut mallorys = Publisher::register(&hub, &mallory, session.as_deref(), &rows).await;
    mallorys.open(&hub, None).await;
    let (status, refused) = call("desk").await;
    assert_eq!((status, refused["error"]["code"].as_str()), (503, Some("unavailable")), "{refused}");
    // Alice sees the LLM now and saves her agent again.
    let save = hub.ask_as(&alice, "PUT", "/api/v1/agents/desk").body(r#"{"llmName":"squat"}"#);
    assert_eq!(save.send().await.0, 200);
    answered_call(&hub, &alice, "desk", &mut mallorys).await;
    hub.stop().await;
}

/// A34: a reserved name is freed after its retention time, and a user's reserved names are limited in number.
#[actix_rt::test]
async fn reserved_names_expire_and_are_limited_in_number() {
    let hub = hub_with(|options| {
        options.timings.inactive_retention = Duration::from_millis(20);
        options.timings.sweep_interval = Duration::from_millis(10);
        options.limits.names = 3;
    })
    .await;
    let rows: Vec<Value> = (0..5).map(|number| provider(&format!("row-{number}"))).collect();
    let reserved_names =
        async |hub: &TestHub| hub.ask("GET", "/api/v1/names").json().await.1.as_array().unwrap().len();
    drop(Publisher::start(&hub, &hub.member("alice").await, &rows, None).await);
    eventually("two of five names are freed", async || reserved_names(&hub).await == 3).await;
    hub.stop().await;

    let hub = hub_with(|options| {
        options.timings.inactive_retention = Duration::from_millis(20);
        options.timings.name_retention = Duration::from_millis(400);
        options.timings.sweep_interval = Duration::from_millis(10);
    })
    .await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    drop(Publisher::start(&hub, &alice, &rows, None).await);
    assert_eq!(hub.register(&bob, &providers(&rows)).await.0, 409);
    eventually("all names are freed", async || reserved_names(&hub).await == 0).await;
    assert_eq!(hub.register(&bob, &providers(&rows)).await.0, 201);
    hub.stop().await;
}

/// A34: heartbeats do not restore a row that an admin deleted, and its publisher cannot register the name when an admin
/// has transferred it.
#[actix_rt::test]
async fn an_admin_can_delete_a_published_row_and_free_its_name() {
    let hub = hub().await;
    let (alice, mallory) = (hub.member("alice").await, hub.member("mallory").await);
    let mut publisher =
        Publisher::start(&hub, &mallory, &[provider("gem"), provider("own")], Some("status")).await;
    let beat = |publisher: &Publisher| {
        let body = json!({ "providerSessionId": publisher.session, "providers": [
            report("gem", "active", 0, 4) ] });
        hub.ask_as(&mallory, "POST", "/api/v1/llms/_provider-heartbeat").body(body.to_string())
    };
    assert_eq!(beat(&publisher).json().await, (200, json!({ "ok": true })));
    assert_eq!(hub.ask_as(&alice, "DELETE", "/api/v1/llms/gem").send().await.0, 403);
    // A row is deleted while its publisher is disconnected: the next heartbeat's answer names the row.
    publisher.close();
    hub.until_status("gem", "inactive").await;
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/own").send().await.0, 204);
    publisher.open(&hub, Some("status")).await;
    assert_eq!(beat(&publisher).json().await, (200, json!({ "ok": true, "deleted": ["own"] })));
    assert_eq!(
        hub.register(
            &mallory,
            &json!({ "providerSessionId": publisher.session,
        "providers": [provider("gem"), provider("own")] })
        )
        .await
        .0,
        201
    );
    assert_eq!(beat(&publisher).json().await, (200, json!({ "ok": true })));
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/gem").send().await.0, 204);
    assert_eq!(beat(&publisher).json().await, (200, json!({ "ok": true, "deleted": ["gem"] })));
    assert!(hub.row("gem").await["id"].is_null(), "a heartbeat restored the row");
    assert_eq!(hub.row("own").await["status"], "active");
    // Its owner may register it again...
    let again = providers(&[provider("gem")]);
    assert_eq!(hub.register(&mallory, &again).await.0, 201);
    // ...until an admin transfers the name.
    let transfer = |token: &str| hub.ask_as(token, "PUT", "/api/v1/names/gem").body(r#"{"ownerId":"Alice"}"#);
    assert_eq!(transfer(&alice).send().await.0, 404);
    let forbidden = transfer(&mallory).send().await;
    assert_eq!(forbidden.0, 403);
    let nobody = hub.ask_as(&mallory, "PUT", "/api/v1/names/gem").body(r#"{"ownerId":"nobody-such"}"#);
    assert_eq!(nobody.send().await, forbidden, "the answer reveals which users exist");
    let (status, transferred) = transfer(ADMIN).json().await;
    assert_eq!((status, transferred["ownerId"].as_str()), (200, Some("alice")), "{transferred}");
    assert_eq!(hub.register(&mallory, &again).await.0, 409);
    assert_eq!(hub.register(&alice, &again).await.0, 201);
    hub.stop().await;
}
