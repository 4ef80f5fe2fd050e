//! Texts that a publisher controls, and what of them reaches others.

mod hostile_json;

use serde_json::{Value, json};
use wire::sse::{Decoder, Event};

use super::publisher::{Publisher, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, hub};
use crate::dispatch::refusal;

/// What would end a line, an event, a header or a string where somebody copied it.
const NASTY: [&str; 12] = [
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

/// A12, A13, A15: a name outside the rule is refused with a reason that does not repeat it; free text is kept and sent
/// as JSON only.
#[actix_rt::test]
async fn a_bad_name_is_refused_and_free_text_stays_text() {
    let hub = hub().await;
    let long = "x".repeat(10_000);
    let traversal =
        ["../x", ".", "..", "/etc/passwd", "a/b", "C:\\x", "%2e%2e", "a b", "раypal", "A", "_x", "-x"];
    for bad in NASTY.into_iter().chain(traversal).chain(["", long.as_str()]) {
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
    for bad in NASTY.into_iter().filter(|bad| bad.contains(|c: char| c.is_control())) {
        for key in ["model", "type", "tier", "visibility", "initialStatus"] {
            let mut spec = provider("a");
            spec[key] = bad.into();
            assert_eq!(hub.register(ADMIN, &json!({ "providers": [spec] })).await.0, 400, "{key}: {bad:?}");
        }
        let id = json!({ "providerSessionId": bad, "providers": [] });
        assert_eq!(hub.register(ADMIN, &id).await.0, 400, "{bad:?}");
    }
    for text in NASTY {
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
    // A path is a name, whatever is in it.
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

/// A19, A22: n chunks become n events with the same values, by POST and by upload, whatever their strings contain.
#[actix_rt::test]
async fn n_chunks_are_n_events_with_the_same_values() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let chunks: Vec<Value> = NASTY
        .iter()
        .map(|text| {
            json!({ "id": text, "object": text, "model": text, "event": text, "retry": text, "choices": [
                { "index": 0, "delta": { "role": text, "content": text }, "finish_reason": text } ] })
        })
        .collect();
    for upload in [false, true] {
        let call = infer(&hub, "a", true);
        let (mut answer, ()) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            if upload {
                let events: Vec<_> = chunks.iter().map(|chunk| format!("id: 7\ndata: {chunk}\n\n")).collect();
                let mut body = events.concat();
                body.push_str("data: [DONE]\n\n");
                let upload = hub.ask("POST", Publisher::upload_path(&task)).body(body);
                assert_eq!(upload.send().await.0, 200);
            } else {
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

/// A19: an error's text ends an answer once, as one JSON string, and cannot form an end mark.
#[actix_rt::test]
async fn an_errors_text_is_one_json_string() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    for text in NASTY {
        let call = infer(&hub, "a", false);
        let (answer, ()) = futures_util::join!(call.json(), async {
            let task = publisher.task().await;
            publisher.post(&hub, &task, &json!({ "error": text })).await;
        });
        assert_eq!((answer.0, &answer.1["error"]), (502, &json!(text)));
        for upload in [false, true] {
            let call = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
            let (answer, ()) = futures_util::join!(call.send(), async {
                let task = publisher.task().await;
                if upload {
                    let error = json!({ "error": text });
                    let body = format!("data: {{\"a\":1}}\n\nevent: error\ndata: {error}\n\n");
                    hub.ask("POST", Publisher::upload_path(&task)).body(body).send().await;
                } else {
                    publisher.chunk(&hub, &task, "one").await;
                    publisher.post(&hub, &task, &json!({ "error": text })).await;
                }
            });
            let events = events(&answer.1);
            assert_eq!(events.len(), 2, "{:?}", answer.1);
            let error: Value = serde_json::from_str(&events[1].data).unwrap();
            // White space around the words is left out; a text without words is told as the JSON that it came in.
            let told = error["error"]["message"].as_str().unwrap().trim();
            assert!(told == text.trim() || text.trim().is_empty(), "{told:?}");
        }
    }
    hub.stop().await;
}

/// A23: an error body as long as a request body is not parsed on the serving thread.
#[actix_rt::test]
async fn an_error_body_that_is_too_long_is_not_parsed() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    for (length, is_told) in [(100 << 10, true), (300 << 10, false)] {
        let error = format!(r#"{{"error":{{"message":"the words","x":[{}0]}}}}"#, "0,".repeat(length / 2));
        let call = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            let body = format!("event: error\ndata: {error}\n\n");
            hub.ask("POST", Publisher::upload_path(&task)).body(body).send().await;
        });
        assert_eq!(answer.1.contains("the words"), is_told, "{length}");
        assert_eq!(answer.1.contains("too great a length"), !is_told, "{length}");
        let told = refusal(422, &error).message;
        assert_eq!((told == "the words", told.contains("too great a length")), (is_told, !is_told));
    }
    hub.stop().await;
}

/// A20: a publisher cannot choose headers, nor a status other than a success or an error.
#[actix_rt::test]
async fn a_publisher_sets_no_header_and_no_odd_status() {
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
