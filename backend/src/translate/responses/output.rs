//! Builds output items from the blocks of an answer.

use super::super::Context;
use super::super::blocks::AnswerBlock;
use super::super::chunk::{BlockKind, arguments};
use super::super::json::Json;
use super::super::tools::OriginalTool;
use super::free_text::free_text;

/// The kind of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind<'a> {
    /// Reasoning, and the member in which the backend sends it.
    Reasoning(&'static str),
    Text,
    Refusal,
    Function,
    Namespaced {
        namespace: &'a str,
        name: &'a str,
    },
    Custom,
    LocalShell,
}

/// The names in the API that depend on the kind of an item.
pub(super) struct ItemNames {
    id_prefix: &'static str,
    item_type: &'static str,
    /// The events of the text, without `.delta` or `.done`.
    pub(super) text: Option<&'static str>,
    /// The member with the whole text.
    pub(super) text_key: &'static str,
    /// The events of the part that contains the text, and the member with its index.
    pub(super) part: Option<(&'static str, &'static str)>,
}

/// An output item.
#[derive(Debug)]
pub(super) struct OutputItem<'a> {
    pub(super) kind: ItemKind<'a>,
    block: &'a AnswerBlock,
    number: usize,
    context: &'a Context,
}

impl<'a> OutputItem<'a> {
    pub(super) fn new(block: &'a AnswerBlock, number: usize, context: &'a Context) -> Self {
        let kind = match &block.kind {
            BlockKind::Reasoning(key) => ItemKind::Reasoning(key),
            BlockKind::Text => ItemKind::Text,
            BlockKind::Refusal => ItemKind::Refusal,
            BlockKind::Call { name, .. } => match context.request.tools.get(name) {
                None => ItemKind::Function,
                Some(OriginalTool::Custom) => ItemKind::Custom,
                Some(OriginalTool::LocalShell) => ItemKind::LocalShell,
                Some(OriginalTool::Namespaced { namespace, name }) => {
                    ItemKind::Namespaced { namespace, name }
                }
            },
        };
        Self { kind, block, number, context }
    }

    pub(super) fn names(&self) -> ItemNames {
        let (id_prefix, item_type, text, text_key) = match self.kind {
            ItemKind::Reasoning(_) => ("rs", "reasoning", Some("response.reasoning_summary_text"), "text"),
            ItemKind::Text => ("msg", "message", Some("response.output_text"), "text"),
            ItemKind::Refusal => ("msg", "message", Some("response.refusal"), "refusal"),
            ItemKind::Function | ItemKind::Namespaced { .. } => {
                ("fc", "function_call", Some("response.function_call_arguments"), "arguments")
            }
            ItemKind::Custom => ("ctc", "custom_tool_call", Some("response.custom_tool_call_input"), "input"),
            ItemKind::LocalShell => ("lsh", "local_shell_call", None, "action"),
        };
        let part = match self.kind {
            ItemKind::Reasoning(_) => Some(("response.reasoning_summary_part", "summary_index")),
            ItemKind::Text | ItemKind::Refusal => Some(("response.content_part", "content_index")),
            _ => None,
        };
        ItemNames { id_prefix, item_type, text, text_key, part }
    }

    pub(super) fn id(&self) -> String {
        format!("{}_{}_{}", self.names().id_prefix, self.context.id, self.number)
    }

    /// Returns the index of the item in the output.
    pub(super) fn index(&self) -> Json<'static> {
        Json::from(self.number as u64)
    }

    /// Returns the escaped text: `{}` for absent arguments, the decoded input for a tool with free text.
    pub(super) fn text(&self) -> String {
        let text = &self.block.text;
        match self.kind {
            ItemKind::Function | ItemKind::Namespaced { .. } if text.is_empty() => "{}".to_owned(),
            ItemKind::Custom => free_text(text),
            _ => text.clone(),
        }
    }

    /// Whether the backend sent no text and no arguments.
    pub(super) fn is_empty(&self) -> bool {
        self.block.text.is_empty()
    }

    /// Returns the caller's name of the called function.
    pub(super) fn name(&self) -> Json<'static> {
        match (self.kind, &self.block.kind) {
            (ItemKind::Namespaced { name, .. }, _) => Json::from_fragment(name),
            (_, BlockKind::Call { name, .. }) => Json::from_fragment(name),
            _ => Json::NULL,
        }
    }

    /// Builds the content part or summary part with `text`.
    pub(super) fn part(&self, text: &str) -> Json<'static> {
        let text = Json::from_fragment(text);
        match self.kind {
            ItemKind::Reasoning(_) => Json::object([("type", "summary_text".into()), ("text", text)]),
            ItemKind::Refusal => Json::object([("type", "refusal".into()), ("refusal", text)]),
            _ => Json::object([
                ("type", "output_text".into()),
                ("text", text),
                ("annotations", Json::Array(Vec::new())),
                ("logprobs", Json::Array(Vec::new())),
            ]),
        }
    }

    /// Builds the item in its opening event, without its text.
    pub(super) fn opening(&self) -> Json<'static> {
        self.json(None, "in_progress")
    }

    /// Builds the whole item.
    pub(super) fn done(&self, status: &'static str) -> Json<'static> {
        self.json(Some(&self.text()), status)
    }

    fn json(&self, text: Option<&str>, status: &'static str) -> Json<'static> {
        let names = self.names();
        let parts = || Json::Array(text.into_iter().map(|text| self.part(text)).collect());
        let mut item =
            Json::object([("id", Json::from(self.id().as_str())), ("type", names.item_type.into())]);
        match self.kind {
            ItemKind::Reasoning(key) => {
                item.put("summary", parts());
                // A mark, not encrypted: the request translates reasoning with this mark back.
                if self.context.request.keeps_reasoning {
                    item.put("encrypted_content", key);
                }
                item.put("status", status);
            }
            ItemKind::Text | ItemKind::Refusal => {
                item.put("status", status);
                item.put("role", "assistant");
                item.put("content", parts());
            }
            ItemKind::LocalShell => {
                self.put_call(&mut item, status);
                item.put("action", action(text.unwrap_or_default()));
            }
            ItemKind::Custom | ItemKind::Function | ItemKind::Namespaced { .. } => {
                self.put_call(&mut item, status);
                item.put("name", self.name());
                if let ItemKind::Namespaced { namespace, .. } = self.kind {
                    item.put("namespace", Json::from_fragment(namespace));
                }
                item.put(names.text_key, Json::from_fragment(text.unwrap_or_default()));
            }
        }
        item
    }

    fn put_call(&self, item: &mut Json<'static>, status: &'static str) {
        item.put("status", status);
        let id = match &self.block.kind {
            BlockKind::Call { id, .. } if !id.is_empty() => id.clone(),
            _ => format!("call_{}_{}", self.context.id, self.number),
        };
        item.put("call_id", Json::from_fragment(&id));
    }
}

/// Builds the action of a local shell's call.
fn action(text: &str) -> Json<'static> {
    let arguments = arguments(text).unwrap_or_else(|| Json::object([]));
    // As text: an answer may have thousands of calls, and the tree of each is as large as that of an answer.
    let get = |key: &str| arguments.get(key).map(|value| Json::raw(value.to_string()));
    let mut action = Json::object([
        ("type", "exec".into()),
        ("command", get("command").unwrap_or_else(|| Json::Array(Vec::new()))),
        ("env", get("env").unwrap_or_else(|| Json::object([]))),
    ]);
    for key in ["timeout_ms", "user", "working_directory"] {
        action.put_some(key, get(key));
    }
    action
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A23: the tree of each of thousands of calls would be as large as that of an answer.
    #[test]
    fn an_action_has_its_command_as_text() {
        let text = r#"{\"command\":[\"ls\",\"-l\"],\"env\":{\"A\":\"b\"},\"timeout_ms\":9}"#;
        let action = action(text);
        assert_eq!(
            action.to_string(),
            r#"{"type":"exec","command":["ls","-l"],"env":{"A":"b"},"timeout_ms":9}"#
        );
        for key in ["command", "env", "timeout_ms"] {
            assert!(matches!(action.get(key), Some(Json::Text(_))), "{key}");
        }
    }
}
