//! Limits how long one reader may run without yielding, while its peer sends as fast as the reader reads.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop::consume_budget;

/// Bytes that cost one unit of the task's budget. tokio gives a task 128 units for each poll, so a task reads 128 KiB before it
/// yields, which takes less than a few milliseconds even for tokens.
const UNIT: usize = 1 << 10;

/// The budget that a reader still owes for its bytes. tokio charges one unit for each read of a socket, but one read may be
/// decoded to thousands of pieces.
#[derive(Default)]
pub(super) struct Slice {
    debt: usize,
}

impl Slice {
    /// Records that the reader took a piece of this many bytes.
    pub(super) fn took(&mut self, bytes: usize) {
        self.debt += 1 + bytes / UNIT;
    }

    /// Ready when the debt is paid. Until then other tasks run first, and `cx` is woken after them.
    pub(super) fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.debt > 0 {
            ready!(pin!(consume_budget()).poll(cx));
            self.debt -= 1;
        }
        Poll::Ready(())
    }
}
