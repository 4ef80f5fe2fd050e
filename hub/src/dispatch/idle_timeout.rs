//! The longest pause within a response that has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Added to a publisher's own `timeoutSeconds`, so that the publisher reports the timeout first, with more detail.
const GRACE: Duration = Duration::from_secs(30);

/// The limit for a member: the smaller one of the hub's (zero: none) and the publisher's.
pub(super) fn limit(hub: Duration, publisher: Option<Duration>) -> Option<Duration> {
    let hub = Some(hub).filter(|limit| !limit.is_zero());
    let publisher = publisher.map(|timeout| timeout.saturating_add(GRACE));
    hub.into_iter().chain(publisher).min()
}

/// The idle timeout of one response. The timer is reset only after it has fired, so a piece costs one clock reading.
pub(super) struct IdleTimeout {
    limit: Option<Duration>,
    /// `None` until the first piece.
    timer: Option<IdleTimer>,
}

struct IdleTimer {
    last: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimeout {
    /// A timeout that starts with the first piece.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None }
    }

    /// Starts the timeout anew.
    pub(super) fn restart(&mut self) {
        let Some(limit) = self.limit else { return };
        let now = Instant::now();
        if let Some(timer) = &mut self.timer {
            timer.last = now;
        } else if let Some(end) = now.checked_add(limit) {
            self.timer = Some(IdleTimer { last: now, sleep: Box::pin(sleep_until(end)) });
        }
    }

    /// Resolves with the limit when no piece has come for that long.
    pub(super) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let (Some(limit), Some(timer)) = (self.limit, &mut self.timer) else { return Poll::Pending };
        while timer.sleep.as_mut().poll(cx).is_ready() {
            let end = timer.last + limit;
            if end <= Instant::now() {
                return Poll::Ready(limit);
            }
            timer.sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{pause, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_smaller_limit_applies_and_zero_means_no_limit() {
        assert_eq!(limit(600 * SECOND, None), Some(600 * SECOND));
        assert_eq!(limit(600 * SECOND, Some(120 * SECOND)), Some(150 * SECOND));
        assert_eq!(limit(100 * SECOND, Some(120 * SECOND)), Some(100 * SECOND));
        assert_eq!(limit(Duration::ZERO, Some(20 * SECOND)), Some(50 * SECOND));
        assert_eq!(limit(Duration::ZERO, None), None);
        assert_eq!(limit(SECOND, Some(Duration::MAX)), Some(SECOND));
    }

    #[tokio::test]
    async fn each_piece_restarts_the_timeout() {
        pause();
        let mut idle = IdleTimeout::new(Some(10 * SECOND));
        let waited = timeout(3600 * SECOND, poll_fn(|cx| idle.poll_elapsed(cx))).await;
        assert!(waited.is_err(), "timed out before the first piece");
        for _ in 0..5 {
            idle.restart();
            assert!(timeout(9 * SECOND, poll_fn(|cx| idle.poll_elapsed(cx))).await.is_err());
        }
        idle.restart();
        let begin = Instant::now();
        assert_eq!(poll_fn(|cx| idle.poll_elapsed(cx)).await, 10 * SECOND);
        assert_eq!(begin.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn without_a_limit_there_is_no_timeout() {
        pause();
        let mut idle = IdleTimeout::new(None);
        idle.restart();
        assert!(timeout(SECOND * 100_000, poll_fn(|cx| idle.poll_elapsed(cx))).await.is_err());
    }
}
