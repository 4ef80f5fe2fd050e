//! The blocks of an answer as output items.

use super::super::Context;
use super::super::blocks::{AnswerBlock, BlockKind};
use super::super::chunk::arguments;
use super::super::json::Json;
use super::super::tools::OriginalTool;
use super::free_text::free_text;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind<'a> {
    Reasoning(&'static str),
    Text,
    Refusal,
    Function,
    Namespaced { namespace: &'a str, name: &'a str },
    Custom,
    LocalShell,
}

/// One output item.
#[derive(Debug)]
pub(super) struct OutputItem<'a> {
    pub(super) sort: ItemKind<'a>,
    block: &'a AnswerBlock,
    number: usize,
    context: &'a Context,
}

impl<'a> OutputItem<'a> {
    pub(super) fn new(block: &'a AnswerBlock, number: usize, context: &'a Context) -> Self {
        let sort = match &block.kind {
            BlockKind::Reasoning(key) => ItemKind::Reasoning(key),
            BlockKind::Text => ItemKind::Text,
            BlockKind::Refusal => ItemKind::Refusal,
            BlockKind::Call { name, .. } => match context.asked.tools.get(name) {
                None => ItemKind::Function,
                Some(OriginalTool::Custom) => ItemKind::Custom,
                Some(OriginalTool::LocalShell) => ItemKind::LocalShell,
                Some(OriginalTool::Namespaced { namespace, name }) => {
                    ItemKind::Namespaced { namespace, name }
                }
            },
        };
        Self { sort, block, number, context }
    }

    pub(super) fn id(&self) -> String {
        let prefix = match self.sort {
            ItemKind::Reasoning(_) => "rs",
            ItemKind::Text | ItemKind::Refusal => "msg",
            ItemKind::Function | ItemKind::Namespaced { .. } => "fc",
            ItemKind::Custom => "ctc",
            ItemKind::LocalShell => "lsh",
        };
        format!("{prefix}_{}_{}", self.context.id, self.number)
    }

    /// The text of the item, escaped: arguments as they are, `{}` for none; the input of a tool of free text.
    pub(super) fn text(&self) -> String {
        let text = &self.block.text;
        match self.sort {
            ItemKind::Function | ItemKind::Namespaced { .. } if text.is_empty() => "{}".to_owned(),
            ItemKind::Custom => free_text(text),
            _ => text.clone(),
        }
    }

    /// Whether the backend sent no arguments.
    pub(super) fn has_none(&self) -> bool {
        self.block.text.is_empty()
    }

    /// The name of a function, as the caller knows it.
    pub(super) fn name(&self) -> Json<'static> {
        match (self.sort, &self.block.kind) {
            (ItemKind::Namespaced { name, .. }, _) => Json::from_fragment(name),
            (_, BlockKind::Call { name, .. }) => Json::from_fragment(name),
            _ => Json::NULL,
        }
    }

    /// The content part or the summary part with `text`.
    pub(super) fn part(&self, text: &str) -> Json<'static> {
        let text = Json::from_fragment(text);
        match self.sort {
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

    /// The item as it begins in a stream.
    pub(super) fn begun(&self) -> Json<'static> {
        self.with(None, "in_progress")
    }

    /// The whole item; `status` is that of the response.
    pub(super) fn done(&self, status: &'static str) -> Json<'static> {
        self.with(Some(&self.text()), status)
    }

    fn with(&self, text: Option<&str>, status: &'static str) -> Json<'static> {
        let written = Json::from_fragment(text.unwrap_or_default());
        let parts = || Json::Array(text.into_iter().map(|text| self.part(text)).collect());
        let mut item = Json::object([("id", Json::from(self.id().as_str()))]);
        match self.sort {
            ItemKind::Reasoning(key) => {
                item.put("type", "reasoning");
                item.put("summary", parts());
                // A mark, by which it finds its way back to the backend: there is nothing to encrypt.
                if self.context.asked.keeps_reasoning {
                    item.put("encrypted_content", key);
                }
                item.put("status", status);
            }
            ItemKind::Text | ItemKind::Refusal => {
                for (key, value) in [("type", "message"), ("status", status), ("role", "assistant")] {
                    item.put(key, value);
                }
                item.put("content", parts());
            }
            ItemKind::Custom => {
                item.put("type", "custom_tool_call");
                self.put_call(&mut item, status);
                item.put("input", written);
            }
            ItemKind::LocalShell => {
                item.put("type", "local_shell_call");
                self.put_call(&mut item, status);
                item.put("action", action(text.unwrap_or_default()));
            }
            ItemKind::Function | ItemKind::Namespaced { .. } => {
                item.put("type", "function_call");
                self.put_call(&mut item, status);
                item.put("arguments", written);
            }
        }
        item
    }

    fn put_call(&self, item: &mut Json<'static>, status: &'static str) {
        let BlockKind::Call { id, .. } = &self.block.kind else { return };
        item.put("status", status);
        let id = if id.is_empty() { format!("call_{}_{}", self.context.id, self.number) } else { id.clone() };
        item.put("call_id", Json::from_fragment(&id));
        if self.sort != ItemKind::LocalShell {
            item.put("name", self.name());
        }
        if let ItemKind::Namespaced { namespace, .. } = self.sort {
            item.put("namespace", Json::from_fragment(namespace));
        }
    }
}

/// The action of a local shell's call.
fn action(text: &str) -> Json<'static> {
    let told = arguments(text).unwrap_or_else(|| Json::object([]));
    let mut action = Json::object([("type", "exec".into())]);
    action.put("command", told.get("command").cloned().unwrap_or_else(|| Json::Array(Vec::new())));
    action.put("env", told.get("env").cloned().unwrap_or_else(|| Json::object([])));
    for key in ["timeout_ms", "user", "working_directory"] {
        if let Some(value) = told.get(key) {
            action.put(key, value.clone());
        }
    }
    action
}
