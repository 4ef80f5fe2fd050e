//! A request to the backend, shared by the future that waits for it and the job that may have to finish it after the
//! caller has left (`onAbort: drain`).

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, StreamExt, stream};

use crate::backend::{BackendError, Reply};

/// A request to the backend. Clones share it; dropping the last one aborts it.
#[derive(Clone)]
pub(super) struct BackendCall(Rc<RefCell<CallState>>);

enum CallState {
    Called(LocalBoxFuture<'static, Result<Reply, BackendError>>),
    Streaming(LocalBoxStream<'static, Result<String, BackendError>>),
    Ended,
    /// The stream ended with this error.
    Failed(BackendError),
}

/// Head of the backend's reply.
pub(super) enum ReplyHead {
    Whole {
        status: u16,
        body: String,
    },
    /// The chunks come from [`BackendCall::next_chunk`].
    Stream,
}

/// A chunk of a streamed reply, the error that ends it, or its end.
pub(super) type NextChunk = Option<Result<String, BackendError>>;

impl BackendCall {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(CallState::Ended)))
    }

    /// A streamed reply of these chunks.
    pub(super) fn of(chunks: impl Iterator<Item = Result<String, BackendError>> + 'static) -> Self {
        Self(Rc::new(RefCell::new(CallState::Streaming(stream::iter(chunks).boxed_local()))))
    }

    /// Ends a streamed reply with `error`, and returns whether there was one.
    pub(super) fn fail(&self, error: &str) -> bool {
        let mut state = self.0.borrow_mut();
        let is_streaming = matches!(*state, CallState::Streaming(_));
        if is_streaming {
            let last = Err(BackendError::Failed(error.to_owned()));
            *state = CallState::Streaming(stream::iter([last]).boxed_local());
        }
        is_streaming
    }

    /// Calls the backend, and aborts an earlier call.
    pub(super) fn call(&self, call: LocalBoxFuture<'static, Result<Reply, BackendError>>) {
        *self.0.borrow_mut() = CallState::Called(call);
    }

    /// Waits for the head of the reply.
    pub(super) async fn head(&self) -> Result<ReplyHead, BackendError> {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            let CallState::Called(call) = &mut *state else {
                return Poll::Ready(Err(BackendError::Failed("nothing was asked of the backend".to_owned())));
            };
            let reply = ready!(call.poll_unpin(cx));
            *state = CallState::Ended;
            Poll::Ready(reply.map(|reply| match reply {
                Reply::Whole { status, body } => ReplyHead::Whole { status, body },
                Reply::Stream(chunks) => {
                    *state = CallState::Streaming(chunks);
                    ReplyHead::Stream
                }
            }))
        })
        .await
    }

    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<NextChunk> {
        let mut state = self.0.borrow_mut();
        let CallState::Streaming(chunks) = &mut *state else { return Poll::Ready(None) };
        let chunk = ready!(chunks.poll_next_unpin(cx));
        match &chunk {
            Some(Ok(_)) => (),
            Some(Err(error)) => *state = CallState::Failed(error.clone()),
            None => *state = CallState::Ended,
        }
        Poll::Ready(chunk)
    }

    pub(super) async fn next_chunk(&self) -> NextChunk {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The next chunk, if it is ready now.
    pub(super) fn ready_chunk(&self) -> Poll<NextChunk> {
        let mut now = Context::from_waker(std::task::Waker::noop());
        self.poll_chunk(&mut now)
    }

    /// The error that ended the stream.
    pub(super) fn failure(&self) -> Option<BackendError> {
        match &*self.0.borrow() {
            CallState::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Reads the reply to its end and drops it.
    pub(super) async fn exhaust(self) {
        if matches!(*self.0.borrow(), CallState::Called(_)) && self.head().await.is_err() {
            return;
        }
        while let Some(Ok(_)) = self.next_chunk().await {}
    }
}
