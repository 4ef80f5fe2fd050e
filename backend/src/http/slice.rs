//! Slice of the thread's time that one reader may take while its peer sends as fast as it reads.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop::consume_budget;

/// Bytes that cost one unit of the budget of its task, of which tokio gives 128 for each poll: 128 KiB, which take less than
/// a few milliseconds also where they are tokens.
const UNIT: usize = 1 << 10;

/// What a reader owes for what it has taken. Tokio makes a socket's reads cost one unit each, but what is decoded of one read
/// may be thousands of pieces.
#[derive(Default)]
pub(super) struct Slice {
    debt: usize,
}

impl Slice {
    /// One piece of so many bytes was taken.
    pub(super) fn took(&mut self, bytes: usize) {
        self.debt += 1 + bytes / UNIT;
    }

    /// Ready once everything is paid for; until then others have their turn, and `cx` is woken behind them.
    pub(super) fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.debt > 0 {
            ready!(pin!(consume_budget()).poll(cx));
            self.debt -= 1;
        }
        Poll::Ready(())
    }
}
