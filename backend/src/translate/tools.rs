//! Tools as functions of chat completions.

use std::collections::HashMap;

use super::json::Json;

/// A tool that chat completions has only as a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OriginalTool {
    /// A tool with free text: a function with one argument `input`.
    Custom,
    /// A function in a namespace; both names are escaped.
    Namespaced { namespace: String, name: String },
    /// The tool `local_shell`, whose arguments are an action.
    LocalShell,
}

/// The original tools, by the escaped names of their functions.
pub(super) type ToolNames = HashMap<String, OriginalTool>;

/// Returns the size of all names in bytes.
pub(super) fn size(tools: &ToolNames) -> usize {
    let originals = tools.iter().map(|(function, tool)| match tool {
        OriginalTool::Namespaced { namespace, name } => function.len() + namespace.len() + name.len(),
        OriginalTool::Custom | OriginalTool::LocalShell => function.len(),
    });
    originals.map(|names| names + size_of::<(String, OriginalTool)>()).sum()
}

/// Builds a function. Without parameters it gets an empty object of them, because templates expect one.
pub(super) fn function<'a>(
    name: &str,
    description: Option<Json<'a>>,
    parameters: Option<Json<'a>>,
    strict: Option<Json<'a>>,
) -> Json<'a> {
    let mut function = Json::object([("name", Json::from_fragment(name))]);
    function.put_some("description", description);
    function
        .put("parameters", parameters.unwrap_or_else(|| Json::raw(r#"{"type":"object","properties":{}}"#)));
    function.put_some("strict", strict);
    Json::object([("type", "function".into()), ("function", function)])
}

/// Builds the `tool_choice` that requires the function `name`.
pub(super) fn only(name: &str) -> Json<'static> {
    let function = Json::object([("name", Json::from_fragment(name))]);
    Json::object([("type", "function".into()), ("function", function)])
}
