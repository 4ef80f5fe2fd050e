//! Catches the panic of a future.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use super::panic_hook;

/// A future panicked. The payload is dropped: it may quote a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs `future`. A panic in it becomes [`Panicked`], and the panic hook logs it under `name`.
///
/// The future is dropped before this resolves, so its connections close at once.
pub(crate) async fn catch_panic<F: Future>(name: Arc<str>, future: F) -> Result<F::Output, Panicked> {
    let mut future = Some(Box::pin(future));
    let result = poll_fn(|cx| {
        let _named = panic_hook::enter(&name);
        let Some(running) = future.as_mut() else { return Poll::Ready(Err(Panicked)) };
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_payload) => Poll::Ready(Err(Panicked)),
        }
    })
    .await;
    let _named = panic_hook::enter(&name);
    // Its destructors may panic, too.
    match catch_unwind(AssertUnwindSafe(move || drop(future))) {
        Ok(()) => result,
        Err(_payload) => Err(Panicked),
    }
}
