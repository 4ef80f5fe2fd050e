//! The shapes are those of the Messages API's documentation.

use serde_json::{Value, json};

use super::answer::{Chunks, completion, error};
use super::request::to_messages;

#[test]
fn a_chat_request_becomes_a_messages_request_with_system_tools_and_results_in_their_places() {
    let chat = json!({
        "model": "claude", "stream": true, "temperature": 0.5, "stop": "END", "max_tokens": 64, "seed": 7,
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [
                { "type": "text", "text": "What is this?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } } ] },
            { "role": "assistant", "content": "", "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{\"at\":1}" } },
                { "id": "c2", "type": "function", "function": { "name": "look", "arguments": "" } } ] },
            { "role": "tool", "tool_call_id": "c1", "content": "a cat" },
            { "role": "tool", "tool_call_id": "c2", "content": "a dog" },
            { "role": "user", "content": "And?" },
        ],
        "tools": [{ "type": "function", "function": { "name": "look", "description": "d", "parameters": { "type": "object" } } }],
        "tool_choice": "required", "parallel_tool_calls": false,
    });
    let expected = json!({
        "model": "claude", "stream": true, "temperature": 0.5, "stop_sequences": ["END"], "max_tokens": 64,
        "system": "Be brief.",
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "What is this?" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } } ] },
            { "role": "assistant", "content": [
                { "type": "tool_use", "id": "c1", "name": "look", "input": { "at": 1 } },
                { "type": "tool_use", "id": "c2", "name": "look", "input": {} } ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "c1", "content": "a cat" },
                { "type": "tool_result", "tool_use_id": "c2", "content": "a dog" },
                { "type": "text", "text": "And?" } ] },
        ],
        "tools": [{ "name": "look", "description": "d", "input_schema": { "type": "object" } }],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
    });
    assert_eq!(to_messages(&chat).unwrap(), expected);
}

#[test]
fn a_request_without_a_bound_gets_one_and_without_messages_is_refused() {
    let chat = json!({ "model": "claude", "messages": [{ "role": "user", "content": "hi" }] });
    assert!(to_messages(&chat).unwrap()["max_tokens"].as_u64().is_some_and(|limit| limit >= 4096));
    assert!(to_messages(&json!({ "model": "claude" })).is_err());
}

#[test]
fn a_message_becomes_a_completion_with_tool_calls_stop_reason_and_usage() {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [{ "type": "text", "text": "Let me look." }, { "type": "tool_use", "id": "c1", "name": "look", "input": { "at": 1 } }],
        "usage": { "input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 3 },
    });
    let answer = completion(&message, 7);
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "Let me look.");
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"],
        json!({ "name": "look", "arguments": "{\"at\":1}" })
    );
    assert_eq!(choice["finish_reason"], "tool_calls");
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(15), &json!(3), &json!(18))
    );
    for (reason, finish) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
    ] {
        let message = json!({ "stop_reason": reason, "content": [] });
        assert_eq!(completion(&message, 0)["choices"][0]["finish_reason"], finish);
    }
}

#[test]
fn streamed_events_become_chunks_and_the_usage_comes_last_when_it_was_asked_for() {
    let events = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "model": "claude", "usage": { "input_tokens": 10 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "ping" }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hi" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "id": "c1", "name": "look", "input": {} } }),
        json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "input_json_delta", "partial_json": "{\"at\"" } }),
        json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "input_json_delta", "partial_json": ":1}" } }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 4 } }),
        json!({ "type": "message_stop" }),
    ];
    let mut state = Chunks::new(7, true);
    let chunks: Vec<Value> = events.iter().filter_map(|event| state.chunk(event)).collect();
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(*deltas[0], json!({ "role": "assistant", "content": "" }));
    assert_eq!(*deltas[1], json!({ "content": "Hi" }));
    let call = &deltas[2]["tool_calls"][0];
    assert_eq!(
        (&call["index"], &call["id"], &call["function"]["name"]),
        (&json!(0), &json!("c1"), &json!("look"))
    );
    let arguments: String = deltas[2..5]
        .iter()
        .map(|delta| delta["tool_calls"][0]["function"]["arguments"].as_str().unwrap())
        .collect();
    assert_eq!(arguments, "{\"at\":1}");
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(chunks[6]["choices"], json!([]));
    assert_eq!(chunks[6]["usage"]["total_tokens"], 14);
    assert!(chunks.iter().all(|chunk| chunk["id"] == "msg_1" && chunk["object"] == "chat.completion.chunk"));
    assert_eq!(Chunks::new(7, false).chunk(&json!({ "type": "message_stop" })), None);
}

#[test]
fn an_error_is_given_in_openais_shape() {
    let body = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "max_tokens: too large" } });
    assert_eq!(error(&body)["error"]["message"], "max_tokens: too large");
    assert_eq!(error(&body)["error"]["type"], "invalid_request_error");
}
