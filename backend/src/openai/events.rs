//! A backend's event stream as pieces of an answer. The hot path: one allocation for each token.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep, timeout};
use wire::sse::Decoder;

use super::body::Body;
use super::completion::{Completion, StreamEvent};
use super::{Inner, failed};
use crate::BackendError;
use crate::redact::Sieve;

/// How long the rest of a finished answer may take to come; a connection read to its end is used again.
const LEFTOVER: Duration = Duration::from_secs(1);

/// The pieces of one answer. An error is the last item.
pub(super) struct Events {
    body: Option<Body>,
    backend: Rc<Inner>,
    completion: Completion,
    /// What cuts the key out, where there is one.
    sieve: Option<Box<Sieve>>,
    /// Why the answer is not whole, to be told behind all that came of it.
    failure: Option<BackendError>,
    decoder: Decoder,
    /// What is read and not decoded.
    piece: Bytes,
    silence: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Whether bytes came since the deadline was set: it is moved once for each wait, not once for each token.
    heard: bool,
}

impl Events {
    pub(super) fn new(body: Body, backend: Rc<Inner>, completion: Completion, silence: Duration) -> Self {
        Self {
            body: Some(body),
            sieve: backend.redactor.sieve(),
            failure: None,
            backend,
            completion,
            decoder: Decoder::new(),
            piece: Bytes::new(),
            silence,
            deadline: Box::pin(sleep(silence)),
            heard: false,
        }
    }

    /// The next event in what was read, apart from signs of life.
    fn next_event(&mut self) -> Option<StreamEvent> {
        let mut rest: &[u8] = &self.piece;
        let mut event = None;
        while event.is_none()
            && let Some(frame) = self.decoder.decode(&mut rest)
        {
            event = self.completion.observe(frame.event.as_deref(), frame.data);
        }
        let taken = self.piece.len() - rest.len();
        self.piece.advance(taken);
        event
    }

    /// The piece that an event gives.
    fn take(&mut self, event: StreamEvent) -> Option<String> {
        let error = match event {
            StreamEvent::Piece(data) => return Some(data),
            StreamEvent::Last(data) => {
                self.end();
                return Some(data);
            }
            StreamEvent::End => {
                self.end();
                return None;
            }
            StreamEvent::Error(error) => self.backend.told(&error),
            StreamEvent::Garbage => failed("backend sent a chunk that is not JSON"),
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

impl Stream for Events {
    type Item = Result<String, BackendError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.body.is_none() {
                return Poll::Ready(this.failure.take().map(Err));
            }
            if let Some(event) = this.next_event() {
                let Some(piece) = this.take(event) else { continue };
                let piece = match &mut this.sieve {
                    Some(sieve) => sieve.pass(piece),
                    None => piece,
                };
                return Poll::Ready(Some(Ok(piece)));
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
                    if !this.completion.is_whole() {
                        this.fail(failed("backend broke off before the end of its answer"));
                    }
                }
                Poll::Pending => {
                    if std::mem::take(&mut this.heard) {
                        this.deadline.as_mut().reset(Instant::now() + this.silence);
                    }
                    ready!(this.deadline.as_mut().poll(cx));
                    this.fail(this.backend.silent());
                }
            }
        }
    }
}
