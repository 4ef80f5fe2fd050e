//! Members that no API defines.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::known::known;
use super::super::name::MemberName;
use super::super::roles::{MemberRole, Section, request_role};
use super::{PolicyReport, any_json, changed, content_part, param, sent};
use crate::json::quote;
use crate::task::Endpoint;

#[test]
fn a_member_that_no_api_defines_is_left_out() {
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
            "mm_processor_kwargs",
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
            // Only underscores are ignored in a name.
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
        // Members that name media, files or URLs are refused instead, unless they are empty.
        for key in ["second_image_url", "file_ids", "input_video"] {
            let request = format!(r#"{{"messages":[],"{key}":{value}}}"#);
            if value.len() > 2 && (value.starts_with('"') || value.starts_with(['[', '{'])) {
                assert_eq!(param(&request).as_deref(), Some(key), "{request}");
            } else {
                assert_eq!(sent(&request), r#"{"messages":[]}"#, "{request}");
            }
        }
        // Only members of the request itself are left out.
        let below = content_part(&format!(r#"{{"type":"text","text":"x","unheard":{value}}}"#));
        if !value.contains("mcp") && !value.contains("api_base") {
            assert_eq!(sent(&below), below);
        }
    }
    // Members that control a gateway or a server.
    for member in [
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
        // Owner-only members that request nothing.
        r#""models":[],"fallbacks":null,"features":false,"enable_search":false"#,
        r#""params":{},"tool_ids":[],"files":[],"id_slot":-1,"lora":[]"#,
        r#""api_key":"","guardrails":[],"request_id":null,"chat_template":null,"ttl":null,"mock_response":null"#,
    ] {
        assert_eq!(sent(&format!("{{{member}}}")), "{}");
    }
}

/// The row sets the model and the hub the form of the answer; some proxies let nested members override them.
#[test]
fn nested_members_override_neither_model_nor_stream() {
    for within in ["extra_body", "options", "vllm_xargs"] {
        for member in [
            r#""model":"x""#,
            r#""m\u006fdel":"x""#,
            r#""stream":true"#,
            r#""stream_options":{}"#,
            r#""Model":{"a":[1]}"#,
        ] {
            for (nested, kept) in [
                (format!("{{{member}}}"), "{}".to_owned()),
                (format!(r#"{{{member},"seed":1}}"#), r#"{"seed":1}"#.to_owned()),
                (
                    format!(r#"{{"extra_body":{{"seed":1,{member}}}}}"#),
                    r#"{"extra_body":{"seed":1}}"#.to_owned(),
                ),
                (format!(r#"[{{"seed":1,{member}}}]"#), r#"[{"seed":1}]"#.to_owned()),
            ] {
                let request = format!(r#"{{"model":"own","{within}":{nested},"stream":false}}"#);
                let expected = format!(r#"{{"model":"own","{within}":{kept},"stream":false}}"#);
                assert_eq!(sent(&request), expected, "{request}");
            }
        }
    }
}

/// A member that an API defines.
fn any_known() -> impl Strategy<Value = String> {
    let known = [
        r#""messages":[{"role":"user","content":"http://x"}]"#,
        r#""model" : "org/m""#,
        r#""temperature":1.10"#,
        r#""diagnostics":{"previous_message_id":null}"#,
        r#""top_k": null"#,
        r#""stop":["/"]"#,
        r#""thinking":{"type":"enabled","x":{"y":[1]}}"#,
        r#""extra_body":{}"#,
    ];
    prop::sample::select(known.map(str::to_owned).to_vec())
}

/// Whether a member of this name is neither known nor ever refused.
fn is_left_out(name: &str) -> bool {
    let name = MemberName::of(quote(name).as_bytes());
    let role = request_role(&name);
    let is_refused = matches!(
        role,
        MemberRole::OwnerOnly
            | MemberRole::OwnerOnlyFlag
            | MemberRole::Store
            | MemberRole::Tools
            | MemberRole::ToolChoice
            | MemberRole::Modality
    );
    !name.is_nearly_known() && !is_refused && !role.is_media()
}

/// The key `name` in quotes, with a letter escaped for every bit of `how`.
fn quoted_key(name: &str, mut how: u64) -> String {
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

/// A member that no API defines, with any name, or with nearly a known one.
fn any_unknown() -> impl Strategy<Value = String> {
    let near =
        (prop::sample::select(known().collect::<Vec<_>>()), any::<prop::sample::Index>(), "[-. /\0a-zé]")
            .prop_map(|(name, at, more)| {
                let (before, behind) = name.split_at(at.index(name.len() + 1));
                format!("{before}{more}{behind}")
            });
    let seen = prop::sample::select(vec!["deployment_id", "cache_key", "no-log", "type", "source", ""]);
    let name = prop_oneof![near, seen.prop_map(str::to_owned), "\\PC{0,50}", "[a-z_]{1,12}"];
    let value = prop_oneof![any_json(), Just(json!("https://x/y")), "\\PC{0,90}".prop_map(Value::from)];
    (name.prop_filter("known", |name| is_left_out(name)), value, any::<bool>(), any::<u64>()).prop_map(
        |(name, value, spaced, how)| {
            let colon = if spaced { " : " } else { ":" };
            format!("{}{colon}{value}", quoted_key(&name, how))
        },
    )
}

/// The members that nested objects may not override.
const OVERRIDES: [&str; 3] = ["model", "stream", "stream_options"];

/// A known member without a role.
fn any_plain_known() -> impl Strategy<Value = String> {
    let is_plain = |name: &&str| {
        let of = MemberName::of(quote(name).as_bytes());
        matches!(request_role(&of), MemberRole::Plain | MemberRole::Opaque)
            && Section::of(&of) == Section::Other
            && !OVERRIDES.contains(name)
    };
    let name = prop::sample::select(known().filter(is_plain).collect::<Vec<_>>());
    let leaf = || {
        prop_oneof![Just(json!(null)), any::<i32>().prop_map(Value::from), "\\PC{0,20}".prop_map(Value::from)]
    };
    let value = prop_oneof![leaf(), prop::collection::vec(leaf(), 0..3).prop_map(Value::from)];
    (name, value, any::<u64>()).prop_map(|(name, value, how)| format!("{}:{value}", quoted_key(name, how)))
}

/// Members, and those of them that are known.
fn any_members() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let one = prop_oneof![any_known().prop_map(|it| (it, true)), any_unknown().prop_map(|it| (it, false))];
    prop::collection::vec(one, 0..8).prop_map(|members| {
        let kept = members.iter().filter(|(_, known)| *known).map(|(it, _)| it.clone()).collect();
        (members.into_iter().map(|(it, _)| it).collect(), kept)
    })
}

/// An object of these members, with `space` around each.
fn joined(members: &[String], space: &str) -> String {
    format!("{{{space}{}{space}}}", members.join(&format!("{space},{space}")))
}

proptest! {
    /// The same holds in an `extra_body`.
    #[test]
    fn a_plain_known_member_is_sent_unchanged(members in prop::collection::vec(any_plain_known(), 0..6)) {
        let request = joined(&members, "");
        for request in [format!(r#"{{"extra_body":{request}}}"#), request] {
            prop_assert_eq!(changed(&request, Endpoint::ChatCompletions), None);
        }
    }

    #[test]
    fn a_request_is_sent_as_if_it_had_no_unknown_members(
        (all, kept) in any_members(), (more, mut more_kept) in any_members(), at in any::<prop::sample::Index>(),
        space in prop::sample::select(vec!["", " ", "\n\t"]), is_list in any::<bool>()
    ) {
        let nested = |members: &[String]| {
            let body = joined(members, space);
            format!(r#""extra_body":{}"#, if is_list { format!("[{body},{body}]") } else { body })
        };
        more_kept.retain(|member| !member.starts_with(r#""model""#));
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

    #[test]
    fn unknown_members_that_an_agent_adds_are_kept((all, kept) in any_members(), (added, _) in any_members()) {
        let (asked, made) = (joined(&all, ""), joined(&[all.clone(), added.clone()].concat(), ""));
        let (original, report) = (PolicyReport::of(&asked).unwrap(), PolicyReport::of(&made).unwrap());
        prop_assert_eq!(report.refusal(&original), None);
        let sent = report.edits(&original, &made, Endpoint::Messages).applied(&made);
        prop_assert_eq!(sent, joined(&[kept, added].concat(), ""));
    }
}
