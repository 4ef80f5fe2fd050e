//! The body of a streamed answer: translates the events of [`crate::dispatch`] to lines of JSON.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use backend::translate::LONG_ANSWER;
use backend::translate::ollama::{Durations, OllamaStream};
use bytes::Bytes;
use tokio::time::Instant;

use super::untranslated;
use crate::clock;
use crate::dispatch::KEEPALIVE;
use crate::error::{ApiError, Dialect};
use crate::model::UserId;
use crate::offload::{MAX_BURST, offload};
use crate::quota::BytesPermit;

/// Bytes of an answer that are not counted while they are collected or wait to be written.
const UNCOUNTED: usize = 16 << 10;
/// The event that ends a complete stream.
const DONE: &str = "data: [DONE]";

/// Translates the pieces of one stream.
pub(super) struct OllamaLines {
    stream: OllamaStream,
    start: Instant,
    /// When the first content came.
    first: Option<Instant>,
    /// Counts what is kept of the answer, and the lines that are not written yet.
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
        self.count(out.len())?;
        Ok(out)
    }

    /// Counts what is kept of the answer, and `unwritten` bytes of lines.
    fn count(&mut self, unwritten: usize) -> Result<(), ApiError> {
        let counted = self.held.size();
        let kept = (self.stream.size() + unwritten).saturating_sub(UNCOUNTED);
        self.held.shrink(counted.saturating_sub(kept));
        self.held.grow(kept.saturating_sub(counted))
    }

    /// Counts the lines of a piece no more.
    fn written(&mut self) {
        let kept = self.stream.size().saturating_sub(UNCOUNTED);
        self.held.shrink(self.held.size().saturating_sub(kept));
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
    /// Lines that the server has not taken.
    Writing(Box<OllamaLines>, Bytes),
    Over,
}

impl OllamaBody {
    pub(super) fn new(events: BoxBody, lines: OllamaLines, user: UserId) -> Self {
        Self { events: Box::pin(events), state: State::Reading(Box::new(lines)), user }
    }

    /// Begins to translate `piece`, on another thread if it is large.
    fn translate(&mut self, piece: Bytes) {
        let State::Reading(mut lines) = std::mem::replace(&mut self.state, State::Over) else { return };
        // What ends a block repeats all that is kept of it.
        let size = if lines.stream.size() > LONG_ANSWER { usize::MAX } else { piece.len() };
        let user = self.user.clone();
        let work = move || {
            let bytes = lines.translate(&piece)?;
            Ok((lines, bytes))
        };
        self.state = State::Translating(Box::pin(async move { offload(&user, size, work).await }));
    }

    /// Reads on after the lines of a piece.
    fn written(&mut self) {
        let State::Writing(mut lines, _) = std::mem::replace(&mut self.state, State::Over) else { return };
        lines.written();
        self.state = State::Reading(lines);
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
                // A piece may complete nothing. What was taken is written when the server asks for more.
                State::Writing(_, unwritten) if !unwritten.is_empty() => {
                    let slice = unwritten.split_to(unwritten.len().min(MAX_BURST));
                    return Poll::Ready(Some(Ok(slice)));
                }
                State::Writing(..) => self.written(),
                State::Reading(_) => match self.events.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(piece))) => self.translate(piece),
                    Poll::Ready(None) => self.state = State::Over,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => return Poll::Pending,
                },
                State::Translating(translated) => match translated.as_mut().poll(cx) {
                    Poll::Ready(Ok((lines, bytes))) => self.state = State::Writing(lines, bytes.into()),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::body::BodyStream;
    use backend::translate::ollama::{OllamaApi, translate};
    use futures_util::{FutureExt, future::poll_fn, stream};
    use serde_json::{Value, json};

    use super::*;
    use crate::quota::{ByteKind, ByteQuota, MemoryBudget, Quota};
    use crate::telemetry::Metrics;

    /// A body whose pieces are these events. What it keeps may take `most` bytes.
    fn body(
        memory: &Arc<MemoryBudget>,
        most: usize,
        events: impl Iterator<Item = String> + 'static,
    ) -> OllamaBody {
        let request = json!({ "model": "m".repeat(500), "messages": [{ "role": "user", "content": "?" }], "logprobs": true });
        let answer = translate(OllamaApi::Chat, request.to_string().as_bytes()).unwrap().answer;
        let quota = Quota::of_bytes(memory, ByteKind::Unread);
        let held = ByteQuota::new(&quota, "alice", most, "answers unread").empty();
        let lines = OllamaLines::new(answer.stream(), Instant::now(), held);
        let pieces = events.map(|event| Ok::<_, std::io::Error>(Bytes::from(format!("data: {event}\n\n"))));
        OllamaBody::new(BoxBody::new(BodyStream::new(stream::iter(pieces))), lines, "alice".into())
    }

    fn budget() -> Arc<MemoryBudget> {
        let machine = Metrics::new().unwrap().of_machine().unwrap();
        Arc::new(MemoryBudget::new(Some(1 << 40), machine))
    }

    async fn next(body: &mut OllamaBody) -> Option<Bytes> {
        let next = poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await;
        next.map(Result::unwrap)
    }

    fn chunk(delta: &Value, logprobs: &[Value]) -> String {
        json!({ "choices": [{ "delta": delta, "logprobs": { "content": logprobs } }] }).to_string()
    }

    /// A27: lines that are not written count: of one small chunk there may be many.
    #[actix_rt::test]
    async fn lines_count_until_they_are_written() {
        let parts: Vec<Value> = (0..4000)
            .map(|part| match part % 2 {
                0 => json!({ "type": "text", "text": "a" }),
                _ => json!({ "type": "refusal", "refusal": "b" }),
            })
            .collect();
        let event = chunk(&json!({ "content": parts }), &[]);
        let memory = budget();
        let of = |most| body(&memory, most, [event.clone(), "[DONE]".into()].into_iter());
        let mut written = of(64 << 20);
        let first = next(&mut written).await.unwrap();
        assert_eq!(first.len(), MAX_BURST);
        assert!(memory.held() > MAX_BURST as u64, "{}", memory.held());
        let mut length = first.len();
        while let Some(slice) = next(&mut written).await {
            length += slice.len();
        }
        assert!(length > 2 * MAX_BURST && memory.held() == 0, "{length}");
        let refused = next(&mut of(MAX_BURST)).await.unwrap();
        assert!(refused.starts_with(b"{\"error\":"), "{refused:?}");
    }

    /// A27: log probabilities that wait for a line count, and have a limit.
    #[actix_rt::test]
    async fn kept_log_probabilities_count() {
        for (most, expected) in [(1 << 20, "answers unread"), (64 << 20, "larger than 16 MiB")] {
            let event = chunk(&json!({}), &vec![json!(1); 1000]);
            let mut body = body(&budget(), most, std::iter::repeat_n(event, 1000));
            let refused = next(&mut body).await.unwrap();
            let text = std::str::from_utf8(&refused).unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }

    /// A24: an end that repeats much is made on another thread, and one that repeats little at once.
    #[actix_rt::test]
    async fn a_long_end_is_made_on_another_thread() {
        let call = |name: &str, arguments: &str| {
            let function = json!({ "name": name, "arguments": arguments });
            chunk(&json!({ "tool_calls": [{ "index": 0, "id": "c", "function": function }] }), &[])
        };
        for (kept, is_long) in [(LONG_ANSWER / 2, false), (2 * LONG_ANSWER, true)] {
            const PART: usize = 16 << 10;
            let more = std::iter::repeat_n(call("", &"a".repeat(PART)), kept / PART);
            let ends = [call("", "\"}"), "[DONE]".into()];
            let events = std::iter::once(call("f", "{\"x\":\"")).chain(more).chain(ends);
            let mut body = body(&budget(), 64 << 20, events);
            let at_once = next(&mut body).now_or_never();
            assert_eq!(at_once.is_none(), is_long, "{kept} bytes");
            let mut length = at_once.flatten().map_or(0, |slice| slice.len());
            while let Some(slice) = next(&mut body).await {
                length += slice.len();
            }
            assert!(length > kept, "{length} of {kept} bytes");
        }
    }
}
