//! The chunks of a streamed chat completion as the events of a message.

use super::super::blocks::{AnswerBuilder, BlockEvent, BlockKind};
use super::super::json::{Json, escape};
use super::super::{AnswerError, Context};
use super::answer::{begun, head, input, stop, usage};

/// One stream.
#[derive(Debug)]
pub struct StreamTranslator {
    context: Context,
    turn: AnswerBuilder,
    is_begun: bool,
    is_ended: bool,
    /// The open call's arguments as far as they are held back: until they begin as an object does.
    held: Option<String>,
}

impl StreamTranslator {
    /// A stream that answers the request of `context`.
    pub fn new(context: Context) -> Self {
        Self { context, turn: AnswerBuilder::default(), is_begun: false, is_ended: false, held: None }
    }

    /// The events that say what `chunk` says, as JSON texts with their `type`.
    pub fn take(&mut self, chunk: &str) -> Result<Vec<String>, AnswerError> {
        let steps = self.turn.take(chunk)?;
        let mut out = self.begin();
        self.tell(steps, &mut out);
        Ok(out)
    }

    /// Bytes of all that was said so far, some of which the next events may say again.
    pub(crate) fn size(&self) -> usize {
        self.turn.size()
    }

    /// The last events, when the chat stream came to its end; none if they were given before.
    pub fn end(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.is_ended, true) {
            return Vec::new();
        }
        let steps = self.turn.end();
        let mut out = self.begin();
        self.tell(steps, &mut out);
        let (reason, sequence) = stop(&self.turn, &self.context);
        let delta = Json::object([("stop_reason", reason.into()), ("stop_sequence", sequence)]);
        let usage = usage(self.turn.usage.unwrap_or_default());
        out.push(format!(r#"{{"type":"message_delta","delta":{delta},"usage":{usage}}}"#));
        out.push(r#"{"type":"message_stop"}"#.to_owned());
        out
    }

    fn begin(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Vec::new();
        }
        let mut message = head(&self.context);
        for (key, value) in [
            ("content", Json::Array(Vec::new())),
            ("stop_reason", Json::NULL),
            ("stop_sequence", Json::NULL),
            // Most backends count at the end; `message_delta` then has all of it.
            ("usage", usage(self.turn.usage.unwrap_or_default())),
        ] {
            message.put(key, value);
        }
        vec![format!(r#"{{"type":"message_start","message":{message}}}"#)]
    }

    fn tell(&mut self, steps: Vec<BlockEvent>, out: &mut Vec<String>) {
        for step in steps {
            match step {
                BlockEvent::Open(number) => {
                    let block = &self.turn.blocks[number];
                    self.held = matches!(block.kind, BlockKind::Call { .. }).then(String::new);
                    let block = begun(block, number, &self.context);
                    out.push(format!(
                        r#"{{"type":"content_block_start","index":{number},"content_block":{block}}}"#
                    ));
                }
                BlockEvent::Add(number, text) => self.add(number, text, out),
                BlockEvent::Close(number) => {
                    self.complete(number, out);
                    out.push(format!(r#"{{"type":"content_block_stop","index":{number}}}"#));
                }
            }
        }
    }

    fn add(&mut self, number: usize, text: String, out: &mut Vec<String>) {
        let (kind, key) = match self.turn.blocks[number].kind {
            BlockKind::Reasoning(_) => ("thinking_delta", "thinking"),
            BlockKind::Text | BlockKind::Refusal => ("text_delta", "text"),
            BlockKind::Call { .. } => ("input_json_delta", "partial_json"),
        };
        let text = match self.held.take() {
            None => text,
            Some(held) => {
                let all = held + &text;
                if !all.starts_with('{') {
                    self.held = Some(all);
                    return;
                }
                all
            }
        };
        out.push(delta(number, kind, key, &text));
    }

    /// What a block still lacks at its end: the mark of reasoning, arguments that did not begin as an object does.
    fn complete(&mut self, number: usize, out: &mut Vec<String>) {
        if let BlockKind::Reasoning(key) = self.turn.blocks[number].kind {
            out.push(delta(number, "signature_delta", "signature", key));
        }
        if let Some(held) = self.held.take() {
            let input = escape(&input(&held).to_string());
            out.push(delta(number, "input_json_delta", "partial_json", &input));
        }
    }
}

fn delta(number: usize, kind: &str, key: &str, text: &str) -> String {
    format!(
        r#"{{"type":"content_block_delta","index":{number},"delta":{{"type":"{kind}","{key}":"{text}"}}}}"#
    )
}
