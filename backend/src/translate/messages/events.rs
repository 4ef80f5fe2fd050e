//! Encodes an answer as the events of a message.

use super::super::Context;
use super::super::blocks::{AnswerBuilder, BlockEvent};
use super::super::chunk::BlockKind;
use super::super::json::{Json, escape};
use super::super::stream::{EventEncoder, StreamTranslator};
use super::answer::{content_block, input, message, stop, usage};

/// Creates a translator of chunks to the events of a message.
pub fn stream_translator(context: Context) -> StreamTranslator {
    StreamTranslator::new(context, MessageEvents::default())
}

#[derive(Debug, Default)]
struct MessageEvents {
    /// Arguments of the open call, held back until they begin like an object.
    held: Option<String>,
}

impl EventEncoder for MessageEvents {
    fn start(&mut self, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>) {
        // Most backends count tokens at the end, so `message_delta` has the final usage.
        let message = message(context, Vec::new(), (Json::NULL, Json::NULL), answer.usage);
        out.push(format!(r#"{{"type":"message_start","message":{message}}}"#));
    }

    fn block(&mut self, event: BlockEvent, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>) {
        match event {
            BlockEvent::Open(number) => {
                let block = &answer.blocks[number];
                self.held = matches!(block.kind, BlockKind::Call { .. }).then(String::new);
                let block = content_block(block, number, context, true);
                out.push(format!(
                    r#"{{"type":"content_block_start","index":{number},"content_block":{block}}}"#
                ));
            }
            BlockEvent::Add(number, mut text) => {
                let (kind, key) = match answer.blocks[number].kind {
                    BlockKind::Reasoning(_) => ("thinking_delta", "thinking"),
                    BlockKind::Text | BlockKind::Refusal => ("text_delta", "text"),
                    BlockKind::Call { .. } => ("input_json_delta", "partial_json"),
                };
                if let Some(held) = self.held.take() {
                    text = held + &text;
                    if !text.starts_with('{') {
                        self.held = Some(text);
                        return;
                    }
                }
                out.push(delta(number, kind, key, &text));
            }
            BlockEvent::Close(number) => {
                if let BlockKind::Reasoning(key) = answer.blocks[number].kind {
                    out.push(delta(number, "signature_delta", "signature", key));
                }
                if let Some(held) = self.held.take() {
                    let input = escape(&input(&held).to_string());
                    out.push(delta(number, "input_json_delta", "partial_json", &input));
                }
                out.push(format!(r#"{{"type":"content_block_stop","index":{number}}}"#));
            }
        }
    }

    fn finish(&mut self, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>) {
        let (reason, sequence) = stop(answer, context);
        let delta = Json::object([("stop_reason", reason), ("stop_sequence", sequence)]);
        let usage = usage(answer.usage);
        out.push(format!(r#"{{"type":"message_delta","delta":{delta},"usage":{usage}}}"#));
        out.push(r#"{"type":"message_stop"}"#.to_owned());
    }
}

fn delta(number: usize, kind: &str, key: &str, text: &str) -> String {
    format!(
        r#"{{"type":"content_block_delta","index":{number},"delta":{{"type":"{kind}","{key}":"{text}"}}}}"#
    )
}
