//! Whether to ask the hub for a link. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How long no link is tried at a hub, or through a proxy, that did not let one through.
const PAUSE: Duration = Duration::from_hours(1);
/// How long no link is tried after a failure that a restart of the hub or of a proxy can also explain.
const SHORT_PAUSE: Duration = Duration::from_mins(1);
/// How long failures do not count after a hub has said that it shuts down.
const RESTART: Duration = Duration::from_mins(1);
/// Age below which a link that breaks counts as one that does not work.
const SHORT: Duration = Duration::from_secs(30);

/// Decides from the last links whether the next one is tried.
#[derive(Debug, Default)]
pub(in crate::hub_client) struct LinkPolicy {
    /// Until when no link is tried, and why.
    pause: Option<(Instant, String)>,
    /// Whether a link failed for [`SHORT_PAUSE`], and none has worked since.
    has_failed: bool,
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

    /// The end of the last pause, if there was one.
    pub(in crate::hub_client) fn paused_until(&self) -> Option<Instant> {
        self.pause.as_ref().map(|(until, _)| *until)
    }

    /// Notes that no link comes through. A pause that lasts is not prolonged.
    pub(in crate::hub_client) fn refused(&mut self, reason: String, now: Instant) {
        if self.pause(now).is_none() {
            self.pause = Some((now + PAUSE, reason));
        }
    }

    /// Notes that none came through now. A second time in a row it is no restart.
    pub(in crate::hub_client) fn failed(&mut self, reason: String, now: Instant) {
        if self.has_failed {
            self.refused(reason, now);
        } else if self.pause(now).is_none() {
            self.has_failed = true;
            self.pause = Some((now + SHORT_PAUSE, reason));
        }
    }

    /// Notes that the hub has said hello on a link.
    pub(in crate::hub_client) fn greeted(&mut self) {
        self.has_failed = false;
        self.pause = None;
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

    /// Notes that the hub closed a link with a word: WebSocket passes in both directions.
    pub(in crate::hub_client) fn closed(&mut self) {
        self.was_short = false;
    }

    /// Notes that the registrar gave a link up after `lived`. A short one says nothing.
    pub(in crate::hub_client) fn left(&mut self, lived: Duration) {
        if lived >= SHORT {
            self.was_short = false;
        }
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

    /// A deploy of the hub must not cost an hour of the slower way.
    #[test]
    fn a_failure_that_may_pass_pauses_a_minute_and_an_hour_if_it_repeats() {
        let (mut policy, begin) = (LinkPolicy::default(), Instant::now());
        let failed = |policy: &mut LinkPolicy, now| policy.failed("HTTP 502".to_owned(), now);
        failed(&mut policy, begin);
        assert_eq!(policy.paused_until(), Some(begin + SHORT_PAUSE));
        policy.greeted();
        let again = begin + 2 * SHORT_PAUSE;
        failed(&mut policy, again);
        assert_eq!(policy.paused_until(), Some(again + SHORT_PAUSE), "a link worked between them");
        failed(&mut policy, again + SHORT_PAUSE / 2);
        assert_eq!(policy.paused_until(), Some(again + SHORT_PAUSE), "none was tried");
        let third = again + SHORT_PAUSE;
        failed(&mut policy, third);
        assert_eq!(policy.paused_until(), Some(third + PAUSE));
    }

    #[test]
    fn a_link_that_works_comes_between_two_short_ones() {
        let (long, begin) = (SHORT, Instant::now());
        let works: [fn(&mut LinkPolicy, Duration); 2] = [LinkPolicy::left, |policy, _| policy.closed()];
        for works in works {
            let mut policy = LinkPolicy::default();
            policy.broke(Duration::from_secs(1), begin);
            works(&mut policy, long);
            policy.broke(Duration::from_secs(1), begin);
            assert!(policy.pause(begin).is_none());
        }
        let mut policy = LinkPolicy::default();
        policy.broke(Duration::from_secs(1), begin);
        policy.left(Duration::from_secs(1));
        policy.broke(Duration::from_secs(1), begin);
        assert!(policy.pause(begin).is_some(), "a short one that was given up says nothing");
    }
}
