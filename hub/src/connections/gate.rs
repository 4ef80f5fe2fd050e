//! What stands between a connection and the server: it lets one request through at a time.
//!
//! The server reads whatever comes and keeps each request that it finds, some KiB for 45 bytes, while the answer to the
//! first of them waits for its reader. So it gets the next request when the last answer is written, and until then no
//! more than the body of the one under way. What comes meanwhile is held as it came, and beyond [`HELD`] stays with the
//! system. Then no read tells that the caller has left, and the socket is looked at instead.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::flow::Flow;
use super::heads::{At, ends, last_chunk, tail};
use super::table::{Cut, Place};
use super::wire::Wire;
use crate::error::{ApiError, Dialect, ErrorKind};

/// So much is read behind a request: a few small ones. With it is held what was read before its end was known.
const HELD: usize = 1 << 10;
/// The socket of one of whom more comes is looked at so often: one who leaves is noticed within a second.
const LOOK: Duration = Duration::from_millis(250);
/// A connection whose caller has no valid token stays open so long between two requests.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// ... and so long while nothing is taken of an answer.
const UNREAD: Duration = Duration::from_secs(15);

pub(super) struct Gate {
    wire: Wire,
    place: Place,
    held: BytesMut,
    /// Where in the requests it is.
    at: At,
    /// The last bytes of a body that were let through.
    tail: [u8; 4],
    /// Whether a head was let through since the server had its turn.
    head_is_through: bool,
    /// The number of calls there had been, and when the idle one ends.
    idle: Option<(u64, Pin<Box<Sleep>>)>,
    unread: Option<Pin<Box<Sleep>>>,
    /// When the socket is looked at again.
    look: Option<Pin<Box<Sleep>>>,
    /// Whether the server was told that nothing more comes.
    is_over: bool,
}

impl Gate {
    pub(super) fn new(wire: Wire, place: Place) -> Self {
        Self {
            wire,
            place,
            held: BytesMut::new(),
            at: At::Start,
            tail: [0; 4],
            head_is_through: false,
            idle: None,
            unread: None,
            look: None,
            is_over: false,
        }
    }

    pub(super) fn flow(&self) -> &Rc<Flow> {
        &self.place.flow
    }

    #[cfg(test)]
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Takes what is held, or else what comes. How many bytes `buf` got.
    fn take(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.held.is_empty() {
            let before = buf.filled().len();
            return Pin::new(&mut self.wire).poll_read(cx, buf).map_ok(|()| buf.filled().len() - before);
        }
        let size = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..size]);
        self.held.advance(size);
        if self.held.is_empty() {
            // Gives the memory back.
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(size))
    }

    /// Takes the last `size` bytes of `buf` back.
    fn take_back(&mut self, buf: &mut ReadBuf<'_>, size: usize) {
        let kept = buf.filled().len() - size;
        let back = &buf.filled()[kept..];
        // What is held came later.
        let later = std::mem::replace(&mut self.held, BytesMut::from(back));
        self.held.extend_from_slice(&later);
        buf.set_filled(kept);
    }

    /// Holds what comes, and notices an end.
    fn hold(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < HELD {
            let mut part = buf.take(HELD - self.held.len());
            ready!(Pin::new(&mut self.wire).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                // Whoever closes its half has left, and whatever it asked for with it.
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(part.filled());
        }
        self.look(cx).map(Ok)
    }

    /// Notices an end behind bytes that stay with the system.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.wire.is_closed() {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.poll_unpin(cx));
            self.look = None;
        }
        Poll::Ready(())
    }

    /// Reads of the call under way: its body.
    fn read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowance = usize::try_from(self.flow().allowance()).unwrap_or(usize::MAX);
        if allowance == 0 {
            let held = self.hold(cx, buf);
            if held.is_pending() && !self.held.is_empty() && self.flow().wants_more() {
                // What came held no part of the body: the server looks at it, and gets more.
                cx.waker().wake_by_ref();
            }
            return held;
        }
        let begin = buf.filled().len();
        let size = ready!(self.take(cx, buf))?;
        let mut kept = size.min(allowance);
        if self.flow().is_chunked() {
            let came = &buf.filled()[begin..];
            let end = last_chunk(self.tail, came).filter(|end| *end <= kept);
            kept = end.unwrap_or(kept);
            self.tail = tail(self.tail, &came[..kept]);
            if end.is_some() {
                self.flow().spend(u64::MAX);
            }
        }
        self.flow().spend(kept as u64);
        if kept < size {
            self.take_back(buf, size - kept);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the next request, up to its end and what there is of its body.
    fn read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head_is_through {
            // The server looks at it first.
            let held = self.hold(cx, buf);
            if held.is_pending() {
                self.head_is_through = false;
                if !self.held.is_empty() {
                    cx.waker().wake_by_ref();
                }
            }
            return held;
        }
        if self.flow().is_last() {
            // Its answer is written, and said so where it could.
            self.is_over = true;
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = self.flow().is_cut().filter(|_| self.flow().calls() > 0) {
            // ConnectionLimits is made at once, whatever it has sent behind its last request.
            self.is_over = true;
            self.say(cx, why);
            return Poll::Ready(Ok(()));
        }
        let begin = buf.filled().len();
        let Poll::Ready(size) = self.take(cx, buf)? else { return self.idle(cx) };
        let came = &buf.filled()[begin..];
        let (end, has_more) = ends(self.at, came);
        let kept = end.filter(|_| has_more).unwrap_or(size);
        self.at = self.at.behind(&came[..kept], end);
        if !self.place.head_grows(end.unwrap_or(kept)) {
            self.place.machine().cut(Cut::Head.as_str());
            buf.set_filled(begin);
            self.is_over = true;
            self.say(cx, Cut::Head);
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = end {
            self.head_is_through = true;
            self.flow().reads_behind_head((kept - end) as u64);
        }
        if kept < size {
            self.take_back(buf, size - kept);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is under way and nothing comes.
    fn idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(spared) = self.flow().is_spared() {
            let (_, timer) = self.idle.insert((u64::MAX, Box::pin(sleep(spared))));
            ready!(timer.poll_unpin(cx));
        }
        if self.flow().is_cut().is_none() && !self.is_idle_for_long(cx) {
            return Poll::Pending;
        }
        self.is_over = true;
        match self.flow().is_cut() {
            Some(why) => self.say(cx, why),
            None => self.place.machine().cut(Cut::Idle.as_str()),
        }
        Poll::Ready(Ok(()))
    }

    /// Whether one without a token has made no request for too long since its last one. The server itself limits the
    /// time to the first request, and the time that a caller with a token has.
    fn is_idle_for_long(&mut self, cx: &mut Context<'_>) -> bool {
        let flow = &self.place.flow;
        let calls = flow.calls();
        if flow.is_known() || calls == 0 {
            return false;
        }
        if self.idle.as_ref().is_none_or(|(armed, _)| *armed != calls) {
            self.idle = Some((calls, Box::pin(sleep(IDLE))));
        }
        self.idle.as_mut().is_some_and(|(_, timer)| timer.poll_unpin(cx).is_ready())
    }

    /// Says why it is closed, as far as there is room for it.
    fn say(&mut self, cx: &mut Context<'_>, why: Cut) {
        let limits = self.place.limits();
        let error = match why {
            Cut::Address => ApiError::new(
                ErrorKind::Busy,
                format!(
                    "your address has {} connections without a valid token: send one, or close some",
                    limits.of_address.unwrap_or(usize::MAX)
                ),
            ),
            Cut::Hub => ApiError::new(
                ErrorKind::HubBusy,
                format!("the hub has {} connections: try again later, and send a token", limits.all),
            ),
            Cut::Head => {
                let text = "the hub has too many large heads of requests: try again later, with fewer or shorter headers";
                ApiError::new(ErrorKind::HubBusy, text)
            }
            // Nothing was asked for.
            Cut::Idle => return,
        };
        let body = error.body(Dialect::Api);
        let text = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 5\r\n\
             connection: close\r\n\r\n{body}",
            error.status(),
            body.len()
        );
        // Best effort: it is about to end.
        let _ = Pin::new(&mut self.wire).poll_write(cx, text.as_bytes());
        let _ = Pin::new(&mut self.wire).poll_flush(cx);
    }

    /// Whether one without a token has taken nothing for too long, or has to make room.
    fn is_stuck(&mut self, cx: &mut Context<'_>) -> bool {
        let flow = &self.place.flow;
        flow.is_served_by(cx);
        if flow.is_known() {
            return false;
        }
        let timer = self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD)));
        let is_over = timer.poll_unpin(cx).is_ready();
        if is_over {
            self.place.machine().cut(Cut::Idle.as_str());
        }
        is_over || flow.is_cut().is_some()
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.flow().is_served_by(cx);
        if self.flow().is_idle() { self.read_head(cx, buf) } else { self.read_body(cx, buf) }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.flow().wrote(false);
        let written = Pin::new(&mut self.wire).poll_write(cx, bytes);
        match written {
            Poll::Ready(_) => self.unread = None,
            Poll::Pending if self.is_stuck(cx) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => {}
        }
        written
    }

    /// The server calls it when all that it had is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.wire).poll_flush(cx);
        match flushed {
            Poll::Ready(_) => {
                self.flow().wrote(true);
                if self.flow().is_idle() && !self.is_over {
                    // What came meanwhile has its turn; else the time until the next request runs.
                    let is_over = self.flow().is_last() || self.flow().is_cut().is_some();
                    if is_over || !self.held.is_empty() || self.is_idle_for_long(cx) {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            Poll::Pending if self.is_stuck(cx) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => {}
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over = true;
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
