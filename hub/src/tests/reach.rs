//! Requests that ask a backend for more than an answer: to fetch an address, to run tools, to store data.

mod agents;

use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, pooled, provider};
use super::support::{ADMIN, TestHub, hub};

fn picture(model: &str, url: &str) -> Value {
    json!({ "model": model, "messages": [ { "role": "user", "content": [
        { "type": "text", "text": "what is at http://10.0.0.1? use mcp" },
        { "type": "image_url", "image_url": { "url": url } } ] } ] })
}

fn ask(hub: &TestHub, token: &str, path: &str, body: &Value) -> Ask {
    hub.ask_as(token, "POST", path).body(body.to_string())
}

/// Others than the row's owner get 400 with the name of the parameter.
#[actix_rt::test]
async fn only_the_owner_may_ask_a_backend_for_more_than_an_answer() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, endpoints")).await;
    let remote = picture("a", "http://192.168.1.1/admin");
    for (path, body, param, code) in [
        ("/v1/chat/completions", remote.clone(), "messages", "/error/code"),
        ("/api/v1/llms/a/infer", remote.clone(), "messages", "/code"),
        (
            "/v1/messages",
            json!({ "model": "a", "messages": [ { "role": "user", "content": [
                { "type": "image", "source": { "type": "url", "url": "https://x/y.png" } } ] } ] }),
            "messages",
            "/error/code",
        ),
        (
            "/v1/messages",
            json!({ "model": "a", "messages": [], "mcp_servers": [ { "type": "url", "url": "http://x", "name": "x" } ] }),
            "mcp_servers",
            "/error/code",
        ),
        (
            "/v1/responses",
            json!({ "model": "a", "input": "x", "tools": [ { "type": "mcp", "server_url": "http://x" } ] }),
            "tools",
            "/error/code",
        ),
        ("/v1/responses", json!({ "model": "a", "input": "x", "store": true }), "store", "/error/code"),
        (
            "/v1/responses",
            json!({ "model": "a", "input": "x", "previous_response_id": "resp_1", "stream": true }),
            "previous_response_id",
            "/error/code",
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "a", "messages": [], "web_search_options": {} }),
            "web_search_options",
            "/error/code",
        ),
    ] {
        // An admin is not the row's owner, either.
        for token in [bob.as_str(), ADMIN] {
            let (status, answer) = ask(&hub, token, path, &body).json().await;
            assert_eq!(status, 400, "{path} {body}: {answer}");
            assert_eq!(answer.pointer(code), Some(&json!("invalid_request")), "{answer}");
            let text = answer.to_string();
            assert!(text.contains(&format!("'{param}'")) && text.contains("allowRemoteUrls"), "{text}");
            if path == "/v1/chat/completions" {
                assert_eq!(answer["error"]["param"], param, "{answer}");
            }
        }
        let mut own = body.clone();
        own["stream"] = false.into();
        publisher.serves(&hub, &ask(&hub, &alice, path, &own), "hello").await;
    }
    let data = picture("a", "data:image/png;base64,/9j/4AAQ");
    let task = publisher.serves(&hub, &ask(&hub, &bob, "/v1/chat/completions", &data), "hello").await;
    assert_eq!(task["request"]["messages"], data["messages"], "the request was changed");
    let durable = json!({ "llm": "a", "request": remote });
    let (_, task) = ask(&hub, &bob, "/api/v1/inference-tasks", &durable).json().await;
    hub.until_task(&task, "code", "invalid_request").await;
    hub.stop().await;
}

/// Calls of a pool that fetch an address go to members with `allowRemoteUrls`.
#[actix_rt::test]
async fn a_row_with_allow_remote_urls_serves_others_requests_that_fetch() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut open = pooled("open", "p");
    open["allowRemoteUrls"] = true.into();
    let mut publisher = Publisher::start(&hub, &alice, &[open, pooled("closed", "p")], Some("cancel")).await;
    for name in ["open", "p", "p", "p"] {
        let ask = ask(&hub, &bob, "/v1/chat/completions", &picture(name, "http://x/y.png"));
        let task = publisher.serves(&hub, &ask, "hello").await;
        assert_eq!(task["llmName"], "open");
    }
    let closed = picture("closed", "http://x/y.png");
    assert_eq!(ask(&hub, &bob, "/v1/chat/completions", &closed).json().await.0, 400);
    assert_eq!(hub.row("open").await["allowRemoteUrls"], true);
    assert_eq!(hub.row("closed").await.get("allowRemoteUrls"), None);

    // The same holds for a public row, which belongs to its admin.
    let row = json!({ "type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1" });
    let mut made = row.clone();
    made["name"] = "gpt".into();
    assert_eq!(ask(&hub, ADMIN, "/api/v1/llms", &made).json().await.0, 201);
    let asked = picture("gpt", "http://x/y.png");
    assert_eq!(ask(&hub, &bob, "/v1/chat/completions", &asked).json().await.0, 400);
    let mut opened = row.clone();
    opened["allowRemoteUrls"] = true.into();
    for put in [&opened, &row] {
        assert_eq!(hub.ask("PUT", "/api/v1/llms/gpt").body(put.to_string()).send().await.0, 200);
        // A PUT without the key keeps it. 502: the call was allowed, and nothing listens on port 9.
        assert_eq!(ask(&hub, &bob, "/v1/chat/completions", &asked).json().await.0, 502);
    }
    hub.stop().await;
}

/// Parameters of an agent are allowed at rows of the agent's owner, and not at rows of others, whoever calls.
#[actix_rt::test]
async fn an_agents_parameters_count_as_requested_by_its_owner() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, endpoints")).await;
    let agent = |name: &str| {
        json!({ "name": name, "llmName": "a", "visibility": "public",
            "defaultParams": { "tools": [ { "type": "file_search", "vector_store_ids": ["v"] } ] } })
    };
    for (token, name) in [(&alice, "hers"), (&bob, "his")] {
        assert_eq!(ask(&hub, token, "/api/v1/agents", &agent(name)).send().await.0, 201);
    }
    let plain = |model: &str| json!({ "model": model, "messages": [] });
    for token in [&alice, &bob] {
        let call = ask(&hub, token, "/v1/chat/completions", &plain("hers"));
        let task = publisher.serves(&hub, &call, "hello").await;
        assert_eq!(task["request"]["tools"][0]["type"], "file_search");
        let (status, answer) = ask(&hub, token, "/v1/chat/completions", &plain("his")).json().await;
        assert_eq!(status, 400, "{answer}");
    }
    let own = json!({ "model": "hers", "messages": [], "store": true });
    assert_eq!(ask(&hub, &bob, "/v1/chat/completions", &own).json().await.0, 400);
    hub.stop().await;
}

/// A key such as `Model`, which some backends read as `model`, is refused, also at the caller's own row.
#[actix_rt::test]
async fn a_key_that_differs_from_a_known_key_only_in_case_is_refused() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, endpoints")).await;
    for (odd, key) in [
        ("Model", "model"),
        (r"\u004dODEL", "model"),
        ("STREAM", "stream"),
        (r"\u017ftream", "stream"),
        ("Stream_Options", "stream_options"),
    ] {
        let body = format!(r#"{{"model":"a","messages":[],"input":"x","{odd}":null}}"#);
        for path in ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"] {
            let (status, answer) = hub.ask_as(&alice, "POST", path).body(body.clone()).json().await;
            assert_eq!((status, &answer["error"]["param"]), (400, &json!(key)), "{path} {body}: {answer}");
            assert!(
                answer["error"]["message"].as_str().unwrap().contains(&format!("write '{key}'")),
                "{answer}"
            );
        }
        let durable = format!(r#"{{"llm":"a","request":{body}}}"#);
        assert_eq!(hub.ask_as(&alice, "POST", "/api/v1/inference-tasks").body(durable).send().await.0, 400);
    }
    // Such keys among an agent's parameters are removed and do not fail the call.
    hub.create_agent(
        &alice,
        &json!({ "name": "g", "llmName": "a", "defaultParams": { "Model": "x", "STREAM": true, "seed": 1 } }),
    )
    .await;
    let call = json!({ "model": "g", "messages": [], "stream": false });
    let task = publisher.serves(&hub, &ask(&hub, &alice, "/v1/chat/completions", &call), "hello").await;
    assert_eq!((&task["request"]["seed"], &task["request"]["Model"]), (&json!(1), &Value::Null));
    hub.stop().await;
}
