//! Chat requests in the words of the Messages API.

use super::*;

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

/// A23: see `translate`.
#[test]
fn a_request_of_too_many_values_is_refused() {
    let body = |n: usize| json!({ "messages": [], "x": vec![0; n] }).to_string();
    let of = |n: usize| request::messages_request(body(n).as_bytes()).map(|_| ()).err();
    let many =
        crate::translate::InvalidRequest("the request is JSON with more than 100000 values".to_owned());
    assert_eq!(of(100_000), Some(many));
    assert_ne!(of(99_000), of(100_000));
}

/// A23: arguments are JSON in strings. Their values count with those of the request.
#[test]
fn the_values_of_all_arguments_of_a_request_count_together() {
    let of = |calls: usize, values: usize| {
        let arguments = format!(r#"{{"list":[{}[]]}}"#, "[],".repeat(values - 1));
        let call =
            json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": arguments } });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": vec![call; calls] });
        let request = json!({ "messages": [message.clone(), user("hi"), message] }).to_string();
        request::messages_request(request.as_bytes()).map(|_| ()).map_err(|invalid| invalid.0)
    };
    for (calls, values) in [(1, 49_000), (7, 7_000), (2000, 10)] {
        assert_eq!(of(calls, values), Ok(()), "{calls} {values}");
    }
    let many = "the request with the arguments of its tool calls is JSON with more than 100000 values";
    for (calls, values) in [(1, 51_000), (7, 7_500), (1, 400_000)] {
        assert_eq!(of(calls, values), Err(many.to_owned()), "{calls} {values}");
    }
}
