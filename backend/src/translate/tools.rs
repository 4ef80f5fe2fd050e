//! Tools as functions of chat completions, and back.

use super::json::Json;

/// What the caller knows a function as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OriginalTool {
    /// A tool that takes free text: a function with the one argument `input`.
    Custom,
    /// A function in a namespace; both names escaped.
    Namespaced { namespace: String, name: String },
    /// `local_shell`, whose arguments are an action.
    LocalShell,
}

/// The functions that the caller knows as something else, by their (escaped) names in the chat.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolNames(Vec<(String, OriginalTool)>);

impl ToolNames {
    pub(super) fn add(&mut self, function: String, known: OriginalTool) {
        self.0.push((function, known));
    }

    pub(super) fn get(&self, function: &str) -> Option<&OriginalTool> {
        self.0.iter().find(|(name, _)| name == function).map(|(_, known)| known)
    }
}

/// A function of chat completions. A function without parameters has an empty object of them: templates expect one.
pub(super) fn function<'a>(
    name: &str,
    description: Option<Json<'a>>,
    parameters: Option<Json<'a>>,
    strict: Option<Json<'a>>,
) -> Json<'a> {
    let mut function = Json::object([("name", Json::from_fragment(name))]);
    if let Some(description) = description {
        function.put("description", description);
    }
    function
        .put("parameters", parameters.unwrap_or_else(|| Json::raw(r#"{"type":"object","properties":{}}"#)));
    if let Some(strict) = strict {
        function.put("strict", strict);
    }
    Json::object([("type", "function".into()), ("function", function)])
}

/// `tool_choice` for one function.
pub(super) fn only(name: &str) -> Json<'static> {
    let function = Json::object([("name", Json::from_fragment(name))]);
    Json::object([("type", "function".into()), ("function", function)])
}
