//! Translates the events of a streamed message to chunks of a chat completion.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use wire::json::quote;

use super::answer::{self, ContentBlock, Message, Usage, finish_reason};
use super::read;
use crate::BackendError;
use crate::translate::{MAX_PARTS, MAX_TEXT};
use crate::translated_stream::EventTranslator;

/// Translates the events of one stream.
pub(super) struct ChunkTranslator {
    /// The beginning of every chunk: its id, time and model.
    head: String,
    created: i64,
    include_usage: bool,
    usage: Usage,
    /// Tool calls by the index of their content block.
    calls: HashMap<u64, Call>,
    /// Size in bytes of all `opening_input`.
    size: usize,
}

struct Call {
    /// Index in `tool_calls`.
    index: usize,
    /// Arguments in the opening event. They are sent if no delta follows.
    opening_input: String,
    has_delta: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<ContentBlock<'a>>,
    delta: Option<Delta>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Delta {
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

impl ChunkTranslator {
    pub(super) fn new(include_usage: bool, created: i64) -> Self {
        Self {
            head: head("", created, ""),
            created,
            include_usage,
            usage: Usage::default(),
            calls: HashMap::new(),
            size: 0,
        }
    }

    /// Translates an event to at most one chunk; `None` if it is invalid, or if the stream exceeds [`MAX_PARTS`] or [`MAX_TEXT`].
    pub(super) fn push(&mut self, event: &str) -> Option<Vec<String>> {
        // `serde` would accept an array as an object.
        let event = Some(event).filter(|event| event.trim_start().starts_with('{'))?;
        let event: Event<'_> = serde_json::from_str(event).ok()?;
        let index = event.index.unwrap_or(0);
        let chunk = match event.kind.as_deref().unwrap_or_default() {
            "message_start" => {
                let message = event.message.unwrap_or_default();
                let [id, model] = [message.id, message.model].map(Option::unwrap_or_default);
                self.head = head(&id, self.created, &model);
                self.usage = message.usage.unwrap_or_default();
                Some(self.delta(r#""role":"assistant","content":"""#))
            }
            "content_block_start" => self.open_block(index, &event.content_block?),
            "content_block_delta" => self.add(index, &event.delta?),
            "content_block_stop" => self.close_block(index),
            "message_delta" => {
                self.usage.update(event.usage.unwrap_or_default());
                let reason = event.delta.and_then(|delta| delta.stop_reason);
                reason.map(|reason| self.chunk("", &format!("\"{}\"", finish_reason(&reason))))
            }
            "message_stop" if self.include_usage => {
                Some(format!(r#"{}"choices":[],"usage":{}}}"#, self.head, self.usage.to_json()))
            }
            // `ping` and future events.
            _ => None,
        };
        let is_too_large = self.calls.len() > MAX_PARTS || self.size > MAX_TEXT;
        (!is_too_large).then(|| chunk.into_iter().collect())
    }

    fn open_block(&mut self, block: u64, content: &ContentBlock<'_>) -> Option<String> {
        match content.kind.as_deref().unwrap_or_default() {
            "tool_use" => {
                let index = self.calls.len();
                let opening_input = content.input.map_or("{}", RawValue::get).to_owned();
                self.size += opening_input.len();
                self.calls.insert(block, Call { index, opening_input, has_delta: false });
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

    fn add(&mut self, block: u64, delta: &Delta) -> Option<String> {
        if let Some(json) = delta.partial_json.as_deref().filter(|json| !json.is_empty()) {
            let call = self.calls.get_mut(&block)?;
            call.has_delta = true;
            let index = call.index;
            return Some(self.arguments(index, json));
        }
        self.text("content", delta.text.as_deref())
            .or_else(|| self.text("reasoning_content", delta.thinking.as_deref()))
    }

    /// Ends a block. A call without deltas gets the arguments of its opening event, because callers parse them.
    fn close_block(&mut self, block: u64) -> Option<String> {
        let call = self.calls.get(&block).filter(|call| !call.has_delta)?;
        Some(self.arguments(call.index, &call.opening_input))
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

impl EventTranslator for ChunkTranslator {
    fn size(&self) -> usize {
        self.size
    }

    fn translate(&mut self, event: Option<&str>) -> Result<Vec<String>, BackendError> {
        event.map_or(Ok(Vec::new()), |event| read(event, |event| self.push(event)))
    }

    fn translate_error(&self, error: BackendError) -> BackendError {
        error.map_body(answer::error)
    }
}

fn head(id: &str, created: i64, model: &str) -> String {
    let (id, model) = (quote(id), quote(model));
    format!(r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"#)
}
