//! The events of a streamed message as chat completion chunks. Pure.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use wire::json::quote;

use super::answer::{ContentBlock, Message, Usage, finish_reason};
use crate::translate::{MAX_PARTS, MAX_TEXT};

/// One stream.
pub(super) struct ChunkTranslator {
    /// The beginning of every chunk.
    head: String,
    created: i64,
    include_usage: bool,
    usage: Usage,
    /// Tools that were called, by the index of their block.
    calls: HashMap<u64, Call>,
    /// Bytes of the arguments that came with their beginnings.
    kept: usize,
}

struct Call {
    /// Its place among the calls.
    index: usize,
    /// Arguments that came with the beginning, for a block to which nothing is added.
    whole: String,
    /// Whether anything was.
    added: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    content_block: Option<ContentBlock<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
}

impl ChunkTranslator {
    pub(super) fn new(include_usage: bool, created: i64) -> Self {
        Self {
            head: head("", created, ""),
            created,
            include_usage,
            usage: Usage::default(),
            calls: HashMap::new(),
            kept: 0,
        }
    }

    /// Bytes of what was said before and may be said by the next chunk.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// The chunks that say what the event says; none for one that says nothing to a caller of chat completions.
    /// `None` for one that cannot be read, and where more is called than is translated of any answer.
    pub(super) fn take(&mut self, event: &str) -> Option<Vec<String>> {
        // An array would pass for an object without members.
        let event = Some(event).filter(|event| event.trim_start().starts_with('{'))?;
        let event: Event<'_> = serde_json::from_str(event).ok()?;
        let index = event.index.unwrap_or(0);
        let chunk = match event.kind.as_deref().unwrap_or_default() {
            "message_start" => {
                let message = event.message.unwrap_or_default();
                let text = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
                self.head = head(&text(message.id), self.created, &text(message.model));
                self.usage = message.usage.unwrap_or_default();
                Some(self.delta(r#""role":"assistant","content":"""#))
            }
            "content_block_start" => self.begin(index, &event.content_block?),
            "content_block_delta" => self.add(index, &event.delta?),
            "content_block_stop" => self.complete(index),
            "message_delta" => {
                self.usage.update(event.usage.unwrap_or_default());
                let reason = event.delta.and_then(|delta| delta.stop_reason);
                reason.map(|reason| self.chunk("", &format!("\"{}\"", finish_reason(&reason))))
            }
            "message_stop" if self.include_usage => {
                Some(format!(r#"{}"choices":[],"usage":{}}}"#, self.head, self.usage.to_json()))
            }
            // `ping`, and what is not known yet.
            _ => None,
        };
        let is_endless = self.calls.len() > MAX_PARTS || self.kept > MAX_TEXT;
        (!is_endless).then(|| chunk.into_iter().collect())
    }

    fn begin(&mut self, block: u64, content: &ContentBlock<'_>) -> Option<String> {
        match content.kind.as_deref().unwrap_or_default() {
            "tool_use" => {
                let index = self.calls.len();
                let whole = content.input.map_or("{}", RawValue::get).to_owned();
                self.kept += whole.len();
                self.calls.insert(block, Call { index, whole, added: false });
                let id = quote(content.id.as_deref().unwrap_or_default());
                let name = quote(content.name.as_deref().unwrap_or_default());
                Some(self.delta(&format!(
                    r#""tool_calls":[{{"index":{index},"id":{id},"type":"function","function":{{"name":{name},"arguments":""}}}}]"#
                )))
            }
            "text" => self.text("content", content.text.as_deref()),
            "thinking" => self.text("reasoning_content", content.thinking.as_deref()),
            _ => None,
        }
    }

    fn add(&mut self, block: u64, delta: &Delta<'_>) -> Option<String> {
        if let Some(json) = delta.partial_json.as_deref().filter(|json| !json.is_empty()) {
            let call = self.calls.get_mut(&block)?;
            call.added = true;
            let index = call.index;
            return Some(self.arguments(index, json));
        }
        self.text("content", delta.text.as_deref())
            .or_else(|| self.text("reasoning_content", delta.thinking.as_deref()))
    }

    /// A call without arguments has an empty object, which is nothing in pieces; callers parse it all the same.
    fn complete(&mut self, block: u64) -> Option<String> {
        let call = self.calls.get(&block).filter(|call| !call.added)?;
        Some(self.arguments(call.index, &call.whole))
    }

    fn arguments(&self, index: usize, json: &str) -> String {
        let json = quote(json);
        self.delta(&format!(r#""tool_calls":[{{"index":{index},"function":{{"arguments":{json}}}}}]"#))
    }

    fn text(&self, key: &str, text: Option<&str>) -> Option<String> {
        let text = text.filter(|text| !text.is_empty())?;
        Some(self.delta(&format!(r#""{key}":{}"#, quote(text))))
    }

    fn delta(&self, members: &str) -> String {
        self.chunk(members, "null")
    }

    fn chunk(&self, members: &str, finish: &str) -> String {
        let head = &self.head;
        format!(r#"{head}"choices":[{{"index":0,"delta":{{{members}}},"finish_reason":{finish}}}]}}"#)
    }
}

fn head(id: &str, created: i64, model: &str) -> String {
    let (id, model) = (quote(id), quote(model));
    format!(r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"#)
}
