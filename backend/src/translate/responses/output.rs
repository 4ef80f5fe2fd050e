//! The blocks of an answer as output items.

use super::super::Context;
use super::super::blocks::{Block, Kind};
use super::super::chunk::arguments;
use super::super::json::Json;
use super::super::tools::Known;
use super::free_text::free_text;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort<'a> {
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
pub(super) struct Item<'a> {
    pub(super) sort: Sort<'a>,
    block: &'a Block,
    number: usize,
    context: &'a Context,
}

impl<'a> Item<'a> {
    pub(super) fn new(block: &'a Block, number: usize, context: &'a Context) -> Self {
        let sort = match &block.kind {
            Kind::Thought(key) => Sort::Reasoning(key),
            Kind::Text => Sort::Text,
            Kind::Refusal => Sort::Refusal,
            Kind::Call { name, .. } => match context.asked.tools.get(name) {
                None => Sort::Function,
                Some(Known::Custom) => Sort::Custom,
                Some(Known::LocalShell) => Sort::LocalShell,
                Some(Known::Namespaced { namespace, name }) => Sort::Namespaced { namespace, name },
            },
        };
        Self { sort, block, number, context }
    }

    pub(super) fn id(&self) -> String {
        let prefix = match self.sort {
            Sort::Reasoning(_) => "rs",
            Sort::Text | Sort::Refusal => "msg",
            Sort::Function | Sort::Namespaced { .. } => "fc",
            Sort::Custom => "ctc",
            Sort::LocalShell => "lsh",
        };
        format!("{prefix}_{}_{}", self.context.id, self.number)
    }

    /// The text of the item, escaped: arguments as they are, `{}` for none; the input of a tool of free text.
    pub(super) fn text(&self) -> String {
        let text = &self.block.text;
        match self.sort {
            Sort::Function | Sort::Namespaced { .. } if text.is_empty() => "{}".to_owned(),
            Sort::Custom => free_text(text),
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
            (Sort::Namespaced { name, .. }, _) => Json::from_fragment(name),
            (_, Kind::Call { name, .. }) => Json::from_fragment(name),
            _ => Json::NULL,
        }
    }

    /// The content part or the summary part with `text`.
    pub(super) fn part(&self, text: &str) -> Json<'static> {
        let text = Json::from_fragment(text);
        match self.sort {
            Sort::Reasoning(_) => Json::object([("type", "summary_text".into()), ("text", text)]),
            Sort::Refusal => Json::object([("type", "refusal".into()), ("refusal", text)]),
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
            Sort::Reasoning(key) => {
                item.put("type", "reasoning");
                item.put("summary", parts());
                // A mark, by which it finds its way back to the backend: there is nothing to encrypt.
                if self.context.asked.keeps_reasoning {
                    item.put("encrypted_content", key);
                }
                item.put("status", status);
            }
            Sort::Text | Sort::Refusal => {
                for (key, value) in [("type", "message"), ("status", status), ("role", "assistant")] {
                    item.put(key, value);
                }
                item.put("content", parts());
            }
            Sort::Custom => {
                item.put("type", "custom_tool_call");
                self.put_call(&mut item, status);
                item.put("input", written);
            }
            Sort::LocalShell => {
                item.put("type", "local_shell_call");
                self.put_call(&mut item, status);
                item.put("action", action(text.unwrap_or_default()));
            }
            Sort::Function | Sort::Namespaced { .. } => {
                item.put("type", "function_call");
                self.put_call(&mut item, status);
                item.put("arguments", written);
            }
        }
        item
    }

    fn put_call(&self, item: &mut Json<'static>, status: &'static str) {
        let Kind::Call { id, .. } = &self.block.kind else { return };
        item.put("status", status);
        let id = if id.is_empty() { format!("call_{}_{}", self.context.id, self.number) } else { id.clone() };
        item.put("call_id", Json::from_fragment(&id));
        if self.sort != Sort::LocalShell {
            item.put("name", self.name());
        }
        if let Sort::Namespaced { namespace, .. } = self.sort {
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
