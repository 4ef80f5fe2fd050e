//! The tools of a Responses request as functions.

use std::borrow::Cow;
use std::fmt::Write;

use super::super::json::Json;
use super::super::tools::{OriginalTool, ToolNames, function, only};
use super::super::{InvalidRequest, invalid, shown};

/// The function that stands for the tool `local_shell`.
pub(super) const LOCAL_SHELL: &str = "local_shell";
const LOCAL_SHELL_PARAMETERS: &str = r#"{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"}},"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"}},"required":["command"]}"#;

/// Tools that run at OpenAI and that agents offer with every request, whether they are needed or not (Codex). They are
/// left out while the model has other tools and the choice.
const OPTIONAL: [&str; 3] = ["web_search", "tool_search", "image_generation"];

/// Longest name of a function.
const MAX_NAME: usize = 64;

/// What the model is offered.
#[derive(Debug, Default)]
pub(super) struct OfferedTools<'a> {
    functions: Vec<(String, Json<'a>)>,
    renamed: ToolNames,
    choice: Option<Json<'a>>,
    is_parallel: Option<Json<'a>>,
}

impl<'a> OfferedTools<'a> {
    pub(super) fn read(asked: &Json<'a>) -> Result<Self, InvalidRequest> {
        let mut offer = Self { is_parallel: asked.get("parallel_tool_calls").cloned(), ..Self::default() };
        let mut left_out = None;
        for tool in asked.get("tools").map(Json::items).unwrap_or_default() {
            offer.add(tool, "", &mut left_out)?;
        }
        let choice = asked.get("tool_choice");
        let has_choice = choice.is_none_or(|choice| matches!(choice.fragment(), Some("auto" | "none")));
        if let Some(kind) = left_out.filter(|_| offer.functions.is_empty() || !has_choice) {
            return Err(no_tool(&kind));
        }
        if let Some(choice) = choice {
            offer.choose(choice)?;
        }
        Ok(offer)
    }

    /// Puts them into the request; what they are called else is for the answer.
    pub(super) fn put(self, out: &mut Json<'a>) -> ToolNames {
        if !self.functions.is_empty() {
            out.put("tools", Json::Array(self.functions.into_iter().map(|(_, function)| function).collect()));
            for (key, value) in [("tool_choice", self.choice), ("parallel_tool_calls", self.is_parallel)] {
                if let Some(value) = value {
                    out.put(key, value);
                }
            }
        }
        self.renamed
    }

    fn add(
        &mut self,
        tool: &Json<'a>,
        namespace: &str,
        left_out: &mut Option<String>,
    ) -> Result<(), InvalidRequest> {
        let kind = tool.get_str("type").unwrap_or_default();
        let get = |key: &str| tool.get(key).cloned();
        let name = flat_name(namespace, tool.get_fragment("name"));
        match &*kind {
            "function" => {
                // The shape of chat completions is understood, too.
                let inner = tool.get("function").unwrap_or(tool);
                let get = |key: &str| inner.get(key).cloned();
                let name = flat_name(namespace, inner.get_fragment("name"));
                let made = function(&name, get("description"), get("parameters"), get("strict"));
                if !namespace.is_empty() {
                    let known = OriginalTool::Namespaced {
                        namespace: namespace.into(),
                        name: inner.get_fragment("name").into(),
                    };
                    self.renamed.add(name.clone().into_owned(), known);
                }
                self.functions.push((name.into_owned(), made));
            }
            "custom" => {
                let made = function(&name, Some(free_text(tool)), Some(Json::raw(FREE_TEXT)), None);
                self.renamed.add(name.clone().into_owned(), OriginalTool::Custom);
                self.functions.push((name.into_owned(), made));
            }
            "namespace" => {
                for inner in tool.get("tools").map(Json::items).unwrap_or_default() {
                    self.add(inner, tool.get_fragment("name"), left_out)?;
                }
            }
            "local_shell" => {
                let about =
                    get("description").unwrap_or_else(|| "Runs a command in the user's shell.".into());
                let made = function(LOCAL_SHELL, Some(about), Some(Json::raw(LOCAL_SHELL_PARAMETERS)), None);
                self.renamed.add(LOCAL_SHELL.to_owned(), OriginalTool::LocalShell);
                self.functions.push((LOCAL_SHELL.to_owned(), made));
            }
            other if OPTIONAL.iter().any(|optional| other.starts_with(optional)) => {
                left_out.get_or_insert_with(|| other.to_owned());
            }
            other => return Err(no_tool(other)),
        }
        Ok(())
    }

    fn choose(&mut self, choice: &Json<'a>) -> Result<(), InvalidRequest> {
        if choice.is_string() {
            self.choice = Some(choice.clone());
            return Ok(());
        }
        let kind = choice.get_str("type").unwrap_or_default();
        let named = |choice: &Json<'_>| {
            let name = choice.get("function").unwrap_or(choice).get_fragment("name");
            flat_name(choice.get_fragment("namespace"), name).into_owned()
        };
        match &*kind {
            "function" | "custom" => self.choice = Some(only(&named(choice))),
            LOCAL_SHELL => self.choice = Some(only(LOCAL_SHELL)),
            "allowed_tools" => {
                let allowed: Vec<String> =
                    choice.get("tools").map(Json::items).unwrap_or_default().iter().map(named).collect();
                self.functions.retain(|(name, _)| allowed.contains(name));
                self.choice = choice.get("mode").cloned();
            }
            other => return Err(no_tool(other)),
        }
        Ok(())
    }
}

/// Parameters of a function that stands for a tool of free text.
const FREE_TEXT: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// The description of a tool of free text, with the grammar that its server would enforce.
fn free_text(tool: &Json<'_>) -> Json<'static> {
    let mut text = tool.get_fragment("description").to_owned();
    if !text.is_empty() {
        text.push_str(r"\n\n");
    }
    text.push_str("The argument `input` holds the whole text of the call.");
    if let Some(format) = tool.get("format").filter(|format| format.get_fragment("type") == "grammar") {
        let syntax = format.get_fragment("syntax");
        let grammar = format.get_fragment("definition");
        let _ = write!(text, r" It must match this {syntax} grammar:\n{grammar}");
    }
    Json::from_fragment(&text)
}

/// The one name of a function in a namespace, within what servers accept; all escaped.
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
