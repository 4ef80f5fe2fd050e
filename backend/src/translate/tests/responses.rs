use super::super::responses::{StoredItems, error, from_chat, items, to_chat, to_chat_with};
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
        r#"{"model":"m","instructions":"be brief","input":"hi","max_output_tokens":64,"temperature":1.10,"reasoning":{"effort":"low","summary":"auto"},
        "text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"type":"object"}},"verbosity":"low"},"parallel_tool_calls":false,"store":true,"include":["x"],"metadata":{"k":"v"},"user":"u"}"#,
    );
    assert_eq!(
        chat.to_string(),
        r#"{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}],"temperature":1.10,"user":"u","stream":false,"max_tokens":64,"reasoning_effort":"low","verbosity":"low","response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object"}}}}"#
    );
}

#[test]
fn items_become_turns_and_a_turn_is_one_message() {
    let chat = chat(
        r#"{"input":[{"role":"developer","content":"A"},{"type":"message","role":"user","content":[{"type":"input_text","text":"see"},{"type":"input_image","image_url":"data:image/png;base64,AA","detail":"low"}]},
        {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"reasoning_content"},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[]}]},
        {"type":"function_call","call_id":"c1","name":"ls","arguments":"{\"a\":\"\\ud83d\"}"},
        {"type":"function_call","call_id":"c2","namespace":"agents","name":"close","arguments":"{}"},
        {"type":"function_call_output","call_id":"c1","output":"one"},
        {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"t"},{"type":"input_image","image_url":"u"}]},
        {"role":"system","content":"later"}]}"#,
    );
    assert_eq!(
        at(&chat, "messages"),
        concat!(
            r#"[{"role":"system","content":"A"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA","detail":"low"}}]},"#,
            r#"{"role":"assistant","content":"ok","reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"ls","arguments":"{\"a\":\"\\ud83d\"}"}},{"id":"c2","type":"function","function":{"name":"agents__close","arguments":"{}"}}]},"#,
            r#"{"role":"tool","tool_call_id":"c1","content":"one"},{"role":"tool","tool_call_id":"c2","content":"t"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"What the tool call c2 gave:"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"<system-reminder>\nlater\n</system-reminder>"}]}]"#
        )
    );
}

#[test]
fn what_needs_a_store_or_is_unknown_is_refused_by_its_name() {
    for (request, word) in [
        (r#"{"input":"a","previous_response_id":"resp_1"}"#, "previous_response_id"),
        (r#"{"input":"a","conversation":"c"}"#, "conversation"),
        (r#"{"input":"a","prompt":{"id":"p"}}"#, "prompt"),
        (r#"{"input":"a","background":true}"#, "background"),
        (r#"{"input":[{"type":"computer_call","id":"x"}]}"#, "input[0]: an item of type 'computer_call'"),
        (r#"{"input":[{"type":"item_reference","id":"msg_9"}]}"#, "the item 'msg_9' is not kept here"),
        (
            r#"{"input":[{"role":"user","content":[{"type":"input_video"}]}]}"#,
            "input[0].content[0]: this model takes no content of type 'input_video'",
        ),
        (r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#, "stores no files"),
        (r#"{"input":[{"role":"critic","content":"a"}]}"#, "role 'critic'"),
        (r#"{"input":"a","tools":[{"type":"file_search","vector_store_ids":["v"]}]}"#, "'file_search'"),
        (r#"{"input":"a","tools":[{"type":"web_search"}]}"#, "'web_search'"),
        (
            r#"{"input":"a","tools":[{"type":"function","name":"f"},{"type":"web_search"}],"tool_choice":"required"}"#,
            "'web_search'",
        ),
        (r#"{"input":"a","tool_choice":{"type":"mcp","server_label":"s"}}"#, "'mcp'"),
        (r#"{"input":7}"#, "input must be"),
        ("{}", "input must be"),
    ] {
        let reason = refused(request);
        assert!(reason.contains(word), "{reason}");
    }
    let nothing = r#"{"input":[{"type":"item_reference","id":"rs_9"}],"previous_response_id":null,"conversation":null}"#;
    assert!(to_chat(nothing.as_bytes()).is_ok());
}

#[test]
fn tools_become_functions_and_what_agents_always_offer_is_left_out() {
    let chat = chat(
        r#"{"input":"a","tools":[{"type":"function","name":"f","description":"d","strict":null,"parameters":{"type":"object"}},{"type":"web_search","external_web_access":true},
        {"type":"custom","name":"apply_patch","description":"Edit.","format":{"type":"grammar","syntax":"lark","definition":"start: \"a\""}},
        {"type":"namespace","name":"mcp__files__","tools":[{"type":"function","name":"read"}]},{"type":"local_shell"}],"tool_choice":"auto","parallel_tool_calls":true}"#,
    );
    assert_eq!(
        at(&chat, "tools/0/function"),
        r#"{"name":"f","description":"d","parameters":{"type":"object"}}"#
    );
    assert_eq!(at(&chat, "tools/1/function/name"), r#""apply_patch""#);
    assert_eq!(
        at(&chat, "tools/1/function/description"),
        r#""Edit.\n\nThe argument `input` holds the whole text of the call. It must match this lark grammar:\nstart: \"a\"""#
    );
    assert_eq!(at(&chat, "tools/2/function/name"), r#""mcp__files__read""#);
    assert_eq!(at(&chat, "tools/3/function/name"), r#""local_shell""#);
    assert_eq!(at(&chat, "tools/4"), "null");
    assert_eq!(at(&chat, "tool_choice"), r#""auto""#);
    assert_eq!(at(&chat, "parallel_tool_calls"), "true");
}

#[test]
fn a_choice_of_tools_is_kept() {
    let with = |choice: &str| {
        chat(&format!(
            r#"{{"input":"a","tools":[{{"type":"function","name":"f"}},{{"type":"custom","name":"g"}}],"tool_choice":{choice}}}"#
        ))
    };
    let only = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
    assert_eq!(at(&with(r#"{"type":"function","name":"f"}"#), "tool_choice"), only("f"));
    assert_eq!(at(&with(r#"{"type":"custom","name":"g"}"#), "tool_choice"), only("g"));
    let some = with(r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"custom","name":"g"}]}"#);
    assert_eq!(at(&some, "tool_choice"), r#""required""#);
    assert_eq!(at(&some, "tools/0/function/name"), r#""g""#);
    assert_eq!(at(&some, "tools/1"), "null");
}

#[test]
fn an_answer_has_an_item_for_each_block_and_each_call_its_own_kind() {
    let request = to_chat(
        br#"{"model":"m","input":"a","metadata":{"k":"v"},"include":["reasoning.encrypted_content"],"tools":[{"type":"custom","name":"patch"},{"type":"local_shell"},{"type":"namespace","name":"ns","tools":[{"type":"function","name":"f"}]}]}"#,
    )
    .unwrap();
    let answer = completion(
        r#""reasoning":"hm","content":"ok","tool_calls":[{"id":"c1","function":{"name":"patch","arguments":"{\"input\":\"a\\nb\"}"}},{"id":"c2","function":{"name":"ns__f","arguments":""}},{"id":"c3","function":{"name":"local_shell","arguments":"{\"command\":[\"ls\"]}"}}]"#,
        "tool_calls",
    );
    let response = from_chat(&answer, &context(&request)).unwrap();
    let response = super::Json::parse(&response).unwrap();
    assert_eq!(
        at(&response, "output"),
        concat!(
            r#"[{"id":"rs_7_0","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"reasoning","status":"completed"},"#,
            r#"{"id":"msg_7_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}]},"#,
            r#"{"id":"ctc_7_2","type":"custom_tool_call","status":"completed","call_id":"c1","name":"patch","input":"a\nb"},"#,
            r#"{"id":"fc_7_3","type":"function_call","status":"completed","call_id":"c2","name":"f","namespace":"ns","arguments":"{}"},"#,
            r#"{"id":"lsh_7_4","type":"local_shell_call","status":"completed","call_id":"c3","action":{"type":"exec","command":["ls"],"env":{}}}]"#
        )
    );
    assert_eq!(
        at(&response, "usage"),
        r#"{"input_tokens":20,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":25}"#
    );
    assert_eq!(at(&response, "metadata"), r#"{"k":"v"}"#);
    assert_eq!(at(&response, "status"), r#""completed""#);
    assert_eq!(at(&response, "created_at"), "1700000000");
}

#[test]
fn an_answer_that_was_cut_or_filtered_is_incomplete() {
    let request = to_chat(br#"{"model":"m","input":"a"}"#).unwrap();
    for (finish, reason) in [("length", "max_output_tokens"), ("content_filter", "content_filter")] {
        let response = from_chat(&completion(r#""content":"a""#, finish), &context(&request)).unwrap();
        let response = super::Json::parse(&response).unwrap();
        assert_eq!(at(&response, "status"), r#""incomplete""#);
        assert_eq!(at(&response, "incomplete_details/reason"), format!("\"{reason}\""));
        assert_eq!(at(&response, "output/0/status"), r#""incomplete""#);
    }
}

#[test]
fn free_text_is_read_also_without_the_object_around_it() {
    let request = to_chat(br#"{"input":"a","tools":[{"type":"custom","name":"g"}]}"#).unwrap();
    for (arguments, input) in
        [(r#""*** Begin""#, "*** Begin"), (r#""{\"input\":\"x\"}""#, "x"), (r#""""#, "")]
    {
        let message =
            format!(r#""tool_calls":[{{"id":"i","function":{{"name":"g","arguments":{arguments}}}}}]"#);
        let answer = from_chat(&completion(&message, "tool_calls"), &context(&request)).unwrap();
        assert!(answer.contains(&format!(r#""input":"{input}""#)), "{answer}");
    }
}

#[test]
fn errors_of_openais_shape_pass_and_others_get_it() {
    let own = r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#;
    assert_eq!(error(400, own), own);
    assert_eq!(
        error(404, r#"{"detail":"Not Found"}"#),
        r#"{"error":{"message":"Not Found","type":"invalid_request_error","param":null,"code":null}}"#
    );
    assert!(error(500, "").contains("the backend gave no reason"));
}

#[test]
fn an_item_of_an_earlier_answer_may_be_referred_to_while_it_is_kept() {
    let next = br#"{"input":[{"type":"item_reference","id":"rs_7_0"},{"type":"item_reference","id":"msg_7_1"},{"type":"item_reference","id":"ctc_7_2"},{"type":"custom_tool_call_output","call_id":"c1","output":"o"}]}"#;
    let answer = completion(
        r#""reasoning":"hm","content":"ok \ud83d","tool_calls":[{"id":"c1","function":{"name":"g","arguments":"{\"input\":\"x\"}"}}]"#,
        "tool_calls",
    );
    let tools = r#""tools":[{"type":"custom","name":"g"}]"#;
    for (store, limit, is_kept) in
        [("", 10_000, true), (r#""store":false,"#, 10_000, false), ("", 100, false)]
    {
        let first = to_chat(format!(r#"{{{store}"input":"a",{tools}}}"#).as_bytes()).unwrap();
        let mut kept = StoredItems::new(limit);
        if first.is_stored() {
            kept.add(items(&from_chat(&answer, &context(&first)).unwrap()));
        }
        let chat = to_chat_with(next, &|id| kept.get(id));
        assert_eq!(chat.is_ok(), is_kept);
        let Ok(chat) = chat else { continue };
        let chat = super::Json::parse(&chat.body).unwrap();
        assert_eq!(
            at(&chat, "messages/0"),
            r#"{"role":"assistant","content":"ok \ud83d","tool_calls":[{"id":"c1","type":"function","function":{"name":"g","arguments":"{\"input\":\"x\"}"}}]}"#
        );
        assert_eq!(at(&chat, "messages/1/content"), r#""o""#);
    }
}

#[test]
fn a_streamed_item_is_kept_when_it_is_done_and_makes_room_when_it_is_old() {
    let mut kept = StoredItems::new(200);
    let done = |id: &str| {
        format!(
            r#"{{"type":"response.output_item.done","sequence_number":1,"output_index":0,"item":{{"id":"{id}","type":"message","role":"assistant","content":"said by {id}"}}}}"#
        )
    };
    kept.add(items(
        r#"{"type":"response.output_item.added","item":{"id":"m9","type":"message","role":"assistant"}}"#,
    ));
    for id in ["m1", "m2", "m3", "m4", "m4"] {
        kept.add(items(&done(id)));
    }
    let refer = |id: &str| {
        let next = format!(r#"{{"input":[{{"type":"item_reference","id":"{id}"}}]}}"#);
        to_chat_with(next.as_bytes(), &|id| kept.get(id))
    };
    assert!(refer("m4").unwrap().body.contains("said by m4"));
    assert!(refer("m1").is_err() && refer("m9").is_err());
}

/// A23, A24: an item costs a request no more than if the request had it itself.
#[test]
fn an_item_is_referred_to_once_and_counts_for_the_limits_of_a_request() {
    let refer = |ids: &[&str], more: &str, text: &str| {
        let references: Vec<_> =
            ids.iter().map(|id| format!(r#"{{"type":"item_reference","id":"{id}"}},"#)).collect();
        let request =
            format!(r#"{{"input":[{}{{"role":"user","content":"b"}}]{more}}}"#, references.concat());
        let find = |id: &str| {
            (!id.starts_with("rs_")).then(|| {
                format!(r#"{{"id":"{id}","type":"message","role":"assistant","content":{text}}}"#).into()
            })
        };
        to_chat_with(request.as_bytes(), &find).map(|chat| chat.body).map_err(|invalid| invalid.0)
    };
    let parts = |count: usize| {
        let part = r#"{"type":"output_text","text":"y"}"#;
        format!("[{part}{}]", format!(",{part}").repeat(count - 1))
    };
    assert_eq!(refer(&["m1", "m2", "rs_1", "rs_1"], "", r#""yy""#).unwrap().matches("yyyy").count(), 1);
    let twice = refer(&["m1", "m2", "m1"], "", r#""yy""#).unwrap_err();
    assert_eq!(twice, "input[2]: duplicate item: 'm1' is in the input already");
    let many = "input[1]: the request with the items it refers to is JSON with more than 100000 values";
    assert!(refer(&["m1", "m2"], "", &parts(15_000)).is_ok());
    assert_eq!(refer(&["m1", "m2"], "", &parts(20_000)).unwrap_err(), many);
    let more = format!(r#","x":[{}0]"#, "0,".repeat(50_000));
    assert_eq!(refer(&["m1", "m2"], &more, &parts(10_000)).unwrap_err(), many);
    let large = format!("\"{}\"", "y".repeat(17 << 20));
    let larger = refer(&["m1", "m2"], "", &large).unwrap_err();
    assert_eq!(larger, "input[1]: the request with the items it refers to is larger than 32 MiB");
}
