//! Against the shapes of Anthropic's API reference, as recorded: tools, streaming, stop reasons, usage, errors.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::scripted::{SSE, Step, chunked, server};
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

#[test]
fn a_request_with_system_tools_and_images_is_put_in_anthropics_words() {
    let call =
        json!({ "id": "t1", "type": "function", "function": { "name": "f", "arguments": "{\"b\":2}" } });
    let bare = json!({ "id": "t2", "type": "function", "function": { "name": "g", "arguments": "" } });
    let request = json!({
        "model": "claude", "stream": true, "stream_options": { "include_usage": true },
        "max_tokens": 55, "temperature": 1.7, "top_p": 0.5, "stop": "X", "user": "u", "seed": 1,
        "tools": [{ "type": "function", "function": { "name": "f", "description": "d",
            "parameters": { "type": "object" } } }, { "type": "function", "function": { "name": "g" } }],
        "tool_choice": { "type": "function", "function": { "name": "f" } }, "parallel_tool_calls": false,
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "developer", "content": [{ "type": "text", "text": "and kind" }] },
            { "role": "user", "content": [
                { "type": "text", "text": "what is this?" }, { "type": "text", "text": "" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
                { "type": "image_url", "image_url": { "url": "https://example.org/a.png" } },
            ] },
            { "role": "assistant", "content": null, "tool_calls": [call, bare] },
            { "role": "tool", "tool_call_id": "t1", "content": "one" },
            { "role": "tool", "tool_call_id": "t2", "content": [{ "type": "text", "text": "two" }] },
            user("well?"),
            { "role": "assistant", "content": "It is " },
        ],
    });
    let result = |id: &str, text: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": [{ "type": "text", "text": text }] });
    assert_eq!(
        translated(&request),
        json!({
            "model": "claude", "stream": true, "max_tokens": 55, "temperature": 1.0,
            "stop_sequences": ["X"], "metadata": { "user_id": "u" }, "system": "be brief\n\nand kind",
            "tools": [
                { "name": "f", "description": "d", "input_schema": { "type": "object" } },
                { "name": "g", "input_schema": { "type": "object", "properties": {} } },
            ],
            "tool_choice": { "type": "tool", "name": "f", "disable_parallel_tool_use": true },
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "what is this?" },
                    { "type": "image", "source":
                        { "type": "base64", "media_type": "image/png", "data": "AAAA" } },
                    { "type": "image", "source": { "type": "url", "url": "https://example.org/a.png" } },
                ] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "t1", "name": "f", "input": { "b": 2 } },
                    { "type": "tool_use", "id": "t2", "name": "g", "input": {} },
                ] },
                { "role": "user", "content":
                    [result("t1", "one"), result("t2", "two"), { "type": "text", "text": "well?" }] },
                { "role": "assistant", "content": [{ "type": "text", "text": "It is" }] },
            ],
        })
    );
}

#[test]
fn what_the_messages_api_needs_is_there_and_what_it_refuses_is_not() {
    let request = json!({ "messages": [user("q"), { "role": "assistant", "content": "" }, user("r")],
        "stop": ["\n", "END"], "top_k": 3, "logprobs": true, "tool_choice": "auto", "temperature": null,
        "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": { "a": 1 } } } });
    assert_eq!(
        translated(&request),
        json!({
            "max_tokens": 8192, "stop_sequences": ["END"], "top_k": 3,
            "output_config": { "format": { "type": "json_schema", "schema": { "a": 1 } } },
            "messages": [{ "role": "user", "content":
                [{ "type": "text", "text": "q" }, { "type": "text", "text": "r" }] }],
        })
    );
    for (choice, word) in [("required", "any"), ("none", "none"), ("auto", "auto")] {
        let request =
            json!({ "messages": [], "tools": [{ "type": "web_search_20250305" }], "tool_choice": choice });
        assert_eq!(translated(&request)["tool_choice"], json!({ "type": word }));
    }
}

#[test]
fn what_cannot_be_said_to_it_is_refused_with_the_reason() {
    let audio = json!([{ "type": "input_audio", "input_audio": {} }]);
    let garbled = json!({ "id": "t", "function": { "name": "f", "arguments": "{" } });
    for (request, reason) in [
        (json!({ "messages": [], "n": 2 }), "n must be 1"),
        (json!({}), "messages must be an array"),
        (json!({ "messages": [{ "role": "user", "content": audio }] }), "no audio"),
        (json!({ "messages": [{ "role": "assistant", "tool_calls": [garbled] }] }), "not a JSON object"),
        (json!({ "messages": [{ "role": "ghost", "content": "x" }] }), "role 'ghost'"),
    ] {
        assert!(refused(&request).contains(reason), "{}", refused(&request));
    }
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

/// Of each chunk the one thing that matters.
fn gist(chunk: &str) -> String {
    let chunk: Value = serde_json::from_str(chunk).unwrap();
    assert_eq!((&chunk["id"], &chunk["object"]), (&json!("msg_1"), &json!("chat.completion.chunk")));
    match chunk["choices"].get(0) {
        None => chunk["usage"].to_string(),
        Some(choice) if choice["finish_reason"].is_string() => choice["finish_reason"].to_string(),
        Some(choice) => choice["delta"].to_string(),
    }
}

#[test]
fn a_streamed_message_becomes_chunks_with_role_first_tools_by_index_and_usage_last() {
    let mut chunks = ChunkTranslator::new(true, 7);
    let all: Vec<String> = recorded()
        .iter()
        .flat_map(|event| chunks.take(&event.to_string()).unwrap())
        .map(|chunk| gist(&chunk))
        .collect();
    let call = |index: u32, id: &str, name: &str| {
        json!({ "tool_calls": [{ "index": index, "id": id, "type": "function",
            "function": { "name": name, "arguments": "" } }] })
        .to_string()
    };
    let more = |index: u32, json: &str| {
        json!({ "tool_calls": [{ "index": index, "function": { "arguments": json } }] }).to_string()
    };
    let expected = [
        json!({ "role": "assistant", "content": "" }).to_string(),
        json!({ "content": "hel" }).to_string(),
        json!({ "content": "lo" }).to_string(),
        call(0, "t", "f"),
        more(0, "{\"a\":"),
        more(0, "1}"),
        call(1, "u", "g"),
        more(1, "{}"),
        "\"tool_calls\"".to_owned(),
        json!({ "prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12 }).to_string(),
    ];
    assert_eq!(all, expected);
}

/// What is remembered of the calls in a stream has an end, in number and in bytes.
#[test]
fn calls_without_end_are_given_up() {
    let call = |index: usize, input: &str| {
        format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use","id":"t","name":"f","input":{input}}}}}"#
        )
    };
    let mut chunks = ChunkTranslator::new(false, 7);
    let taken = (0..3 * MAX_PARTS).take_while(|index| chunks.take(&call(*index, "{}")).is_some()).count();
    assert_eq!(taken, MAX_PARTS);
    let mut chunks = ChunkTranslator::new(false, 7);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    let taken = (0..99).take_while(|index| chunks.take(&call(*index, &long)).is_some()).count();
    assert_eq!(taken, (MAX_TEXT >> 20) - 1);
}

#[test]
fn usage_is_sent_only_to_those_who_asked_and_garbage_is_no_event() {
    let mut chunks = ChunkTranslator::new(false, 7);
    assert_eq!(chunks.take("{\"type\":\"message_stop\"}"), Some(Vec::new()));
    assert_eq!(chunks.take("[]"), None);
}

/// Servers that only resemble Anthropic's leave members out, or set them to null.
#[test]
fn absent_and_null_members_and_counts_as_floats_are_read() {
    for start in [
        json!({ "type": "message_start" }),
        json!({ "type": "message_start", "message": null }),
        json!({ "type": "message_start", "message": { "id": null, "model": null, "content": null, "usage": null } }),
        json!({ "type": "message_start", "message": { "usage": { "input_tokens": 3.0, "output_tokens": null } } }),
    ] {
        let mut chunks = ChunkTranslator::new(true, 7);
        assert_eq!(chunks.take(&start.to_string()).unwrap().len(), 1, "{start}");
        let delta = json!({ "type": "content_block_delta", "index": null, "delta": { "text": "hi" } });
        assert!(chunks.take(&delta.to_string()).unwrap()[0].contains(r#""content":"hi""#));
        let end = json!({ "type": "message_delta", "index": null, "delta": null, "usage": { "output_tokens": "4" } });
        chunks.take(&end.to_string()).unwrap();
        let usage = chunks.take(r#"{"type":"message_stop"}"#).unwrap();
        assert!(usage[0].contains(r#""completion_tokens":4"#), "{usage:?}");
    }
    let whole = json!({ "type": "message", "content": null, "usage": { "input_tokens": 2.0 } });
    assert!(answer::completion(&whole.to_string(), 7).unwrap().contains(r#""prompt_tokens":2"#));
}

#[test]
fn marks_for_the_cache_stay_where_they_were() {
    let mark = json!({ "type": "ephemeral" });
    let call = json!({ "id": "t", "function": { "name": "f", "arguments": null } });
    let request = json!({ "messages": [
        { "role": "system", "content": [{ "type": "text", "text": "s", "cache_control": mark }] },
        { "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://e/a.png" }, "cache_control": mark }] },
        { "role": "assistant", "content": "a", "tool_calls": [call], "cache_control": mark },
        { "role": "tool", "tool_call_id": "t", "content": "r", "cache_control": mark },
    ], "tools": [{ "type": "function", "function": { "name": "f" }, "cache_control": mark }] });
    let sent = translated(&request);
    for place in
        ["/system/0", "/messages/0/content/0", "/messages/1/content/1", "/messages/2/content/0", "/tools/0"]
    {
        assert_eq!(sent.pointer(place).unwrap()["cache_control"], mark, "{place} of {sent}");
    }
    let unmarked =
        json!({ "messages": [{ "role": "system", "content": [{ "type": "text", "text": "s" }] }] });
    assert_eq!(translated(&unmarked)["system"], "s");
}

#[test]
fn tool_arguments_are_an_object_and_ids_are_legal_and_distinct() {
    for arguments in [json!(null), json!(""), json!("  "), json!("[]"), json!("null"), json!({}), json!([])] {
        let call = json!({ "id": "t", "function": { "name": "f", "arguments": arguments } });
        let sent = translated(&json!({ "messages": [{ "role": "assistant", "tool_calls": [call] }] }));
        assert_eq!(sent["messages"][0]["content"][0]["input"], json!({}), "{arguments}");
    }
    let ids = ["functions.f:0", "functions_f:0", "hex_66", "f", "a b", "hex_6120", "\u{e9}", "", "call_1-A"];
    let mut seen = std::collections::HashSet::new();
    for id in ids {
        let call = json!({ "id": id, "function": { "name": "f", "arguments": "{}" } });
        let result = json!({ "role": "tool", "tool_call_id": id, "content": "r" });
        let sent =
            translated(&json!({ "messages": [{ "role": "assistant", "tool_calls": [call] }, result] }));
        let sent_id = sent["messages"][0]["content"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(sent["messages"][1]["content"][0]["tool_use_id"], sent_id.as_str());
        assert!(
            sent_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
            "{sent_id}"
        );
        assert!(seen.insert(sent_id), "{id}");
    }
    assert!(seen.contains("call_1-A"), "a legal id stays as it is");
}

#[test]
fn of_temperature_and_top_p_one_is_sent() {
    let sent = translated(&json!({ "messages": [], "temperature": 0.3, "top_p": 0.9 }));
    assert!(sent.get("top_p").is_none() && sent["temperature"] == 0.3);
    assert_eq!(translated(&json!({ "messages": [], "temperature": null, "top_p": 0.9 }))["top_p"], 0.9);
}

async fn asked(
    steps: Vec<Step>,
    endpoint: Endpoint,
    streaming: bool,
) -> (Result<Reply, BackendError>, String) {
    let server = server(steps).await;
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
    let head = server.heads.borrow().first().cloned().unwrap_or_default();
    (reply, head)
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

/// A23: see `translate`.
#[test]
fn a_request_of_too_many_values_is_refused() {
    let body = |n: usize| json!({ "messages": [], "x": vec![0; n] }).to_string();
    let of = |n: usize| request::messages_request(body(n).as_bytes()).map(|_| ()).err();
    let many = request::InvalidRequest("the request is JSON with more than 100000 values".to_owned());
    assert_eq!(of(100_000), Some(many));
    assert_ne!(of(99_000), of(100_000));
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

#[test]
fn blocks_are_told_one_after_the_other_and_what_is_no_message_is_none() {
    let of = |body: &str| answer::completion(body, 7);
    let told = of(
        r#"{"id":"i","content":[{"type":"tool_use","id":"a","input":{"x": 1}},{"type":"tool_use","name":"f"}]}"#,
    );
    assert_eq!(
        told.unwrap(),
        r#"{"id":"i","object":"chat.completion","created":7,"model":"","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":null,"arguments":"{\"x\": 1}"}},{"id":null,"type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#
    );
    assert!(of(r#"{"type":"message"}"#).is_some() && of(r#"{"type":"message","content":null}"#).is_some());
    for none in [
        r#"{"content":{}}"#,
        r#"{"content":"x"}"#,
        r#"{"content":[5]}"#,
        r#"{"content":[[]]}"#,
        "{}",
        r#"{"content":null}"#,
    ] {
        assert_eq!(of(none), None, "{none}");
    }
    let calls = |n: usize| format!(r#"{{"content":[{}{{}}]}}"#, r#"{"type":"tool_use"},"#.repeat(n));
    assert!(of(&calls(4096)).is_some() && of(&calls(4097)).is_none());
}
