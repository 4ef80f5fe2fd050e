//! Translates the tools of a Responses request to functions.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use super::super::json::Json;
use super::super::tools::{OriginalTool, ToolNames, function, only};
use super::super::{InvalidRequest, invalid, shown};

/// Name of the function for the tool `local_shell`.
pub(super) const LOCAL_SHELL: &str = "local_shell";
const LOCAL_SHELL_PARAMETERS: &str = r#"{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"}},"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"}},"required":["command"]}"#;

/// Parameters of the function for a tool with free text.
const FREE_TEXT_PARAMETERS: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// Tools of OpenAI's servers that agents such as Codex offer with every request. They are left out if the model has other tools and may
/// choose.
const OPTIONAL: [&str; 3] = ["web_search", "tool_search", "image_generation"];

/// Maximum length of a function name in bytes.
const MAX_NAME: usize = 64;

#[derive(Debug, Default)]
struct OfferedTools<'a> {
    /// Functions by name, in order.
    functions: Vec<(String, Json<'a>)>,
    originals: ToolNames,
    /// Type of the first tool that was left out.
    left_out: Option<String>,
}

/// Writes the tools of `request` to the chat request `out`. Returns the tools that the answer must translate back.
pub(super) fn offer_tools<'a>(request: &Json<'a>, out: &mut Json<'a>) -> Result<ToolNames, InvalidRequest> {
    let mut offer = OfferedTools::default();
    for tool in request.get_items("tools") {
        offer.add(tool, "")?;
    }
    let choice = request.get("tool_choice");
    let may_choose = choice.is_none_or(|choice| matches!(choice.fragment(), Some("auto" | "none")));
    if let Some(kind) = offer.left_out.take().filter(|_| offer.functions.is_empty() || !may_choose) {
        return Err(no_tool(&kind));
    }
    let choice = choice.map(|choice| offer.choose(choice)).transpose()?.flatten();
    if !offer.functions.is_empty() {
        out.put("tools", Json::Array(offer.functions.into_iter().map(|(_, function)| function).collect()));
        out.put_some("tool_choice", choice);
        out.put_some("parallel_tool_calls", request.get("parallel_tool_calls").cloned());
    }
    Ok(offer.originals)
}

impl<'a> OfferedTools<'a> {
    fn add(&mut self, tool: &Json<'a>, namespace: &str) -> Result<(), InvalidRequest> {
        let kind = tool.get_str("type").unwrap_or_default();
        match &*kind {
            "function" => {
                // The format of chat completions has a member `function`.
                let tool = tool.get("function").unwrap_or(tool);
                let get = |key: &str| tool.get(key).cloned();
                let name = tool.get_fragment("name");
                let flat = flat_name(namespace, name);
                let function = function(&flat, get("description"), get("parameters"), get("strict"));
                let original = OriginalTool::Namespaced { namespace: namespace.into(), name: name.into() };
                self.put(&flat, function, Some(original).filter(|_| !namespace.is_empty()));
            }
            "custom" => {
                let name = flat_name(namespace, tool.get_fragment("name"));
                let parameters = Json::raw(FREE_TEXT_PARAMETERS);
                let function = function(&name, Some(free_text_description(tool)), Some(parameters), None);
                self.put(&name, function, Some(OriginalTool::Custom));
            }
            "namespace" => {
                for inner in tool.get_items("tools") {
                    self.add(inner, tool.get_fragment("name"))?;
                }
            }
            "local_shell" => {
                let description = tool.get("description").cloned();
                let description = description.unwrap_or_else(|| "Runs a command in the user's shell.".into());
                let parameters = Json::raw(LOCAL_SHELL_PARAMETERS);
                let function = function(LOCAL_SHELL, Some(description), Some(parameters), None);
                self.put(LOCAL_SHELL, function, Some(OriginalTool::LocalShell));
            }
            other if OPTIONAL.iter().any(|optional| other.starts_with(optional)) => {
                self.left_out.get_or_insert_with(|| other.to_owned());
            }
            other => return Err(no_tool(other)),
        }
        Ok(())
    }

    fn put(&mut self, name: &str, function: Json<'a>, original: Option<OriginalTool>) {
        if let Some(original) = original {
            self.originals.entry(name.to_owned()).or_insert(original);
        }
        self.functions.push((name.to_owned(), function));
    }

    /// Translates `tool_choice`, and removes the functions that it does not allow.
    fn choose(&mut self, choice: &Json<'a>) -> Result<Option<Json<'a>>, InvalidRequest> {
        if choice.is_string() {
            return Ok(Some(choice.clone()));
        }
        let name = |choice: &Json<'_>| {
            let name = choice.get("function").unwrap_or(choice).get_fragment("name");
            flat_name(choice.get_fragment("namespace"), name).into_owned()
        };
        match &*choice.get_str("type").unwrap_or_default() {
            "function" | "custom" => Ok(Some(only(&name(choice)))),
            LOCAL_SHELL => Ok(Some(only(LOCAL_SHELL))),
            "allowed_tools" => {
                let allowed: HashSet<String> = choice.get_items("tools").iter().map(name).collect();
                self.functions.retain(|(name, _)| allowed.contains(name));
                Ok(choice.get("mode").cloned())
            }
            other => Err(no_tool(other)),
        }
    }
}

/// Describes a tool with free text, including the grammar that OpenAI's server would enforce.
fn free_text_description(tool: &Json<'_>) -> Json<'static> {
    let mut text = tool.get_fragment("description").to_owned();
    if !text.is_empty() {
        text.push_str(r"\n\n");
    }
    text.push_str("The argument `input` holds the whole text of the call.");
    if let Some(format) = tool.get("format").filter(|format| format.get_fragment("type") == "grammar") {
        let (syntax, grammar) = (format.get_fragment("syntax"), format.get_fragment("definition"));
        let _ = write!(text, r" It must match this {syntax} grammar:\n{grammar}");
    }
    Json::from_fragment(&text)
}

/// Joins namespace and name, unless the result exceeds [`MAX_NAME`]; all are escaped.
pub(super) fn flat_name<'n>(namespace: &str, name: &'n str) -> Cow<'n, str> {
    if namespace.is_empty() {
        return Cow::Borrowed(name);
    }
    let between = if namespace.ends_with('_') { "" } else { "__" };
    let flat = format!("{namespace}{between}{name}");
    if flat.len() <= MAX_NAME { Cow::Owned(flat) } else { Cow::Borrowed(name) }
}

fn no_tool(kind: &str) -> InvalidRequest {
    invalid(format!("tools: this model has no tool of type '{}'", shown(kind)))
}
