//! Against the shapes of Anthropic's API reference, as recorded: tools, streaming, stop reasons, usage, errors.

mod requests;
mod streams;
mod usage;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::connection::{SSE, chunked};
use testkit::peer::{Script, Step};

use super::*;
use crate::translate::{MAX_PARTS, MAX_TEXT};
use crate::{AnswerBudget, Secret};

fn translated(request: &Value) -> Value {
    let translated = request::messages_request(request.to_string().as_bytes()).unwrap();
    serde_json::from_str(&translated.body).unwrap()
}

fn refused(request: &Value) -> String {
    request::messages_request(request.to_string().as_bytes()).unwrap_err().0
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn message(content: &Value, stop_reason: &str) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": { "input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 4, "service_tier": "standard" },
    })
}

#[test]
fn a_message_with_text_thoughts_and_tools_becomes_a_completion() {
    let content = json!([
        { "type": "thinking", "thinking": "hm", "signature": "s" }, { "type": "text", "text": "h\"i" },
        { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 18_446_744_073_709_551_615_u64 } },
        { "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} },
    ]);
    let completion = answer::completion(&message(&content, "tool_use").to_string(), 7).unwrap();
    let function = json!({ "name": "f", "arguments": "{\"a\":18446744073709551615}" });
    assert_eq!(
        serde_json::from_str::<Value>(&completion).unwrap(),
        json!({
            "id": "msg_1", "object": "chat.completion", "created": 7, "model": "claude",
            "choices": [{ "index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": "h\"i", "reasoning_content": "hm",
                "tool_calls": [{ "id": "t", "type": "function", "function": function }],
            } }],
            "usage": { "prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12,
                "prompt_tokens_details": { "cached_tokens": 5 } },
        })
    );
    assert_eq!(answer::completion("{\"type\":\"completion\"}", 7), None);
}

#[test]
fn each_stop_reason_has_its_finish_reason() {
    for (stop, finish) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
    ] {
        assert_eq!(answer::finish_reason(stop), finish);
    }
}

fn start(kind: &Value) -> Value {
    json!({ "type": "content_block_start", "index": kind["index"], "content_block": kind["block"] })
}

fn delta(index: u32, delta: &Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}

fn recorded() -> Vec<Value> {
    let mut begun = message(&json!([]), "");
    begun["stop_reason"] = Value::Null;
    begun["usage"] = json!({ "input_tokens": 3, "output_tokens": 1 });
    vec![
        json!({ "type": "message_start", "message": begun }),
        json!({ "type": "ping" }),
        start(&json!({ "index": 0, "block": { "type": "text", "text": "" } })),
        delta(0, &json!({ "type": "text_delta", "text": "hel" })),
        delta(0, &json!({ "type": "text_delta", "text": "lo" })),
        json!({ "type": "content_block_stop", "index": 0 }),
        start(&json!({ "index": 1, "block": { "type": "tool_use", "id": "t", "name": "f", "input": {} } })),
        delta(1, &json!({ "type": "input_json_delta", "partial_json": "" })),
        delta(1, &json!({ "type": "input_json_delta", "partial_json": "{\"a\":" })),
        delta(1, &json!({ "type": "input_json_delta", "partial_json": "1}" })),
        json!({ "type": "content_block_stop", "index": 1 }),
        start(&json!({ "index": 2, "block": { "type": "tool_use", "id": "u", "name": "g", "input": {} } })),
        json!({ "type": "content_block_stop", "index": 2 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null },
            "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ]
}

async fn asked(
    steps: Vec<Step>,
    endpoint: Endpoint,
    streaming: bool,
) -> (Result<Reply, BackendError>, String) {
    let server = Script::start(steps);

    let http = HttpBackend { url: Secret::new(&server.url), api_key: Some(Secret::new("ak")) };

    let backend = AnthropicBackend::new(Client::new(None), &http, Duration::from_secs(5), None);

    let body = Bytes::from(json!({ "messages": [user("q")], "input": "q", "stream": streaming }).to_string());

    let request = BackendRequest {
        endpoint,
        streaming,
        body,
        user: String::new(),
        headers: Vec::new(),
        budget: AnswerBudget::default(),
    };
    let reply = backend.infer(request).await;
    let asked = server.requests().pop();
    (reply, asked.map(|asked| format!("{}\r\n\r\n{}", asked.head, asked.text())).unwrap_or_default())
}

fn json_answer(status: &str, body: &Value) -> Vec<Step> {
    let (body, kind) = (body.to_string(), "content-type: application/json");
    vec![Step::Say(format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))]
}

fn stream_of(events: &[Value]) -> Vec<Step> {
    let said = events.iter().map(|event| {
        let name = event["type"].as_str().unwrap();
        chunked(&format!("event: {name}\ndata: {event}\n\n"))
    });
    vec![Step::Say(std::iter::once(SSE.to_owned()).chain(said).collect())]
}

async fn collected(reply: Result<Reply, BackendError>) -> Vec<Result<String, BackendError>> {
    let Ok(Reply::Stream(stream)) = reply else { panic!("not a stream") };
    stream.collect().await
}

#[actix_rt::test]
async fn the_key_travels_in_anthropics_header_with_the_version_to_its_path() {
    let message = message(&json!([{ "type": "text", "text": "hi" }]), "end_turn");
    let (reply, head) = asked(json_answer("200 OK", &message), Endpoint::ChatCompletions, false).await;
    let Ok(Reply::Whole { status: 200, body }) = reply else { panic!("no answer") };
    assert!(body.contains(r#""content":"hi""#), "{body}");
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/messages http/1.1"), "{head}");
    assert!(
        head.contains("x-api-key: ak\r\n") && head.contains("anthropic-version: 2023-06-01\r\n"),
        "{head}"
    );
    assert!(!head.contains("authorization"), "{head}");
}

/// F38: an Anthropic stream without its end mark is a failure too.
#[actix_rt::test]
async fn a_streamed_answer_is_whole_with_its_end_mark_and_broken_without() {
    let all = collected(asked(stream_of(&recorded()), Endpoint::ChatCompletions, true).await.0).await;
    assert!(all.len() == 9 && all.iter().all(Result::is_ok), "{all:?}");
    let cut = collected(asked(stream_of(&recorded()[..5]), Endpoint::ChatCompletions, true).await.0).await;
    assert!(cut.len() == 4 && cut[3].is_err(), "{cut:?}");
}

#[actix_rt::test]
async fn an_error_in_the_stream_ends_it_with_its_words() {
    let mut events = recorded()[..4].to_vec();
    events.push(json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } }));
    let all = collected(asked(stream_of(&events), Endpoint::ChatCompletions, true).await.0).await;
    assert_eq!(all.last().unwrap().clone().unwrap_err().to_string(), "backend answered 503: Overloaded");
}

#[actix_rt::test]
async fn an_error_body_is_passed_on_in_openais_shape_to_chat_and_as_it_is_to_messages() {
    let error =
        json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "too big" } });
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages] {
        let (reply, _) = asked(json_answer("400 Bad Request", &error), endpoint, false).await;
        let Err(BackendError::Refused(refusal)) = reply else { panic!("no refusal") };
        assert_eq!(refusal.status, 400);
        let body: Value = serde_json::from_str(&refusal.body).unwrap();
        assert_eq!(body["error"]["message"], "too big");
        assert_eq!(body["type"].is_null(), endpoint == Endpoint::ChatCompletions);
    }
}

#[actix_rt::test]
async fn messages_pass_as_they_stand_and_what_it_has_not_is_refused() {
    let all = collected(asked(stream_of(&recorded()), Endpoint::Messages, true).await.0).await;
    assert_eq!(all.len(), recorded().len());
    let (reply, _) = asked(Vec::new(), Endpoint::Embeddings, false).await;
    assert!(matches!(reply, Ok(Reply::Whole { status: 400, .. })));
}

#[actix_rt::test]
async fn responses_are_served_by_way_of_messages() {
    let all = collected(asked(stream_of(&recorded()), Endpoint::Responses, true).await.0).await;
    let last: Value = serde_json::from_str(all.last().unwrap().as_ref().unwrap()).unwrap();
    assert_eq!(last["type"], "response.completed");
    let kinds: Vec<_> = last["response"]["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"function_call"), "{last}");
    assert!(last["response"]["usage"]["output_tokens"].as_u64() > Some(0), "{last}");
    let cut = collected(asked(stream_of(&recorded()[..5]), Endpoint::Responses, true).await.0).await;
    assert!(
        cut.last().unwrap().is_err()
            && cut.iter().flatten().all(|event| !event.contains("response.completed")),
        "{cut:?}"
    );
}

/// A23: whatever is large is translated elsewhere, and of too many values not at all.
#[actix_rt::test]
async fn a_large_message_is_translated_away_from_the_thread_that_serves() {
    use crate::offload::assert_offloaded;

    let text = "x".repeat(300 << 10);
    let many = json!(vec![0; 150 << 10]);
    for is_told in [true, false] {
        let mut message = message(&json!([{ "type": "text", "text": text }]), "end_turn");
        let mut events = recorded();
        events[0]["message"]["id"] = json!(text);
        if !is_told {
            message["x"] = many.clone();
            events[0]["x"] = many.clone();
        }
        let whole = asked(json_answer("200 OK", &message), Endpoint::ChatCompletions, false);
        let whole = assert_offloaded("a message", whole).await.0;
        match whole {
            Ok(Reply::Whole { body, .. }) => assert!(is_told && body.contains(&text)),
            Ok(Reply::Stream(_)) => panic!("a stream"),
            Err(error) => assert_eq!((is_told, error.to_string().as_str()), (false, MANY)),
        }
        let streamed =
            async { collected(asked(stream_of(&events), Endpoint::ChatCompletions, true).await.0).await };
        let streamed = assert_offloaded("an event", streamed).await;
        match &streamed[0] {
            Ok(chunk) => assert!(is_told && chunk.contains(&text)),
            Err(error) => assert_eq!((is_told, error.to_string().as_str(), streamed.len()), (false, MANY, 1)),
        }
    }
}

const MANY: &str = "backend's answer has more than 100000 values";
