//! The order of names and aliases (SPEC.md section 5): what a member publishes takes no calls of an alias.

use serde_json::{Value, json};

use super::publisher::{Publisher, pooled, private, provider};
use super::support::{ADMIN, TestHub, hub};

async fn set(hub: &TestHub, token: &str, alias: &str, target: &str) -> (u16, Value) {
    let path = format!("/api/v1/aliases/{alias}");
    hub.ask_as(token, "PUT", path).body(json!({ "target": target }).to_string()).json().await
}

/// A chat call; without a model if `model` is empty.
fn chat(model: &str) -> String {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    if !model.is_empty() {
        body["model"] = model.into();
    }
    body.to_string()
}

/// The row that serves a call of `model`; `publisher` has to get it.
async fn called(hub: &TestHub, token: &str, model: &str, publisher: &mut Publisher) -> String {
    let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(model));
    publisher.serves(hub, &call, "hello").await["llmName"].as_str().unwrap().to_owned()
}

/// Status and error of a call that reaches no row.
async fn refused(hub: &TestHub, token: &str, model: &str) -> (u16, String) {
    let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(model));
    let (status, answer) = call.json().await;
    (status, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
}

/// The owner of what calls of `model` go to, by `/v1/models/{id}`.
async fn owner(hub: &TestHub, token: &str, model: &str) -> Value {
    hub.ask_as(token, "GET", format!("/v1/models/{model}")).json().await.1["owned_by"].take()
}

/// A name and its owner in `/v1/models`.
async fn listed(hub: &TestHub, token: &str) -> Vec<(String, String)> {
    let (_, list) = hub.ask_as(token, "GET", "/v1/models").json().await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let data = list["data"].as_array().unwrap();
    data.iter().map(|model| (text(&model["id"]), text(&model["owned_by"]))).collect()
}

#[actix_rt::test]
async fn what_a_member_publishes_takes_no_calls_of_an_alias() {
    let hub = hub().await;
    let (alice, mallory) = (hub.member("alice").await, hub.member("mallory").await);
    let bob = hub.member("bob").await;
    let mut good = Publisher::start(&hub, &alice, &[provider("lama")], None).await;
    for (token, alias) in [
        (ADMIN, "gpt-4o"),
        (ADMIN, "o3-*"),
        (ADMIN, "helper"),
        (ADMIN, "default"),
        (&bob, "fast"),
        (&bob, "my-*"),
    ] {
        assert_eq!(set(&hub, token, alias, "lama").await.0, 200, "{alias}");
    }
    // Rows, a pool and an agent of these names.
    let rows = [
        provider("gpt-4o"),
        pooled("zz", "o3-mini"),
        provider("default"),
        provider("fast"),
        provider("my-own"),
    ];
    let mut evil = Publisher::start(&hub, &mallory, &rows, None).await;
    hub.create_agent(&mallory, &json!({ "name": "helper", "llmName": "zz", "visibility": "public" })).await;
    for (token, model) in [
        (&bob, "gpt-4o"),
        (&bob, "o3-mini"),
        (&bob, "helper"),
        (&bob, "fast"),
        (&bob, "my-own"),
        (&alice, "gpt-4o"),
    ] {
        assert_eq!(owner(&hub, token, model).await, "alice", "{model}");
        assert_eq!(called(&hub, token, model, &mut good).await, "lama", "{model}");
    }
    assert_eq!(called(&hub, &bob, "", &mut good).await, "lama", "a call without a model");
    let durable = json!({ "llm": "gpt-4o", "request": { "messages": [] } });
    let ask = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(durable.to_string());
    assert_eq!(ask.json().await.0, 202);
    let task = good.task().await;
    assert_eq!(task["llmName"], "lama", "a durable task");
    good.answer(&hub, &task, "done").await;
    // The publisher's own calls go to what it has published.
    for (model, row) in [("gpt-4o", "gpt-4o"), ("o3-mini", "zz"), ("fast", "fast"), ("", "default")] {
        assert_eq!(called(&hub, &mallory, model, &mut evil).await, row, "{model}");
    }
    // Calls of a user who has no such alias find another user's row.
    assert_eq!(called(&hub, &alice, "fast", &mut evil).await, "fast");
    let alices = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), "alice".to_owned())).collect::<Vec<_>>()
    };
    let bobs: Vec<_> = listed(&hub, &bob).await.into_iter().filter(|(id, _)| id != "zz").collect();
    assert_eq!(bobs, alices(&["default", "fast", "gpt-4o", "helper", "lama"]));
    hub.stop().await;
}

/// An alias keeps its name while its target is away, hidden or deleted: a call fails rather than go to another user.
#[actix_rt::test]
async fn an_alias_whose_target_is_gone_leaves_its_calls_to_nobody() {
    let hub = hub().await;
    let (alice, mallory) = (hub.member("alice").await, hub.member("mallory").await);
    let bob = hub.member("bob").await;
    // Mallory has had the name all along, unseen.
    let early = Publisher::register(&hub, &mallory, None, &[private(provider("sonnet"))]).await;
    drop(early);
    let publisher =
        Publisher::start(&hub, &alice, &[private(provider("diary")), provider("lama")], None).await;
    assert_eq!(set(&hub, &alice, "sonnet", "diary").await.0, 200);
    assert_eq!(set(&hub, ADMIN, "o3-*", "lama").await.0, 200);
    drop(publisher);
    let path = "/api/v1/llms/sonnet";
    assert_eq!(hub.ask("DELETE", path).send().await.0, 204);
    for row in ["diary", "lama"] {
        assert_eq!(hub.ask("DELETE", format!("/api/v1/llms/{row}")).send().await.0, 204, "{row}");
    }
    let _evil = Publisher::start(&hub, &mallory, &[provider("sonnet"), provider("o3-pro")], None).await;
    let text = "model 'sonnet' not found: it is your alias of 'diary', which nothing has that you see";
    assert_eq!(refused(&hub, &alice, "sonnet").await, (404, text.to_owned()));
    assert_eq!(refused(&hub, &bob, "o3-pro").await, (404, "model 'o3-pro' not found".to_owned()));
    assert_eq!(owner(&hub, &bob, "sonnet").await, "mallory");
    hub.stop().await;
}

/// A call without a model asks for nobody's name: of other users' names, only a row of the hub itself counts.
#[actix_rt::test]
async fn a_members_default_takes_no_calls_without_a_model() {
    let hub = hub().await;
    let (alice, mallory) = (hub.member("alice").await, hub.member("mallory").await);
    let bob = hub.member("bob").await;
    let mut good = Publisher::start(&hub, &alice, &[provider("lama")], None).await;
    let evil = Publisher::start(&hub, &mallory, &[provider("default")], None).await;
    let text = "the request's body has no 'model', a string: name one of 'default', 'lama'";
    assert_eq!(refused(&hub, &bob, "").await, (400, text.to_owned()));
    assert_eq!(set(&hub, ADMIN, "*", "lama").await.0, 200);
    assert_eq!(called(&hub, &bob, "", &mut good).await, "lama");
    assert_eq!(set(&hub, ADMIN, "default", "default").await.0, 200, "an admin can choose it");
    assert_eq!(owner(&hub, &bob, "default").await, "mallory");
    drop(evil);
    hub.stop().await;
}

/// A row of the hub, which admins create, comes before patterns and shared aliases, and after a user's own alias.
#[actix_rt::test]
async fn a_row_of_the_hub_comes_before_aliases_of_all_users() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut good = Publisher::start(&hub, &alice, &[provider("lama")], None).await;
    for (token, alias) in [(ADMIN, "opus-*"), (&bob, "opus-5")] {
        assert_eq!(set(&hub, token, alias, "lama").await.0, 200, "{alias}");
    }
    for name in ["opus-4", "opus-5", "default"] {
        let row = json!({ "name": name, "type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1" });
        assert_eq!(hub.ask("POST", "/api/v1/llms").body(row.to_string()).json().await.0, 201, "{name}");
    }
    for (token, model, expected) in [
        (&bob, "opus-4", "admin"),
        (&alice, "opus-5", "admin"),
        (&bob, "opus-5", "alice"),
        (&bob, "opus-6", "alice"),
    ] {
        assert_eq!(owner(&hub, token, model).await, expected, "{model}");
    }
    assert_eq!(called(&hub, &bob, "opus-5", &mut good).await, "lama");
    assert_eq!(refused(&hub, &bob, "").await.0, 502, "the hub's row `default`");
    hub.stop().await;
}

/// An alias of all users takes no calls from what users call already; one of a user's own takes that user's.
#[actix_rt::test]
async fn an_alias_of_all_users_does_not_take_calls_of_a_published_row() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = [provider("lama"), provider("lama-8b"), private(provider("secret-1"))];
    let _publisher = Publisher::start(&hub, &alice, &rows, None).await;
    let mut other = Publisher::start(&hub, &bob, &[provider("qwen")], None).await;
    let exact = "LLM 'lama' exists, and users call it by this name: delete it first";
    let pattern = "users call 'lama', whose calls 'lam*' would send to 'qwen': delete it, or set an alias of all users \
                   'lama' for 'lama' first";
    for (alias, text) in [("lama", exact), ("lam*", pattern)] {
        let (status, answer) = set(&hub, ADMIN, alias, "qwen").await;
        assert_eq!((status, answer["error"].as_str().unwrap()), (409, text), "{alias}");
    }
    for (token, alias, target) in [
        (&*bob, "lama", "qwen"),
        (ADMIN, "secret-*", "qwen"),
        // The target itself may begin so.
        (ADMIN, "qwe*", "qwen"),
        (ADMIN, "lama", "lama"),
        (ADMIN, "lama-8b", "lama-8b"),
        (ADMIN, "lam*", "qwen"),
    ] {
        let (status, answer) = set(&hub, token, alias, target).await;
        assert_eq!(status, 200, "{alias}: {answer}");
    }
    let carol = hub.member("carol").await;
    for (token, model, expected) in [
        (&carol, "lama", "alice"),
        (&carol, "lama-8b", "alice"),
        (&carol, "lamp", "bob"),
        (&bob, "lama", "bob"),
        (&alice, "secret-1", "alice"),
        (&carol, "secret-1", "bob"),
    ] {
        assert_eq!(owner(&hub, token, model).await, expected, "{model}");
    }
    assert_eq!(called(&hub, &bob, "lama", &mut other).await, "qwen");
    hub.stop().await;
}

/// Who publishes the name of an alias reads where the calls go, if it sees the alias; and an alias for that name is refused.
#[actix_rt::test]
async fn a_publisher_is_warned_of_an_alias_of_all_users() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = [provider("lama"), private(provider("diary"))];
    let _publisher = Publisher::start(&hub, &alice, &rows, None).await;
    assert_eq!(set(&hub, ADMIN, "o3-*", "lama").await.0, 200);
    assert_eq!(set(&hub, ADMIN, "hidden", "diary").await.0, 200);
    let rows = [provider("o3-mini"), private(provider("o3-own")), provider("hidden"), provider("plain")];
    let body = json!({ "providers": rows,
        "agents": [{ "name": "o3-agent", "llmName": "plain", "visibility": "public" }] });
    let (status, answer) = hub.register(&bob, &body).await;
    let text = |name: &str| {
        json!(format!(
            "calls of other users for '{name}' go to 'lama', of which 'o3-*' is an alias of all users"
        ))
    };
    assert_eq!((status, &answer["warnings"]), (201, &json!([text("o3-mini"), text("o3-agent")])));
    let (status, answer) = set(&hub, &alice, "x", "o3-mini").await;
    let text = "'o3-mini' is an alias itself: use 'lama', what it stands for";
    assert_eq!((status, answer["error"].as_str().unwrap()), (409, text));
    hub.stop().await;
}
