//! How much of a request's body a connection may read ahead of its handler.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::error::PayloadError;
use actix_http::{HttpMessage, Payload, Request};
use actix_web::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::connection::Connection;

/// Bytes of a body that may be read ahead of its handler. They and the server's buffers around them are within what each
/// running call counts; a longer read-ahead of 2,048 connections would be more than `--max-memory`.
pub(super) const READ_AHEAD: usize = 8 << 10;

/// The bytes of the open call's body that may still be read.
#[derive(Default)]
pub(super) struct BodyAllowance {
    pub(super) bytes: Cell<u64>,
    /// Bytes behind `bytes` of a body of known length.
    left: Cell<u64>,
    /// Whether the length of the body is unknown.
    pub(super) is_chunked: Cell<bool>,
    /// Whether the handler waits for more of a body that is longer than [`READ_AHEAD`], or of unknown length.
    is_awaited: Cell<bool>,
    /// Bytes that were read together with the last head.
    pub(super) read_with_head: Cell<u64>,
}

impl BodyAllowance {
    /// Allows the body of a call that begins on `connection`.
    pub(super) fn begin(&self, req: &mut Request, connection: &Rc<Connection>) {
        let length = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let (all, is_chunked) = match (req.payload(), length) {
            (Payload::None, _) => (0, false),
            (_, Some(length)) => (u64::saturating_sub(length, self.read_with_head.get()), false),
            (_, None) => (u64::MAX, true),
        };
        let bytes = all.min(READ_AHEAD as u64);
        if bytes < all {
            let payload = req.payload();
            let observed = ObservedPayload { payload: payload.take(), connection: connection.clone() };
            *payload = Payload::Stream { payload: Box::pin(observed) };
        }
        self.read_with_head.set(0);
        self.is_awaited.set(false);
        self.is_chunked.set(is_chunked);
        self.bytes.set(bytes);
        self.left.set(if is_chunked { 0 } else { all - bytes });
    }

    pub(super) fn spend(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    /// Ends the body: what comes next is not of it, unless its handler asks for more.
    pub(super) fn end(&self) {
        self.bytes.set(0);
        self.is_awaited.set(false);
    }

    /// Whether bytes that come next certainly are of this body, and not of another request.
    pub(super) fn has_more(&self) -> bool {
        self.left.get() > 0
    }

    /// Allows more if the handler waits for it.
    pub(super) fn extend_if_awaited(&self) -> bool {
        let is_awaited = self.is_awaited.get();
        if is_awaited {
            self.extend();
        }
        is_awaited && self.bytes.get() > 0
    }

    /// Allows [`READ_AHEAD`] bytes, or as many as the body still has.
    fn extend(&self) {
        let bytes = self.bytes.get();
        let more = (READ_AHEAD as u64).saturating_sub(bytes);
        let more = if self.is_chunked.get() { more } else { more.min(self.left.get()) };
        self.left.set(self.left.get().saturating_sub(more));
        self.bytes.set(bytes + more);
    }
}

/// A body that is longer than [`READ_AHEAD`], or of unknown length. Its connection may read more when the handler has used
/// up what came.
struct ObservedPayload {
    payload: Payload,
    connection: Rc<Connection>,
}

impl Stream for ObservedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.payload.poll_next_unpin(cx);
        let body = &self.connection.body;
        body.is_awaited.set(next.is_pending());
        if next.is_pending() {
            let was_spent = body.bytes.get() == 0;
            body.extend();
            if was_spent && body.bytes.get() > 0 {
                self.connection.wake();
            }
        }
        next
    }
}
