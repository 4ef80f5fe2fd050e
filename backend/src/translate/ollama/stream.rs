//! Translates the chunks of a stream to lines of JSON.

use wire::task::Endpoint;

use super::super::blocks::{AnswerBuilder, BlockEvent};
use super::super::chunk::{BlockKind, Chunk};
use super::super::{AnswerError, MAX_TEXT};
use super::Durations;
use super::answer::{End, OllamaAnswer, Told, call, reason};

/// Bytes of memory for a log probability beside its text.
const LOGPROB: usize = 56;

/// The translator of one stream. Each line is a JSON text without its line end. `created_at` is RFC 3339.
pub struct OllamaStream {
    format: OllamaAnswer,
    answer: AnswerBuilder,
    /// Log probabilities, as JSON, that are in no line yet.
    logprobs: Vec<String>,
    /// Their size in memory, in bytes.
    logprobs_size: usize,
    /// Number of tool calls in earlier lines.
    calls: usize,
}

impl OllamaStream {
    pub(super) fn new(format: OllamaAnswer) -> Self {
        Self { format, answer: AnswerBuilder::default(), logprobs: Vec::new(), logprobs_size: 0, calls: 0 }
    }

    /// Translates `chunk`. A tool call becomes a line when it is complete.
    pub fn push(&mut self, chunk: &str, created_at: &str) -> Result<Vec<String>, AnswerError> {
        let mut chunk = match self.format.endpoint {
            Endpoint::Completions => Chunk::of_text(chunk)?,
            _ => Chunk::of_stream(chunk)?,
        };
        if self.format.has_logprobs {
            self.keep_logprobs(&mut chunk.logprobs)?;
        }
        self.answer.push(chunk)?;
        let events = self.answer.events();
        Ok(self.lines(events, created_at))
    }

    /// Returns the lines after the last chunk.
    pub fn finish(&mut self, created_at: &str, durations: Durations) -> Vec<String> {
        let events = self.answer.finish();
        let mut lines = self.lines(events, created_at);
        let told = Told { logprobs: self.take_logprobs(), ..Told::default() };
        let end = End { reason: reason(&self.answer), numbers: Some((self.answer.usage, durations)) };
        lines.push(self.format.object(told, created_at, Some(&end)));
        lines
    }

    /// Returns a line that says nothing, for a connection that must not be silent.
    pub fn keepalive(&self, created_at: &str) -> String {
        self.format.object(Told::default(), created_at, None)
    }

    /// Returns the size in bytes of what is kept of the answer.
    pub fn size(&self) -> usize {
        self.answer.size() + self.logprobs_size
    }

    fn keep_logprobs(&mut self, logprobs: &mut Vec<String>) -> Result<(), AnswerError> {
        self.logprobs_size += logprobs.iter().map(|text| text.len() + LOGPROB).sum::<usize>();
        self.logprobs.append(logprobs);
        if self.logprobs_size > MAX_TEXT { Err(AnswerError::TooLarge) } else { Ok(()) }
    }

    fn take_logprobs(&mut self) -> Vec<String> {
        self.logprobs_size = 0;
        std::mem::take(&mut self.logprobs)
    }

    fn lines(&mut self, events: Vec<BlockEvent>, created_at: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for event in events {
            let mut told = Told::default();
            match event {
                BlockEvent::Add(number, text) => match self.answer.blocks[number].kind {
                    BlockKind::Reasoning(_) => told.thinking = text,
                    BlockKind::Text | BlockKind::Refusal => told.text = text,
                    BlockKind::Call { .. } => continue,
                },
                BlockEvent::Close(number) => {
                    let block = &self.answer.blocks[number];
                    if !matches!(block.kind, BlockKind::Call { .. }) {
                        continue;
                    }
                    told.calls.push(call(block, self.calls));
                    self.calls += 1;
                }
                BlockEvent::Open(_) => continue,
            }
            told.logprobs = self.take_logprobs();
            lines.push(self.format.object(told, created_at, None));
        }
        self.answer.discard_told();
        lines
    }
}
