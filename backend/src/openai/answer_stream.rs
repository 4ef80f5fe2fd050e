//! A backend's event stream as pieces of an answer. The hot path: one allocation for each token.

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

/// How long the rest of a finished answer may take to come; a connection read to its end is used again.
const LEFTOVER: Duration = Duration::from_secs(1);

/// How long more may come of an answer of which every choice has ended: usage does, or the end mark.
const LAST: Duration = Duration::from_secs(5);

/// The pieces of one answer. An error is the last item.
pub(super) struct AnswerStream {
    body: Option<Body>,
    backend: Rc<Inner>,
    /// Who waits for it.
    user: String,
    /// What reads the events; not here while it reads a large one offloaded.
    reader: Option<Reader>,
    offloaded: Option<LocalBoxFuture<'static, OffloadedRead>>,
    /// Why the answer is not whole, to be told behind all that came of it.
    failure: Option<BackendError>,
    decoder: Decoder,
    /// What is read and not decoded.
    piece: Bytes,
    silence: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes came since the deadline was set: it is moved once for each wait, not once for each token.
    heard: bool,
    /// Counts what is here of an event that is not whole, or is not read yet.
    reservation: Reservation,
    /// Bytes of the event that is read offloaded.
    offloaded_bytes: usize,
    /// Whether the answer was whole when it was waited for last: the deadline stays.
    is_last: bool,
}

/// A reader that comes back, and what the event said that it read offloaded.
type OffloadedRead = Result<(Reader, Option<StreamEvent>), BackendError>;

/// Reads the events of one answer.
struct Reader {
    endpoint: Endpoint,
    completion: Completion,
    redactor: Arc<Redactor>,
    /// What cuts the key out, where there is one.
    stream_redactor: Option<Box<StreamRedactor>>,
}

impl Reader {
    /// What an event says to its caller; `None` for one that only says that the backend lives.
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
    /// Those of the answer that `user` waits for.
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

    /// The next event in what was read, apart from signs of life. A large one is begun to be read `offloaded`.
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
        // An event was left out before this one: what comes behind it is no whole answer any more.
        if self.decoder.discarded() > 0 { Some(StreamEvent::TooLarge) } else { event }
    }

    /// The piece that an event gives.
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

    /// Nothing more comes of the answer.
    fn fail(&mut self, error: BackendError) {
        self.body = None;
        self.failure = Some(error);
    }

    /// The answer is whole: what little is left of the body is read beside the way.
    fn end(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        // Most often the last bytes are here already.
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
                // How the connection ends proves nothing either way: the content does.
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
                    // A backend that never stops leaves the timer no turn.
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
