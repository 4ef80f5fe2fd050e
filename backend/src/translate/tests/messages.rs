use super::super::messages::{error, from_chat, to_chat};
use super::{at, body, completion, context};

fn chat(request: &str) -> super::Json<'static> {
    body(to_chat(request.as_bytes()))
}

fn refused(request: &str) -> String {
    to_chat(request.as_bytes()).unwrap_err().0
}

#[test]
fn settings_have_the_names_of_chat_completions() {
    let chat = chat(
        r#"{"model":"m","max_tokens":18446744073709551615,"temperature":0.10,"top_k":7,"stop_sequences":["\n\n","","END"],"metadata":{"user_id":"u1"},"seed":9,
        "thinking":{"type":"enabled","budget_tokens":2048},"output_config":{"effort":"high"},"service_tier":"auto","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    );
    assert_eq!(
        chat.to_string(),
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":18446744073709551615,"temperature":0.10,"top_k":7,"seed":9,"stream":true,"stream_options":{"include_usage":true},"stop":["\n\n","END"],"user":"u1"}"#
    );
}

#[test]
fn system_texts_are_one_message_and_later_ones_are_told_by_the_user() {
    let chat = chat(
        r#"{"model":"m","system":[{"type":"text","text":"A","cache_control":{"type":"ephemeral"}},{"type":"text","text":"B"}],
        "messages":[{"role":"user","content":"hi"},{"role":"system","content":"C"},{"role":"assistant","content":"yes"}]}"#,
    );
    assert_eq!(
        at(&chat, "messages"),
        r#"[{"role":"system","content":"A\n\nB"},{"role":"user","content":"hi\n\n<system-reminder>\nC\n</system-reminder>"},{"role":"assistant","content":"yes"}]"#
    );
}

#[test]
fn images_and_text_documents_are_parts_and_others_are_refused() {
    let user = |block: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"see"}},{block}]}}]}}"#)
    };
    let one = user(r#"{"type":"image","source":{"type":"base64","media_type":"image/webp","data":"AAA="}}"#);
    assert_eq!(
        at(&chat(&one), "messages/0/content"),
        r#"[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/webp;base64,AAA="}}]"#
    );
    let one = user(r#"{"type":"image","source":{"type":"url","url":"https://a.b/c.png"}}"#);
    assert_eq!(at(&chat(&one), "messages/0/content/1/image_url/url"), r#""https://a.b/c.png""#);
    let one = user(
        r#"{"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"D"}}"#,
    );
    assert_eq!(at(&chat(&one), "messages/0/content"), r#""see\n\nT\n\nD""#);
    let pdf = user(
        r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}}"#,
    );
    assert_eq!(
        refused(&pdf),
        "messages.0.content.1: this model reads no documents of type 'application/pdf': send their text"
    );
    let odd = user(r#"{"type":"container_upload","file_id":"f"}"#);
    assert_eq!(refused(&odd), "messages.0.content.1: this model takes no content of type 'container_upload'");
}

#[test]
fn calls_and_results_keep_their_order_whatever_stands_around_them() {
    let chat = chat(
        r#"{"messages":[{"role":"user","content":"go"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"EqQB"},{"type":"text","text":"I look."},{"type":"tool_use","id":"toolu_1","name":"ls","input":{"n":18446744073709551615,"s":"\ud83d"}},{"type":"tool_use","id":"toolu_2","name":"pwd","input":{}}]},
        {"role":"user","content":[{"type":"text","text":"meanwhile"},{"type":"tool_result","tool_use_id":"toolu_2","is_error":true,"content":"no"},
          {"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"a"},{"type":"image","source":{"type":"url","url":"u"}}]}]}]}"#,
    );
    assert_eq!(
        at(&chat, "messages/1"),
        r#"{"role":"assistant","content":"I look.","tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"ls","arguments":"{\"n\":18446744073709551615,\"s\":\"\\ud83d\"}"}},{"id":"toolu_2","type":"function","function":{"name":"pwd","arguments":"{}"}}]}"#
    );
    assert_eq!(at(&chat, "messages/2"), r#"{"role":"tool","tool_call_id":"toolu_2","content":"Error: no"}"#);
    assert_eq!(at(&chat, "messages/3"), r#"{"role":"tool","tool_call_id":"toolu_1","content":"a"}"#);
    assert_eq!(
        at(&chat, "messages/4/content"),
        r#"[{"type":"text","text":"What the tool call toolu_1 gave:"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"meanwhile"}]"#
    );
}

#[test]
fn tools_and_each_choice_are_translated_and_server_tools_refused() {
    let with = |choice: &str| {
        format!(
            r#"{{"messages":[],"tools":[{{"type":"custom","name":"f","description":"d","input_schema":{{"type":"object","x":1e999}},"cache_control":{{}}}}]{choice}}}"#
        )
    };
    let plain = chat(&with(""));
    assert_eq!(
        at(&plain, "tools"),
        r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","x":1e999}}}]"#
    );
    assert_eq!(at(&plain, "tool_choice"), "null");
    for (choice, expected) in [
        (r#"{"type":"auto"}"#, r#""auto""#),
        (r#"{"type":"any"}"#, r#""required""#),
        (r#"{"type":"none"}"#, r#""none""#),
        (r#"{"type":"tool","name":"f"}"#, r#"{"type":"function","function":{"name":"f"}}"#),
    ] {
        assert_eq!(at(&chat(&with(&format!(",\"tool_choice\":{choice}"))), "tool_choice"), expected);
    }
    let one = chat(&with(r#","tool_choice":{"type":"auto","disable_parallel_tool_use":true}"#));
    assert_eq!(at(&one, "parallel_tool_calls"), "false");
    let server = r#"{"messages":[],"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
    assert_eq!(refused(server), "tools: this model has no tool of type 'web_search_20250305'");
}

#[test]
fn what_is_no_request_is_refused_in_words() {
    assert_eq!(refused("[]"), "the request is not a JSON object");
    assert_eq!(refused("{"), "the request is not valid JSON at byte 1");
    assert_eq!(refused("{}"), "messages must be an array");
    let odd = r#"{"messages":[{"role":"tool","content":""}]}"#;
    assert_eq!(refused(odd), "messages.0: a message of role 'tool' cannot be put to this model");
    assert!(to_chat(b"\xff").is_err());
}

#[test]
fn an_answer_has_thinking_text_and_calls_and_all_of_the_usage() {
    let request = to_chat(br#"{"model":"claude-x","messages":[]}"#).unwrap();
    let answer = completion(
        r#""reasoning_content":"hm","content":"\ud83d ok","tool_calls":[{"id":"functions.ls:0","type":"function","function":{"name":"ls","arguments":"{\"a\":1.10}"}},{"id":"","type":"function","function":{"name":"pwd","arguments":""}}]"#,
        "tool_calls",
    );
    assert_eq!(
        from_chat(&answer, &context(&request)).unwrap(),
        r#"{"id":"msg_7","type":"message","role":"assistant","model":"claude-x","content":[{"type":"thinking","thinking":"hm","signature":"reasoning_content"},{"type":"text","text":"\ud83d ok"},{"type":"tool_use","id":"toolu_hex_66756e6374696f6e732e6c733a30","name":"ls","input":{"a":1.10}},{"type":"tool_use","id":"toolu_7_3","name":"pwd","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5}}"#
    );
}

#[test]
fn ids_and_thinking_of_a_backend_come_back_to_it_as_they_were() {
    let chat = chat(
        r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"reasoning"},{"type":"tool_use","id":"toolu_hex_66756e6374696f6e732e6c733a30","name":"ls","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_hex_66756e6374696f6e732e6c733a30"}]}]}"#,
    );
    assert_eq!(at(&chat, "messages/0/reasoning"), r#""hm""#);
    assert_eq!(at(&chat, "messages/0/tool_calls/0/id"), r#""functions.ls:0""#);
    assert_eq!(at(&chat, "messages/1"), r#"{"role":"tool","tool_call_id":"functions.ls:0","content":""}"#);
}

#[test]
fn each_reason_to_stop_has_its_name() {
    let request = to_chat(br#"{"model":"m","messages":[],"stop_sequences":["END"]}"#).unwrap();
    let reason = |message: &str, finish: &str| {
        let answer = from_chat(&completion(message, finish), &context(&request)).unwrap();
        let answer = super::Json::parse(&answer).unwrap();
        (at(&answer, "stop_reason"), at(&answer, "stop_sequence"))
    };
    let named = |reason: &str| (format!("\"{reason}\""), "null".to_owned());
    assert_eq!(reason(r#""content":"a""#, "stop"), named("end_turn"));
    assert_eq!(reason(r#""content":"a""#, "length"), named("max_tokens"));
    assert_eq!(reason(r#""content":null"#, "content_filter"), named("refusal"));
    assert_eq!(reason(r#""content":null,"refusal":"I will not""#, "stop"), named("refusal"));
    assert_eq!(reason(r#""tool_calls":[{"id":"a","function":{"name":"f"}}]"#, "stop"), named("tool_use"));
    assert_eq!(reason(r#""content":"a""#, "something"), named("end_turn"));
    let met = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop","stop_reason":"END"}]}"#;
    let met = from_chat(met, &context(&request)).unwrap();
    assert!(met.contains(r#""stop_reason":"stop_sequence","stop_sequence":"END""#), "{met}");
}

#[test]
fn what_is_no_completion_is_no_message() {
    let request = to_chat(br#"{"messages":[]}"#).unwrap();
    for answer in
        ["", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":[{"text":"a"}]}"#, r#"{"error":{"message":"m"}}"#]
    {
        assert!(from_chat(answer, &context(&request)).is_err(), "{answer}");
    }
}

#[test]
fn arguments_that_are_no_object_are_shown_to_the_caller() {
    let request = to_chat(br#"{"messages":[]}"#).unwrap();
    for (arguments, input) in [
        (r#""{\"a\":""#, r#"{"raw_arguments":"{\"a\":"}"#),
        (r#""[1]""#, r#"{"raw_arguments":"[1]"}"#),
        (r#""\"{\\\"a\\\":1}\"""#, r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"{"a":1}"#),
        ("null", "{}"),
    ] {
        let message =
            format!(r#""tool_calls":[{{"id":"i","function":{{"name":"f","arguments":{arguments}}}}}]"#);
        let answer = from_chat(&completion(&message, "tool_calls"), &context(&request)).unwrap();
        assert!(answer.contains(&format!(r#""input":{input}"#)), "{answer}");
    }
}

#[test]
fn errors_have_anthropics_shape_and_names() {
    assert_eq!(
        error(429, r#"{"error":{"message":"slow down","type":"x","code":null}}"#),
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#
    );
    let own = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r"}"#;
    assert_eq!(error(529, own), own);
    assert_eq!(
        error(
            400,
            r#"{"error":{"code":400,"message":"too big","type":"exceed_context_size_error","n_ctx":4096}}"#
        ),
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: too big"}}"#
    );
    assert_eq!(
        error(502, ""),
        r#"{"type":"error","error":{"type":"api_error","message":"the backend gave no reason"}}"#
    );
}

/// A23: no tree is made of arguments: an answer may have thousands of calls, each with as many values as one tree may have.
#[test]
fn arguments_of_many_values_stay_text() {
    let request = to_chat(br#"{"messages":[]}"#).unwrap();
    let list = format!("[{}7]", r#"{\"\":[]},"#.repeat(60_000));
    let call = |id: &str| {
        format!(r#"{{"id":"{id}","function":{{"name":"f","arguments":" {{\"list\" : {list}}}"}}}}"#)
    };
    let message = format!(r#""tool_calls":[{},{}]"#, call("a"), call("b"));
    let answer = from_chat(&completion(&message, "tool_calls"), &context(&request)).unwrap();
    let input = format!(r#""input":{{"list":{}}}"#, list.replace('\\', ""));
    assert_eq!(answer.matches(&input).count(), 2);
}

/// A23: a translation makes a tree of the body, so its values are limited. A body that only passes through may have lists
/// of millions.
#[test]
fn a_request_of_too_many_values_is_not_translated() {
    use super::super::{InvalidRequest, responses};

    for (element, most) in [("0", 100_000), ("[]", 100_000), (r#"{"a":[]}"#, 50_000)] {
        for (place, says) in [("metadata", true), ("input", false), ("messages", false)] {
            let body = |n: usize| {
                let list = format!("{}{element}", format!("{element},").repeat(n - 1));
                let rest = if says { r#","input":"a","messages":[]"# } else { "" };
                format!(r#"{{"{place}":[{list}]{rest}}}"#)
            };
            let many = Err(InvalidRequest("the request is JSON with more than 100000 values".to_owned()));
            let of = |n: usize| {
                let body = body(n);
                [responses::to_chat(body.as_bytes()), to_chat(body.as_bytes())].map(|chat| chat.map(|_| ()))
            };
            assert_eq!(of(most + 1), [many.clone(), many.clone()], "{element} {place}");
            assert!(of(most - 10).iter().all(|chat| *chat != many), "{element} {place}");
            assert!(!says || of(most - 10).iter().all(Result::is_ok));
        }
    }
}
