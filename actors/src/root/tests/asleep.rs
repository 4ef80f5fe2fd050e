//! A suspended machine, simulated with its two clocks.

use std::cell::Cell;
use std::time::Duration;

use testkit::captured_log;

use super::controlled_backend::provider;
use super::supervision::Tree;
use crate::fakes::hub::pass;

thread_local! {
    /// How far the wall clock is ahead of the monotonic clock.
    static AHEAD: Cell<jiff::SignedDuration> = const { Cell::new(jiff::SignedDuration::ZERO) };
}

pub(super) fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now() + AHEAD.get()
}

/// F59, F60: a correction of the wall clock alone has no effect.
#[actix::test]
async fn a_registrar_reconnects_once_after_a_suspend() {
    captured_log::listen("actors");
    let tree = Tree::new(vec![provider("a")], vec![]);
    pass(Duration::from_secs(1)).await;
    assert_eq!((tree.hub.registered().len(), tree.hub.opened()), (1, 1));
    AHEAD.set(jiff::SignedDuration::from_hours(2));
    pass(Duration::from_secs(12)).await;
    assert_eq!((tree.hub.registered().len(), tree.hub.opened()), (2, 2));
    assert_eq!(tree.hub.open_channels(), 1, "the old connection is closed");
    assert_eq!(captured_log::lines_with("the machine slept for 7").len(), 1);
    for correction in [jiff::SignedDuration::from_secs(7201), jiff::SignedDuration::ZERO] {
        AHEAD.set(correction);
        pass(Duration::from_secs(12)).await;
    }
    assert_eq!((tree.hub.registered().len(), tree.hub.opened()), (2, 2));
}
