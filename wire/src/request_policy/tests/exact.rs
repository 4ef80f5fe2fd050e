//! Names that are nearly known ones.

use super::{changed, param, sent};
use crate::task::Endpoint;

#[test]
fn a_near_miss_of_a_known_name_is_left_out() {
    for key in
        ["model_", "n_", "Stop", "STOP", r"\u017ftop", "s_top", "topk", "top__k", "Messages", "maxTokens"]
    {
        for value in ["1", "null", r#""x""#, "[]", r#"["x"]"#, r#"{"a":[1]}"#] {
            let request = format!(r#"{{"seed":1,"{key}":{value},"n":2}}"#);
            assert_eq!(sent(&request), r#"{"seed":1,"n":2}"#, "{request}");
            let nested = format!(r#"{{"extra_body":{{"{key}":{value},"n":2}}}}"#);
            assert_eq!(sent(&nested), r#"{"extra_body":{"n":2}}"#, "{nested}");
        }
    }
    // An escape is not another spelling.
    let escaped = r#"{"st\u006fp":"x","mod\u0065l":"m"}"#;
    assert_eq!(sent(escaped), escaped);
}

#[test]
fn a_near_miss_of_an_owner_only_name_is_refused() {
    for (request, at) in [
        (r#"{"MCP_Servers":["x"]}"#, "MCP_Servers"),
        (r#"{"mcpServers":["x"]}"#, "mcpServers"),
        (r#"{"S_tore":true}"#, "S_tore"),
        (r#"{"previousResponseId":"r"}"#, "previousResponseId"),
        (r#"{"Tools":[{"type":"mcp"}]}"#, "tools"),
        (r#"{"Tools":[{"type":"web_search"},{"type":"function","name":"f"}]}"#, "tools"),
        (r#"{"Input_Image":"http://x"}"#, "Input_Image"),
        (r#"{"Messages":[{"content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#, "Messages"),
        (r#"{"Options":{"mcp_servers":["x"]}}"#, "Options"),
    ] {
        assert_eq!(param(request).as_deref(), Some(at), "{request}");
    }
}

#[test]
fn edits_within_a_removed_member_are_dropped() {
    for (request, wanted) in [
        (r#"{"Extra_Body":{"unheard":1,"store":null,"n":1,"more":2},"seed":1}"#, r#"{"seed":1}"#),
        (r#"{"seed":1,"Extra_Body":[{"unheard":1},{"store":null}],"n":1}"#, r#"{"seed":1,"n":1}"#),
        (r#"{"Tools":[{"type":"function","name":"f"}],"Store":null}"#, "{}"),
    ] {
        assert_eq!(sent(request), wanted);
        let stored = changed(request, Endpoint::Responses).unwrap();
        let rest = &wanted[1..];
        let comma = if rest == "}" { "" } else { "," };
        assert_eq!(stored, format!(r#"{{"store":false{comma}{rest}"#));
    }
}

/// Ollama's `options` can also change how its server runs the model.
#[test]
fn options_keep_only_members_that_a_request_may_have() {
    let request = r#"{"options":{"num_ctx":8192,"num_gpu":99,"main_gpu":1,"stop":["x"],"num_keep":4,"num_thread":64,
        "use_mmap":false,"temperature":0.1,"num_batch":1,"Seed":1}}"#;
    let wanted = r#"{"options":{"num_ctx":8192,"stop":["x"],"num_keep":4,"temperature":0.1}}"#;
    assert_eq!(sent(request), wanted);
    assert_eq!(param(r#"{"options":{"api_key":"x"}}"#).as_deref(), Some("options"));
}

#[test]
fn template_variables_are_those_of_known_templates() {
    for key in ["chat_template_kwargs", "chat_template_args"] {
        let request = format!(
            r#"{{"{key}":{{"enable_thinking":false,"tokenize":true,"documents":["x"],"messages":[],"tools":[{{"type":"mcp"}}],
            "Thinking":true,"builtin_tools":["x"],"padding":"max_length","unheard":{{"a":1}},"reasoning_effort":"low","n":1}}}}"#
        );
        let wanted = format!(
            r#"{{"{key}":{{"enable_thinking":false,"documents":["x"],"builtin_tools":["x"],"reasoning_effort":"low"}}}}"#
        );
        assert_eq!(sent(&request), wanted);
    }
    for bad in [r#"{"chat_template":"x"}"#, r#"{"Chat_Template":"x"}"#, r#"{"image_url":"http://x"}"#] {
        let request = format!(r#"{{"chat_template_kwargs":[{bad}]}}"#);
        assert_eq!(param(&request).as_deref(), Some("chat_template_kwargs"), "{request}");
    }
}
