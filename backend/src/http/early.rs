//! Socket whose peer may stop reading before it has answered.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Reports a write that the peer refused as done, so that the answer it sent instead can still be read.
///
/// A server that refuses an upload answers and closes its side. hyper gives up at the first failed write, with the
/// answer unread in the socket.
pub(super) struct EarlyAnswer<T> {
    socket: T,
    refused: Rc<Cell<bool>>,
}

impl<T> EarlyAnswer<T> {
    /// Wraps `socket`. The flag is set once a write was refused: the connection must not be used again.
    pub(super) fn new(socket: T) -> (Self, Rc<Cell<bool>>) {
        let refused = Rc::<Cell<bool>>::default();
        (Self { socket, refused: Rc::clone(&refused) }, refused)
    }

    fn written<V>(&self, wrote: io::Result<V>, instead: V) -> io::Result<V> {
        match wrote {
            Err(error) if is_refusal(&error) => {
                self.refused.set(true);
                Ok(instead)
            }
            wrote => wrote,
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

impl<T: Read + Unpin> Read for EarlyAnswer<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for EarlyAnswer<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.refused.get() {
            return Poll::Ready(Ok(buf.len()));
        }
        let wrote = Pin::new(&mut self.socket).poll_write(cx, buf);
        wrote.map(|wrote| self.written(wrote, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.refused.get() {
            return Poll::Ready(Ok(all));
        }
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        wrote.map(|wrote| self.written(wrote, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        flushed.map(|flushed| self.written(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.socket).poll_shutdown(cx);
        shut.map(|shut| self.written(shut, ()))
    }
}
