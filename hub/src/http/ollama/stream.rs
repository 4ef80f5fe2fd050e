//! The body of a streamed answer: translates the events of [`crate::dispatch`] to lines of JSON.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use backend::translate::ollama::{Durations, OllamaStream};
use bytes::Bytes;
use tokio::time::Instant;

use super::untranslated;
use crate::clock;
use crate::dispatch::KEEPALIVE;
use crate::error::{ApiError, Dialect};
use crate::model::UserId;
use crate::offload::offload;
use crate::quota::BytesPermit;

/// Bytes of an answer's tool calls that are not counted while they are collected.
const UNCOUNTED: usize = 16 << 10;
/// The event that ends a complete stream.
const DONE: &str = "data: [DONE]";

/// Translates the pieces of one stream.
pub(super) struct OllamaLines {
    stream: OllamaStream,
    start: Instant,
    /// When the first content came.
    first: Option<Instant>,
    /// Counts what is kept of the answer.
    held: BytesPermit,
}

impl OllamaLines {
    /// Translates the answer of a call that came at `start`. `held` is an empty permit.
    pub(super) fn new(stream: OllamaStream, start: Instant, held: BytesPermit) -> Self {
        Self { stream, start, first: None, held }
    }

    /// Translates a piece, which has whole events or one line that ends the stream with an error. Compact JSON has no line
    /// breaks, so an empty line ends each event.
    fn translate(&mut self, piece: &[u8]) -> Result<Vec<u8>, ApiError> {
        let created_at = clock::now().to_string();
        if piece == KEEPALIVE {
            return Ok(format!("{}\n", self.stream.keepalive(&created_at)).into());
        }
        if piece.starts_with(b"{") {
            return Ok(piece.to_vec());
        }
        let mut out = Vec::with_capacity(piece.len());
        let text = std::str::from_utf8(piece).unwrap_or_default();
        for event in text.split_terminator("\n\n") {
            let lines = if event == DONE {
                self.stream.finish(&created_at, self.durations())
            } else {
                self.first.get_or_insert_with(Instant::now);
                let chunk = event.strip_prefix("data: ").unwrap_or_default();
                self.stream.push(chunk, &created_at).map_err(untranslated)?
            };
            for line in lines {
                out.extend_from_slice(line.as_bytes());
                out.push(b'\n');
            }
        }
        self.count()?;
        Ok(out)
    }

    /// Counts what is kept of the answer.
    fn count(&mut self) -> Result<(), ApiError> {
        let (counted, kept) = (self.held.size(), self.stream.size().saturating_sub(UNCOUNTED));
        self.held.shrink(counted.saturating_sub(kept));
        self.held.grow(kept.saturating_sub(counted))
    }

    fn durations(&self) -> Durations {
        let (total, first) = (self.start.elapsed(), self.first.unwrap_or(self.start));
        let prompt = first.duration_since(self.start);
        Durations { total, prompt, eval: total.saturating_sub(prompt) }
    }
}

/// The translator and the lines of a piece, or the error that ends the stream.
type Translated = Pin<Box<dyn Future<Output = Result<(Box<OllamaLines>, Vec<u8>), ApiError>>>>;

/// The body of a stream in Ollama's format.
pub(super) struct OllamaBody {
    /// The body in OpenAI's format.
    events: Pin<Box<BoxBody>>,
    state: State,
    /// The caller.
    user: UserId,
}

enum State {
    Reading(Box<OllamaLines>),
    Translating(Translated),
    Over,
}

impl OllamaBody {
    pub(super) fn new(events: BoxBody, lines: OllamaLines, user: UserId) -> Self {
        Self { events: Box::pin(events), state: State::Reading(Box::new(lines)), user }
    }

    /// Begins to translate `piece`, on another thread if it is large.
    fn translate(&mut self, piece: Bytes) {
        let State::Reading(mut lines) = std::mem::replace(&mut self.state, State::Over) else { return };
        let (user, size) = (self.user.clone(), piece.len());
        let work = move || {
            let bytes = lines.translate(&piece)?;
            Ok((lines, bytes))
        };
        self.state = State::Translating(Box::pin(async move { offload(&user, size, work).await }));
    }
}

impl MessageBody for OllamaBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Reading(_) => match self.events.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(piece))) => self.translate(piece),
                    Poll::Ready(None) => self.state = State::Over,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => return Poll::Pending,
                },
                State::Translating(translated) => match translated.as_mut().poll(cx) {
                    Poll::Ready(Ok((lines, bytes))) => {
                        self.state = State::Reading(lines);
                        // A piece may complete nothing.
                        if !bytes.is_empty() {
                            return Poll::Ready(Some(Ok(bytes.into())));
                        }
                    }
                    Poll::Ready(Err(error)) => {
                        self.state = State::Over;
                        let line = format!("{}\n", error.body(Dialect::Ollama));
                        return Poll::Ready(Some(Ok(line.into())));
                    }
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}
