//! The names that Ollama's clients see, and what they read of a model.

use super::super::publisher::{Publisher, asleep, pooled, private};
use super::*;

async fn names(hub: &TestHub, token: &str, path: &str) -> Vec<String> {
    let (status, list) = hub.ask_as(token, "GET", path).json().await;
    assert_eq!(status, 200, "{list}");
    let models = list["models"].as_array().unwrap();
    models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
}

async fn set_alias(hub: &TestHub, token: &str, alias: &str, target: &str) {
    let call = hub.ask_as(token, "PUT", format!("/api/v1/aliases/{alias}"));
    let (status, answer) = call.body(json!({ "target": target }).to_string()).json().await;
    assert_eq!(status, 200, "{answer}");
}

async fn show(hub: &TestHub, token: &str, body: &Value) -> (u16, Value) {
    hub.ask_as(token, "POST", "/api/show").body(body.to_string()).json().await
}

#[actix_rt::test]
async fn a_caller_sees_the_names_that_it_may_call_with_tags() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = [pooled("a", "herd"), asleep(provider("b")), private(provider("secret"))];
    let _publisher = Publisher::start(&hub, &alice, &rows, Some("endpoints")).await;
    hub.create_agent(&alice, &json!({ "name": "helper", "llmName": "a", "visibility": "public" })).await;
    set_alias(&hub, &alice, "qwen2.5:7b", "secret").await;
    set_alias(&hub, ADMIN, "gpt-*", "a").await;
    set_alias(&hub, ADMIN, "org%2Fgpt", "a").await;
    let open = ["a:latest", "b:latest", "helper:latest", "herd:latest", "org/gpt:latest"];
    assert_eq!(names(&hub, &bob, "/api/tags").await, open);
    let own = [open.as_slice(), &["qwen2.5:7b", "secret:latest"]].concat();
    assert_eq!(names(&hub, &alice, "/api/tags").await, own);
    assert!(!names(&hub, &bob, "/api/ps").await.contains(&"b:latest".to_owned()), "b is asleep");
    // For a stranger a hidden name is as unknown as any other.
    for model in ["secret", "secret:latest", "qwen2.5:7b"] {
        let (status, hidden) = show(&hub, &bob, &json!({ "model": model })).await;
        let (_, unknown) = show(&hub, &bob, &json!({ "model": "none" })).await;
        assert_eq!((status, hidden.to_string()), (404, unknown.to_string().replace("none", model)));
        assert_eq!(show(&hub, &alice, &json!({ "name": model })).await.0, 200, "{model}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_list_and_a_model_have_all_members_that_clients_require() {
    let hub = hub().await;
    let mut row = provider("a");
    row["contextLength"] = json!(8192);
    row["capabilities"] = json!({ "tools": true, "vision": false, "reasoning": true });
    let mut embeds = provider("e");
    embeds["capabilities"] = json!({ "embeddings": true });
    let _publisher = Publisher::start(&hub, ADMIN, &[row, embeds], Some("endpoints")).await;
    assert_eq!(hub.ask("GET", "/api/version").json().await, (200, json!({ "version": "0.14.0" })));
    let details = json!({ "parent_model": "", "format": "virtual-llm", "family": "virtual-llm",
        "families": ["virtual-llm"], "parameter_size": "", "quantization_level": "" });
    let (_, list) = hub.ask("GET", "/api/tags").json().await;
    let tag = &list["models"][0];
    assert_eq!(
        (&tag["name"], &tag["model"], &tag["size"]),
        (&json!("a:latest"), &json!("a:latest"), &json!(0))
    );
    assert_eq!(tag["digest"].as_str().unwrap().len(), 64);
    assert_eq!(
        (&tag["details"], &tag["modified_at"]),
        (
            &details,
            &hub.row("a").await["createdAt"].as_str().map(|at| json!(format!("{}.000Z", &at[..19]))).unwrap()
        )
    );
    let (_, list) = hub.ask("GET", "/api/ps").json().await;
    let running = &list["models"][0];
    assert_eq!((&running["size_vram"], &running["context_length"]), (&json!(0), &json!(8192)));
    assert!(running["expires_at"].as_str().unwrap() > "2100", "{running}");
    let (status, model) = show(&hub, ADMIN, &json!({ "model": "a:latest", "verbose": true })).await;
    assert_eq!((status, &model["details"]), (200, &details));
    assert_eq!(model["model_info"]["general.architecture"], "virtual-llm");
    assert_eq!(model["model_info"]["virtual-llm.context_length"], 8192);
    assert_eq!(model["capabilities"], json!(["completion", "tools", "thinking"]));
    for key in ["modelfile", "parameters", "template", "license"] {
        assert!(model[key].is_string(), "{key}");
    }
    assert_eq!(show(&hub, ADMIN, &json!({ "model": "e" })).await.1["capabilities"], json!(["embedding"]));
    assert_eq!(show(&hub, ADMIN, &json!({})).await.0, 400);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_tag_is_dropped_unless_an_alias_has_the_whole_name() {
    let hub = hub().await;
    let rows = [provider("a"), provider("b"), provider("c")];
    let mut publisher = Publisher::start(&hub, ADMIN, &rows, Some("endpoints")).await;
    set_alias(&hub, ADMIN, "a:latest", "b").await;
    set_alias(&hub, ADMIN, "c:*", "b").await;
    set_alias(&hub, ADMIN, "gpt-*", "b").await;
    for (model, row) in [
        ("a", "a"),
        ("a:latest", "b"),
        ("b:latest", "b"),
        ("c:latest", "c"),
        ("c:1b", "b"),
        ("gpt-5:latest", "b"),
    ] {
        assert_eq!(publisher.serves(&hub, &chat(&hub, model, false), "x").await["llmName"], row, "{model}");
    }
    let listed = names(&hub, ADMIN, "/api/tags").await;
    assert_eq!(listed, ["a", "a:latest", "b:latest", "c:latest"], "each name once");
    for path in ["/api/chat", "/v1/chat/completions"] {
        let body = json!({ "model": "a:1b", "messages": hello() });
        assert_eq!(post(&hub, path, &body).send().await.0, 404, "{path}");
    }
    hub.stop().await;
}

/// Neither another user's row of the name without its tag nor an absent target takes calls of an alias with a tag.
#[actix_rt::test]
async fn what_a_member_publishes_takes_no_calls_of_an_alias_with_a_tag() {
    let hub = hub().await;
    let (bob, mallory) = (hub.member("bob").await, hub.member("mallory").await);
    let mut publisher =
        Publisher::start(&hub, ADMIN, &[provider("good"), provider("gone")], Some("endpoints")).await;
    set_alias(&hub, ADMIN, "phi:*", "good").await;
    set_alias(&hub, ADMIN, "*", "good").await;
    set_alias(&hub, ADMIN, "mini:latest", "gone").await;
    let evil = [provider("phi"), provider("mini"), provider("free")];
    let mut evil = Publisher::start(&hub, &mallory, &evil, Some("endpoints")).await;
    let call = |token: &str, model: &str| {
        let body = json!({ "model": model, "messages": hello(), "stream": false });
        hub.ask_as(token, "POST", "/api/chat").body(body.to_string())
    };
    assert_eq!(publisher.serves(&hub, &call(&bob, "phi:latest"), "x").await["llmName"], "good");
    assert_eq!(publisher.serves(&hub, &call(&bob, "mini:latest"), "x").await["llmName"], "gone");
    // Names that no alias but `*` has are other users', and a user's own are its own.
    for (token, model, row) in
        [(&bob, "free:latest", "free"), (&bob, "phi", "phi"), (&mallory, "phi:latest", "phi")]
    {
        assert_eq!(evil.serves(&hub, &call(token, model), "x").await["llmName"], row, "{model}");
    }
    let body = json!({ "providers": [provider("good")], "providerSessionId": publisher.session });
    assert_eq!(hub.register(ADMIN, &body).await.0, 201);
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/gone").send().await.0, 204);
    publisher.open(&hub, Some("endpoints")).await;
    assert_eq!(publisher.serves(&hub, &call(&bob, "mini:latest"), "x").await["llmName"], "good", "by `*`");
    hub.stop().await;
}

#[actix_rt::test]
async fn what_changes_models_is_refused_in_words() {
    let hub = hub().await;
    for (method, path, status, text) in [
        ("POST", "/api/pull", 400, "pulls no models"),
        ("POST", "/api/push", 400, "pushes no models"),
        ("POST", "/api/create", 400, "creates no models"),
        ("POST", "/api/copy", 400, "copies no models"),
        ("DELETE", "/api/delete", 400, "deletes no models"),
        ("POST", "/api/blobs/sha256:1", 400, "creates no models"),
        ("GET", "/api/blobs/sha256:1", 404, "stores no blobs"),
        ("POST", "/api/me", 404, "no accounts"),
        ("POST", "/api/signout", 404, "no accounts"),
    ] {
        let (found, body) = hub.ask(method, path).body(r#"{"model":"a"}"#).json().await;
        assert_eq!(found, status, "{method} {path}");
        assert!(body["error"].as_str().unwrap().contains(text), "{body}");
    }
    assert_eq!(hub.ask("HEAD", "/api/blobs/sha256:1").open().await.status, 404);
    for path in ["/", "/api/version", "/api/tags", "/api/ps"] {
        assert_eq!(hub.ask("HEAD", path).open().await.status, 200, "{path}");
    }
    hub.stop().await;
}
