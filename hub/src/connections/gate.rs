//! A stream that passes one HTTP request at a time to the server.
//!
//! The server parses every request that it reads, and keeps some KiB for each of 45 bytes while the response to the first
//! one waits for its reader. So the gate passes the next request when the last response is written, and until then only the
//! body of the open one. It holds up to [`MAX_HELD`] bytes that arrive meanwhile, and leaves the rest with the system. Then
//! no read tells that the client has left, and the gate polls the socket's state instead.

mod write;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::body_allowance::READ_AHEAD;
use super::close::CloseReason;
use super::connection::Connection;
use super::head_end::{Position, chunked_end, head_ends, tail};
use super::maybe_tls::MaybeTlsStream;
use super::table::ConnectionPermit;

/// Bytes that are read behind a request: a few small ones.
const MAX_HELD: usize = 1 << 10;
/// Interval at which the socket's state is polled while bytes stay with the system: a client that leaves is noticed within
/// a second.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Time that a connection without a valid token may be idle between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Gate {
    pub(super) stream: MaybeTlsStream,
    permit: ConnectionPermit,
    held: BytesMut,
    position: Position,
    /// The last bytes of a chunked body that were passed.
    tail: [u8; 4],
    /// Whether a head was passed that the server has not begun to handle.
    head_passed: bool,
    /// The end of the idle time-out, and the number of calls when it was set.
    idle: Option<(u64, Pin<Box<Sleep>>)>,
    unread: Option<Pin<Box<Sleep>>>,
    next_poll: Option<Pin<Box<Sleep>>>,
    /// Whether the server was told that the stream has ended.
    is_over: bool,
}

impl Gate {
    pub(super) fn new(stream: MaybeTlsStream, permit: ConnectionPermit) -> Self {
        Self {
            stream,
            permit,
            held: BytesMut::new(),
            position: Position::Start,
            tail: [0; 4],
            head_passed: false,
            idle: None,
            unread: None,
            next_poll: None,
            is_over: false,
        }
    }

    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.permit.connection
    }

    /// Reads held bytes, or else from the stream. Returns the number of bytes added to `buf`.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.held.is_empty() {
            let before = buf.filled().len();
            return Pin::new(&mut self.stream).poll_read(cx, buf).map_ok(|()| buf.filled().len() - before);
        }
        let size = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..size]);
        self.held.advance(size);
        if self.held.is_empty() {
            // Frees the memory.
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(size))
    }

    /// Reads at most `most` bytes, and at most [`READ_AHEAD`], through the stack: nothing is read beyond what may be kept.
    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = [0; READ_AHEAD];
        let most = most.min(READ_AHEAD).min(buf.remaining());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        let size = ready!(self.poll_bytes(cx, &mut part))?;
        buf.put_slice(part.filled());
        Poll::Ready(Ok(size))
    }

    /// Moves the last `size` bytes of `buf` to the front of the held ones.
    fn put_back(&mut self, buf: &mut ReadBuf<'_>, size: usize) {
        let kept = buf.filled().len() - size;
        let back = &buf.filled()[kept..];
        let later = std::mem::replace(&mut self.held, BytesMut::from(back));
        self.held.extend_from_slice(&later);
        buf.set_filled(kept);
    }

    /// Holds bytes that arrive. Ready when the client has left. A connection with priority reads once: every byte behind its
    /// request would else be a poll that its user's share does not limit.
    fn hold(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < MAX_HELD && (self.held.is_empty() || !self.connection().slot.has_priority()) {
            let mut part = buf.take(MAX_HELD - self.held.len());
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                // A client that closes its half has left, and wants none of its responses.
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(part.filled());
        }
        self.poll_closed(cx).map(Ok)
    }

    /// Ready when the client has left, also if bytes stay with the system.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.stream.is_closed() {
            let next_poll = self.next_poll.get_or_insert_with(|| Box::pin(sleep(POLL_INTERVAL)));
            ready!(next_poll.poll_unpin(cx));
            self.next_poll = None;
        }
        Poll::Ready(())
    }

    /// Reads the body of the open call.
    fn read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowance = usize::try_from(self.connection().body.bytes.get()).unwrap_or(usize::MAX);
        let has_more = self.connection().body.has_more();
        if allowance == 0 && has_more {
            // The handler is behind; the rest of the body waits with the system.
            return self.poll_closed(cx).map(Ok);
        }
        if allowance == 0 {
            let held = self.hold(cx, buf);
            if held.is_pending() && !self.held.is_empty() && self.connection().body.extend_if_awaited() {
                // The bytes so far had no part of the body.
                cx.waker().wake_by_ref();
            }
            return held;
        }
        let begin = buf.filled().len();
        let read = if has_more { self.poll_part(cx, buf, allowance) } else { self.poll_bytes(cx, buf) };
        let size = ready!(read)?;
        let mut kept = size.min(allowance);
        if self.connection().body.is_chunked.get() {
            let bytes = &buf.filled()[begin..];
            let end = chunked_end(self.tail, bytes).filter(|end| *end <= kept);
            kept = end.unwrap_or(kept);
            self.tail = tail(self.tail, &bytes[..kept]);
            if end.is_some() {
                self.connection().body.end();
            }
        }
        self.connection().body.spend(kept as u64);
        if kept < size {
            self.put_back(buf, size - kept);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the head of the next request, and what there is of its body.
    fn read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head_passed {
            // The server handles it first.
            let held = self.hold(cx, buf);
            if held.is_pending() {
                self.head_passed = false;
                if !self.held.is_empty() {
                    cx.waker().wake_by_ref();
                }
            }
            return held;
        }
        if self.connection().head.must_close.get() {
            self.is_over = true;
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) =
            self.connection().close_reason.get().filter(|_| self.connection().calls.get() > 0)
        {
            // It closes now, whatever the client has sent behind its last request.
            return self.close(cx, reason);
        }
        let begin = buf.filled().len();
        let Poll::Ready(size) = self.poll_bytes(cx, buf)? else { return self.poll_idle(cx) };
        let bytes = &buf.filled()[begin..];
        let (end, has_more) = head_ends(self.position, bytes);
        let kept = end.filter(|_| has_more).unwrap_or(size);
        self.position = self.position.after(&bytes[..kept], end);
        if !self.connection().head.grow(end.unwrap_or(kept)) {
            self.permit.table.machine.cut(CloseReason::Head.as_str());
            buf.set_filled(begin);
            return self.close(cx, CloseReason::Head);
        }
        if let Some(end) = end {
            self.head_passed = true;
            self.connection().body.read_with_head.set((kept - end) as u64);
        }
        if kept < size {
            self.put_back(buf, size - kept);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when an idle connection has to close.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(grace) = self.connection().grace_left() {
            let (_, timer) = self.idle.insert((u64::MAX, Box::pin(sleep(grace))));
            ready!(timer.poll_unpin(cx));
        }
        match self.connection().close_reason.get() {
            Some(reason) => self.close(cx, reason),
            None if self.is_idle_for_long(cx) => {
                self.permit.table.machine.cut(CloseReason::Idle.as_str());
                self.close(cx, CloseReason::Idle)
            }
            None => Poll::Pending,
        }
    }

    /// Whether a connection without a token has been idle for [`IDLE_TIMEOUT`] since its last request. The server itself
    /// limits the time to the first request, and that of connections with a token.
    fn is_idle_for_long(&mut self, cx: &mut Context<'_>) -> bool {
        let calls = self.connection().calls.get();
        if self.connection().has_token.get() || calls == 0 {
            return false;
        }
        if self.idle.as_ref().is_none_or(|(armed, _)| *armed != calls) {
            self.idle = Some((calls, Box::pin(sleep(IDLE_TIMEOUT))));
        }
        self.idle.as_mut().is_some_and(|(_, timer)| timer.poll_unpin(cx).is_ready())
    }

    /// Ends the stream for the server, and tells the client why, as far as the system takes it at once.
    fn close(&mut self, cx: &mut Context<'_>, reason: CloseReason) -> Poll<io::Result<()>> {
        self.is_over = true;
        if let Some(response) = reason.response(&self.permit.table.limits) {
            let _ = Pin::new(&mut self.stream).poll_write(cx, response.as_bytes());
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.connection().register(cx);
        if self.connection().is_idle() { self.read_head(cx, buf) } else { self.read_body(cx, buf) }
    }
}

#[cfg(test)]
mod tests;
