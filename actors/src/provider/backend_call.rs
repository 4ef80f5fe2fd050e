//! One request at the backend, held apart from the one who waits for it: when the caller leaves, the backend may have
//! to finish all the same (`onAbort: drain`).

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, StreamExt, stream};

use crate::backend::{BackendError, Reply};

/// A request at the backend. Clones are the same one; the last one dropped stops it.
#[derive(Clone)]
pub(super) struct BackendCall(Rc<RefCell<State>>);

enum State {
    Called(LocalBoxFuture<'static, Result<Reply, BackendError>>),
    Streams(LocalBoxStream<'static, Result<String, BackendError>>),
    Over,
    /// Over, with this error in the middle of its pieces.
    Failed(BackendError),
}

/// How a backend answers.
pub(super) enum Answer {
    /// In one piece.
    Whole { status: u16, body: String },
    /// In pieces: [`BackendCall::piece`] gives them.
    Pieces,
}

impl BackendCall {
    /// Nothing is called yet.
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(State::Over)))
    }

    /// An answer whose pieces are all there.
    pub(super) fn of(pieces: impl Iterator<Item = Result<String, BackendError>> + 'static) -> Self {
        Self(Rc::new(RefCell::new(State::Streams(stream::iter(pieces).boxed_local()))))
    }

    /// Stops an answer that comes in pieces: `error` is the last of them. False for any other.
    pub(super) fn fail(&self, error: &str) -> bool {
        let mut state = self.0.borrow_mut();
        let streams = matches!(*state, State::Streams(_));
        if streams {
            let last = Err(BackendError::Failed(error.to_owned()));
            *state = State::Streams(stream::iter([last]).boxed_local());
        }
        streams
    }

    /// Calls the backend; what was called before stops.
    pub(super) fn call(&self, call: LocalBoxFuture<'static, Result<Reply, BackendError>>) {
        *self.0.borrow_mut() = State::Called(call);
    }

    /// The answer's beginning.
    pub(super) async fn answer(&self) -> Result<Answer, BackendError> {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            let State::Called(call) = &mut *state else {
                return Poll::Ready(Err(BackendError::Failed("nothing was asked of the backend".to_owned())));
            };
            let reply = ready!(call.poll_unpin(cx));
            *state = State::Over;
            Poll::Ready(reply.map(|reply| match reply {
                Reply::Whole { status, body } => Answer::Whole { status, body },
                Reply::Stream(pieces) => {
                    *state = State::Streams(pieces);
                    Answer::Pieces
                }
            }))
        })
        .await
    }

    /// The next piece.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<String, BackendError>>> {
        let mut state = self.0.borrow_mut();
        let State::Streams(pieces) = &mut *state else { return Poll::Ready(None) };
        let piece = ready!(pieces.poll_next_unpin(cx));
        match &piece {
            Some(Ok(_)) => (),
            Some(Err(error)) => *state = State::Failed(error.clone()),
            None => *state = State::Over,
        }
        Poll::Ready(piece)
    }

    /// The next piece.
    pub(super) async fn piece(&self) -> Option<Result<String, BackendError>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// The next piece, if it is there now.
    pub(super) fn piece_now(&self) -> Poll<Option<Result<String, BackendError>>> {
        let mut now = Context::from_waker(std::task::Waker::noop());
        self.poll_piece(&mut now)
    }

    /// The error that its pieces ended in, if they did.
    pub(super) fn failure(&self) -> Option<BackendError> {
        match &*self.0.borrow() {
            State::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Lets the backend finish, and throws away what it says.
    pub(super) async fn exhaust(self) {
        if matches!(*self.0.borrow(), State::Called(_)) && self.answer().await.is_err() {
            return;
        }
        while let Some(Ok(_)) = self.piece().await {}
    }
}
