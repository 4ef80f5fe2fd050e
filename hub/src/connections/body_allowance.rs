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

/// Bytes that may be read ahead of the handler if the body's length is unknown.
const READ_AHEAD: u64 = 8 << 10;

/// The bytes of the open call's body that may still be read.
#[derive(Default)]
pub(super) struct BodyAllowance {
    pub(super) bytes: Cell<u64>,
    /// Whether the length of the body is unknown.
    pub(super) is_chunked: Cell<bool>,
    /// Whether the handler waits for more of a body of unknown length.
    is_awaited: Cell<bool>,
    /// Bytes that were read together with the last head.
    pub(super) read_with_head: Cell<u64>,
}

impl BodyAllowance {
    /// Allows the body of a call that begins on `connection`.
    pub(super) fn begin(&self, req: &mut Request, connection: &Rc<Connection>) {
        let length = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let (bytes, is_chunked) = match (req.payload(), length) {
            (Payload::None, _) => (0, false),
            (_, Some(length)) => (u64::saturating_sub(length, self.read_with_head.get()), false),
            (payload, None) => {
                let connection = connection.clone();
                let observed = ObservedPayload { payload: payload.take(), connection };
                *payload = Payload::Stream { payload: Box::pin(observed) };
                (READ_AHEAD, true)
            }
        };
        self.read_with_head.set(0);
        self.is_awaited.set(false);
        self.is_chunked.set(is_chunked);
        self.bytes.set(bytes);
    }

    pub(super) fn spend(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    /// Allows more if the handler waits for it.
    pub(super) fn extend_if_awaited(&self) -> bool {
        let is_awaited = self.is_awaited.get();
        if is_awaited {
            self.bytes.set(READ_AHEAD);
        }
        is_awaited
    }
}

/// A body of unknown length. Its connection may read more when the handler has used up what came.
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
        if next.is_pending() && body.bytes.replace(READ_AHEAD) == 0 {
            self.connection.wake();
        }
        next
    }
}
