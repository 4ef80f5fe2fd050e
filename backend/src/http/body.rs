//! The body of an answer, as a stream of bytes.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::client::PoolSlot;
use super::connection::Connection;
use super::slice::Slice;
use crate::budget::{AnswerBudget, Reservation};

/// Why a body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body exceeds the reader's limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke, or the framing is invalid: a body shorter than its length, or a chunk without a size.
    #[error("the connection broke in the middle of the answer")]
    Broken,
    /// No bytes came for the given time.
    #[error("the answer stopped coming")]
    Silent,
    /// The answer exceeds the reader's byte budget.
    #[error("there is no room for the answer")]
    BudgetExceeded,
}

/// The body of an answer. At its end the connection goes back to the pool; dropping the body earlier closes the connection.
pub struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    returned: PoolSlot,
    slice: Slice,
}

impl Body {
    pub(super) fn new(incoming: Incoming, connection: Connection, returned: PoolSlot) -> Self {
        Self { incoming, connection: Some(connection), returned, slice: Slice::default() }
    }

    /// Returns the next piece that hyper has decoded. Only [`Connection::drive`] decodes pieces, so no waker is needed.
    fn poll_decoded(&mut self) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut self.incoming).poll_frame(&mut cx) {
                // Trailers are ignored.
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.slice.took(data.len());
                        return Poll::Ready(Some(Ok(data)));
                    }
                    Err(_trailers) => (),
                },
                Poll::Ready(Some(Err(_))) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(BodyError::Broken)));
                }
                Poll::Ready(None) => {
                    if let Some(connection) = self.connection.take() {
                        self.returned.give_back(connection);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        ready!(this.slice.poll_paid(cx));
        if let Poll::Ready(piece) = this.poll_decoded() {
            return Poll::Ready(piece);
        }
        // The first poll has no waker, because hyper would wake this task for each piece that this poll itself takes.
        let mut now = Context::from_waker(Waker::noop());
        for cx in [&mut now, cx] {
            let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
            connection.drive(cx);
            if let Poll::Ready(piece) = this.poll_decoded() {
                return Poll::Ready(piece);
            }
        }
        if this.connection.take_if(|connection| connection.is_over()).is_some() {
            return Poll::Ready(Some(Err(BodyError::Broken)));
        }
        Poll::Pending
    }
}

/// Reads a body to its end, so that its connection goes back to the pool. Fails above `limit` bytes, or after `silence` without
/// a piece.
pub async fn read_body<S, E>(body: S, limit: usize, silence: Duration) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    read_reserved(body, limit, silence, &mut AnswerBudget::default().reservation()).await
}

/// As [`read_body`]; `reservation` counts the bytes as they come.
pub(crate) async fn read_reserved<S, E>(
    mut body: S,
    limit: usize,
    silence: Duration,
    reservation: &mut Reservation,
) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        match timeout(silence, body.next()).await {
            Err(_elapsed) => return Err(BodyError::Silent),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(piece))) if whole.len() + joined.len() + piece.len() > limit => {
                return Err(BodyError::TooLarge(limit));
            }
            Ok(Some(Ok(piece))) if !reservation.resize(whole.len() + joined.len() + piece.len()) => {
                return Err(BodyError::BudgetExceeded);
            }
            // Most answers come in one piece, which need not be copied.
            Ok(Some(Ok(piece))) if whole.is_empty() && joined.is_empty() => whole = piece,
            Ok(Some(Ok(piece))) => {
                joined.extend_from_slice(&std::mem::take(&mut whole));
                joined.extend_from_slice(&piece);
            }
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}
