//! The writing half of a [`Gate`]: what the server writes passes, and a peer without a valid token has to read it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::AsyncWrite;
use tokio::time::sleep;

use super::Gate;
use crate::connections::close::CloseReason;
use crate::telemetry::Limit;

/// Time that a connection without a valid token may not read its response.
pub(super) const UNREAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The server's answer to a first head that takes too long. The server does not report it in another way.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 ";

impl Gate {
    /// Whether a connection without a token has read nothing for [`UNREAD_TIMEOUT`], or has to close.
    fn is_stuck(&mut self, cx: &mut Context<'_>) -> bool {
        self.connection().register(cx);
        if self.connection().has_token.get() {
            return false;
        }
        let timer = self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD_TIMEOUT)));
        let is_over = timer.poll_unpin(cx).is_ready();
        if is_over {
            self.permit.table.machine.cut(CloseReason::Idle.as_str());
        }
        is_over || self.connection().close_reason.get().is_some()
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.connection().unwritten.set(true);
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if self.connection().calls.get() == 0 && written.is_ready() && bytes.starts_with(SLOW_HEAD) {
            self.permit.table.machine.refused_by(Limit::RequestHead);
        }
        match written {
            Poll::Ready(_) => self.unread = None,
            Poll::Pending if self.is_stuck(cx) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => {}
        }
        written
    }

    /// The server flushes when it has written all of a response.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match flushed {
            Poll::Ready(_) => {
                self.connection().unwritten.set(false);
                if self.connection().is_idle() && !self.is_over {
                    // Reads the held bytes, or starts the idle time-out.
                    let is_over = self.connection().head.must_close.get()
                        || self.connection().close_reason.get().is_some();
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
