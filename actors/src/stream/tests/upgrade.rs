//! A link in place of an SSE channel.

use super::*;

const TASK: &str = "event: task\ndata: {\"kind\":\"infer\",\"taskId\":\"t1\",\"llmName\":\"a\",\"streaming\":true,\"request\":{}}\n\n";

fn upgrades(setup: &Setup) -> usize {
    setup.hub.moments(|call| matches!(call, HubCall::Upgrade(_))).len()
}

/// An actor on SSE that may try a link in 20 s.
fn paused() -> Setup {
    let hub = ScriptedHub::default();
    hub.next_upgrade.set(Some(Instant::now() + 20 * SECOND));
    start(hub)
}

#[actix::test]
async fn a_link_is_tried_in_place_of_sse_when_the_pause_is_over() {
    let setup = paused();
    setup.hub.refuses_upgrades.set(true);
    pass(19 * SECOND).await;
    assert_eq!(upgrades(&setup), 0);
    pass(2 * SECOND).await;
    assert_eq!((upgrades(&setup), setup.opened.borrow().len(), setup.hub.open_channels()), (1, 1, 1));
    setup.hub.refuses_upgrades.set(false);
    pass(11 * SECOND).await;
    assert_eq!((upgrades(&setup), setup.opened.borrow().len(), setup.hub.open_channels()), (2, 2, 1));
    assert!(setup.lost.borrow().is_empty(), "the session is never without a channel");
    setup.hub.send(TASK);
    pass(SECOND).await;
    assert_eq!(setup.infer.borrow().len(), 1);
}

#[actix::test]
async fn a_link_is_tried_in_place_of_sse_only_while_no_task_runs() {
    let setup = paused();
    pass(SECOND).await;
    setup.hub.send(TASK);
    pass(40 * SECOND).await;
    assert_eq!((setup.infer.borrow().len(), upgrades(&setup)), (1, 0));
    setup.infer.borrow_mut().clear();
    pass(11 * SECOND).await;
    assert_eq!(upgrades(&setup), 1);
}
