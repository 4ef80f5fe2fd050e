//! The chunks of a streamed answer. This is the hot path: one allocation for each token.

use std::borrow::Cow;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep, timeout};
use wire::sse::{DEFAULT_MAX_FRAME, Decoder};
use wire::task::Endpoint;

use super::body::Body;
use super::completion::{Completion, StreamEvent};
use super::{Inner, failed};
use crate::BackendError;
use crate::budget::Reservation;
use crate::offload::{MAX_INLINE, offload};
use crate::redact::{Redactor, StreamRedactor};

/// Time limit for reading the rest of a finished answer, so that its connection can be reused.
const LEFTOVER: Duration = Duration::from_secs(1);

/// Time for which usage or the end mark can follow after every choice has finished.
const LAST: Duration = Duration::from_secs(5);

/// The stream of an answer. An error is the last item.
pub(super) struct AnswerStream {
    body: Option<Body>,
    backend: Rc<Inner>,
    /// The calling user.
    user: String,
    /// Reads the events; `None` while it reads a large one on another thread.
    reader: Option<Reader>,
    offloaded: Option<LocalBoxFuture<'static, OffloadedRead>>,
    /// The error to return after all chunks.
    failure: Option<BackendError>,
    decoder: Decoder,
    /// Bytes that were read but not decoded.
    piece: Bytes,
    silence: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes arrived since the deadline was set. It is reset once a wait, not once a token.
    heard: bool,
    /// Memory of an incomplete or unread event.
    reservation: Reservation,
    /// Size in bytes of the event that is being read on another thread.
    offloaded_bytes: usize,
    /// Whether the answer was complete at the last wait, so that the deadline is no longer reset.
    is_last: bool,
}

/// The reader, and the event that it read on another thread.
type OffloadedRead = Result<(Reader, Option<StreamEvent>), BackendError>;

/// Reads the events of one answer.
struct Reader {
    endpoint: Endpoint,
    completion: Completion,
    redactor: Arc<Redactor>,
    /// Redacts the key, if there is one.
    stream_redactor: Option<Box<StreamRedactor>>,
}

impl Reader {
    /// Reads an event; `None` for a keep-alive.
    fn read(&mut self, name: Option<&str>, data: Cow<'_, str>) -> Option<StreamEvent> {
        Some(match self.completion.observe(name, data)? {
            StreamEvent::Chunk(data) => StreamEvent::Chunk(self.cleaned(data)),
            StreamEvent::LastChunk(data) => StreamEvent::LastChunk(self.cleaned(data)),
            other => other,
        })
    }

    fn cleaned(&mut self, data: String) -> String {
        let data = if self.endpoint == Endpoint::Responses { self.redactor.failure(data) } else { data };
        match &mut self.stream_redactor {
            Some(stream_redactor) => stream_redactor.pass(data),
            None => data,
        }
    }
}

impl AnswerStream {
    /// Creates the stream of an answer to `user`.
    pub(super) fn new(
        body: Body,
        backend: Rc<Inner>,
        endpoint: Endpoint,
        user: String,
        completion: Completion,
        reservation: Reservation,
    ) -> Self {
        let (redactor, silence) = (Arc::clone(&backend.redactor), backend.silence);
        let stream_redactor = redactor.stream_redactor();
        Self {
            body: Some(body),
            user,
            reader: Some(Reader { endpoint, completion, redactor, stream_redactor }),
            offloaded: None,
            failure: None,
            backend,
            decoder: Decoder::new(),
            piece: Bytes::new(),
            silence,
            deadline: Box::pin(sleep(silence)),
            heard: false,
            reservation,
            offloaded_bytes: 0,
            is_last: false,
        }
    }

    /// The next event in what was read, apart from signs of life. Starts to read a large one on another thread.
    fn next_event(&mut self) -> Option<StreamEvent> {
        let mut rest: &[u8] = &self.piece;
        let mut event = None;
        while event.is_none()
            && let Some(reader) = &mut self.reader
            && let Some(frame) = self.decoder.decode(&mut rest)
        {
            if frame.data.len() <= MAX_INLINE {
                event = reader.read(frame.event.as_deref(), frame.data);
                continue;
            }
            let (name, data) = (frame.event.map(Cow::into_owned), frame.data.into_owned());
            self.offloaded_bytes = data.len();
            let (user, reader) = (self.user.clone(), self.reader.take());
            self.offloaded = reader.map(|mut reader| {
                let read = move || {
                    let event = reader.read(name.as_deref(), data.into());
                    (reader, event)
                };
                async move { offload(&user, usize::MAX, read).await }.boxed_local()
            });
        }
        let taken = self.piece.len() - rest.len();
        self.piece.advance(taken);
        // An event before this one was discarded, so the answer is incomplete.
        if self.decoder.discarded() > 0 { Some(StreamEvent::TooLarge) } else { event }
    }

    /// Converts an event to a chunk, or ends the stream.
    fn take(&mut self, event: StreamEvent) -> Option<String> {
        let error = match event {
            StreamEvent::Chunk(data) => return Some(data),
            StreamEvent::LastChunk(data) => {
                self.end();
                return Some(data);
            }
            StreamEvent::End => {
                self.end();
                return None;
            }
            StreamEvent::Error(error) => self.backend.told(&error),
            StreamEvent::TooLarge => {
                failed(format!("backend sent an event that is larger than {} MiB", DEFAULT_MAX_FRAME >> 20))
            }
            StreamEvent::Malformed => failed("backend sent a chunk that is not JSON"),
        };
        self.fail(error);
        None
    }

    /// Ends the stream with an error.
    fn fail(&mut self, error: BackendError) {
        self.body = None;
        self.failure = Some(error);
    }

    /// Ends the stream, and reads the rest of the body in the background.
    fn end(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        // Usually the last bytes have arrived.
        while let Some(next) = body.next().now_or_never() {
            if !matches!(next, Some(Ok(_))) {
                return;
            }
        }
        tokio::task::spawn_local(timeout(
            LEFTOVER,
            async move { while let Some(Ok(_)) = body.next().await {} },
        ));
    }
}

impl Stream for AnswerStream {
    type Item = Result<String, BackendError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.body.is_none() {
                return Poll::Ready(this.failure.take().map(Err));
            }
            let event = match &mut this.offloaded {
                Some(reading) => {
                    let read = ready!(reading.as_mut().poll(cx));
                    (this.offloaded, this.offloaded_bytes) = (None, 0);
                    match read {
                        Ok((reader, event)) => {
                            this.reader = Some(reader);
                            event.or_else(|| this.next_event())
                        }
                        Err(error) => {
                            this.fail(error);
                            continue;
                        }
                    }
                }
                None => this.next_event(),
            };
            if !this.reservation.resize(this.decoder.buffered_bytes() + this.offloaded_bytes) {
                this.fail(BackendError::BudgetExceeded);
                continue;
            }
            if let Some(event) = event {
                let Some(piece) = this.take(event) else { continue };
                return Poll::Ready(Some(Ok(piece)));
            }
            if this.offloaded.is_some() {
                continue;
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match body.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    this.piece = piece;
                    this.heard = true;
                }
                // The content decides whether the answer is complete, not the end of the connection.
                Poll::Ready(Some(Err(_)) | None) => {
                    this.body = None;
                    if !this.reader.as_ref().is_some_and(|reader| reader.completion.is_whole()) {
                        this.fail(failed("backend broke off before the end of its answer"));
                    }
                }
                Poll::Pending => {
                    let heard = std::mem::take(&mut this.heard);
                    let is_whole = this.reader.as_ref().is_some_and(|reader| reader.completion.is_whole());
                    if is_whole && !std::mem::replace(&mut this.is_last, true) {
                        this.deadline.as_mut().reset(Instant::now() + this.silence.min(LAST));
                    } else if heard && !this.is_last {
                        this.deadline.as_mut().reset(Instant::now() + this.silence);
                    }
                    // The timer is not polled while a backend sends without a pause.
                    if !(this.is_last && this.deadline.deadline() <= Instant::now()) {
                        ready!(this.deadline.as_mut().poll(cx));
                    }
                    if is_whole {
                        this.body = None;
                    } else {
                        this.fail(this.backend.silent());
                    }
                }
            }
        }
    }
}
