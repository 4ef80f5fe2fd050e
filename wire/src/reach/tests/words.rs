//! The words of each API, and how they are written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::known::known;
use super::super::words::{Name, Within, Word};
use super::{Reach, any_json, changed, param, part};
use crate::json::quote;
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
        r#"{"type":"image","data":"/etc/passwd"}"#,
        r#"{"data":"http://x","type":"input_audio"}"#,
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

/// Under whatever name: what is in a file, or beside a message, and is an address or a path, is one to fetch from.
#[test]
fn no_file_says_where_it_is_under_any_name() {
    for place in [
        "http://169.254.169.254/x",
        "s3://x/y",
        "file:/etc/passwd",
        "//nas/x",
        "/etc/passwd",
        "~/x",
        r"C:\\x",
        r"\u0068ttp:\/\/x",
        r"\n /etc/passwd",
        r"\\\\10.0.0.9\\x",
    ] {
        for kind in
            ["image", "image_path", "audio_file", "pdf", "document", "file", "file_path", "media", "PDF"]
        {
            for name in
                ["src", "link", "location", "image_path", "file_path", "pdf", "document", "href", "Unheard"]
            {
                for bad in [
                    format!(r#"{{"{name}":"{place}","type":"{kind}"}}"#),
                    format!(r#"{{"type":"{kind}","{name}":["{place}"]}}"#),
                    format!(r#"{{"type":"{kind}","x":{{"y":[{{"{name}":"{place}"}}]}}}}"#),
                    format!(r#"{{"type":"text","type":"{kind}","type":"x","{name}":"{place}"}}"#),
                ] {
                    assert_eq!(param(&part(&bad)).as_deref(), Some("messages"), "{bad}");
                }
                let attached = format!(
                    r#"{{"messages":[{{"role":"user","content":"x","attachments":[{{"{name}":"{place}"}}]}}]}}"#
                );
                assert_eq!(param(&attached).as_deref(), Some("messages"), "{attached}");
            }
            for name in ["text", "title", "context", "name", "file_name", "filename", "revised_prompt"] {
                let good = format!(r#"{{"type":"{kind}","{name}":"{place}","x":{{"{name}":"{place}"}}}}"#);
                assert_eq!(param(&part(&good)), None, "{good}");
            }
        }
        for attached in [format!(r#"["{place}"]"#), format!(r#""{place}""#), format!(r#"{{"x":"{place}"}}"#)]
        {
            let bad = format!(r#"{{"messages":[{{"content":"x","attachments":{attached}}}]}}"#);
            assert!(param(&bad).is_some(), "{bad}");
        }
        for good in [
            format!(r#"{{"type":"text","src":"{place}"}}"#),
            format!(r#"{{"type":"tool_result","content":"{place}","cwd":"{place}"}}"#),
            format!(
                r#"{{"type":"document","source":{{"type":"text","data":"{place}"}},"context":"{place}"}}"#
            ),
            format!(
                r#"{{"type":"document","source":{{"type":"content","content":[{{"type":"text","text":"{place}"}}]}}}}"#
            ),
        ] {
            assert_eq!(param(&part(&good)), None, "{good}");
        }
        let documents = format!(
            r#"{{"documents":[{{"type":"pdf","text":"t","path":"{place}","src":"{place}","attachments":["{place}"]}}]}}"#
        );
        assert_eq!(param(&documents), None, "{documents}");
    }
    for good in [
        r#"{"type":"image","src":"data:image/png;base64,AA","format":"image/png","detail":"high/low"}"#,
        r#"{"type":"file","file":{"filename":"/home/a/b.pdf","file_data":"data:application/pdf;base64,AA"}}"#,
        r#"{"type":"image","image_embeds":"/9j/4AAQ","media_type":"image/jpeg","x":"a: b"}"#,
    ] {
        assert_eq!(param(&part(good)), None, "{good}");
    }
}

/// Each of them was seen to pass to a backend that acts on it.
#[test]
fn what_servers_know_beside_the_apis_is_found() {
    for (bad, at) in [
        (r#"{"metadata":{"mcp_servers":"fs,shell"}}"#, "metadata"),
        (r#"{"fallbacks":["other"]}"#, "fallbacks"),
        (r#"{"mock_testing_fallbacks":true}"#, "mock_testing_fallbacks"),
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
        (r#"{"metadata":{"localai_assistant":"true"}}"#, "metadata"),
        (r#"{"Metadata":{"LocalAI_Assistant":"true"}}"#, "Metadata"),
        (r#"{"metadata":{"mcp_resources":"file:///etc/passwd"}}"#, "metadata"),
        (r#"{"metadata":{"mcp_prompt":"p"}}"#, "metadata"),
        (r#"{"metadata":{"disable_global_guardrails":true}}"#, "metadata"),
        (r#"{"metadata":{"x_MCP_x":"p"}}"#, "metadata"),
        (r#"{"metadata":{"an_assistant":true}}"#, "metadata"),
        (r#"{"metadata":{"tags":["gold"]}}"#, "metadata"),
        (r#"{"metadata":{"user_id":{"x":1}}}"#, "metadata"),
        (r#"{"metadata":{"tools":[{"type":"function","name":"f"}]}}"#, "metadata"),
        (r#"{"metadata":{"schema":{"x":1}}}"#, "metadata"),
        (r#"{"metadata":["x"]}"#, "metadata"),
        (r#"{"Metadata":{"user_id":{"x":1}}}"#, "Metadata"),
        (r#"{"client_metadata":{"mcp_prompt":"p"}}"#, "client_metadata"),
        (r#"{"deferred":true}"#, "deferred"),
        (r#"{"backend":"x"}"#, "backend"),
        (
            r#"{"api_key":"x","user_config":{"model_list":[{"model_name":"m","litellm_params":{"model":"openai/gpt-5"}}]}}"#,
            "api_key",
        ),
        (r#"{"user_config":{"model_list":[]}}"#, "user_config"),
        (r#"{"router_settings_override":{"fallbacks":[{"m":["gpt-5"]}]}}"#, "router_settings_override"),
        (r#"{"custom_llm_provider":"deepseek"}"#, "custom_llm_provider"),
        (r#"{"specific_deployment":true}"#, "specific_deployment"),
        (r#"{"model_info":{"id":"1"}}"#, "model_info"),
        (r#"{"litellm_params":{"preset_cache_key":"k"}}"#, "litellm_params"),
        (r#"{"mock_response":"litellm.RateLimitError"}"#, "mock_response"),
        (r#"{"mock_testing_content_policy_fallbacks":true}"#, "mock_testing_content_policy_fallbacks"),
        (r#"{"aws_web_identity_token":"oidc/file//etc/passwd"}"#, "aws_web_identity_token"),
        (r#"{"vertex_credentials":"/etc/passwd"}"#, "vertex_credentials"),
        (r#"{"azure_ad_token":"os.environ/KEY"}"#, "azure_ad_token"),
        (r#"{"langfuse_host":"10.0.0.9","success_callback":["langfuse"]}"#, "langfuse_host"),
        (r#"{"callbacks":["x"]}"#, "callbacks"),
        (r#"{"guardrails":["none"]}"#, "guardrails"),
        (r#"{"extra_headers":{"x":"y"}}"#, "extra_headers"),
        (r#"{"prompt_id":"p"}"#, "prompt_id"),
        (r#"{"adapter_id":"s3/x"}"#, "adapter_id"),
        (r#"{"lora":[{"id":1,"scale":1.0}]}"#, "lora"),
        (r#"{"vllm_xargs":{"kv_transfer_params":"x"}}"#, "vllm_xargs"),
        (r#"{"bootstrap_room":7}"#, "bootstrap_room"),
        (r#"{"rid":"1"}"#, "rid"),
        (r#"{"request_id":"___prefill_addr_10.0.0.9:1"}"#, "request_id"),
        (r#"{"multi_modal_uuids":{"image":["x"]}}"#, "multi_modal_uuids"),
        (r#"{"chat_template":"{% for a in b %}"}"#, "chat_template"),
        (r#"{"chat_template_kwargs":{"chat_template":"x"}}"#, "chat_template_kwargs"),
        (r#"{"ttl":1}"#, "ttl"),
        (r#"{"ttl":-1}"#, "ttl"),
        (r#"{"message_ids":[{"model_id":"other","message_id":"m1"}]}"#, "message_ids"),
        (r#"{"chat_id":"c","parent_id":null,"user_message":{"a":1}}"#, "chat_id"),
        (r#"{"filter_ids":["f"]}"#, "filter_ids"),
    ] {
        assert_eq!(param(bad).as_deref(), Some(at), "{bad}");
    }
    for value in ["1", r#""true""#, r#""on""#, r#""false""#, "[true]", "{}", "{\"a\":1}", "true", "[]"] {
        for key in ["store", "background", "Store", "enable_search"] {
            assert!(param(&format!(r#"{{"{key}":{value}}}"#)).is_some(), "{key} {value}");
        }
    }
}

/// What no API has is a server's own, and may be anything: others' requests go on without it.
#[test]
fn a_member_that_no_api_has_is_left_out() {
    let long = "é".repeat(65);
    for value in [
        "1",
        "-1.5e9",
        "true",
        "null",
        "[]",
        "{}",
        r#""""#,
        r#""a word""#,
        r#"{"a":1}"#,
        "[[]]",
        r#"{"mcp_servers":["x"],"tools":[{"type":"mcp"}],"image_url":"http://x"}"#,
        r#"[{"model":"openai/x","api_base":"http://10.0.0.9"}]"#,
        r#""http://x""#,
        r#""C:\\x""#,
        r#""\u0068ttp\u003a""#,
        &format!("\"{long}\""),
    ] {
        for key in [
            "unheard",
            "Unheard",
            "un_heard",
            "",
            "parameters",
            "function",
            "schema",
            "type",
            "source",
            "path",
            "data",
            "a_name_that_is_longer_than_any_word_that_is_known_here",
            "é",
            // Another sign than `_` in a name makes it another one.
            "top-k",
            "max.tokens",
            "temperature ",
            "no-log",
        ] {
            let request = format!(r#"{{"messages":[],"{key}":{value}}}"#);
            assert_eq!(sent(&request), r#"{"messages":[]}"#, "{request}");
            for within in ["extra_body", "vllm_xargs"] {
                let request = format!(r#"{{"{within}":{{"{key}":{value},"seed":1}}}}"#);
                assert_eq!(sent(&request), format!(r#"{{"{within}":{{"seed":1}}}}"#), "{request}");
            }
        }
        // What names a picture, a file or an address is no more left out than it is sent, unless nothing is there.
        for key in ["second_image_url", "file_ids", "input_video"] {
            let request = format!(r#"{{"messages":[],"{key}":{value}}}"#);
            if value.len() > 2 && (value.starts_with('"') || value.starts_with(['[', '{'])) {
                assert_eq!(param(&request).as_deref(), Some(key), "{request}");
            } else {
                assert_eq!(sent(&request), r#"{"messages":[]}"#, "{request}");
            }
        }
        // Below it is nobody's configuration.
        let below = part(&format!(r#"{{"type":"text","text":"x","unheard":{value}}}"#));
        if !value.contains("mcp") && !value.contains("api_base") {
            assert_eq!(sent(&below), below);
        }
    }
    // Each of them was seen to steer a gateway or a server, or could.
    for unheard in [
        r#""deployment_id":"expensive-o3""#,
        r#""cache_key":"5f""#,
        r#""cache-key":"5f""#,
        r#""no-log":true"#,
        r#""no_log":true"#,
        r#""organization":"o""#,
        r#""api_version":"2024-10-21""#,
        r#""num_retries":30"#,
        r#""keep_alive":0"#,
        r#""adapter_path":"x""#,
        r#""lora_name":"x""#,
        r#""character":"Bob""#,
        r#""instruction_template":"Alpaca""#,
        r#""enable_web_search":true"#,
        r#""model_path":"x""#,
        r#""fallback_model":"x""#,
        r#""agent":{"mcp":"x"}"#,
        r#""tags":["gold"]"#,
        r#""provider":{"order":["x"]}"#,
        r#""logits_processors":["os.system"]"#,
        r#""search_options":{"enable_source":true}"#,
        r#""rag":{"urls":["x"]}"#,
        r#""variables":{"a":"b"}"#,
        r#""speculative_config":{"model":"x"}"#,
        r#""model_id":"/models/other.gguf""#,
        r#""custom_params":{"x":1}"#,
        r#""thread":{"type":"continue","id":"t"}"#,
        // Nothing is asked for, so nothing is refused.
        r#""models":[],"fallbacks":null,"features":false,"enable_search":false"#,
        r#""params":{},"tool_ids":[],"files":[],"id_slot":-1,"lora":[]"#,
        r#""api_key":"","guardrails":[],"request_id":null,"chat_template":null,"ttl":null,"mock_response":null"#,
    ] {
        assert_eq!(sent(&format!("{{{unheard}}}")), "{}");
    }
}

/// What goes to another's backend.
fn sent(request: &str) -> String {
    changed(request, Endpoint::ChatCompletions).unwrap_or_else(|| request.to_owned())
}

/// Members that an API has.
fn any_known() -> impl Strategy<Value = String> {
    let known = [
        r#""messages":[{"role":"user","content":"http://x"}]"#,
        r#""model" : "org/m""#,
        r#""temperature":1.10"#,
        r#""diagnostics":{"previous_message_id":null}"#,
        r#""Top_K": null"#,
        r#""stop":["/"]"#,
        r#""thinking":{"type":"enabled","x":{"y":[1]}}"#,
        r#""extra_body":{}"#,
    ];
    prop::sample::select(known.map(str::to_owned).to_vec())
}

/// Whether a member of this name is neither an API's nor refused where it asks for something.
fn is_unheard(name: &str) -> bool {
    let name = Name::of(quote(name).as_bytes());
    let word = name.of_request();
    let is_refused = matches!(
        word,
        Word::Never | Word::NeverTrue | Word::Store | Word::Tools | Word::Choice | Word::Modality
    );
    !name.is_known() && !is_refused && !word.is_of_files()
}

/// A key of this name, with escapes where `how` has a bit.
fn written(name: &str, mut how: u64) -> String {
    let mut key = String::from("\"");
    for letter in name.chars() {
        how = how.rotate_left(1);
        if how & 1 == 1 {
            let mut units = [0; 2];
            key.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            let quoted = quote(&letter.to_string());
            key.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
    key + "\""
}

/// A member of any value that none has: of any name, and of one that is nearly an API's.
fn any_unknown() -> impl Strategy<Value = String> {
    let near =
        (prop::sample::select(known().collect::<Vec<_>>()), any::<prop::sample::Index>(), "[-. /\0a-zé]")
            .prop_map(|(name, at, more)| {
                let (before, behind) = name.split_at(at.index(name.len() + 1));
                format!("{before}{more}{behind}")
            });
    let heard_of = prop::sample::select(vec!["deployment_id", "cache_key", "no-log", "type", "source", ""]);
    let name = prop_oneof![near, heard_of.prop_map(str::to_owned), "\\PC{0,50}", "[a-z_]{1,12}"];
    let value = prop_oneof![any_json(), Just(json!("https://x/y")), "\\PC{0,90}".prop_map(Value::from)];
    (name.prop_filter("known", |name| is_unheard(name)), value, any::<bool>(), any::<u64>()).prop_map(
        |(name, value, spaced, how)| {
            let colon = if spaced { " : " } else { ":" };
            format!("{}{colon}{value}", written(&name, how))
        },
    )
}

/// A member of a name from the list, in other letters and with other `_`, that asks for nothing.
fn any_of_the_list() -> impl Strategy<Value = String> {
    let is_plain = |name: &&str| {
        let name = Name::of(quote(name).as_bytes());
        matches!(name.of_request(), Word::Any | Word::Free) && name.opens() == Within::Any
    };
    let name = prop::sample::select(known().filter(is_plain).collect::<Vec<_>>());
    let leaf = || {
        prop_oneof![Just(json!(null)), any::<i32>().prop_map(Value::from), "\\PC{0,20}".prop_map(Value::from)]
    };
    let value = prop_oneof![leaf(), prop::collection::vec(leaf(), 0..3).prop_map(Value::from)];
    (name, value, any::<u64>(), any::<u64>()).prop_map(|(name, value, how, mut other)| {
        let parted: String = name
            .chars()
            .flat_map(|letter| {
                other = other.rotate_left(2);
                let letter = if other & 1 == 1 { letter.to_ascii_uppercase() } else { letter };
                Some(letter).into_iter().chain((other & 6 == 6).then_some('_'))
            })
            .collect();
        format!("{}:{value}", written(&parted, how))
    })
}

/// Members, and those of them that are sent.
fn any_members() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let one = prop_oneof![any_known().prop_map(|it| (it, true)), any_unknown().prop_map(|it| (it, false))];
    prop::collection::vec(one, 0..8).prop_map(|members| {
        let kept = members.iter().filter(|(_, known)| *known).map(|(it, _)| it.clone()).collect();
        (members.into_iter().map(|(it, _)| it).collect(), kept)
    })
}

/// Joined with commas, in front of which, and behind which, stands this.
fn joined(members: &[String], space: &str) -> String {
    format!("{{{space}{}{space}}}", members.join(&format!("{space},{space}")))
}

proptest! {
    /// What the list has goes byte for byte, also in `extra_body`.
    #[test]
    fn what_the_list_has_goes_as_it_is(members in prop::collection::vec(any_of_the_list(), 0..6)) {
        let request = joined(&members, "");
        for request in [format!(r#"{{"extra_body":{request}}}"#), request] {
            prop_assert_eq!(changed(&request, Endpoint::ChatCompletions), None);
        }
    }

    /// Whatever a request has that no API has, and wherever: without it it is what it would have been, and goes.
    #[test]
    fn what_no_api_has_is_left_out_and_all_else_arrives(
        (all, kept) in any_members(), (more, more_kept) in any_members(), at in any::<prop::sample::Index>(),
        space in prop::sample::select(vec!["", " ", "\n\t"]), is_list in any::<bool>()
    ) {
        let nested = |members: &[String]| {
            let body = joined(members, space);
            format!(r#""extra_body":{}"#, if is_list { format!("[{body},{body}]") } else { body })
        };
        let (mut all, mut kept) = (all, kept);
        let at = at.index(all.len() + 1);
        let before = all[..at].iter().filter(|it| kept.contains(it)).count();
        all.insert(at, nested(&more));
        kept.insert(before, nested(&more_kept));
        let tree = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for endpoint in [Endpoint::Messages, Endpoint::Responses] {
            let (request, wanted) = (joined(&all, space), joined(&kept, space));
            let (now, then) = (changed(&request, endpoint).unwrap_or(request), changed(&wanted, endpoint).unwrap_or(wanted));
            prop_assert_eq!(tree(&now), tree(&then));
            let squeezed = |text: &str| text.replace([' ', '\n', '\t'], "");
            prop_assert_eq!(squeezed(&now), squeezed(&then));
            if space.is_empty() {
                prop_assert_eq!(now, then);
            }
        }
    }

    /// What is added to a request is its adder's word: only what its caller says is left out.
    #[test]
    fn what_an_agent_adds_stays((all, kept) in any_members(), (added, _) in any_members()) {
        let (asked, made) = (joined(&all, ""), joined(&[all.clone(), added.clone()].concat(), ""));
        let (asked, reach) = (Reach::of(&asked).unwrap(), Reach::of(&made).unwrap());
        prop_assert_eq!(reach.refused(&asked), None);
        let sent = reach.edits(&asked, &made, Endpoint::Messages).applied(&made);
        prop_assert_eq!(sent, joined(&[kept, added].concat(), ""));
    }
}

/// What is in `extra_body` is the request's, however often it is wrapped, and a list of such too.
#[test]
fn what_an_sdk_would_have_put_into_the_request_is_looked_at_as_if_it_had() {
    for bad in [
        r#"{"metadata":{"mcp_prompt":"p","localai_assistant":"true"}}"#,
        r#"{"metadata":{"tags":["gold"]}}"#,
        r#"{"prompt":{"id":"pmpt_1"}}"#,
        r#"{"input":[{"id":"msg_1"}]}"#,
        r#"{"user_config":{"model_list":[]}}"#,
        r#"{"fallbacks":["x"]}"#,
        r#"{"api_key":"k"}"#,
        r#"{"type":"url_citation","url":"http://10.0.0.1/"}"#,
        r#"{"tools":[{"type":"web_search"},{"type":"function","name":"f"}]}"#,
        r#"{"tools":[{"type":"function","name":"f"}],"tool_choice":"auto","store":true}"#,
        r#"{"webhook_url":"http://x"}"#,
    ] {
        let mut bad = bad.to_owned();
        assert!(param(&bad).is_some() || bad.contains("web_search"), "{bad}");
        for wrap in ["extra_body", "Extra_Body", "vllm_xargs", "extra_body"] {
            bad = format!(r#"{{"seed":1,"{wrap}":{bad},"top_k":1}}"#);
            assert!(param(&bad).is_some(), "{bad}");
        }
        let list = format!(r#"{{"extra_body":[{{"metadata":{{"a":"x"}},"prompt":"x"}},{bad}]}}"#);
        assert!(param(&list).is_some(), "{list}");
    }
    for good in [
        r#"{"metadata":{"a":"x"}}"#,
        r#"{"input":[{"role":"user","content":"x"}]}"#,
        r#"{"response_format":{"schema":{"url":"http://x"}}}"#,
        r#"{"prompt":"http://x"}"#,
    ] {
        let good = format!(
            r#"{{"extra_body":{good},"messages":[],"metadata":{{"a":"x"}},"input":[{{"role":"user"}}]}}"#
        );
        assert_eq!(sent(&good), good);
    }
}

/// All that the APIs' own SDKs can say, in one request each.
#[test]
fn what_the_apis_have_passes_in_whatever_shape_it_has() {
    for good in [
        // OpenAI.
        r#"{"model":"org/m","messages":[],"audio":{"format":"wav","voice":"alloy"},"frequency_penalty":0,"function_call":{"name":"f"},
            "functions":[{"name":"f","parameters":{}}],"logit_bias":{"50256":-100},"logprobs":true,"max_completion_tokens":1,
            "metadata":{"a":"http://x","n":1},"modalities":["text","audio"],"n":1,"parallel_tool_calls":true,
            "prediction":{"type":"content","content":"x"},"presence_penalty":0,"prompt_cache_key":"a:b/c","reasoning_effort":"low",
            "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}},"safety_identifier":"a:b","seed":1,
            "service_tier":"auto","stop":["\n\n","</s>"],"store":false,"stream":true,"stream_options":{"include_usage":true},
            "temperature":1,"tool_choice":{"type":"function","function":{"name":"f"}},"tools":[{"type":"function","function":{"name":"f"}}],
            "top_logprobs":1,"top_p":1,"user":"https://x/me","verbosity":"low"}"#,
        r#"{"prompt":[[1,2],[3]],"suffix":"a/b:c\n","best_of":1,"echo":true,"stop":"//","logit_bias":{"1":1},"logprobs":1}"#,
        r#"{"input":["a","b"],"dimensions":256,"encoding_format":"base64","user":"u"}"#,
        r#"{"input":[{"role":"user","content":"x"}],"instructions":"do: a/b\nc","include":["reasoning.encrypted_content"],"max_output_tokens":1,
            "max_tool_calls":1,"reasoning":{"effort":"low","summary":"auto"},"text":{"format":{"type":"json_schema","schema":{}},"verbosity":"low"},
            "tools":[],"tool_choice":"auto","truncation":"auto","context_management":[{"type":"compaction","compact_threshold":9}],
            "client_metadata":{"x-codex-installation-id":"a"},"prompt_cache_retention":"24h","stream_options":{"include_obfuscation":false}}"#,
        // Anthropic.
        r#"{"messages":[],"max_tokens":1,"system":[{"type":"text","text":"x"}],"stop_sequences":["a:/"],"thinking":{"type":"enabled","budget_tokens":9},
            "metadata":{"user_id":"{\"device_id\":\"5f\"}"},"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
            "output_config":{"effort":"high","format":{"type":"json_schema","schema":{}}},"cache_control":{"type":"ephemeral"},"top_k":1,
            "tool_choice":{"type":"auto"},"tools":[{"name":"f","input_schema":{}}],"anthropic_beta":["x-2025-01-01"],"anthropic_version":"vertex-2023-10-16"}"#,
        // vLLM, SGLang, llama.cpp, Ollama, TGI and others.
        r#"{"messages":[],"chat_template_kwargs":{"enable_thinking":false},"mm_processor_kwargs":{"a":1},"media_io_kwargs":{"video":{"num_frames":8}},
            "structured_outputs":{"regex":"a/b:c"},"guided_choice":["a","b"],"guided_regex":"^a/b:\\d$","guided_grammar":"root ::= x","stop_token_ids":[1],
            "allowed_token_ids":[1],"bad_words":["x"],"documents":[{"text":"t"}],"vllm_xargs":{"top_k":1},"min_p":0.1,"ignore_eos":true,
            "repetition_detection":{"max_pattern_size":2},"include_reasoning":true,"return_token_ids":true,"prompt_logprobs":1}"#,
        r#"{"messages":[],"regex":"a/b:","ebnf":"root ::= x","json_schema":{"type":"object"},"separate_reasoning":true,"stop_regex":["a/b"]}"#,
        r#"{"messages":[],"samplers":["top_k","min_p"],"dry_sequence_breakers":["\n",":"],"dry_multiplier":0.8,"grammar":"root ::= \"a\"","logit_bias":[[15043,1.0]],
            "grammar_triggers":[{"type":0,"value":"x"}],"preserved_tokens":["<x>"],"n_probs":1,"cache_prompt":true,"speculative.n_max":4,
            "reasoning_format":"none","reasoning_budget_message":"enough: stop.","timings_per_token":true,"response_fields":["content"],"mirostat":0}"#,
        r#"{"messages":[],"options":{"num_ctx":8192,"stop":["x"]},"format":{"type":"object"},"think":"high"}"#,
        r#"{"messages":[],"grammar":{"type":"json","value":{"a":1}},"guideline":"be: brief/short","tool_prompt":"these: tools"}"#,
        r#"{"messages":[],"thinking":{"type":"disabled"},"usage":{"include":true},"transforms":["middle-out"],"reasoning":{"effort":"low"},"enable_thinking":true,
            "random_seed":1,"safe_prompt":false,"prompt_mode":"reasoning"}"#,
        // Those that rank.
        r#"{"query":"what: a/b?","documents":["a","b"],"top_n":1,"return_documents":true,"rank_fields":["text"],"max_chunks_per_doc":9,"truncate":"END"}"#,
        r#"{"query":{"content":[{"type":"text","text":"x"}]},"texts":["a"],"raw_scores":true,"instruction":"rank: a/b"}"#,
        // Open WebUI's plain request, LangChain's, the Vercel AI SDK's.
        r#"{"stream":true,"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}}"#,
        r#"{"text_format":"{\"a\": /x/}","allowed_tools":["f"],"grammar_json_functions":{"oneOf":[]},"chat_template_args":{"enable_thinking":true},"embedding_type":["float"],"messages":[]}"#,
        r#"{"messages":[],"diagnostics":{"previous_message_id":"msg_1"}}"#,
        r#"{"messages":[{"content":"x","role":"user"}],"model":"m","n":1,"stream":false,"temperature":0.7,"stop":null,"tool_choice":"auto"}"#,
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}],"tools":[],"tool_choice":"auto","stream":true}"#,
    ] {
        assert_eq!(param(good), None, "{good}");
        assert_eq!(changed(good, Endpoint::ChatCompletions), None, "{good}");
    }
}

/// A picture by the name under which its server keeps it: another's, or one that another will ask for.
#[test]
fn what_a_server_keeps_of_a_picture_is_asked_for_and_replaced_by_nobody() {
    for bad in [
        r#"{"type":"image_url","image_url":null,"uuid":"https://intranet/secret.png"}"#,
        r#"{"uuid":"u","type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}"#,
        r#"{"image_url":{"url":"data:image/png;base64,AA"},"uuid":"u"}"#,
        r#"{"image_url":{"url":null,"uuid":"u"}}"#,
        r#"{"type":"input_audio","input_audio":{"data":"AA","format":"wav"},"uuid":"u"}"#,
        r#"{"type":"audio_url","audio_url":null,"\u0075uid":"u"}"#,
        r#"{"type":"video_url","UUID":"u"}"#,
        r#"{"type":"image_embeds","image_embeds":null,"uuid":"u"}"#,
        r#"{"audio_embeds":null,"uuid":"u"}"#,
        r#"{"type":"image_pil","image_pil":null,"uuid":7}"#,
        r#"{"type":"input_image","uuid":["u"]}"#,
    ] {
        assert_eq!(param(&part(bad)).as_deref(), Some("messages"), "{bad}");
        let item = format!(r#"{{"input":[{{"role":"user","content":[{bad}]}}]}}"#);
        assert_eq!(param(&item).as_deref(), Some("input"), "{bad}");
    }
    for good in [
        r#"{"type":"text","text":"x","uuid":"u"}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"},"uuid":null}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"},"uuid":""}"#,
        r#"{"type":"tool_use","id":"t","name":"f","input":{"uuid":"u","image":"x"},"uuid":"u"}"#,
    ] {
        assert_eq!(param(&part(good)), None, "{good}");
    }
    let ranked = r#"{"documents":[{"text":"t","uuid":"u","file_path":"/a/b"}]}"#;
    assert_eq!(param(ranked), None);
}

/// The type of a reference may be left out, and that of a picture that was made says where it is.
#[test]
fn an_item_that_says_nothing_but_its_id_is_one_that_a_server_keeps() {
    for bad in [
        r#"{"id":"msg_1"}"#,
        r#"{"id":"msg_1","type":null}"#,
        r#"{"type":null,"id":"msg_1","status":"completed","x":1}"#,
        r#"{"id":"msg_1","role":null,"content":null}"#,
        r#"{"type":"message","id":"msg_1","type":null}"#,
        r#"{"ID":"msg_1","type":7}"#,
        r#"{"type":"image_generation_call","id":"ig_1"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","status":"completed","result":null}"#,
        r#"{"type":"image_generation_call","id":"ig_1","quality":"low"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","content":"x","result":""}"#,
        r#"{"id":"msg_1","type":""}"#,
    ] {
        let request = format!(r#"{{"input":[{bad},{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(param(&request).as_deref(), Some("input"), "{bad}");
        assert_eq!(param(&format!(r#"{{"input":{bad}}}"#)).as_deref(), Some("input"), "{bad}");
        assert_eq!(param(&format!(r#"{{"messages":[{bad}]}}"#)), None, "{bad}");
    }
    for good in [
        r#"{"id":"msg_1","role":"assistant","content":"x"}"#,
        r#"{"id":"msg_1","content":[]}"#,
        r#"{"id":"","x":1}"#,
        r#"{"id":"1","text":"t"}"#,
        r#"{"id":"1","image":"data:,"}"#,
        r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
        r#"{"type":"web_search_call","id":"ws_1","status":"completed"}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{}"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","result":"AA"}"#,
        r#"{"role":"user","content":[{"id":"x"}]}"#,
    ] {
        assert_eq!(param(&format!(r#"{{"input":[{good}]}}"#)), None, "{good}");
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
        r#"{"options":{"tools":{"type":"web_search"}},"tools":[{"type":"function","name":"f"}]}"#,
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
            r#"{"Store":false,"options":{"store":false}}"#,
            Some(r#"{"store":false,"Store":false,"options":{"store":false}}"#),
        ),
        (r#"{"st\u006fre":false}"#, None),
        (r#"{"store":false}"#, None),
        // Servers that read what they do not know too take none of these for `store`.
        (r#"{"store_":false}"#, Some(r#"{"store":false,"store_":false}"#)),
        (r#"{"_store":false}"#, Some(r#"{"store":false,"_store":false}"#)),
        (r#"{"s_tore":null}"#, Some(r#"{"store":false,"s_tore":null}"#)),
        (r#"{"s\u005ftore":null,"store":null}"#, Some(r#"{"s\u005ftore":null,"store":false}"#)),
        // Where capitals do not count, the last one does.
        (r#"{"STORE":null}"#, Some(r#"{"store":false,"STORE":false}"#)),
        (r#"{"store":false,"Store":null}"#, Some(r#"{"store":false,"Store":false}"#)),
        (r#"{"store":false,"\u017ftore":null}"#, Some(r#"{"store":false,"\u017ftore":false}"#)),
        (
            r#"{"store":false,"extra_body":{"store":null}}"#,
            Some(r#"{"store":false,"extra_body":{"store":false}}"#),
        ),
        (r#"{"extra_body":{"store":false}}"#, Some(r#"{"store":false,"extra_body":{"store":false}}"#)),
        (r#"{"unheard":{"store":true}}"#, Some(r#"{"store":false}"#)),
        (r#"{"unheard":[1],"input":"x"}"#, Some(r#"{"store":false,"input":"x"}"#)),
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
        r#"{"prompt":{"prompt_string":"x","multimodal_data":["aGk="]}}"#,
        r#"{"prompt":[{"prompt_string":"x"},"y",[1,2]]}"#,
        r#"{"messages":[{"role":"assistant","content":"x","search_results":[{"url":"https://x"}]}]}"#,
        r#"{"metadata":{"user_id":"x","url":"http://x","store":"yes"}}"#,
        r#"{"modality":"text","input":["http://x"]}"#,
        r#"{"mcp_servers":[],"container":null,"background":false,"previous_response_id":null}"#,
        r#"{"extra_body":{"google":{"thinking_config":{"include_thoughts":true}},"guided_json":{"url":"http://x"}}}"#,
        r#"{"min_p":0.1,"top_k":20,"chat_template_kwargs":{"enable_thinking":false},"cache_prompt":true,"priority":1}"#,
        r#"{"cache_salt":"s","mm_processor_kwargs":{"num_crops":4},"media_io_kwargs":{"video":{"num_frames":8}},"grammar":"root ::= x","prompt_cache_key":"k","prompt_cache_retention":"24h","safety_identifier":"s","service_tier":"auto","user":"u","vllm_xargs":{"top_k":1},"n_cache_reuse":1,"chat_template_kwargs":{"documents":["x"]}}"#,
        r#"{"metadata":{"guard":"x","local":"x","chat_id":"c","request_id":"r","api_key":"k"}}"#,
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

/// Of a member that is given twice nobody knows which of them a server reads: neither frees what the other asks for.
#[test]
fn a_type_that_is_given_twice_frees_nothing() {
    for types in [["url_citation", "image_url"], ["url_citation", "x"]] {
        for [first, second] in [types, [types[1], types[0]]] {
            let twice = part(&format!(r#"{{"type":"{first}","type":"{second}","url":"http://x"}}"#));
            assert!(param(&twice).is_some(), "{twice}");
        }
    }
}

/// A letter may be written as an escape, in a name, in its `_` and in a type.
#[test]
fn what_is_written_in_escapes_is_what_it_says() {
    for (request, at) in [
        (r#"{"mcp\u005fservers":[{"type":"url"}]}"#, "mcp"),
        (r#"{"previous\u005fresponse\u005fid":"r"}"#, "previous"),
        (r#"{"input":[{"type":"item_r\u0065ference","id":"msg_1"}]}"#, "input"),
        (r#"{"input":[{"type":"inp\u0075t_im\u0061ge","source":"http://x"}]}"#, "input"),
    ] {
        assert_eq!(param(request).as_deref(), Some(at), "{request}");
    }
}

/// Where it is said that an answer is not kept, nothing is said of it again.
#[test]
fn what_is_said_of_keeping_is_not_said_twice() {
    for said in [r#"{"store":false,"input":"x"}"#, r#"{"input":"x","store":false}"#] {
        assert_eq!(changed(said, Endpoint::Responses), None, "{said}");
    }
}
