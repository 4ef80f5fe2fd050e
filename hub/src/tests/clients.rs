//! Requests of clients, SDKs and proxies: paths, methods, HTTP/1.0, keys in other headers.

mod paths;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::http::{Ask, PATIENCE, ask};
use super::link::peer::Peer;
use super::publisher::{Publisher, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};

/// Sends `text` and reads until the hub closes the connection.
async fn until_closed(hub: &TestHub, text: &str) -> String {
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the hub closes the connection").unwrap();
    String::from_utf8(answer).unwrap()
}

#[actix_rt::test]
async fn a_head_request_is_answered_as_get_without_the_body() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/console/app.js",
        "/metrics",
        "/v1/models",
        "/v1/models/a",
        "/models",
        "/api/v1/llms",
        "/api/v1/llms/a",
        "/api/v1/llms/a/members",
        "/api/v1/llms/a/tasks",
        "/api/v1/agents",
        "/api/v1/sessions",
        "/api/v1/tokens",
        "/api/v1/audit",
        "/api/v1/inference-tasks",
        "/api/v1/events",
    ] {
        let text = format!(
            "{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n"
        );
        let head = until_closed(&hub, &format!("HEAD {text}")).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        if path == "/api/v1/events" {
            continue;
        }
        let get = until_closed(&hub, &format!("GET {text}")).await;
        let (expected, body) = get.split_once("\r\n\r\n").unwrap();
        assert!(!body.is_empty() || head.contains("chunked"), "{path}");
        let lines = |head: &str| {
            let mut lines: Vec<String> = head.trim_end().lines().map(str::to_owned).collect();
            // These headers differ between two answers.
            lines.retain(|line| {
                let name = line.split(':').next().unwrap_or_default();
                !["date", "x-request-id", "server-timing"].contains(&name)
                    && (name != "content-length" || !["/metrics", "/api/v1/audit"].contains(&path))
            });
            lines.sort();
            lines
        };
        assert_eq!(lines(&head), lines(expected), "{path}");
    }
    // HEAD on the channel's path does not replace the publisher's channel.
    let stream = |session: &str| {
        hub.ask("HEAD", "/api/v1/llms/_provider-stream").header("x-mcpctl-provider-session", session)
    };
    assert_eq!(stream(&publisher.session).open().await.status, 200);
    assert_eq!(stream("sess-nobody").open().await.status, 404);
    assert_eq!(hub.ask("HEAD", "/v1/models/none").open().await.status, 404);
    assert_eq!(ask(hub.addr, "HEAD", "/v1/models").open().await.status, 401);
    let call = hub.ask("POST", "/v1/chat/completions").body(chat("a", false));
    publisher.serves(&hub, &call, "hello").await;
    hub.stop().await;
}

#[actix_rt::test]
async fn a_stored_object_is_refused_in_words_in_its_dialect() {
    let hub = hub().await;
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/responses/resp_1/cancel"),
        ("GET", "/openai/v1/responses/resp_1/input_items"),
        ("POST", "/v1/responses/compact"),
        ("GET", "/v1/chat/completions?limit=1"),
        ("GET", "/v1/chat/completions/chatcmpl-1"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/conversations/conv_1/items"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file-1/content"),
        ("POST", "/v1/batches/b_1/cancel"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches/msgbatch_1/results"),
    ] {
        let (status, body) = hub.ask(method, path).body("{}").json().await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("nothing_stored")), "{method} {path}");
        assert!(body["error"]["message"].as_str().unwrap().contains("stores no"), "{body}");
        let is_anthropic = path.contains("messages/");
        assert_eq!(body["type"] == "error", is_anthropic, "{body}");
        assert_eq!(body["error"].get("param").is_some(), !is_anthropic, "{body}");
    }
    hub.stop().await;
}

/// The tool runner of Anthropic's SDK sends the new messages of a turn alone, until it reads that the thread is unknown.
#[actix_rt::test]
async fn a_conversation_that_the_hub_would_hold_is_refused_as_an_unknown_thread() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let with = |thread: Value| {
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let body = json!({ "model": "a", "max_tokens": 9, "messages": messages, "thread": thread });
        hub.ask("POST", "/v1/messages").body(body.to_string())
    };
    for thread in [json!({ "type": "continue", "previous_message_id": "msg_1" }), json!("msg_1"), json!({})] {
        let (status, body) = with(thread).json().await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("nothing_stored")), "{body}");
        assert_eq!(body["error"]["details"], json!({ "error_code": "thread_not_found" }));
    }
    for thread in [Value::Null, json!({ "type": "create" })] {
        let call = with(thread);
        publisher.serves(&hub, &call, "hello").await;
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn an_unknown_method_is_405_with_the_allowed_methods() {
    let hub = hub().await;
    for (method, path, allow) in [
        ("PUT", "/v1/chat/completions", "get, head, post"),
        ("PUT", "/v1/responses/resp_1", "get, head, delete"),
        ("PUT", "/v1/embeddings", "post"),
        ("HEAD", "/v1/messages", "post"),
        ("DELETE", "/v1/models", "get, head"),
        ("POST", "/v1/models/a", "get, head"),
        ("PATCH", "/api/v1/llms/a", "get, head, put, delete"),
        ("GET", "/api/v1/tokens/1", "delete"),
        ("POST", "/healthz", "get, head, options"),
        ("OPTIONS", "/v1/models", "get, head"),
        ("OPTIONS", "/api/v1/inference-tasks/x/stream", "get, head"),
        ("PUT", "/chat/completions/", "get, head, post"),
    ] {
        let answer = hub.ask(method, path).open().await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.head.contains(&format!("allow: {allow}\r\n")), "{method} {path} {}", answer.head);
    }
    let (_, body) = hub.ask("GET", "/v1/messages").json().await;
    assert_eq!(body["type"], "error");
    let (_, body) = hub.ask("GET", "/embeddings").json().await;
    assert_eq!(body["error"]["code"], "method_not_allowed");
    // Load balancers send OPTIONS without a token. Other methods without a token get 401.
    for version in ["1.0", "1.1"] {
        let text =
            until_closed(&hub, &format!("OPTIONS / HTTP/{version}\r\nhost: x\r\nconnection: close\r\n\r\n"))
                .await;
        assert!(text.starts_with(&format!("HTTP/{version} 200 ")), "{text}");
    }
    assert_eq!(ask(hub.addr, "OPTIONS", "/v1/completions").open().await.status, 405);
    assert_eq!(ask(hub.addr, "DELETE", "/v1/models").open().await.status, 401);
    assert_eq!(hub.ask("GET", "/v1/none").send().await.0, 404);
    assert_eq!(hub.ask("POST", "/chat").send().await.0, 404);
    hub.stop().await;
}

#[actix_rt::test]
async fn an_http_1_0_stream_is_not_chunked_and_ends_with_the_connection() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for connection in ["close", "keep-alive"] {
        let body = chat("a", true);
        let text = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {ADMIN}\r\nconnection: {connection}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (answer, ()) = futures_util::join!(until_closed(&hub, &text), async {
            let task = publisher.task().await;
            publisher.chunk(&hub, &task, "one").await;
            publisher.done(&hub, &task).await;
        });
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("keep-alive"), "{head}");
        assert_eq!(body, format!("data: {}\n\ndata: [DONE]\n\n", super::publisher::chunk("one")));
    }
    // The connection stays open if the body has a known length and the client asked for keep-alive.
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(br#"{"status":"ok"}"#) {
            assert!(timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap() > 0);
        }
        let text = String::from_utf8(answer).unwrap();
        assert!(text.contains("connection: keep-alive") && text.contains("content-length: 15"), "{text}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_broken_off_response_ends_with_response_failed() {
    let hub = hub().await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    let ask = hub.ask("POST", "/responses").body(chat("a", true));
    let (mut answer, task) = futures_util::join!(ask.open(), async {
        let (task, _) = peer.task().await;
        let created = json!({ "type": "response.created", "sequence_number": 0, "response": { "id": "resp_9", "model": "m" } });
        peer.events(&task, &format!("data: {created}\n\n")).await;
        task
    });
    answer.until("resp_9").await;
    assert_eq!(peer.streams(&task, "").await, 400);
    let rest = answer.rest().await;
    let data = rest.strip_prefix("event: response.failed\ndata: ").unwrap_or_else(|| panic!("{rest}"));
    let event: Value = serde_json::from_str(data.trim_end()).unwrap();
    assert_eq!((&event["type"], &event["sequence_number"]), (&json!("response.failed"), &json!(1)));
    let response = &event["response"];
    assert_eq!((&response["id"], &response["status"]), (&json!("resp_9"), &json!("failed")));
    assert!(["interrupted", "upstream_error"].contains(&response["error"]["code"].as_str().unwrap()));
    assert!(response["error"]["message"].as_str().unwrap().contains("broke off"), "{response}");
    hub.stop().await;
}

#[actix_rt::test]
async fn keep_alives_of_a_stream_are_in_its_dialect() {
    let hub = hub_with(|options| options.timings.keepalive_interval = Duration::from_millis(20)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints, cancel")).await;
    for (path, said) in [
        ("/v1/messages", "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        ("/messages", "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        ("/v1/responses", ": keepalive\n\n"),
        ("/v1/chat/completions", ": keepalive\n\n"),
    ] {
        let ask = hub.ask("POST", path).body(chat("a", true));
        let (mut answer, task) = futures_util::join!(ask.open(), publisher.task());
        assert!(answer.until("\n\n").await.starts_with(said), "{path}");
        publisher.chunk(&hub, &task, "one").await;
        answer.until("one").await;
        answer.until(said).await;
        drop(answer);
        assert_eq!(publisher.cancelled().await, task["taskId"].as_str().unwrap());
    }
    // A Responses stream that fails before its first event still gets `response.created` before `response.failed`.
    let ask = hub.ask("POST", "/v1/responses").body(chat("a", true));
    let (mut answer, task) = futures_util::join!(ask.open(), publisher.task());
    answer.until(":").await;
    publisher.post(&hub, &task, &json!({ "error": "it broke" })).await;
    let rest = answer.rest().await;
    let at = |text: &str| rest.find(text).unwrap_or_else(|| panic!("no {text} in {rest}"));
    assert!(at("event: response.created\n") < at("event: response.failed\n"));
    eventually("no dispatch is under way", async || hub.core().dispatches.lock().is_empty()).await;
    hub.stop().await;
}
