//! A machine that is suspended, as its two clocks show it.

use std::cell::Cell;
use std::time::Duration;

use testkit::captured_log;

use super::puppet::provider;
use super::supervision::Tree;
use crate::fakes::hub::pass;

thread_local! {
    /// Advance of the wall clock since the start of the test.
    static AHEAD: Cell<jiff::SignedDuration> = const { Cell::new(jiff::SignedDuration::ZERO) };
}

pub(super) fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now() + AHEAD.get()
}

/// F59, F60: a corrected wall clock has no effect.
#[actix::test]
async fn a_machine_that_woke_up_connects_again_once() {
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
