use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod words;

fn param(request: &str) -> Option<String> {
    refusal(&Reach::of(request).unwrap()).map(|refused| refused.param)
}

fn refusal(reach: &Reach) -> Option<Refused> {
    reach.refused(reach)
}

/// What goes on where it changes, at an endpoint that keeps nothing by itself.
fn changed(request: &str, endpoint: Endpoint) -> Option<String> {
    let reach = Reach::of(request).unwrap();
    assert_eq!(refusal(&reach), None, "{request}");
    let edits = reach.edits(&reach, request, endpoint);
    (!edits.is_empty()).then(|| edits.applied(request))
}

fn part(part: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"hi"}},{part}]}}]}}"#)
}

#[test]
fn an_address_to_fetch_from_is_found_wherever_an_api_takes_one() {
    for bad in [
        part(r#"{"type":"image_url","image_url":{"url":"ftp://10.0.0.1/x.png"}}"#),
        part(r#"{"type":"image_url","image_url":"//nas/x.png"}"#),
        part(r#"{"type":"image_url","image\u005furl":{"\u0075rl":"\u0068ttp://x"}}"#),
        part(r#"{"image_url":{"url":"FILE:///etc/passwd"}}"#),
        part(r#"{"type":"video_url","video_url":{"url":" gopher://x"}}"#),
        part(r#"{"type":"input_audio","input_audio":{"data":"https://x/y.wav","format":"wav"}}"#),
        part(r#"{"type":"file","file":{"file_data":"https://x/y.pdf"}}"#),
        part(r#"{"type":"file","file":{"file_id":"file-1"}}"#),
        part(r#"{"type":"image","source":{"type":"url","url":"https://x"}}"#),
        part(r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#),
        part(
            r#"{"type":"tool_result","content":[{"type":"image","source":{"url":"http://x","type":"url"}}]}"#,
        ),
        part(r#"{"type":"url_citation","url":"a","type":"image_url","image_url":{"url":"http://x"}}"#),
        r#"{"messages":[{"role":"user","content":"x","images":["http://x/y.png"]}]}"#.into(),
        r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"http://x"}]}]}"#.into(),
        r#"{"input":[{"type":"message","content":[{"type":"input_file","file_url":"http://x"}]}]}"#.into(),
        r#"{"input":[{"type":"function_call_output","output":[{"type":"input_image","file_id":"f"}]}]}"#
            .into(),
        r#"{"input":[{"type":"input_image","image_url":["http://x"]}]}"#.into(),
        r#"{"input":[{"image":"https://x/y.jpg"}]}"#.into(),
        r#"{"documents":[{"content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#.into(),
        r#"{"webhook_url":"http://x"}"#.into(),
        r#"{"base_url":"http://x","type":"search_result"}"#.into(),
    ] {
        assert!(param(&bad).is_some(), "{bad}");
    }
    let picture = part(r#"{"type":"image_url","image_url":{"url":"http://x"}}"#);
    assert_eq!(
        refusal(&Reach::of(&picture).unwrap()).unwrap().text("a"),
        "'messages' asks 'a' to fetch an address: send a data: URL; only the LLM's owner may, and can allow it \
         (allowRemoteUrls)"
    );
}

#[test]
fn what_runs_and_what_is_kept_at_a_server_is_found() {
    for (bad, at) in [
        (r#"{"tools":[{"type":"mcp","server_label":"x","server_url":"http://x"}]}"#, "tools"),
        (
            r#"{"tools":[{"type":"function","name":"f"},{"type":"code_interpreter","container":{"type":"auto"}}]}"#,
            "tools",
        ),
        (r#"{"tools":[{"type":"file_search","vector_store_ids":["v"]}]}"#, "tools"),
        (r#"{"tools":[{"type":"computer_use_preview"}]}"#, "tools"),
        (r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#, "tools"),
        (
            r#"{"tools":[{"type":"web_fetch_20250910","name":"w"},{"name":"Bash","input_schema":{}}]}"#,
            "tools",
        ),
        (r#"{"tools":[{"type":"code_execution_20250825","name":"c"}]}"#, "tools"),
        (r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"m\u0063p"}]}]}"#, "tools"),
        (r#"{"tools":[{"googleSearch":{}}]}"#, "tools"),
        (r#"{"tools":["web_search"]}"#, "tools"),
        (r#"{"tools":{"type":"mcp"}}"#, "tools"),
        (r#"{"tools":[{"type":"function","type":"mcp","name":"f"}]}"#, "tools"),
        (r#"{"tools":[{"type":"web_search"}]}"#, "tools"),
        (
            r#"{"tool_choice":"required","tools":[{"type":"function","name":"f"},{"type":"web_search"}]}"#,
            "tools",
        ),
        (r#"{"tools":[{"type":"web_search"}],"tools":[{"type":"function","name":"f"}]}"#, "tools"),
        (r#"{"mcp_servers":[{"type":"url","url":"http://x","name":"x"}]}"#, "mcp_servers"),
        (r#"{"web_search_options":{}}"#, "web_search_options"),
        (r#"{"st\u006fre":true}"#, "st"),
        (r#"{"store":true}"#, "store"),
        (r#"{"background":true}"#, "background"),
        (r#"{"previous_response_id":"resp_1"}"#, "previous_response_id"),
        (r#"{"conversation":{"id":"c"}}"#, "conversation"),
        (r#"{"conversation":"c"}"#, "conversation"),
        (r#"{"prompt":{"id":"p"}}"#, "prompt"),
        (r#"{"container":"c"}"#, "container"),
        (r#"{"kv_transfer_params":{"remote_host":"x"}}"#, "kv_transfer_params"),
    ] {
        assert_eq!(param(bad).as_deref(), Some(at), "{bad}");
    }
}

#[test]
fn what_only_speaks_of_addresses_and_tools_passes() {
    for good in [
        part(r#"{"type":"text","text":"fetch http://10.0.0.1 by mcp, store: true"}"#),
        part(r#"{"type":"image_url","image_url":{"url":"DATA:image/png;base64,/9j/4AAQ","detail":"auto"}}"#),
        part(r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"/9j/4AAQ"}}"#),
        part(r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"see: http://x"}}"#),
        part(r#"{"type":"input_audio","input_audio":{"data":"/9j/4AAQ","format":"wav"}}"#),
        part(r#"{"type":"file","file":{"filename":"a:b.pdf","file_data":"data:application/pdf;base64,AA"}}"#),
        part(r#"{"type":"tool_use","id":"t","name":"WebFetch","input":{"url":"https://x","image":"http://y"}}"#),
        part(r#"{"type":"text","text":"x","citations":[{"url":"https://x"}]}"#),
        part(r#"{"type":"web_search_result","url":"https://x","title":"t","encrypted_content":"e"}"#),
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"url":"http://x"}}}]}]}"#.into(),
        r#"{"input":[{"type":"message","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"http://x"}]}]}]}"#.into(),
        r#"{"input":[{"type":"web_search_call","action":{"type":"open_page","url":"http://x"}}]}"#.into(),
        r#"{"input":"http://x","instructions":"use mcp","store":false,"background":false}"#.into(),
        r#"{"input":["http://x","file:///y"],"model":"http://x"}"#.into(),
        r#"{"prompt":["http://x"],"previous_response_id":null,"conversation":null,"mcp_servers":[]}"#.into(),
        r#"{"query":"q","documents":["http://x",{"text":"t","url":"https://x","title":"t"}]}"#.into(),
        r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"image_url":{"type":"string","default":"http://x"},"tools":{"type":"mcp"}}}}}]}"#.into(),
        r#"{"tools":[{"type":"custom","name":"mcp"},{"name":"web_search","input_schema":{"type":"object"}},{"type":"computer_20250124","name":"c"},{"type":"text_editor_20250728","name":"e"},{"type":"local_shell"}]}"#.into(),
        r#"{"response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"url":{"const":"http://x"}}}}},"metadata":{"url":"http://x"}}"#.into(),
        r#"{"text":{"format":{"schema":{"url":"http://x"}}},"tool_choice":{"type":"function","name":"f"}}"#.into(),
        r#"{"system":[{"type":"text","text":"http://x","cache_control":{"type":"ephemeral"}}]}"#.into(),
    ] {
        assert_eq!(param(&good), None, "{good}");
        assert_eq!(changed(&good, Endpoint::ChatCompletions), None, "{good}");
    }
}

/// Codex offers a search with every request: it is left out while there are other tools and the choice.
#[test]
fn a_tool_that_is_not_needed_is_left_out_and_all_else_stays_byte_for_byte() {
    let request = r#"{"top_p":1.10, "tools" : [ {"type":"web_search","x":[1]}, {"type":"function","name":"f"} ,{"type":"image_generation"},{"name":"g","input_schema":{}}], "tool_choice":"auto"}"#;
    assert_eq!(
        changed(request, Endpoint::Messages).unwrap(),
        r#"{"top_p":1.10, "tools" : [{"type":"function","name":"f"},{"name":"g","input_schema":{}}], "tool_choice":"auto"}"#
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = || {
        prop::sample::select(vec![
            "type",
            "url",
            "image_url",
            "tools",
            "mcp",
            "input",
            "tool_use",
            "store",
            "text",
            "data",
            "name",
            "url_citation",
            "http://x",
            "data:,",
            "function",
            "file_id",
            "content",
            "documents",
            "arguments",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..5)
                .prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    /// In whatever shape: what is said of it does not depend on white space or on how letters are written, and what
    /// stands as a text is never found.
    #[test]
    fn any_shape_is_looked_at_in_any_writing(value in any_json(), text in "\\PC{0,40}") {
        let request = json!({ "messages": [ { "content": value } ], "input": text, "instructions": text });
        let plain = request.to_string();
        let escaped = ["url", "type", "tools", "image", "http"].iter().fold(plain.clone(), |text, word| {
            text.replace(word, &format!("\\u{:04x}{}", word.as_bytes()[0], &word[1..]))
        });
        let pretty = serde_json::to_string_pretty(&request).unwrap();
        let of = |text: &str| param(text).is_some();
        prop_assert_eq!(of(&plain), of(&pretty));
        prop_assert_eq!(of(&plain), of(&escaped));
        let said = json!({ "messages": [ { "role": "user", "content": plain } ], "prompt": plain, "input": [plain] });
        prop_assert_eq!(param(&said.to_string()), None);
        prop_assert_eq!(changed(&said.to_string(), Endpoint::ChatCompletions), None);
    }

    /// An address under the name of a picture is found at any depth, unless it is somebody's arguments.
    #[test]
    fn an_address_is_found_at_any_depth(depth in 0..40_usize, scheme in "(http|file|s3|\\\\\\\\nas|/mnt)", free in any::<bool>()) {
        let mut value = json!({ "type": "image_url", "image_url": { "url": format!("{scheme}://x/y") } });
        for level in 0..depth {
            value = if level % 2 == 0 { json!([value]) } else { json!({ "content": value }) };
        }
        if free {
            value = json!({ "type": "tool_use", "input": { "x": value } });
        }
        let request = json!({ "messages": [ { "role": "user", "content": [value] } ] }).to_string();
        prop_assert_eq!(param(&request).is_some(), !free);
    }
}
