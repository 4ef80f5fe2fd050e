//! The blocks of an answer, one open at a time: chat completions interleaves text and calls freely, the other APIs do
//! not. Pure.

use super::chunk::{CallPiece, Chunk, Piece, Usage, arguments};
use super::json::without_half;
use super::{MAX_PARTS, MAX_TEXT, Unreadable};

/// Arguments that were no whole object and have this many bytes are looked at again when they have grown by an eighth, not
/// with each byte.
const LONG: usize = 4 << 10;

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// All that it says so far, escaped: text, or the arguments of a call.
    pub(super) text: String,
    /// How much of it was given out.
    given: usize,
    /// Length of the arguments when they were last found to be no whole object.
    partial: Option<usize>,
}

/// What a block is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Reasoning, and the member in which the backend sends it.
    Thought(&'static str),
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
pub(super) enum Step {
    Open(usize),
    Add(usize, String),
    Close(usize),
}

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) blocks: Vec<Block>,
    /// Bytes of all that they say.
    size: usize,
    /// The first block that is not closed, and whether it is open.
    current: usize,
    is_open: bool,
    pub(super) finish: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl Turn {
    /// The whole completion in `text`.
    pub(super) fn of_completion(text: &str) -> Result<Self, Unreadable> {
        let mut turn = Self::default();
        turn.add(Chunk::of_completion(text)?)?;
        Ok(turn)
    }

    /// Adds one chunk of a stream.
    pub(super) fn take(&mut self, chunk: &str) -> Result<Vec<Step>, Unreadable> {
        self.add(Chunk::of_stream(chunk)?)?;
        Ok(self.steps(false))
    }

    /// The steps that are left when the stream has ended.
    pub(super) fn end(&mut self) -> Vec<Step> {
        self.steps(true)
    }

    /// Bytes of all that was said so far.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether a tool was called.
    pub(super) fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, Kind::Call { .. }))
    }

    /// Whether the model refused in words.
    pub(super) fn has_refusal(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.kind, Kind::Refusal))
    }

    fn add(&mut self, chunk: Chunk) -> Result<(), Unreadable> {
        for piece in chunk.pieces {
            self.size += piece.size();
            if self.size > MAX_TEXT {
                return Err(Unreadable::TooLarge);
            }
            match piece {
                Piece::Thought(key, text) => {
                    self.say(|kind| matches!(kind, Kind::Thought(_)), Kind::Thought(key), &text);
                }
                Piece::Text(text) => self.say(|kind| matches!(kind, Kind::Text), Kind::Text, &text),
                Piece::Refusal(text) => self.say(|kind| matches!(kind, Kind::Refusal), Kind::Refusal, &text),
                Piece::Call(call) => self.call(call),
            }
            if self.blocks.len() > MAX_PARTS {
                return Err(Unreadable::TooManyParts);
            }
        }
        self.finish = chunk.finish.or(self.finish.take());
        self.stop = chunk.stop.or(self.stop.take());
        self.usage = chunk.usage.or(self.usage);
        Ok(())
    }

    fn say(&mut self, is_same: impl Fn(&Kind) -> bool, kind: Kind, text: &str) {
        match self.blocks.last_mut() {
            Some(last) if is_same(&last.kind) => last.text.push_str(text),
            _ => self.blocks.push(Block::new(kind, text)),
        }
    }

    fn call(&mut self, piece: CallPiece) {
        let Some(place) = self.place_of(&piece) else {
            let kind = Kind::Call { index: piece.index, id: piece.id, name: piece.name };
            self.blocks.push(Block::new(kind, &piece.arguments));
            return;
        };
        let is_closed = place < self.current;
        let is_told = is_closed || place == self.current && self.is_open;
        let block = &mut self.blocks[place];
        if let Kind::Call { id, name, .. } = &mut block.kind
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
    fn place_of(&self, piece: &CallPiece) -> Option<usize> {
        let place = self.blocks.iter().rposition(|block| match &block.kind {
            Kind::Call { index, .. } if piece.index.is_some() => *index == piece.index,
            Kind::Call { id, .. } => piece.id.is_empty() || *id == piece.id,
            _ => false,
        })?;
        let block = &self.blocks[place];
        let Kind::Call { id, name, .. } = &block.kind else { return None };
        // Servers that give all calls one index, or none: a name with another id, or behind whole arguments, is new.
        let is_new = !piece.name.is_empty()
            && !name.is_empty()
            && if piece.id.is_empty() { piece.index.is_none() && block.is_whole() } else { *id != piece.id };
        (!is_new).then_some(place)
    }

    fn steps(&mut self, ended: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let is_followed = self.current + 1 < self.blocks.len();
            let Some(block) = self.blocks.get_mut(self.current) else { break };
            let number = self.current;
            if !self.is_open {
                if !ended && matches!(&block.kind, Kind::Call { name, .. } if name.is_empty()) {
                    break;
                }
                steps.push(Step::Open(number));
                self.is_open = true;
            }
            let is_done = ended || is_followed && block.check_whole();
            let end = if is_done {
                block.text.len()
            } else {
                block.given + without_half(&block.text[block.given..])
            };
            if block.given < end {
                steps.push(Step::Add(number, block.text[block.given..end].to_owned()));
                block.given = end;
            }
            if !is_done {
                break;
            }
            steps.push(Step::Close(number));
            self.current += 1;
            self.is_open = false;
        }
        steps
    }
}

impl Block {
    fn new(kind: Kind, text: &str) -> Self {
        Self { kind, text: text.to_owned(), given: 0, partial: None }
    }

    /// Whether nothing can be added: text ends when something else begins, arguments when they are a whole object.
    fn is_whole(&self) -> bool {
        let is_call = matches!(self.kind, Kind::Call { .. });
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
        let kind = Kind::Call { index: None, id: String::new(), name: String::new() };
        let mut block = Block::new(kind, &format!(r#"{{\"a\":\"}}{}"#, "x".repeat(2 * LONG)));
        assert!(!block.check_whole());
        block.text.push_str(r#"\"}"#);
        assert!(block.is_whole() && !block.check_whole(), "it is not looked at for some bytes");
        block.text.push_str(&" ".repeat(LONG));
        assert!(block.check_whole());
    }
}
