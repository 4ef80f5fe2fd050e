//! Translates the chunks of a streamed chat completion to the events of another API.

use super::blocks::{AnswerBuilder, BlockEvent};
use super::chunk::Chunk;
use super::{AnswerError, Context};

/// The translator of one stream.
pub struct StreamTranslator {
    context: Context,
    answer: AnswerBuilder,
    encoder: Box<dyn EventEncoder + Send>,
    is_started: bool,
    is_finished: bool,
}

/// Encodes an answer as the events of one API, JSON texts with their `type`.
pub(super) trait EventEncoder {
    /// Appends the events before the first block.
    fn start(&mut self, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>);

    /// Appends the events of a change to a block.
    fn block(&mut self, event: BlockEvent, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>);

    /// Appends the events after the last block.
    fn finish(&mut self, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>);
}

impl StreamTranslator {
    pub(super) fn new(context: Context, encoder: impl EventEncoder + Send + 'static) -> Self {
        let (answer, encoder) = (AnswerBuilder::default(), Box::new(encoder));
        Self { context, answer, encoder, is_started: false, is_finished: false }
    }

    /// Translates `chunk`.
    pub fn push(&mut self, chunk: &str) -> Result<Vec<String>, AnswerError> {
        self.answer.push(Chunk::of_stream(chunk)?)?;
        let events = self.answer.events();
        Ok(self.encode(events))
    }

    /// Returns the events after the last chunk; none if called again.
    pub fn finish(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.is_finished, true) {
            return Vec::new();
        }
        let events = self.answer.finish();
        let mut out = self.encode(events);
        self.encoder.finish(&self.answer, &self.context, &mut out);
        out
    }

    /// Returns the size in bytes of the answer so far and of what is kept of the request. The next events can repeat all of it.
    pub(crate) fn size(&self) -> usize {
        self.answer.size() + self.context.size()
    }

    fn encode(&mut self, events: Vec<BlockEvent>) -> Vec<String> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.is_started, true) {
            self.encoder.start(&self.answer, &self.context, &mut out);
        }
        for event in events {
            self.encoder.block(event, &self.answer, &self.context, &mut out);
        }
        out
    }
}
