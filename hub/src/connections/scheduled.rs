//! The future of a connection, polled when its run queue admits it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::priority::{PriorityCount, with_polled};
use super::scheduler::SchedulerSlot;

pub(super) struct Scheduled<F> {
    slot: Rc<SchedulerSlot>,
    /// The slot's count. `None` during a poll.
    priority: Option<PriorityCount>,
    future: Pin<Box<F>>,
}

impl<F: Future> Scheduled<F> {
    pub(super) fn new(slot: Rc<SchedulerSlot>, future: F) -> Self {
        let priority = Some(slot.priority().clone());
        Self { slot, priority, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Scheduled<F> {
    type Output = F::Output;

    #[expect(clippy::disallowed_methods, reason = "the time of a poll does not follow a test's clock")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { slot, priority, future } = &mut *self;
        if !slot.admits(cx) {
            return Poll::Pending;
        }
        let start = Instant::now();
        let output = with_polled(priority, || future.as_mut().poll(cx));
        slot.charge(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        output
    }
}
