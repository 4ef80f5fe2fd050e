//! Whether to ask the hub for a link. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How long no link is tried at a hub, or through a proxy, that did not let one through.
const PAUSE: Duration = Duration::from_hours(1);
/// How long no conclusion is drawn from failures after a hub has said that it shuts down.
const RESTART: Duration = Duration::from_mins(1);
/// A link that breaks earlier counts as one that does not work.
const SHORT: Duration = Duration::from_secs(30);

/// Remembers what became of the last links.
#[derive(Debug, Default)]
pub(in crate::hub_client) struct LinkPolicy {
    /// Until when no link is tried, and why.
    pause: Option<(Instant, String)>,
    /// Whether the last link broke within [`SHORT`].
    was_short: bool,
    /// Until when a hub that shut down, and the proxy before it, may fail in any way.
    restart_until: Option<Instant>,
}

impl LinkPolicy {
    /// Why no link is tried now; `None` if one is.
    pub(in crate::hub_client) fn pause(&self, now: Instant) -> Option<String> {
        self.pause.as_ref().filter(|(until, _)| now < *until).map(|(_, reason)| reason.clone())
    }

    /// Notes that the same request without an upgrade works. A pause that lasts is not prolonged.
    pub(in crate::hub_client) fn refused(&mut self, reason: String, now: Instant) {
        if self.pause(now).is_none() {
            self.pause = Some((now + PAUSE, reason));
        }
    }

    /// Notes that the hub of a link shuts down, or that its link has ended then.
    pub(in crate::hub_client) fn restarts(&mut self, now: Instant) {
        self.restart_until = Some(now + RESTART);
    }

    /// Whether a failure may be that of a hub that restarts: it says nothing about links.
    pub(in crate::hub_client) fn is_restarting(&self, now: Instant) -> bool {
        self.restart_until.is_some_and(|until| now < until)
    }

    /// Notes that a link broke after `lived`. Two short ones in a row do not work.
    pub(in crate::hub_client) fn broke(&mut self, lived: Duration, now: Instant) {
        let is_short = lived < SHORT;
        if is_short && self.was_short {
            self.refused("links broke within 30 s, twice in a row".to_owned(), now);
        }
        self.was_short = is_short && !self.was_short;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_short_links_in_a_row_pause_the_tries_for_an_hour() {
        let (mut policy, begin) = (LinkPolicy::default(), Instant::now());
        for lived in [1, 40, 1, 30] {
            policy.broke(Duration::from_secs(lived), begin);
            assert!(policy.pause(begin).is_none());
        }
        policy.broke(Duration::from_secs(2), begin);
        assert!(policy.pause(begin).is_none());
        policy.broke(Duration::from_secs(29), begin);
        assert!(policy.pause(begin).is_some());
        assert!(policy.pause(begin + PAUSE - Duration::from_secs(1)).is_some());
        assert!(policy.pause(begin + PAUSE).is_none());
        policy.broke(Duration::from_secs(2), begin + PAUSE);
        assert!(policy.pause(begin + PAUSE).is_none());
    }

    #[test]
    fn for_a_minute_after_a_hub_went_failures_say_nothing_about_links() {
        let (mut policy, begin) = (LinkPolicy::default(), Instant::now());
        assert!(!policy.is_restarting(begin));
        policy.restarts(begin);
        assert!(policy.is_restarting(begin + RESTART - Duration::from_secs(1)));
        assert!(!policy.is_restarting(begin + RESTART));
    }
}
