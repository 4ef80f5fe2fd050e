//! What models can do, as callers read it: in rows, in lists of models, and in Anthropic's format.

use serde_json::{Value, json};

use super::publisher::{Publisher, asleep, pooled, private, provider};
use super::support::{ADMIN, TestHub, hub};

/// `provider` with a context length and capabilities.
fn able(mut provider: Value, context: u32, capabilities: Value) -> Value {
    provider["contextLength"] = context.into();
    provider["capabilities"] = capabilities;
    provider
}

async fn model(hub: &TestHub, token: &str, name: &str) -> Value {
    let (status, model) = hub.ask_as(token, "GET", format!("/v1/models/{name}")).json().await;
    assert_eq!(status, 200, "{model}");
    // The list says the same.
    let (_, list) = hub.ask_as(token, "GET", "/v1/models").json().await;
    let listed = list["data"].as_array().unwrap().iter().find(|one| one["id"] == name);
    assert_eq!(listed, Some(&model));
    model
}

fn told(model: &Value) -> [&Value; 4] {
    [&model["context_length"], &model["max_model_len"], &model["capabilities"], &model["status"]]
}

#[actix_rt::test]
async fn a_row_and_its_model_have_what_the_publisher_says() {
    let hub = hub().await;
    let mut row = able(provider("a"), 8192, json!({ "tools": true, "vision": false }));
    row["maxOutputTokens"] = 1024.into();
    let publisher = Publisher::start(&hub, ADMIN, &[row.clone(), provider("b")], None).await;
    let shown = hub.row("a").await;
    for key in ["contextLength", "maxOutputTokens", "capabilities"] {
        assert_eq!(shown[key], row[key], "{key}");
        assert_eq!(hub.row("b").await.get(key), None, "{key}");
    }
    let a = model(&hub, ADMIN, "a").await;
    let capabilities = json!({ "tools": true, "vision": false });
    assert_eq!(told(&a), [&json!(8192), &json!(8192), &capabilities, &json!("active")]);
    assert_eq!(a["max_output_tokens"], 1024);
    assert_eq!(
        told(&model(&hub, ADMIN, "b").await),
        [&Value::Null, &Value::Null, &Value::Null, &json!("active")]
    );
    // A later register call may take it back.
    Publisher::register(&hub, ADMIN, Some(&publisher.session), &[provider("a"), provider("b")]).await;
    assert_eq!(hub.row("a").await.get("contextLength"), None);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_pool_has_what_all_its_members_have() {
    let hub = hub().await;
    let large =
        able(pooled("large", "p"), 32_768, json!({ "tools": true, "vision": true, "reasoning": true }));
    let small = able(asleep(pooled("small", "p")), 4096, json!({ "tools": true, "vision": false }));
    let alice = hub.member("alice").await;
    let publisher = Publisher::start(&hub, &alice, &[large.clone(), small], None).await;
    let both = json!({ "tools": true, "vision": false });
    let p = model(&hub, &alice, "p").await;
    assert_eq!(told(&p), [&json!(4096), &json!(4096), &both, &json!("active")]);
    assert_eq!(told(&model(&hub, &alice, "small").await)[3], "hibernating");
    // A member of which nothing is known makes the pool's values unknown.
    let unknown = pooled("unknown", "p");
    let session = Some(publisher.session.as_str());
    Publisher::register(&hub, &alice, session, &[large.clone(), unknown]).await;
    assert_eq!(told(&model(&hub, &alice, "p").await)[0], &Value::Null);
    // A member that left does not count.
    Publisher::register(&hub, &alice, session, std::slice::from_ref(&large)).await;
    assert_eq!(told(&model(&hub, &alice, "p").await)[0], 32_768);
    hub.stop().await;
}

/// A hidden member of a pool, or a hidden row behind an agent, changes no byte of what a stranger reads.
#[actix_rt::test]
async fn a_hidden_row_changes_nothing_that_a_stranger_reads() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let open = able(pooled("open", "p"), 8192, json!({ "tools": true }));
    let publisher = Publisher::start(&hub, &alice, std::slice::from_ref(&open), None).await;
    for (name, llm) in [("clerk", "p"), ("deep", "secret")] {
        hub.create_agent(&alice, &json!({ "name": name, "llmName": llm, "visibility": "public" })).await;
    }
    let read = async |token: &str| {
        let mut models = Vec::new();
        for name in ["open", "p", "clerk", "deep"] {
            models.push(model(&hub, token, name).await);
        }
        models
    };
    let before = read(&bob).await;
    assert_eq!(told(&before[2])[0], 8192, "an agent has what its LLM has");
    assert_eq!(told(&before[3])[0], &Value::Null);
    let secret = private(able(asleep(pooled("secret", "p")), 1024, json!({ "tools": false })));
    Publisher::register(&hub, &alice, Some(&publisher.session), &[open, secret]).await;
    assert_eq!(read(&bob).await, before);
    let own = read(&alice).await;
    assert_eq!([told(&own[1])[0], told(&own[2])[0], told(&own[3])[0]], [1024, 1024, 1024]);
    hub.stop().await;
}

#[actix_rt::test]
async fn abilities_out_of_range_or_of_another_type_are_refused() {
    let hub = hub().await;
    for (key, value) in [
        ("contextLength", json!(0)),
        ("contextLength", json!(1_000_000_001)),
        ("contextLength", json!(-1)),
        ("contextLength", json!(1_u64 << 40)),
        ("contextLength", json!("8192")),
        ("maxOutputTokens", json!(0)),
        ("maxOutputTokens", json!(1.5)),
        ("capabilities", json!("tools")),
        ("capabilities", json!({ "tools": "yes" })),
    ] {
        let mut row = provider("a");
        row[key] = value.clone();
        let (status, answer) = hub.register(ADMIN, &json!({ "providers": [row] })).await;
        assert_eq!(status, 400, "{key} {value}");
        assert!(answer["error"].as_str().unwrap().contains(key), "{answer}");
        let mut public =
            json!({ "name": "gpt", "type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1" });
        public[key] = value;
        let created = hub.ask("POST", "/api/v1/llms").body(public.to_string()).json().await;
        assert_eq!(created.0, 400, "{created:?}");
    }
    let mut newer = provider("a");
    newer["capabilities"] = json!({ "tools": null, "smell": true });
    assert_eq!(hub.register(ADMIN, &json!({ "providers": [newer] })).await.0, 201);
    hub.stop().await;
}

#[actix_rt::test]
async fn an_admin_says_what_a_public_row_can_do() {
    let hub = hub().await;
    let mut row = json!({ "name": "gpt", "type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1",
        "contextLength": 128_000, "capabilities": { "vision": true } });
    assert_eq!(hub.ask("POST", "/api/v1/llms").body(row.to_string()).send().await.0, 201);
    assert_eq!(told(&model(&hub, ADMIN, "gpt").await)[0], 128_000);
    row["contextLength"] = 64_000.into();
    assert_eq!(hub.ask("PUT", "/api/v1/llms/gpt").body(row.to_string()).send().await.0, 200);
    assert_eq!(told(&model(&hub, ADMIN, "gpt").await)[0], 64_000);
    hub.stop().await;
}

/// Asks as Anthropic's SDK does.
async fn anthropic(hub: &TestHub, path: &str) -> (u16, Value) {
    let ask = super::http::ask(hub.addr, "GET", path).header("x-api-key", ADMIN);
    ask.header("anthropic-version", "2023-06-01").json().await
}

#[actix_rt::test]
async fn anthropics_client_gets_models_in_its_format() {
    let hub = hub().await;
    let known = json!({ "vision": true, "reasoning": false });
    let rows = [able(provider("a"), 8192, known), able(provider("b"), 4096, json!({ "vision": true }))];
    let _publisher = Publisher::start(&hub, ADMIN, &rows, None).await;
    let (status, list) = anthropic(&hub, "/v1/models").await;
    assert_eq!(status, 200, "{list}");
    let keys: Vec<_> = list.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["data", "has_more", "first_id", "last_id"]);
    assert_eq!(
        [&list["has_more"], &list["first_id"], &list["last_id"]],
        [&json!(false), &json!("a"), &json!("b")]
    );
    let a = &list["data"][0];
    assert!(a["created_at"].as_str().unwrap().ends_with('Z'), "{a}");
    let mut rest = a.as_object().unwrap().clone();
    let capabilities = rest.remove("capabilities").unwrap();
    rest.remove("created_at");
    assert_eq!(
        Value::Object(rest),
        json!({ "type": "model", "id": "a", "display_name": "a", "lifecycle": "active", "deprecated_at": null,
            "retires_at": null, "line": null, "max_input_tokens": 8192, "max_tokens": null })
    );
    assert_eq!(capabilities["image_input"], json!({ "supported": true }));
    assert_eq!(capabilities["thinking"]["supported"], false);
    assert_eq!(list["data"][1]["capabilities"], Value::Null, "an unknown capability counts as none");
    assert_eq!(anthropic(&hub, "/v1/models/a").await, (200, a.clone()));
    let alias = hub.ask("PUT", "/api/v1/aliases/claude-x").body(r#"{"target":"a"}"#);
    assert!((200..300).contains(&alias.send().await.0));
    let (_, aliased) = anthropic(&hub, "/v1/models/claude-x").await;
    assert_eq!([&aliased["id"], &aliased["max_input_tokens"]], [&json!("claude-x"), &json!(8192)]);
    assert_eq!(anthropic(&hub, "/v1/models?after_id=b").await.1["data"], json!([aliased]));
    let (status, error) = anthropic(&hub, "/v1/models/none").await;
    assert_eq!(
        (status, &error["type"], &error["error"]["type"]),
        (404, &json!("error"), &json!("not_found_error"))
    );
    hub.stop().await;
}

#[actix_rt::test]
async fn anthropics_list_is_read_in_pages_in_both_directions() {
    let hub = hub().await;
    let rows: Vec<_> = (0..150).map(|n| provider(&format!("row-{n:03}"))).collect();
    let _publisher = Publisher::start(&hub, ADMIN, &rows, None).await;
    let page = async |query: &str| {
        let (status, list) = anthropic(&hub, &format!("/v1/models?{query}")).await;
        assert_eq!(status, 200, "{list}");
        let ids = list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), list["has_more"].as_bool().unwrap())
    };
    assert_eq!(page("").await.0.len(), 20);
    let (mut all, mut query) = (Vec::new(), "limit=40".to_owned());
    loop {
        let (ids, has_more) = page(&query).await;
        query = format!("limit=40&after_id={}", ids.last().unwrap());
        all.extend(ids);
        if !has_more {
            break;
        }
    }
    assert_eq!(all, rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
    assert_eq!(
        page("before_id=row-002&limit=5").await,
        (vec!["row-000".to_owned(), "row-001".to_owned()], false)
    );
    assert_eq!(page("before_id=row-009&limit=1").await, (vec!["row-008".to_owned()], true));
    assert_eq!(page("limit=1000").await.0.len(), 150);
    assert_eq!(page("lifecycle=deprecated&lifecycle=retired").await, (Vec::new(), false));
    assert_eq!(page("lifecycle=active&limit=1").await.0.len(), 1);
    for query in ["limit=0", "limit=x", "after_id=a&before_id=b"] {
        let (status, error) = anthropic(&hub, &format!("/v1/models?{query}")).await;
        assert_eq!((status, &error["type"]), (400, &json!("error")), "{query}");
    }
    hub.stop().await;
}
