//! Paths and keys as clients write them.

use super::*;

/// Sends a call and answers it as the publisher. Returns the task's endpoint and model.
async fn endpoint_and_model(hub: &TestHub, publisher: &mut Publisher, ask: Ask) -> (Value, Value) {
    let task = publisher.serves(hub, &ask, "hello").await;
    (task["endpoint"].clone(), task["request"]["model"].clone())
}

#[actix_rt::test]
async fn each_way_to_write_a_path_reaches_its_endpoint() {
    let hub = hub().await;
    let mut publisher =
        Publisher::start(&hub, ADMIN, &[provider("a"), provider("b.c")], Some("endpoints")).await;
    let body = chat("a", false);
    for (path, endpoint) in [
        ("/completions", json!("completions")),
        ("/v1/chat/completions/", Value::Null),
        ("/v1/v1/messages", json!("messages")),
        ("/responses?x=1", json!("responses")),
        ("/v1/reranking", json!("rerank")),
        ("/rerank", json!("rerank")),
        ("/v1//embeddings", json!("embeddings")),
        ("/openai/v1/responses", json!("responses")),
    ] {
        let ask = hub.ask("POST", path).body(body.clone());
        assert_eq!(
            endpoint_and_model(&hub, &mut publisher, ask).await,
            (endpoint, json!("model-of-a")),
            "{path}"
        );
    }
    // The model in Azure's path replaces the model in the body, if there is one.
    for body in [body.as_str(), "{}"] {
        let ask = hub.ask("POST", "/openai/deployments/b%2Ec/embeddings?api-version=2024-10-21").body(body);
        assert_eq!(
            endpoint_and_model(&hub, &mut publisher, ask).await,
            (json!("embeddings"), json!("model-of-b.c"))
        );
    }
    let (status, models) = hub.ask("GET", "/models/").json().await;
    assert_eq!((status, &models["data"][0]["id"]), (200, &json!("a")));
    assert_eq!(hub.ask("GET", "/v1/v1/models/b.c").json().await.1["id"], "b.c");
    // An error has the dialect of the endpoint that the path stands for.
    let unknown = |path: &str| hub.ask("POST", path).body(chat("none", false));
    assert_eq!(unknown("/messages").json().await.1["error"]["type"], "not_found_error");
    assert_eq!(
        unknown("/openai/deployments/none/chat/completions").json().await.1["error"]["code"],
        "model_not_found"
    );
    hub.stop().await;
}

#[actix_rt::test]
async fn a_key_in_azures_header_is_a_token_on_openai_routes() {
    let hub = hub().await;
    for path in ["/v1/models", "/models", "/openai/models?api-version=1"] {
        let status = |name: &str, key: &str| {
            let ask = ask(hub.addr, "GET", path).header(name, key);
            async move { ask.send().await.0 }
        };
        assert_eq!(status("api-key", ADMIN).await, 200, "{path}");
        assert_eq!(status("x-api-key", ADMIN).await, 200, "{path}");
        assert_eq!(status("api-key", "wrong").await, 401, "{path}");
    }
    assert_eq!(ask(hub.addr, "GET", "/api/v1/llms").header("api-key", ADMIN).send().await.0, 401);
    let two = ask(hub.addr, "GET", "/v1/models").header("api-key", ADMIN).header("api-key", ADMIN);
    assert_eq!(two.send().await.0, 401);
    hub.stop().await;
}
