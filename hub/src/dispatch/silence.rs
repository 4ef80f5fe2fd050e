//! The limit on a publisher's silence within an answer that has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What a publisher has beyond its own `timeoutSeconds`: it notices first, and can say more.
const GRACE: Duration = Duration::from_secs(30);

/// The limit on silence at a member: the hub's own (zero: none), or less where the publisher said that it gives its
/// backend up sooner.
pub(super) fn limit(hub: Duration, publisher: Option<Duration>) -> Option<Duration> {
    let hub = Some(hub).filter(|limit| !limit.is_zero());
    let publisher = publisher.map(|timeout| timeout.saturating_add(GRACE));
    hub.into_iter().chain(publisher).min()
}

/// Watches one answer. Its timer is set again only when it has run out: a token costs a look at the clock.
pub(super) struct Silence {
    limit: Option<Duration>,
    heard: Option<Heard>,
}

struct Heard {
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    /// Watches nothing until the first piece has come.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, heard: None }
    }

    /// A piece of the answer came.
    pub(super) fn heard(&mut self) {
        let Some(limit) = self.limit else { return };
        let now = Instant::now();
        if let Some(heard) = &mut self.heard {
            heard.last = now;
        } else if let Some(end) = now.checked_add(limit) {
            // Past the end of time there is no timer.
            self.heard = Some(Heard { last: now, timer: Box::pin(sleep_until(end)) });
        }
    }

    /// Resolves with the limit when nothing has come for so long.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let (Some(limit), Some(heard)) = (self.limit, &mut self.heard) else { return Poll::Pending };
        while heard.timer.as_mut().poll(cx).is_ready() {
            let end = heard.last + limit;
            if end <= Instant::now() {
                return Poll::Ready(limit);
            }
            heard.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{pause, sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_smaller_limit_holds_and_zero_is_none() {
        assert_eq!(limit(600 * SECOND, None), Some(600 * SECOND));
        assert_eq!(limit(600 * SECOND, Some(120 * SECOND)), Some(150 * SECOND));
        assert_eq!(limit(100 * SECOND, Some(120 * SECOND)), Some(100 * SECOND));
        assert_eq!(limit(Duration::ZERO, Some(20 * SECOND)), Some(50 * SECOND));
        assert_eq!(limit(Duration::ZERO, None), None);
        assert_eq!(limit(SECOND, Some(Duration::MAX)), Some(SECOND));
    }

    #[tokio::test]
    async fn each_piece_begins_the_silence_anew() {
        pause();
        let mut silence = Silence::new(Some(10 * SECOND));
        let waited = timeout(3600 * SECOND, poll_fn(|cx| silence.poll_over(cx))).await;
        assert!(waited.is_err(), "nothing has begun");
        for _ in 0..5 {
            silence.heard();
            assert!(timeout(9 * SECOND, poll_fn(|cx| silence.poll_over(cx))).await.is_err());
        }
        silence.heard();
        let begin = Instant::now();
        assert_eq!(poll_fn(|cx| silence.poll_over(cx)).await, 10 * SECOND);
        assert_eq!(begin.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn without_a_limit_silence_lasts() {
        pause();
        let mut silence = Silence::new(None);
        silence.heard();
        assert!(timeout(SECOND * 100_000, poll_fn(|cx| silence.poll_over(cx))).await.is_err());
        sleep(SECOND).await;
    }
}
