//! Ollama's API through hub and registrar, with the mock.

use serde_json::{Value, json};
use testkit::http::Http;
use testkit::team::{ADMIN, connected_registrar, hub_in_memory};

/// The lines of a streamed answer.
async fn lines(http: &Http, path: &str, body: &Value) -> Vec<Value> {
    let answer = http.post(path, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[actix_rt::test]
async fn a_mock_is_chatted_with_listed_and_asked_for_embeddings() {
    let (home, _hub, url) = hub_in_memory(&[]).await;
    home.providers(&json!([{ "name": "echo", "type": "mock", "contextLength": 4096, "publish": true }]));
    let _registrar = connected_registrar(&home).await;
    let http = Http::new(&url, ADMIN);
    let listed = http.get("/api/tags").await.json();
    assert_eq!(listed["models"][0]["model"], "echo:latest", "{listed}");
    let shown = http.post("/api/show", &json!({ "model": "echo:latest" })).await.json();
    assert_eq!(shown["model_info"]["virtual-llm.context_length"], 4096, "{shown}");

    let messages = json!([{ "role": "user", "content": "one two three" }]);
    let chat = json!({ "model": "echo:latest", "messages": messages, "options": { "num_predict": 2 } });
    let lines_of_chat = lines(&http, "/api/chat", &chat).await;
    let text: String =
        lines_of_chat.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, "one two");
    let done = lines_of_chat.last().unwrap();
    assert_eq!((&done["done_reason"], &done["eval_count"]), (&json!("length"), &json!(2)), "{done}");

    let raw = json!({ "model": "echo", "prompt": "a b", "raw": true });
    let text: String = lines(&http, "/api/generate", &raw)
        .await
        .iter()
        .map(|line| line["response"].as_str().unwrap())
        .collect();
    assert_eq!(text, "a b");
    let embed = http.post("/api/embed", &json!({ "model": "echo", "input": ["a", "b", "a"] })).await.json();
    let vectors = embed["embeddings"].as_array().unwrap();
    assert!(vectors.len() == 3 && vectors[0] == vectors[2] && vectors[0] != vectors[1], "{embed}");
    let refused = http.post("/api/pull", &json!({ "model": "qwen" })).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("pulls no models"));
}
