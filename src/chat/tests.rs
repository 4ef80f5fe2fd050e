use super::{Answer, answer::Chunk};

#[test]
fn a_chunk_is_read_to_its_text() {
    let chunk = Chunk::of_event(r#"{"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#).unwrap();
    assert_eq!(chunk, Chunk { text: Some("Hi".to_owned()), ..Chunk::default() });
    for silent in [r#"{"choices":[]}"#, r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, "{}"]
    {
        assert_eq!(Chunk::of_event(silent).unwrap(), Chunk::default(), "{silent}");
    }
}

#[test]
fn an_error_in_mid_stream_is_a_failure_with_its_reason() {
    for data in [r#"{"error":"provider gone"}"#, r#"{"error":{"message":"provider gone"}}"#] {
        let failure = Chunk::of_event(data).unwrap_err();
        assert_eq!(failure.text(), Some("the answer broke off: provider gone"));
    }
}

#[test]
fn a_completion_has_text_reasoning_and_number_of_tokens() {
    let body = br#"{"choices":[{"message":{"content":"4","reasoning_content":"2+2"}}],"usage":{"completion_tokens":9}}"#;
    let chunk = Chunk::of_completion(body).unwrap();
    assert_eq!(chunk.text.as_deref(), Some("4"));
    assert_eq!(chunk.reasoning.as_deref(), Some("2+2"));
    assert_eq!(chunk.tokens, Some(9));
}

#[test]
fn reasoning_of_every_server_and_lists_of_parts_are_read() {
    for (delta, text, thought) in [
        (r#"{"reasoning":"r"}"#, None, Some("r")),
        (r#"{"reasoning_content":"r","content":null}"#, None, Some("r")),
        (r#"{"thinking":"r"}"#, None, Some("r")),
        (r#"{"reasoning_details":[{"type":"reasoning.text","text":"r"}]}"#, None, Some("r")),
        (r#"{"thinking_blocks":[{"type":"thinking","thinking":"r","signature":"s"}]}"#, None, Some("r")),
        (
            r#"{"content":[{"type":"text","text":"a"},{"type":"output_text","text":"b"},"c"]}"#,
            Some("abc"),
            None,
        ),
        (
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"r"}]},{"type":"text","text":"a"}]}"#,
            Some("a"),
            Some("r"),
        ),
        (r#"{"content":[{"type":"image_url","image_url":{"url":"data:x"}}]}"#, None, None),
    ] {
        let chunk = Chunk::of_event(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)).unwrap();
        assert_eq!((chunk.text.as_deref(), chunk.reasoning.as_deref()), (text, thought), "{delta}");
    }
}

fn answer_of(chunks: &[&str]) -> Answer {
    let mut answer = Answer::default();
    for choice in chunks {
        let chunk = Chunk::of_event(&format!(r#"{{"choices":[{choice}]}}"#)).unwrap();
        answer.add(chunk);
    }
    answer
}

#[test]
fn pieces_of_tool_calls_are_joined_by_index_by_id_or_by_order() {
    let one = |answer: &Answer| -> Vec<String> {
        answer.calls.iter().map(|call| format!("{}({})", call.name, call.arguments)).collect()
    };
    let by_index = answer_of(&[
        r#"{"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":""}}]}}"#,
        r#"{"delta":{"tool_calls":[{"index":1,"id":"y","function":{"name":"g","arguments":"{}"}}]}}"#,
        r#"{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}"#,
    ]);
    assert_eq!(one(&by_index), [r#"f({"a":1})"#, "g({})"]);
    let by_order = answer_of(&[
        r#"{"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":[1]}}},{"function":{"name":"f"}}]}}"#,
    ]);
    assert_eq!(one(&by_order), [r#"f({"a":[1]})"#, "f()"]);
    let legacy = answer_of(&[
        r#"{"delta":{"function_call":{"name":"f","arguments":"{"}}}"#,
        r#"{"delta":{"function_call":{"arguments":"}"}}}"#,
    ]);
    assert_eq!(one(&legacy), ["f({})"]);
}

#[test]
fn an_answer_that_is_empty_or_cut_off_has_a_reason() {
    for (chunk, something, word) in [
        (r#"{"delta":{"content":"a"},"finish_reason":"stop"}"#, true, None),
        (r#"{"delta":{"content":"a"},"finish_reason":"length"}"#, true, Some("cut off: the limit")),
        (r#"{"delta":{},"finish_reason":"length"}"#, false, Some("finish_reason length")),
        (
            r#"{"delta":{"reasoning":"r"},"finish_reason":"length"}"#,
            false,
            Some("while the model was thinking"),
        ),
        (r#"{"delta":{"reasoning":"r"},"finish_reason":"stop"}"#, false, Some("thought, and said nothing")),
        (
            r#"{"delta":{"content":" \n"},"finish_reason":"content_filter"}"#,
            false,
            Some("content filter held it"),
        ),
        (r#"{"delta":{"refusal":"no"},"finish_reason":"stop"}"#, true, Some("refused")),
        (
            r#"{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]},"finish_reason":"tool_calls"}"#,
            true,
            Some("calls a tool"),
        ),
        (r#"{"delta":{},"finish_reason":"tool_calls"}"#, false, Some("named none")),
        (r#"{"delta":{},"finish_reason":"odd"}"#, false, Some("finish_reason odd")),
        (r#"{"delta":{}}"#, false, Some("said nothing")),
    ] {
        let answer = answer_of(&[chunk]);
        assert_eq!(answer.has_content(), something, "{chunk}");
        match (answer.shortfall(), word) {
            (None, None) => {}
            (Some(why), Some(word)) => assert!(why.contains(word), "{chunk}: {why}"),
            (why, _) => panic!("{chunk}: {why:?}"),
        }
    }
}

#[test]
fn an_empty_error_beside_content_is_ignored_and_another_one_is_a_failure() {
    for error in ["null", r#""""#, "{}", "false", r#"{"message":"","code":null}"#] {
        let chunk =
            Chunk::of_event(&format!(r#"{{"error":{error},"choices":[{{"delta":{{"content":"a"}}}}]}}"#));
        assert_eq!(chunk.unwrap().text.as_deref(), Some("a"), "{error}");
    }
    assert!(Chunk::of_event(r#"{"error":{"code":400}}"#).is_err());
}
