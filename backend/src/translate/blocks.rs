//! The blocks of an answer, one open at a time. Chat completions interleaves text and tool calls, the other APIs do not.

use std::mem::discriminant;

use super::chunk::{BlockKind, Chunk, Delta, Usage, arguments};
use super::json::without_half;
use super::{AnswerError, MAX_PARTS, MAX_TEXT};

/// Size in bytes from which incomplete arguments are parsed again only after they grew by an eighth.
const LONG: usize = 4 << 10;

/// A block of an answer.
#[derive(Debug)]
pub(super) struct AnswerBlock {
    pub(super) kind: BlockKind,
    /// The text so far, escaped. For a tool call these are the arguments.
    pub(super) text: String,
    /// Number of bytes of `text` in earlier events.
    emitted: usize,
    /// Length of the arguments when they were last found to be incomplete.
    incomplete_len: Option<usize>,
}

/// A change to the block of this number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlockEvent {
    Open(usize),
    Add(usize, String),
    Close(usize),
}

/// Collects the blocks of an answer.
#[derive(Debug, Default)]
pub(super) struct AnswerBuilder {
    pub(super) blocks: Vec<AnswerBlock>,
    /// Size of all blocks in bytes.
    size: usize,
    /// Number of the first block that is not closed.
    current: usize,
    /// Whether block `current` is open.
    is_open: bool,
    /// Number of blocks whose texts were freed.
    discarded: usize,
    pub(super) finish_reason: Option<String>,
    /// The stop sequence that ended the answer, escaped.
    pub(super) stop_sequence: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl AnswerBuilder {
    /// Parses a whole completion.
    pub(super) fn of_completion(text: &str) -> Result<Self, AnswerError> {
        let mut answer = Self::default();
        answer.push(Chunk::of_completion(text)?)?;
        Ok(answer)
    }

    /// Returns the events of the chunks that were added since the last call.
    pub(super) fn events(&mut self) -> Vec<BlockEvent> {
        self.next_events(false)
    }

    /// Returns the events after the last chunk.
    pub(super) fn finish(&mut self) -> Vec<BlockEvent> {
        self.next_events(true)
    }

    /// Frees the texts that were in events, for a stream whose end does not repeat them. The arguments of calls are kept.
    pub(super) fn discard_told(&mut self) {
        for block in self.blocks.iter_mut().take(self.current + 1).skip(self.discarded) {
            if !matches!(block.kind, BlockKind::Call { .. }) {
                self.size -= block.emitted;
                block.text.drain(..block.emitted);
                block.emitted = 0;
            }
        }
        self.discarded = self.current;
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, BlockKind::Call { .. }))
    }

    pub(super) fn has_refusal(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, BlockKind::Refusal))
    }

    /// Adds one chunk of a stream, or a whole completion.
    pub(super) fn push(&mut self, chunk: Chunk) -> Result<(), AnswerError> {
        for delta in chunk.deltas {
            self.size += delta.size();
            if self.size > MAX_TEXT {
                return Err(AnswerError::TooLarge);
            }
            self.add_delta(delta);
            if self.blocks.len() > MAX_PARTS {
                return Err(AnswerError::TooManyParts);
            }
        }
        self.finish_reason = chunk.finish_reason.or(self.finish_reason.take());
        self.stop_sequence = chunk.stop_sequence.or(self.stop_sequence.take());
        self.usage = chunk.usage.or(self.usage);
        Ok(())
    }

    fn add_delta(&mut self, delta: Delta) {
        let Some(number) = self.continued_block(&delta) else {
            let Delta { kind, text } = delta;
            self.blocks.push(AnswerBlock { kind, text, emitted: 0, incomplete_len: None });
            return;
        };
        let is_closed = number < self.current;
        let is_opened = is_closed || number == self.current && self.is_open;
        let block = &mut self.blocks[number];
        if let (BlockKind::Call { id, name, .. }, BlockKind::Call { id: new_id, name: new_name, .. }) =
            (&mut block.kind, delta.kind)
            && !is_opened
        {
            // Some servers repeat both in every chunk.
            if id.is_empty() {
                *id = new_id;
            }
            if name.is_empty() {
                *name = new_name;
            }
        }
        // A closed call has complete arguments, which only white space can follow.
        if !is_closed {
            block.text.push_str(&delta.text);
        }
    }

    /// Returns the number of the block that `delta` continues; `None` if it begins one.
    fn continued_block(&self, delta: &Delta) -> Option<usize> {
        let BlockKind::Call { index, id, name } = &delta.kind else {
            let last = self.blocks.len().checked_sub(1)?;
            return (discriminant(&self.blocks[last].kind) == discriminant(&delta.kind)).then_some(last);
        };
        let number = self.blocks.iter().rposition(|block| match &block.kind {
            BlockKind::Call { index: known, .. } if index.is_some() => known == index,
            BlockKind::Call { id: known, .. } => id.is_empty() || known == id,
            _ => false,
        })?;
        let block = &self.blocks[number];
        let BlockKind::Call { id: known_id, name: known_name, .. } = &block.kind else { return None };
        // Some servers send no index, or the same one for all calls. There, a name with another id begins a call, and so does a name
        // after complete arguments.
        let is_new = !name.is_empty()
            && !known_name.is_empty()
            && if id.is_empty() { index.is_none() && block.is_complete() } else { known_id != id };
        (!is_new).then_some(number)
    }

    fn next_events(&mut self, is_finished: bool) -> Vec<BlockEvent> {
        let mut events = Vec::new();
        loop {
            let is_followed = self.current + 1 < self.blocks.len();
            let Some(block) = self.blocks.get_mut(self.current) else { break };
            let number = self.current;
            if !self.is_open {
                if !is_finished && matches!(&block.kind, BlockKind::Call { name, .. } if name.is_empty()) {
                    break;
                }
                events.push(BlockEvent::Open(number));
                self.is_open = true;
            }
            let is_done = is_finished || is_followed && block.check_complete();
            let rest = &block.text[block.emitted..];
            let length = if is_done { rest.len() } else { without_half(rest) };
            if length > 0 {
                events.push(BlockEvent::Add(number, rest[..length].to_owned()));
                block.emitted += length;
            }
            if !is_done {
                break;
            }
            events.push(BlockEvent::Close(number));
            self.current += 1;
            self.is_open = false;
        }
        events
    }
}

impl AnswerBlock {
    /// Whether nothing can be added: to text once another block follows, to arguments once they are a whole object.
    fn is_complete(&self) -> bool {
        let is_call = matches!(self.kind, BlockKind::Call { .. });
        !is_call || self.text.contains('}') && arguments(&self.text).is_some()
    }

    /// Like [`is_complete`](Self::is_complete), but parses long arguments again only after they grew by an eighth.
    fn check_complete(&mut self) -> bool {
        let length = self.text.len();
        let next = |known: usize| if known < LONG { known + 1 } else { known + known / 8 };
        if self.incomplete_len.is_some_and(|known| length < next(known)) {
            return false;
        }
        let is_complete = self.is_complete();
        self.incomplete_len = (!is_complete).then_some(length);
        is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_arguments_are_not_parsed_for_each_added_byte() {
        let kind = BlockKind::Call { index: None, id: String::new(), name: String::new() };
        let text = format!(r#"{{\"a\":\"}}{}"#, "x".repeat(2 * LONG));
        let mut block = AnswerBlock { kind, text, emitted: 0, incomplete_len: None };
        assert!(!block.check_complete());
        block.text.push_str(r#"\"}"#);
        assert!(block.is_complete() && !block.check_complete(), "three bytes cause no parse");
        block.text.push_str(&" ".repeat(LONG));
        assert!(block.check_complete());
    }
}
