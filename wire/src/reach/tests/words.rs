//! The words of each API, and how they are written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{any_json, changed, param, part};
use crate::task::Endpoint;

/// Blanks in front of an address are no data, however many: readers of addresses leave them out.
#[test]
fn an_address_behind_blanks_is_one() {
    for blank in [" ", r"\t", r"\n", r"\u0020", r"\u0000"] {
        for count in [1, 63, 64, 65, 4000] {
            let blanks = blank.repeat(count);
            for scheme in ["http://10.0.0.1", r"\u0068ttp:\/\/x", "x"] {
                let url = format!(r#"{{"image_url":{{"url":"{blanks}{scheme}"}}}}"#);
                assert_eq!(param(&part(&url)).as_deref(), Some("messages"), "{count} {blank:?}");
            }
            let image = format!(r#"{{"image":"{blanks}http://x"}}"#);
            assert!(param(&part(&image)).is_some(), "{count} {blank:?}");
            let data = format!(r#"{{"image_url":{{"url":"{blanks}data:image\/png;base64,AA"}}}}"#);
            assert_eq!(param(&part(&data)), None);
            assert_eq!(param(&part(&format!(r#"{{"image_url":{{"url":"{blanks}"}}}}"#))), None);
        }
    }
}

/// Some servers open what a picture's data names.
#[test]
fn a_path_is_no_data_of_a_picture() {
    let long = "A/".repeat(20_000);
    for path in [
        "/home/alice/private.png",
        "/etc/passwd",
        "//nas/share/x",
        r"\\\\10.0.0.9\\share\\x",
        "secret.png",
        "../x",
        "~/x",
        "C:\\\\x",
        "/9k/x",
        r"\/etc\/passwd",
        &"A".repeat(100).replace("AA", "A/").replace("A/A", "A/../"),
        &format!("{}.png", &long[..20_000]),
    ] {
        for place in [
            format!(r#"{{"input":[{{"image":"{path}"}}]}}"#),
            format!(r#"{{"messages":[{{"role":"user","content":"x","images":["{path}"]}}]}}"#),
            part(&format!(r#"{{"type":"input_audio","input_audio":{{"data":"{path}","format":"wav"}}}}"#)),
            part(&format!(r#"{{"type":"file","file":{{"file_data":"{path}"}}}}"#)),
        ] {
            assert!(param(&place).is_some(), "{place}");
        }
    }
    for data in [
        "",
        "aGVsbG8=",
        "/9j/4AAQ",
        r"\/9j\/4AAQ",
        r"iVBO\r\nRw0K",
        "a-b_c",
        " aGVs",
        &long,
        &format!("/{long}"),
        &format!(r"\/{long}"),
    ] {
        assert_eq!(param(&format!(r#"{{"input":[{{"image":"{data}"}}]}}"#)), None, "{data:.80}");
    }
}

#[test]
fn a_type_that_names_sources_frees_no_other_address() {
    for bad in [
        r#"{"type":"x_citation","uuid":"1","image_url":"http://x"}"#,
        r#"{"type":"x_location","file_url":"file:///etc/passwd"}"#,
        r#"{"type":"search_result","video_url":"http://x"}"#,
        r#"{"type":"x_citation","url":"http://x"}"#,
        r#"{"type":"image_url","image_url":{"type":"url_citation","url":"http://x"}}"#,
        r#"{"type":"image_url","image_url":[{"type":"url_citation","url":"http://x"}]}"#,
        r#"{"type":"image","path":"http://x"}"#,
        r#"{"type":"image","path":"secret"}"#,
        r#"{"source":"http://x","type":"input_video"}"#,
        r#"{"type":"image","image_urls":["http://x"]}"#,
        r#"{"input_image":"http://x"}"#,
        r#"{"the_address_of_the_second_picture_in_a_row_image_url":"http://x"}"#,
        r#"{"the_addresses_of_the_pictures_in_a_row_ImageUrls":["http://x"]}"#,
        r#"{"image":{"path":"/etc/passwd"}}"#,
    ] {
        assert_eq!(param(&part(bad)).as_deref(), Some("messages"), "{bad}");
    }
    for good in [
        r#"{"type":"search_result","source":"https://x","title":"t","content":[{"type":"text","text":"x"}]}"#,
        r#"{"type":"web_fetch_tool_result","content":{"type":"web_fetch_result","url":"https://x"}}"#,
        r#"{"type":"apply_patch_call","operation":{"type":"update_file","path":"lib/fib.py","diff":"d"}}"#,
    ] {
        assert_eq!(param(&part(good)), None, "{good}");
    }
}

/// Each of them was seen to pass to a backend that acts on it.
#[test]
fn what_servers_know_beside_the_apis_is_found() {
    for (bad, at) in [
        (r#"{"metadata":{"mcp_servers":"fs,shell"}}"#, "metadata"),
        (r#"{"x":{"mcp_servers":["x"]}}"#, "x"),
        (r#"{"fallbacks":["other"]}"#, "fallbacks"),
        (r#"{"mock_testing_fallbacks":true}"#, "mock_testing_fallbacks"),
        (r#"{"x":[{"model":"openai/x","api_base":"http://10.0.0.9"}]}"#, "x"),
        (r#"{"models":["openai/gpt-5:online"]}"#, "models"),
        (r#"{"route":"fallback"}"#, "route"),
        (r#"{"preset":"p"}"#, "preset"),
        (r#"{"model_list":[{}]}"#, "model_list"),
        (r#"{"context_window_fallbacks":["x"]}"#, "context_window_fallbacks"),
        (r#"{"context_window_fallback_dict":{"x":"y"}}"#, "context_window_fallback_dict"),
        (r#"{"content_policy_fallbacks":["x"]}"#, "content_policy_fallbacks"),
        (r#"{"tool_servers":[{}]}"#, "tool_servers"),
        (r#"{"plugins":[{"id":"web"}]}"#, "plugins"),
        (r#"{"bootstrap_host":"x"}"#, "bootstrap_host"),
        (r#"{"draft_model":"x"}"#, "draft_model"),
        (r#"{"search_parameters":{"mode":"on"}}"#, "search_parameters"),
        (r#"{"enable_search":true}"#, "enable_search"),
        (r#"{"integrations":["mcp/fs"]}"#, "integrations"),
        (r#"{"data_sources":[{"type":"azure_search"}]}"#, "data_sources"),
        (r#"{"files":[{"type":"collection","id":"x"}]}"#, "files"),
        (r#"{"tool_ids":["t"]}"#, "tool_ids"),
        (r#"{"features":{"code_interpreter":true}}"#, "features"),
        (r#"{"lora_path":"x"}"#, "lora_path"),
        (r#"{"session_params":{"id":"s"}}"#, "session_params"),
        (r#"{"custom_logit_processor":"x"}"#, "custom_logit_processor"),
        (r#"{"id_slot":0}"#, "id_slot"),
        (r#"{"slot_id":3}"#, "slot_id"),
        (r#"{"extra_body":{"google":{"cached_content":"cachedContents/1"}}}"#, "extra_body"),
        (r#"{"extra_body":{"fallbacks":["x"]}}"#, "extra_body"),
        (
            r#"{"extra_body":{"tools":[{"type":"web_search"}]},"tools":[{"type":"function","name":"f"}]}"#,
            "tools",
        ),
        (r#"{"modality":"image","input":["http://x"]}"#, "modality"),
        (r#"{"infinity_extra_modality":["audio"],"input":["http://x"]}"#, "infinity_extra_modality"),
        (r#"{"input":[{"type":"item_reference","id":"msg_1"},{"role":"user","content":"x"}]}"#, "input"),
        (r#"{"prompt":{"prompt_string":"x","multimodal_data":["http://x"]}}"#, "prompt"),
        (r#"{"prompt":[{"id":"p"}]}"#, "prompt"),
    ] {
        assert_eq!(param(bad).as_deref(), Some(at), "{bad}");
    }
    for value in ["1", r#""true""#, r#""on""#, r#""false""#, "[true]", "{}", "{\"a\":1}", "true", "[]"] {
        for key in ["store", "background", "Store", "enable_search"] {
            assert!(param(&format!(r#"{{"{key}":{value}}}"#)).is_some(), "{key} {value}");
        }
    }
}

#[test]
fn a_tool_is_its_callers_where_all_that_is_said_of_it_is() {
    for bad in [
        r#"{"tools":[{"Type":"mcp","name":"x","input_schema":{}}]}"#,
        r#"{"tools":[{"type":"function","name":"f","TYPE":"mcp"}]}"#,
        r#"{"tools":[{"type":"mcp","type":"function","name":"f"}]}"#,
        r#"{"tools":[{"type":["mcp"],"function":{}}]}"#,
        r#"{"tools":[{"type":7,"function":{}}]}"#,
        r#"{"tools":[{"type":{},"function":{}}]}"#,
        r#"{"tools":[{"code_interpreter":{}}]}"#,
        r#"{"tools":[{"mcp":{"server_label":"x"}}]}"#,
        r#"{"tools":[{"function":{"name":"f"},"mcp":{}}]}"#,
        r#"{"tools":[{"server":"x","web_search":{"enable":true}}]}"#,
        r#"{"tools":[{"name":"g"}]}"#,
        r#"{"Tools":[{"type":"code_interpreter"}]}"#,
        "{\"tool\u{17f}\":[{\"type\":\"mcp\"}]}",
        r#"{"tool\u017f":[{"type":"mcp"}]}"#,
        r#"{"tools":[{"type":"function","name":"f"}],"Tools":[{"type":"web_search"}]}"#,
        r#"{"x":{"tools":{"type":"web_search"}},"tools":[{"type":"function","name":"f"}]}"#,
    ] {
        assert_eq!(param(bad).as_deref(), Some("tools"), "{bad}");
    }
    for bad in ["tool_search_output", "additional_tools"] {
        let item = |kind: &str| {
            format!(r#"{{"input":[{{"type":"{bad}","tools":[{{"type":"{kind}","name":"n"}}]}}]}}"#)
        };
        assert!(param(&item("mcp")).is_some());
        assert_eq!(param(&item("function")), None);
    }
    for good in [
        r#"{"tools":[{"function":{"name":"f"}},{"name":"f","input_schema":{}},{"type":null,"name":"f","parameters":{}}]}"#,
        r#"{"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#,
        r#"{"input":[{"type":"mcp_list_tools","tools":[{"name":"n","input_schema":{}}]}]}"#,
    ] {
        assert_eq!(param(good), None, "{good}");
    }
}

/// A choice that leaves it to the model, or names a tool that stays.
#[test]
fn a_search_is_left_out_where_nothing_has_it_called() {
    let of = |choice: &str, kind: &str| {
        format!(
            r#"{{"tools":[{{"type":"function","name":"f"}},{{"type":"{kind}"}}],"tool_choice":{choice}}}"#
        )
    };
    for choice in [
        r#""auto""#,
        r#""none""#,
        "null",
        r#"{"type":"auto"}"#,
        r#"{"type":"function","name":"f"}"#,
        r#"{"type":"function","function":{"name":"web_search"}}"#,
        r#"{"type":"tool","name":"f"}"#,
        r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"}]}"#,
    ] {
        for kind in ["web_search", "web_search_2025_08_26", "web_search_preview_2025_03_11"] {
            let left = of(choice, kind).replace(&format!(r#",{{"type":"{kind}"}}"#), "");
            assert_eq!(changed(&of(choice, kind), Endpoint::Messages), Some(left), "{choice}");
        }
        assert_eq!(param(&of(choice, "web_search_20250305")).as_deref(), Some("tools"));
    }
    for choice in [
        r#""required""#,
        r#""any""#,
        r#"{"type":"any"}"#,
        r#"{"type":"web_search"}"#,
        r#"{"Type":"web_search"}"#,
        r#"["required"]"#,
        r#"{"type":"allowed_tools","allowed_tools":{"tools":[{"type":"web_search"}]}}"#,
    ] {
        assert_eq!(param(&of(choice, "web_search")).as_deref(), Some("tools"), "{choice}");
    }
}

/// OpenAI's servers keep each answer of the responses API unless they are told not to.
#[test]
fn an_answer_is_kept_nowhere_where_nothing_is_said_of_it() {
    for (request, sent) in [
        (r#"{"input":"x"}"#, Some(r#"{"store":false,"input":"x"}"#)),
        (" {\n\"input\" : 1} ", Some(" {\"store\":false,\n\"input\" : 1} ")),
        (
            r#"{"store":null,"input":"x","store" : null}"#,
            Some(r#"{"store":false,"input":"x","store" : false}"#),
        ),
        (
            r#"{"Store":false,"x":{"store":false}}"#,
            Some(r#"{"store":false,"Store":false,"x":{"store":false}}"#),
        ),
        (r#"{"st\u006fre":false}"#, None),
        (r#"{"store":false}"#, None),
    ] {
        assert_eq!(changed(request, Endpoint::Responses).as_deref(), sent);
    }
    assert_eq!(changed(r#"{"messages":[]}"#, Endpoint::ChatCompletions), None);
}

#[test]
fn honest_requests_of_other_servers_pass() {
    for good in [
        r#"{"query":"q","documents":[{"text":"t","source_url":"https://x","path":"/a/b","tools":"saw","store":1}]}"#,
        r#"{"messages":[],"guided_json":{"examples":[{"url":"http://x"}]}}"#,
        r#"{"messages":[],"structured_outputs":{"json":{"examples":[{"url":"http://x"}]}}}"#,
        r#"{"messages":[],"json_schema":{"const":{"image":"/a/b"}}}"#,
        r#"{"prompt":{"prompt_string":"x","multimodal_data":["aGk="]},"id_slot":-1}"#,
        r#"{"prompt":[{"prompt_string":"x"},"y",[1,2]]}"#,
        r#"{"messages":[{"role":"assistant","content":"x","search_results":[{"url":"https://x"}]}]}"#,
        r#"{"metadata":{"user_id":"x","url":"http://x","store":"yes"}}"#,
        r#"{"modality":"text","input":["http://x"]}"#,
        r#"{"models":[],"fallbacks":null,"features":false,"enable_search":false}"#,
        r#"{"extra_body":{"google":{"thinking_config":{"include_thoughts":true}},"guided_json":{"url":"http://x"}}}"#,
        r#"{"min_p":0.1,"top_k":20,"chat_template_kwargs":{"enable_thinking":false},"cache_prompt":true,"priority":1}"#,
    ] {
        assert_eq!(param(good), None, "{good}");
        assert_eq!(changed(good, Endpoint::ChatCompletions), None, "{good}");
    }
    // Documents may have pictures.
    for bad in [
        r#"{"documents":[{"image":"http://x"}]}"#,
        r#"{"documents":[{"image_url":"http://x"}]}"#,
        r#"{"documents":{"content":[{"type":"image_url","image_url":{"url":"http://x"}}]}}"#,
    ] {
        assert_eq!(param(bad).as_deref(), Some("documents"), "{bad}");
    }
}

/// An object in a list is no arguments of a call.
#[test]
fn a_list_under_input_is_looked_at() {
    let of = |input: &str| part(&format!(r#"{{"type":"tool_use","input":{input}}}"#));
    assert_eq!(param(&of(r#"{"image_url":"http://x"}"#)), None);
    assert!(param(&of(r#"[{"image_url":"http://x"}]"#)).is_some());
}

/// Only what every server takes for arguments or schemas is let pass unseen.
#[test]
fn what_is_free_is_so_in_small_letters_alone() {
    for name in ["INPUT", "Arguments", "Schema", "\u{17f}chema", r"\u017fchema", "inputSchema"] {
        let of = |name: &str| part(&format!(r#"{{"type":"tool_use","{name}":{{"image_url":"http://x"}}}}"#));
        assert!(param(&of(name)).is_some(), "{name}");
        assert_eq!(param(&of(r"\u0069nput")), None);
    }
    assert_eq!(param(r#"{"Documents":[{"url":"http://x"}]}"#).as_deref(), Some("Documents"));
    assert_eq!(param(r#"{"Metadata":{"url":"http://x"}}"#).as_deref(), Some("Metadata"));
}

/// `value` with its keys in other letters: capitals where `how` has a bit, and the two that fold from outside ASCII.
fn in_other_letters(value: Value, how: &mut u64) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| in_other_letters(item, how)).collect(),
        Value::Object(members) => {
            let other = |letter: char, how: &mut u64| {
                *how = how.rotate_left(1);
                match letter {
                    _ if *how & 1 == 0 => letter,
                    's' if *how & 2 == 0 => '\u{17f}',
                    'k' if *how & 2 == 0 => '\u{212a}',
                    letter => letter.to_ascii_uppercase(),
                }
            };
            let members = members.into_iter().map(|(key, value)| {
                let key: String = key.chars().map(|letter| other(letter, how)).collect();
                (key, in_other_letters(value, how))
            });
            Value::Object(members.collect())
        }
        value => value,
    }
}

proptest! {
    /// What is refused in small letters is refused in any.
    #[test]
    fn a_request_asks_for_the_same_in_whatever_letters_its_keys_are(
        value in any_json(), root in prop::sample::select(vec!["messages", "input", "tools", "prompt", "store", "x"]), how in any::<u64>()
    ) {
        let request = json!({ root: [ { "content": value } ], "store": value });
        let other = in_other_letters(request.clone(), &mut { how });
        if param(&request.to_string()).is_some() {
            prop_assert!(param(&other.to_string()).is_some(), "{other}");
        }
    }
}
