//! Requests through agents, requests of coding agents, and what is removed from requests of other users.

use super::*;

/// A request to the Responses API at another user's row gets `store: false`; a request at an own row is not changed.
#[actix_rt::test]
async fn responses_requests_of_others_get_store_false() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut open = provider("open");
    open["allowRemoteUrls"] = true.into();
    let mut publisher =
        Publisher::start(&hub, &alice, &[provider("a"), open], Some("cancel, endpoints")).await;
    hub.create_agent(&alice, &json!({ "name": "keeps", "llmName": "a", "visibility": "public", "defaultParams": { "store": true } })).await;
    let asked = |model: &str| json!({ "input": "x", "model": model, "stream": false });
    for (token, model, store) in [
        (&bob, "a", json!(false)),
        (&alice, "a", Value::Null),
        (&bob, "open", Value::Null),
        (&bob, "keeps", json!(true)),
    ] {
        let task = publisher.serves(&hub, &ask(&hub, token, "/v1/responses", &asked(model)), "hello").await;
        assert_eq!(task["request"]["store"], store, "{model}");
        let row = if model == "open" { "model-of-open" } else { "model-of-a" };
        assert_eq!((&task["request"]["model"], &task["request"]["stream"]), (&json!(row), &json!(false)));
    }
    let mut null = asked("a");
    null["store"] = Value::Null;
    let task = publisher.serves(&hub, &ask(&hub, &bob, "/v1/responses", &null), "hello").await;
    assert_eq!(task["request"]["store"], false);
    hub.stop().await;
}

/// A web search is removed from requests of others. If an agent forces a tool, the request is refused instead.
#[actix_rt::test]
async fn a_web_search_beside_a_forced_tool_is_refused() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, endpoints")).await;
    for (name, choice) in [("forced", "required"), ("free", "auto")] {
        hub.create_agent(&alice, &json!({ "name": name, "llmName": "a", "visibility": "public", "defaultParams": { "tool_choice": choice } })).await;
    }
    let tools = |model: &str| {
        let function = json!({ "type": "function", "function": { "name": "f" } });
        json!({ "model": model, "messages": [], "stream": false, "tools": [ { "type": "web_search" }, function ] })
    };
    let (status, answer) = ask(&hub, &bob, "/v1/chat/completions", &tools("forced")).json().await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("tools")), "{answer}");
    let task =
        publisher.serves(&hub, &ask(&hub, &bob, "/v1/chat/completions", &tools("free")), "hello").await;
    assert_eq!(task["request"]["tools"], json!([tools("")["tools"][1]]));
    let task =
        publisher.serves(&hub, &ask(&hub, &alice, "/v1/chat/completions", &tools("forced")), "hello").await;
    assert_eq!(task["request"]["tools"], tools("")["tools"]);
    hub.stop().await;
}

/// Recorded requests of Codex, the AI SDK and Claude Code are served by another user's row. Codex's web search is
/// removed. The AI SDK's references to stored items are refused with a hint to `store: false`.
#[actix_rt::test]
async fn requests_of_coding_agents_are_served_by_rows_of_others() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("m")], Some("cancel, endpoints")).await;
    for (path, recorded) in [
        ("/v1/responses", include_str!("../../../../backend/src/translate/tests/fixtures/codex.json")),
        ("/v1/responses", include_str!("../../../../backend/src/translate/tests/fixtures/vercel.json")),
        ("/v1/messages", include_str!("../../../../backend/src/translate/tests/fixtures/claude_code.json")),
    ] {
        let mut request: Value = serde_json::from_str(recorded).unwrap();
        request["model"] = "m".into();
        request["stream"] = false.into();
        // Newer versions of the clients send this key, too.
        request["diagnostics"] = json!({ "previous_message_id": "msg_1" });
        if let Some(kept) = request["input"]
            .as_array()
            .and_then(|items| items.iter().position(|item| item["type"] == "item_reference"))
        {
            let (status, answer) = ask(&hub, &bob, path, &request).json().await;
            assert_eq!(status, 400, "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("store: false"), "{answer}");
            publisher.serves(&hub, &ask(&hub, &alice, path, &request), "hello").await;
            let text = json!([ { "type": "output_text", "text": "hello" } ]);
            request["input"][kept] = json!({ "role": "assistant", "content": text });
            request["store"] = false.into();
        }
        let task = publisher.serves(&hub, &ask(&hub, &bob, path, &request), "hello").await;
        let kinds = |of: &Value| {
            let tools = of["tools"].as_array().unwrap().clone();
            tools.into_iter().filter(|tool| tool["type"] != "web_search").collect::<Vec<_>>()
        };
        assert_eq!(task["request"]["tools"], json!(kinds(&request)), "{path}");
        request["tools"] = task["request"]["tools"].clone();
        request["model"] = task["request"]["model"].clone();
        assert_eq!(task["request"], request, "{path}: something else was changed");
    }
    hub.stop().await;
}

/// Keys of no known API are removed from requests of others. Requests of the row's owner and parameters of the owner's
/// agents are not changed.
#[actix_rt::test]
async fn unknown_keys_are_removed_from_requests_of_others() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, endpoints")).await;
    let agent = json!({ "name": "hers", "llmName": "a", "visibility": "public",
        "defaultParams": { "provider": { "order": ["x"] }, "extra_body": { "y": ["z"] } } });
    hub.create_agent(&alice, &agent).await;
    let asked = |model: &str| {
        json!({ "thread": { "type": "create" }, "model": model, "messages": [ { "role": "user", "content": "x" } ],
            "max_tokens": 9, "deployment_id": "o3", "no-log": true, "num_retries": 30, "stream": false })
    };
    let unknown = ["thread", "deployment_id", "no-log", "num_retries"];
    let left_out = |request: &Value| unknown.iter().all(|name| request.get(name).is_none());
    for path in ["/v1/messages", "/v1/chat/completions"] {
        for model in ["a", "hers"] {
            for (token, others) in [(&alice, false), (&bob, true)] {
                let task = publisher.serves(&hub, &ask(&hub, token, path, &asked(model)), "hello").await;
                let mut request = task["request"].clone();
                assert_eq!(left_out(&request), others, "{path} {model}: {request}");
                if model == "hers" {
                    assert_eq!(request["provider"], agent["defaultParams"]["provider"]);
                    assert_eq!(request["extra_body"], agent["defaultParams"]["extra_body"]);
                } else if others {
                    for name in unknown {
                        request[name] = asked("a")[name].clone();
                    }
                    request["model"] = "a".into();
                    assert_eq!(request, asked("a"), "something else was changed");
                }
            }
        }
    }
    let durable = json!({ "llm": "a", "request": asked("a") });
    let (status, answer) = ask(&hub, &bob, "/api/v1/inference-tasks", &durable).json().await;
    assert!(status < 300, "{answer}");
    let task = publisher.task().await;
    assert!(left_out(&task["request"]), "{task}");
    assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    hub.stop().await;
}

/// Answers to requests with a token have `cache-control: no-store`, whichever header has the token.
#[actix_rt::test]
async fn answers_to_requests_with_a_token_forbid_caching() {
    let hub = hub().await;
    for (header, value) in [("authorization", format!("Bearer {ADMIN}")), ("x-api-key", ADMIN.to_owned())] {
        for path in ["/v1/models", "/v1/models/none", "/v1/nothing"] {
            let answer =
                crate::tests::http::ask(hub.addr, "GET", path).header(header, value.clone()).open().await;
            assert!(answer.head.contains("cache-control: no-store"), "{path}: {}", answer.head);
        }
    }
    for path in ["/api/v1/llms", "/api/v1/inference-tasks", "/api/v1/sessions", "/metrics"] {
        let answer = hub.ask("GET", path).open().await;
        assert!(answer.head.contains("cache-control: no-store"), "{path}: {}", answer.head);
    }
    hub.stop().await;
}
