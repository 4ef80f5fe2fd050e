//! The blocks of an answer, one open at a time. Chat completions interleaves text and tool calls, the other APIs do not.

use std::collections::HashMap;
use std::mem::discriminant;

use super::arguments_check::ArgumentsCheck;
use super::chunk::{BlockKind, Chunk, Delta, Usage};
use super::json::without_half;
use super::{AnswerError, MAX_PARTS, MAX_TEXT};

/// Bytes that a change to a call counts beside its strings.
const CALL_DELTA: usize = 16;

/// A block of an answer.
#[derive(Debug)]
pub(super) struct AnswerBlock {
    pub(super) kind: BlockKind,
    /// The text so far, escaped. For a tool call these are the arguments.
    pub(super) text: String,
    /// Number of bytes of `text` in earlier events.
    emitted: usize,
    arguments: ArgumentsCheck,
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
    calls: CallNumbers,
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
            let is_call = matches!(delta.kind, BlockKind::Call { .. });
            self.size += delta.size() + if is_call { CALL_DELTA } else { 0 };
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
            if let BlockKind::Call { index, id, .. } = &kind {
                self.calls.add(self.blocks.len(), *index, id);
            }
            self.blocks.push(AnswerBlock { kind, text, emitted: 0, arguments: ArgumentsCheck::default() });
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
            if id.is_empty() && !new_id.is_empty() {
                self.calls.name(number, &new_id);
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
    fn continued_block(&mut self, delta: &Delta) -> Option<usize> {
        let BlockKind::Call { index, id, name } = &delta.kind else {
            let last = self.blocks.len().checked_sub(1)?;
            return (discriminant(&self.blocks[last].kind) == discriminant(&delta.kind)).then_some(last);
        };
        let number = self.calls.find(*index, id)?;
        let block = &mut self.blocks[number];
        let BlockKind::Call { id: known_id, name: known_name, .. } = &block.kind else { return None };
        let (is_other, has_name) = (known_id != id, !known_name.is_empty());
        // Some servers send no index, or the same one for all calls. There, a name with another id begins a call, and so does a name
        // after complete arguments.
        let is_new = !name.is_empty()
            && has_name
            && if id.is_empty() { index.is_none() && block.is_complete() } else { is_other };
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
            let is_done = is_finished || is_followed && block.is_complete();
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
    fn is_complete(&mut self) -> bool {
        !matches!(self.kind, BlockKind::Call { .. }) || self.arguments.is_complete(&self.text)
    }
}

/// Numbers of the blocks that are calls: the last one of each index and of each id.
#[derive(Debug, Default)]
struct CallNumbers {
    last: Option<usize>,
    by_index: HashMap<u64, usize>,
    by_id: HashMap<String, usize>,
}

impl CallNumbers {
    fn add(&mut self, number: usize, index: Option<u64>, id: &str) {
        self.last = Some(number);
        if let Some(index) = index {
            self.by_index.insert(index, number);
        }
        self.name(number, id);
    }

    /// Records that the call `number` has this id.
    fn name(&mut self, number: usize, id: &str) {
        let last = self.by_id.entry(id.to_owned()).or_insert(number);
        *last = number.max(*last);
    }

    /// The last call with this index; without an index the last one with this id; without both the last one.
    fn find(&self, index: Option<u64>, id: &str) -> Option<usize> {
        match index {
            Some(index) => self.by_index.get(&index).copied(),
            None if id.is_empty() => self.last,
            None => self.by_id.get(id).copied(),
        }
    }
}

#[cfg(test)]
mod tests;
