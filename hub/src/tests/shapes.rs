//! Answers in the formats of the APIs: errors, event names, streams made from one JSON body.

use serde_json::{Value, json};

use super::http::ask;
use super::publisher::{Publisher, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, hub};

#[actix_rt::test]
async fn a_json_result_for_a_stream_becomes_a_chunk_and_an_end_mark() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", true);
    let answer = publisher.answer_for(&hub, &call, "hello").await.text().await;
    let data = answer.1.strip_suffix("\n\ndata: [DONE]\n\n").unwrap().strip_prefix("data: ").unwrap();
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!(event["object"], "chat.completion.chunk");
    assert_eq!(event["choices"][0]["delta"]["content"], "hello");
    hub.stop().await;
}

#[actix_rt::test]
async fn errors_have_the_format_of_their_api() {
    let hub = hub().await;
    let unknown = |path: &str| hub.ask("POST", path).body(chat("unknown", false));
    let (status, body) = unknown("/v1/chat/completions").json().await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        json!({ "error": { "message": "model 'unknown' not found", "type": "invalid_request_error",
            "param": null, "code": "model_not_found" } })
    );
    let (status, body) = unknown("/v1/messages").json().await;
    assert_eq!(
        (status, &body["type"], &body["error"]["type"]),
        (404, &json!("error"), &json!("not_found_error"))
    );
    let (status, body) = unknown("/api/v1/llms/unknown/infer").json().await;
    assert_eq!((status, body), (404, json!({ "error": "LLM 'unknown' not found", "code": "not_found" })));
    let answer = hub.ask("GET", "/v1/models").open().await;
    assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    let (status, body) = ask(hub.addr, "GET", "/v1/models").json().await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
    hub.stop().await;
}

#[actix_rt::test]
async fn streams_of_messages_and_responses_have_event_names_and_no_done() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints, cancel")).await;
    for path in ["messages", "responses"] {
        let ask = hub.ask("POST", format!("/v1/{path}")).body(chat("a", true));
        let (answer, ()) = futures_util::join!(ask.send(), async {
            let task = publisher.task().await;
            assert_eq!(task["endpoint"], path);
            for data in [r#"{"type":"message_start"}"#, r#"{"type":"a\nb"}"#] {
                assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": data } })).await, 200);
            }
            assert_eq!(publisher.done(&hub, &task).await, 200);
        });
        let expected =
            "event: message_start\ndata: {\"type\":\"message_start\"}\n\ndata: {\"type\":\"a\\nb\"}\n\n";
        assert_eq!(answer, (200, expected.into()));
    }
    hub.stop().await;
}
