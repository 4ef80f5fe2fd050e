use serde_json::{Value, json};

use super::*;

fn types(endpoint: Endpoint, body: &Value) -> Vec<String> {
    let events = stream_events(endpoint, &body.to_string()).unwrap();
    let kind = |event: &String| serde_json::from_str::<Value>(event).unwrap();
    events.iter().map(kind).map(|event| event["type"].as_str().unwrap_or("").to_owned()).collect()
}

#[test]
fn each_endpoint_has_its_own_events() {
    let body = json!({ "object": "text_completion", "choices": [{ "text": "a" }] });
    assert_eq!(stream_events(Endpoint::Completions, &body.to_string()).unwrap(), [body.to_string()]);
    assert_eq!(
        types(Endpoint::Responses, &json!({ "id": "r" })),
        ["response.created", "response.in_progress", "response.completed"]
    );
    let chat = stream_events(Endpoint::ChatCompletions, r#"{ "choices": [{ "message": {} }] }"#).unwrap();
    assert_eq!(chat, [r#"{"choices":[{"delta":{}}],"object":"chat.completion.chunk"}"#]);
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings] {
        for other in ["<html>", "null", "[{}]", "7", "\"{}\""] {
            assert!(stream_events(endpoint, other).is_err(), "{other}");
        }
    }
}

#[test]
fn a_message_becomes_events_of_its_blocks() {
    let body = json!({ "type": "message", "id": "m", "stop_reason": "tool_use", "content": [
        { "type": "text", "text": "hi" }, { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } } ] });
    let events = stream_events(Endpoint::Messages, &body.to_string()).unwrap();
    assert_eq!(
        types(Endpoint::Messages, &body),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let delta: Value = serde_json::from_str(&events[5]).unwrap();
    assert_eq!(delta["delta"]["partial_json"], r#"{"a":1}"#);
    assert!(events[7].contains(r#""stop_reason":"tool_use""#), "{}", events[7]);
}

#[test]
fn a_response_becomes_events_of_its_items() {
    let body = json!({ "id": "r", "status": "incomplete", "output": [
        { "type": "message", "id": "m", "content": [{ "type": "output_text", "text": "hi" }] },
        { "type": "function_call", "id": "f", "name": "g", "arguments": "{}" } ] });
    let events = stream_events(Endpoint::Responses, &body.to_string()).unwrap();
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
    assert_eq!(events[4]["delta"], "hi");
    assert_eq!(events[2]["item"]["content"], json!([]));
    assert_eq!(events[12]["response"], body);
}

#[test]
fn the_size_of_all_events_is_limited() {
    let of = |n: usize, item: &str| format!(r#"{{"output":[{}{item}]}}"#, format!("{item},").repeat(n - 1));
    assert!(stream_events(Endpoint::Responses, &of(4_000, r#"{"type":"message"}"#)).is_ok());
    for (n, item) in [(1 << 20, "{}".to_owned()), (1 << 16, r#"{"content":[{},{}]}"#.to_owned())] {
        assert_eq!(stream_events(Endpoint::Responses, &of(n, &item)), Err(JsonError::TooManyParts));
    }
    // Every event of a part repeats the id.
    let item = format!(r#"{{"id":"{}","content":[{}{{}}]}}"#, "x".repeat(1 << 20), "{},".repeat(1000));
    assert_eq!(stream_events(Endpoint::Responses, &of(1, &item)), Err(JsonError::TooManyParts));
    let blocks = of(1 << 20, "0").replace("output", "content");
    assert_eq!(stream_events(Endpoint::Messages, &blocks), Err(JsonError::TooManyParts));
}

#[test]
fn opening_events_leave_large_members_out() {
    let body = json!({ "a": "b".repeat(300 << 10), "id": "r", "status": "completed", "usage": { "n": 1 },
        "output": [{ "type": "image_generation_call", "id": "i", "result": "x".repeat(1 << 20) }] });
    let events = stream_events(Endpoint::Responses, &body.to_string()).unwrap();
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let opened = json!({ "id": "r", "status": "in_progress", "usage": null, "output": [] });
    assert_eq!((&events[0]["response"], &events[1]["response"]), (&opened, &opened));
    assert_eq!(
        events[2]["item"],
        json!({ "type": "image_generation_call", "id": "i", "status": "in_progress" })
    );
    assert_eq!(events[3]["item"], body["output"][0]);
    assert_eq!(events.last().unwrap()["response"], body);
}

#[test]
fn texts_keep_their_escapes() {
    let text = r#""\ud83d\u0000 \"a\\ \u00e9""#;
    let body = format!(
        r#"{{"output":[{{"type":"message","id":"m","content":[{{"type":"output_text","text":{text}}}]}}]}}"#
    );
    let events = stream_events(Endpoint::Responses, &body).unwrap();
    assert!(events[4].contains(&format!(r#""delta":{text}"#)), "{}", events[4]);
    assert!(events.last().unwrap().contains(text));
    let body = format!(r#"{{"content":[{{"type":"text","text":{text}}}]}}"#);
    let events = stream_events(Endpoint::Messages, &body).unwrap();
    assert!(events[2].contains(&format!(r#""text":{text}"#)), "{}", events[2]);
}

#[test]
fn invalid_items_cause_no_panic() {
    for odd in [
        "0",
        "null",
        r#""x""#,
        "[[]]",
        "{}",
        r#"[0,"a",null,[],{}]"#,
        r#"[{"content":[0,null,[],{"text":7}]}]"#,
    ] {
        let body = format!(r#"{{"output":{odd},"content":{odd},"status":{odd},"stop_reason":{odd}}}"#);
        for endpoint in [Endpoint::Responses, Endpoint::Messages] {
            let events = stream_events(endpoint, &body).unwrap();
            assert!(events.iter().all(|event| serde_json::from_str::<Value>(event).is_ok()), "{events:?}");
        }
    }
}
