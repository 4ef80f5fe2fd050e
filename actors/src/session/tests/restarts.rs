//! A hub that restarts is tried at the times that it named.

use wire::link::Going;

use super::*;
use crate::stream::messages::Restart;

const GOING: Going = Going { delay_ms: 250, interval_ms: 2000 };

fn lost(going: Option<Going>, open_for: Option<Duration>, refused: bool) -> ChannelLost {
    let restart = going.map(|going| Restart { going, since: Instant::now() });
    let (reason, has_tasks) = ("lost".to_owned(), false);
    ChannelLost { reason, refused, open_for, retry_hint: None, is_link: true, has_tasks, restart }
}

fn opened() -> ChannelOpened {
    ChannelOpened {
        session: session("sess-1"),
        stream_id: None,
        features: wire::Features::CLASSIC,
        hello: false,
        transport: ChannelTransport::Link,
    }
}

impl Setup {
    /// Reports a loss. Returns the time until the channel is opened again, and the number of register calls before.
    async fn until_ready(&self, lost: ChannelLost) -> (Duration, usize) {
        let (start, ready) = (Instant::now(), self.ready.borrow().len());
        let registered = self.hub.registered().len();
        self.actor.do_send(lost);
        while self.ready.borrow().len() == ready {
            pass(Duration::from_millis(10)).await;
        }
        (start.elapsed(), self.hub.registered().len() - registered)
    }
}

async fn registered() -> Setup {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    setup
}

fn is_about((took, calls): (Duration, usize), milliseconds: u64, registered: usize) -> bool {
    (milliseconds..milliseconds + 50).contains(&u64::try_from(took.as_millis()).unwrap())
        && calls == registered
}

/// F84: the delay of each is the hub's, and each try costs one connection.
#[actix::test]
async fn a_hub_that_restarts_is_tried_at_its_own_times_without_a_register_call() {
    captured_log::listen("actors");
    let setup = registered().await;
    let first = setup.until_ready(lost(Some(GOING), Some(SECOND), false)).await;
    assert!(is_about(first, 250, 0), "{first:?}");
    for _ in 0..3 {
        let next = setup.until_ready(lost(None, None, false)).await;
        assert!(is_about(next, 2000, 0), "{next:?}");
    }
    assert!(captured_log::lines_with("no control channel").is_empty(), "a restart is no fault");
}

#[actix::test]
async fn a_hub_that_does_not_come_back_is_tried_with_the_usual_delays() {
    let setup = registered().await;
    setup.until_ready(lost(Some(GOING), Some(SECOND), false)).await;
    pass(30 * SECOND).await;
    let late = setup.until_ready(lost(None, None, false)).await;
    assert!(is_about(late, 5000, 1), "{late:?}");
}

#[actix::test]
async fn a_refusal_ends_the_tries_of_a_restart() {
    let setup = registered().await;
    setup.until_ready(lost(Some(GOING), Some(SECOND), false)).await;
    let refused = setup.until_ready(lost(None, None, true)).await;
    assert!(is_about(refused, 60_000, 1), "{refused:?}");
}

/// The hub may have restarted with other data.
#[actix::test]
async fn a_register_call_follows_a_channel_that_was_opened_without_one() {
    let setup = registered().await;
    setup.until_ready(lost(Some(GOING), Some(SECOND), false)).await;
    setup.actor.do_send(opened());
    pass(9 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 1);
    pass(2 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
    setup.actor.do_send(opened());
    pass(100 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2, "once");
}

/// F84: after a link that stood for a minute, the first try costs one connection too.
#[actix::test]
async fn the_first_try_after_a_good_link_is_without_a_register_call() {
    let setup = registered().await;
    let first = setup.until_ready(lost(None, Some(60 * SECOND), false)).await;
    assert!(is_about(first, 0, 0), "{first:?}");
    let next = setup.until_ready(lost(None, None, false)).await;
    assert!(is_about(next, 5000, 1), "{next:?}");
}
