//! The blocks of an answer, one open at a time: chat completions interleaves text and calls freely, the other APIs do
//! not. Pure.

use super::chunk::{CallDelta, Chunk, Delta, Usage, arguments};
use super::json::without_half;
use super::{AnswerError, MAX_PARTS, MAX_TEXT};

/// Arguments that were no whole object and have this many bytes are looked at again when they have grown by an eighth, not
/// with each byte.
const LONG: usize = 4 << 10;

/// One block.
#[derive(Debug)]
pub(super) struct AnswerBlock {
    pub(super) kind: BlockKind,
    /// All that it says so far, escaped: text, or the arguments of a call.
    pub(super) text: String,
    /// How much of it was given out.
    given: usize,
    /// Length of the arguments when they were last found to be no whole object.
    partial: Option<usize>,
}

/// What a block is.
#[derive(Debug)]
pub(super) enum BlockKind {
    /// Reasoning, and the member in which the backend sends it.
    Reasoning(&'static str),
    Text,
    Refusal,
    /// A tool call; both escaped.
    Call {
        index: Option<u64>,
        id: String,
        name: String,
    },
}

/// What happens to the blocks, in the order in which a caller is told. The number is the block's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlockEvent {
    Open(usize),
    Add(usize, String),
    Close(usize),
}

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct AnswerBuilder {
    pub(super) blocks: Vec<AnswerBlock>,
    /// Bytes of all that they say.
    size: usize,
    /// The first block that is not closed, and whether it is open.
    current: usize,
    is_open: bool,
    pub(super) finish: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl AnswerBuilder {
    /// The whole completion in `text`.
    pub(super) fn of_completion(text: &str) -> Result<Self, AnswerError> {
        let mut turn = Self::default();
        turn.add(Chunk::of_completion(text)?)?;
        Ok(turn)
    }

    /// Adds one chunk of a stream.
    pub(super) fn take(&mut self, chunk: &str) -> Result<Vec<BlockEvent>, AnswerError> {
        self.add(Chunk::of_stream(chunk)?)?;
        Ok(self.steps(false))
    }

    /// The steps that are left when the stream has ended.
    pub(super) fn end(&mut self) -> Vec<BlockEvent> {
        self.steps(true)
    }

    /// Bytes of all that was said so far.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether a tool was called.
    pub(super) fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, BlockKind::Call { .. }))
    }

    /// Whether the model refused in words.
    pub(super) fn has_refusal(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, BlockKind::Refusal))
    }

    fn add(&mut self, chunk: Chunk) -> Result<(), AnswerError> {
        for piece in chunk.deltas {
            self.size += piece.size();
            if self.size > MAX_TEXT {
                return Err(AnswerError::TooLarge);
            }
            match piece {
                Delta::Reasoning(key, text) => {
                    self.say(
                        |kind| matches!(kind, BlockKind::Reasoning(_)),
                        BlockKind::Reasoning(key),
                        &text,
                    );
                }
                Delta::Text(text) => self.say(|kind| matches!(kind, BlockKind::Text), BlockKind::Text, &text),
                Delta::Refusal(text) => {
                    self.say(|kind| matches!(kind, BlockKind::Refusal), BlockKind::Refusal, &text);
                }
                Delta::Call(call) => self.call(call),
            }
            if self.blocks.len() > MAX_PARTS {
                return Err(AnswerError::TooManyParts);
            }
        }
        self.finish = chunk.finish.or(self.finish.take());
        self.stop = chunk.stop.or(self.stop.take());
        self.usage = chunk.usage.or(self.usage);
        Ok(())
    }

    fn say(&mut self, is_same: impl Fn(&BlockKind) -> bool, kind: BlockKind, text: &str) {
        match self.blocks.last_mut() {
            Some(last) if is_same(&last.kind) => last.text.push_str(text),
            _ => self.blocks.push(AnswerBlock::new(kind, text)),
        }
    }

    fn call(&mut self, piece: CallDelta) {
        let Some(place) = self.place_of(&piece) else {
            let kind = BlockKind::Call { index: piece.index, id: piece.id, name: piece.name };
            self.blocks.push(AnswerBlock::new(kind, &piece.arguments));
            return;
        };
        let is_closed = place < self.current;
        let is_told = is_closed || place == self.current && self.is_open;
        let block = &mut self.blocks[place];
        if let BlockKind::Call { id, name, .. } = &mut block.kind
            && !is_told
        {
            // Some servers repeat both with every piece.
            if id.is_empty() {
                *id = piece.id;
            }
            if name.is_empty() {
                *name = piece.name;
            }
        }
        // A closed call was a whole object: what may follow is white space.
        if !is_closed {
            block.text.push_str(&piece.arguments);
        }
    }

    /// The call that `piece` goes on with; `None` if it begins one.
    fn place_of(&self, piece: &CallDelta) -> Option<usize> {
        let place = self.blocks.iter().rposition(|block| match &block.kind {
            BlockKind::Call { index, .. } if piece.index.is_some() => *index == piece.index,
            BlockKind::Call { id, .. } => piece.id.is_empty() || *id == piece.id,
            _ => false,
        })?;
        let block = &self.blocks[place];
        let BlockKind::Call { id, name, .. } = &block.kind else { return None };
        // Servers that give all calls one index, or none: a name with another id, or behind whole arguments, is new.
        let is_new = !piece.name.is_empty()
            && !name.is_empty()
            && if piece.id.is_empty() { piece.index.is_none() && block.is_whole() } else { *id != piece.id };
        (!is_new).then_some(place)
    }

    fn steps(&mut self, ended: bool) -> Vec<BlockEvent> {
        let mut steps = Vec::new();
        loop {
            let is_followed = self.current + 1 < self.blocks.len();
            let Some(block) = self.blocks.get_mut(self.current) else { break };
            let number = self.current;
            if !self.is_open {
                if !ended && matches!(&block.kind, BlockKind::Call { name, .. } if name.is_empty()) {
                    break;
                }
                steps.push(BlockEvent::Open(number));
                self.is_open = true;
            }
            let is_done = ended || is_followed && block.check_whole();
            let end = if is_done {
                block.text.len()
            } else {
                block.given + without_half(&block.text[block.given..])
            };
            if block.given < end {
                steps.push(BlockEvent::Add(number, block.text[block.given..end].to_owned()));
                block.given = end;
            }
            if !is_done {
                break;
            }
            steps.push(BlockEvent::Close(number));
            self.current += 1;
            self.is_open = false;
        }
        steps
    }
}

impl AnswerBlock {
    fn new(kind: BlockKind, text: &str) -> Self {
        Self { kind, text: text.to_owned(), given: 0, partial: None }
    }

    /// Whether nothing can be added: text ends when something else begins, arguments when they are a whole object.
    fn is_whole(&self) -> bool {
        let is_call = matches!(self.kind, BlockKind::Call { .. });
        !is_call || self.text.contains('}') && arguments(&self.text).is_some()
    }

    /// As [`is_whole`](Self::is_whole); arguments are looked at again only when they have grown.
    fn check_whole(&mut self) -> bool {
        let length = self.text.len();
        let next = |known: usize| if known < LONG { known + 1 } else { known + known / 8 };
        if self.partial.is_some_and(|known| length < next(known)) {
            return false;
        }
        let whole = self.is_whole();
        self.partial = (!whole).then_some(length);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long arguments are looked at again when they have grown, not with each byte that comes.
    #[test]
    fn long_arguments_are_not_read_with_each_byte_of_them() {
        let kind = BlockKind::Call { index: None, id: String::new(), name: String::new() };
        let mut block = AnswerBlock::new(kind, &format!(r#"{{\"a\":\"}}{}"#, "x".repeat(2 * LONG)));
        assert!(!block.check_whole());
        block.text.push_str(r#"\"}"#);
        assert!(block.is_whole() && !block.check_whole(), "it is not looked at for some bytes");
        block.text.push_str(&" ".repeat(LONG));
        assert!(block.check_whole());
    }
}
