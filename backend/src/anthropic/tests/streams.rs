//! Streamed messages as chunks of a chat completion.

use super::*;

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
        .flat_map(|event| chunks.push(&event.to_string()).unwrap())
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
    let taken = (0..3 * MAX_PARTS).take_while(|index| chunks.push(&call(*index, "{}")).is_some()).count();
    assert_eq!(taken, MAX_PARTS);
    let mut chunks = ChunkTranslator::new(false, 7);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    let taken = (0..99).take_while(|index| chunks.push(&call(*index, &long)).is_some()).count();
    assert_eq!(taken, (MAX_TEXT >> 20) - 1);
}

#[test]
fn usage_is_sent_only_to_those_who_asked_and_garbage_is_no_event() {
    let mut chunks = ChunkTranslator::new(false, 7);
    assert_eq!(chunks.push("{\"type\":\"message_stop\"}"), Some(Vec::new()));
    assert_eq!(chunks.push("[]"), None);
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
        assert_eq!(chunks.push(&start.to_string()).unwrap().len(), 1, "{start}");
        let delta = json!({ "type": "content_block_delta", "index": null, "delta": { "text": "hi" } });
        assert!(chunks.push(&delta.to_string()).unwrap()[0].contains(r#""content":"hi""#));
        let end = json!({ "type": "message_delta", "index": null, "delta": null, "usage": { "output_tokens": "4" } });
        chunks.push(&end.to_string()).unwrap();
        let usage = chunks.push(r#"{"type":"message_stop"}"#).unwrap();
        assert!(usage[0].contains(r#""completion_tokens":4"#), "{usage:?}");
    }
    let whole = json!({ "type": "message", "content": null, "usage": { "input_tokens": 2.0 } });
    assert!(answer::completion(&whole.to_string(), 7).unwrap().contains(r#""prompt_tokens":2"#));
}

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
