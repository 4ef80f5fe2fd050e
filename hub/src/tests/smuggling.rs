//! Texts of a publisher that would break a format if they were copied into it unescaped.

mod hostile_json;

use serde_json::{Value, json};
use wire::sse::{Decoder, Event};

use super::link::peer::Peer;
use super::publisher::{Publisher, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, hub};
use crate::dispatch::refusal;

/// Texts that would end a line, an event, a header or a string if they were copied unescaped.
const HOSTILE_TEXTS: [&str; 12] = [
    "hi\n\nevent: done\ndata: {\"choices\":[]}\n\n",
    "\n\ndata: [DONE]\n\n",
    "[DONE]",
    "\r",
    "\r\n\r\nHTTP/1.1 200 OK\r\nset-cookie: a=b\r\n\r\n",
    "\"}\n\ndata: {\"error\":\"no\"}",
    "\0",
    "\u{1b}]8;;http://evil\u{7}\u{1b}[31m2026-01-01 ERROR hub: forged",
    "\u{2028}\u{2029}\u{85}",
    "\u{202e}\u{2066}rtl",
    "<script>alert(1)</script>",
    "../../etc/passwd%2e%2e%00",
];

fn events(text: &str) -> Vec<Event> {
    let mut decoder = Decoder::new();
    decoder.feed(text.as_bytes());
    std::iter::from_fn(|| decoder.next_event()).collect()
}

/// A12, A13, A15: an invalid name is refused with a short error; a description is stored unchanged and sent as JSON
/// only.
#[actix_rt::test]
async fn an_invalid_name_is_refused_and_free_text_is_stored_unchanged() {
    let hub = hub().await;
    let long = "x".repeat(10_000);
    let traversal =
        ["../x", ".", "..", "/etc/passwd", "a/b", "C:\\x", "%2e%2e", "a b", "раypal", "A", "_x", "-x"];
    for bad in HOSTILE_TEXTS.into_iter().chain(traversal).chain(["", long.as_str()]) {
        let named = |key: &str| {
            let mut spec = provider("a");
            spec[key] = bad.into();
            spec
        };
        let agent = json!({ "name": bad, "llmName": "a" });
        for body in [
            json!({ "providers": [named("name")] }),
            json!({ "providers": [named("poolName")] }),
            json!({ "providers": [provider("a")], "agents": [agent] }),
        ] {
            let (status, answer) = hub.register(ADMIN, &body).await;
            assert_eq!(status, 400, "{body:.200}");
            assert!(answer.to_string().len() < 500, "{answer}");
        }
    }
    for bad in HOSTILE_TEXTS.into_iter().filter(|bad| bad.contains(|c: char| c.is_control())) {
        for key in ["model", "type", "tier", "visibility", "initialStatus"] {
            let mut spec = provider("a");
            spec[key] = bad.into();
            assert_eq!(hub.register(ADMIN, &json!({ "providers": [spec] })).await.0, 400, "{key}: {bad:?}");
        }
        let id = json!({ "providerSessionId": bad, "providers": [] });
        assert_eq!(hub.register(ADMIN, &id).await.0, 400, "{bad:?}");
    }
    for text in HOSTILE_TEXTS {
        let mut spec = provider("a");
        spec["description"] = text.into();
        let agent = json!({ "name": "b", "llmName": "a", "visibility": "public", "description": text,
            "systemPrompt": text, "project": text, "extras": { "x": text } });
        let (status, answer) = hub
            .register(
                ADMIN,
                &json!({ "providerSessionId": "sess-1", "providers": [spec], "agents": [agent] }),
            )
            .await;
        assert_eq!(status, 201, "{answer}");
        for path in ["llms", "agents"] {
            let mut answer = hub.ask("GET", format!("/api/v1/{path}")).open().await;
            let rows: Value = serde_json::from_str(&answer.rest().await).unwrap();
            assert_eq!(rows[0]["description"], text);
            assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
            assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", answer.head);
            assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
        }
    }
    // Escapes in a path are part of a name and lead to no other path.
    for name in ["..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "a%0d%0ax-evil:%201", "%ff"] {
        for path in ["/api/v1/llms/NAME", "/v1/models/NAME", "/console/NAME", "/api/v1/inference-tasks/NAME"]
        {
            let answer = hub.ask("GET", path.replace("NAME", name)).open().await;
            assert!([400, 404].contains(&answer.status), "{path} {name}: {}", answer.status);
            assert!(!answer.head.contains("x-evil"), "{}", answer.head);
        }
    }
    hub.stop().await;
}

/// A19, A22: each chunk becomes one event with the same value, by POST and over a link, whatever its strings contain.
#[actix_rt::test]
async fn each_chunk_becomes_one_event_with_the_same_value() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("b")]).await;
    let chunks: Vec<Value> = HOSTILE_TEXTS
        .iter()
        .map(|text| {
            json!({ "id": text, "object": text, "model": text, "event": text, "retry": text, "choices": [
                { "index": 0, "delta": { "role": text, "content": text }, "finish_reason": text } ] })
        })
        .collect();
    for llm in ["a", "b"] {
        let call = infer(&hub, llm, true);
        let (mut answer, ()) = futures_util::join!(call.open(), async {
            if llm == "b" {
                let (task, _) = peer.task().await;
                let events: Vec<_> = chunks.iter().map(|chunk| format!("id: 7\ndata: {chunk}\n\n")).collect();
                let mut body = events.concat();
                body.push_str("data: [DONE]\n\n");
                assert_eq!(peer.streams(&task, &body).await, 200);
            } else {
                let task = publisher.task().await;
                for chunk in &chunks {
                    let result = json!({ "chunk": { "data": chunk.to_string() } });
                    assert_eq!(publisher.post(&hub, &task, &result).await, 200);
                }
                publisher.done(&hub, &task).await;
            }
        });
        assert!(answer.head.contains("content-type: text/event-stream"));
        assert!(answer.head.contains("x-content-type-options: nosniff"));
        let text = answer.rest().await;
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with("data: ")), "{text:?}");
        assert!(!text.contains('\r') && !text.contains('\0'));
        let events = events(&text);
        assert_eq!(events.len(), chunks.len() + 1);
        for (event, chunk) in events.iter().zip(&chunks) {
            assert_eq!(&serde_json::from_str::<Value>(&event.data).unwrap(), chunk);
            assert_eq!(event.name(), "message");
        }
        assert_eq!(events.last().unwrap().data, "[DONE]");
    }
    hub.stop().await;
}

/// A19: an error's text reaches the caller as one JSON string in one event and cannot form an end mark.
#[actix_rt::test]
async fn an_errors_text_reaches_the_caller_as_one_json_string() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("b")]).await;
    for text in HOSTILE_TEXTS {
        let call = infer(&hub, "a", false);
        let answer = publisher.post_for(&hub, &call, &json!({ "error": text })).await.json().await;
        assert_eq!((answer.0, &answer.1["error"]), (502, &json!(text)));
        for llm in ["a", "b"] {
            let call = hub.ask("POST", "/v1/chat/completions").body(chat(llm, true));
            let (answer, ()) = futures_util::join!(call.send(), async {
                if llm == "b" {
                    let (task, _) = peer.task().await;
                    let error = json!({ "error": text });
                    let body = format!("data: {{\"a\":1}}\n\nevent: error\ndata: {error}\n\n");
                    assert_eq!(peer.streams(&task, &body).await, 200);
                } else {
                    let task = publisher.task().await;
                    publisher.chunk(&hub, &task, "one").await;
                    publisher.post(&hub, &task, &json!({ "error": text })).await;
                }
            });
            let events = events(&answer.1);
            assert_eq!(events.len(), 2, "{:?}", answer.1);
            let error: Value = serde_json::from_str(&events[1].data).unwrap();
            // White space around the text is removed; a blank text is replaced by the JSON that contained it.
            let message = error["error"]["message"].as_str().unwrap().trim();
            assert!(message == text.trim() || text.trim().is_empty(), "{message:?}");
        }
    }
    hub.stop().await;
}

/// A23: a long error body is not parsed, since that would block the serving thread.
#[actix_rt::test]
async fn an_error_body_that_is_too_long_is_not_parsed() {
    let hub = hub().await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    for (length, is_parsed) in [(100 << 10, true), (300 << 10, false)] {
        let error = format!(r#"{{"error":{{"message":"the words","x":[{}0]}}}}"#, "0,".repeat(length / 2));
        let call = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
        let (answer, ()) = futures_util::join!(call.send(), async {
            let (task, _) = peer.task().await;
            assert_eq!(peer.streams(&task, &format!("event: error\ndata: {error}\n\n")).await, 200);
        });
        assert_eq!(answer.1.contains("the words"), is_parsed, "{length}");
        assert_eq!(answer.1.contains("too great a length"), !is_parsed, "{length}");
        let message = refusal(422, &error).message;
        assert_eq!((message == "the words", message.contains("too great a length")), (is_parsed, !is_parsed));
    }
    hub.stop().await;
}

/// A20: a publisher's headers do not reach the caller, and a status that is neither success nor error becomes 502.
#[actix_rt::test]
async fn a_publishers_headers_and_odd_statuses_do_not_reach_the_caller() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let odd = [json!(0), json!(100), json!(101), json!(199), json!(301), json!(304), json!(600), json!(999)];
    let none = [json!(65_536), json!(-1), json!(200.5), json!("200"), json!(null), json!([200])];
    for status in odd.iter().chain(&none) {
        let call = infer(&hub, "a", false);
        let (mut answer, ()) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            let headers = json!({ "set-cookie": "evil=1", "location": "http://evil", "content-type": "text/html",
                "transfer-encoding": "chunked", "access-control-allow-origin": "*" });
            let result = json!({ "status": status, "headers": headers, "body": { "headers": headers } });
            publisher.post(&hub, &task, &result).await;
        });
        assert_eq!(answer.status, 502, "{status}");
        answer.rest().await;
        assert!(!answer.head.contains("evil") && !answer.head.contains("access-control"), "{}", answer.head);
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    }
    hub.stop().await;
}
