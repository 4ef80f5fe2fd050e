//! Tools of the caller and of the server.

use super::{changed, param};
use crate::task::Endpoint;

/// Codex sends a web search tool with every request.
#[test]
fn a_dispensable_tool_is_left_out_and_the_rest_is_unchanged() {
    let request = r#"{"top_p":1.10, "tools" : [ {"type":"web_search","x":[1]}, {"type":"function","name":"f"} ,{"type":"image_generation"},{"name":"g","input_schema":{}}], "tool_choice":"auto"}"#;
    assert_eq!(
        changed(request, Endpoint::Messages).unwrap(),
        r#"{"top_p":1.10, "tools" : [{"type":"function","name":"f"},{"name":"g","input_schema":{}}], "tool_choice":"auto"}"#
    );
}

#[test]
fn a_tool_runs_at_the_caller_only_if_all_its_members_agree() {
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

#[test]
fn a_search_is_left_out_unless_the_tool_choice_forces_it() {
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
