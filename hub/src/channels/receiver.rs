//! The reader's end of a channel.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{EventKind, Shared};
use crate::quota::BytesPermit;

/// The reader of an open channel. Ends when the channel is replaced or closed.
pub(crate) struct Receiver(Arc<Mutex<Shared>>);

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.leave();
    }
}

impl Receiver {
    pub(super) fn new(shared: Arc<Mutex<Shared>>) -> Self {
        Self(shared)
    }

    /// The next bytes to write, event by event; `None` when the channel was replaced or closed. Within an event this never
    /// waits.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|context| {
            let mut shared = self.0.lock();
            if let Some(slice) = shared.queue.next_slice() {
                return Poll::Ready(Some(slice));
            }
            if shared.ended {
                return Poll::Ready(shared.last.take());
            }
            shared.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next event as a whole. The channel of a link does not write SSE.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<NextEvent> {
        let mut shared = self.0.lock();
        if let Some((event, held)) = shared.queue.next_event() {
            let (kind, data) = event.into_data();
            return Poll::Ready(NextEvent::Event { kind, data, held });
        }
        if shared.ended {
            return Poll::Ready(if shared.last.take().is_some() {
                NextEvent::Superseded
            } else {
                NextEvent::Closed
            });
        }
        shared.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What a [`Receiver`] has next.
pub(crate) enum NextEvent {
    Event {
        kind: EventKind,
        /// Of a task, its data in pieces.
        data: VecDeque<Bytes>,
        /// Counts the event until it is written.
        held: [BytesPermit; 2],
    },
    /// A newer channel of the session replaced this one.
    Superseded,
    Closed,
}
