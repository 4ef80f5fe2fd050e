//! Losses of the channel, and the reports of them.

use super::*;

/// F01, F06: the session needs this time for its next delay.
#[actix::test]
async fn a_loss_reports_how_long_the_channel_was_open() {
    let setup = start(ScriptedHub::default());
    pass(7 * SECOND).await;
    setup.hub.close_channel();
    pass(SECOND).await;
    let lost = setup.last_lost();
    assert_eq!((lost.open_for.unwrap().as_secs(), lost.refused), (7, false));
    assert_eq!(setup.hub.opened(), 1, "the stream does not reconnect by itself");
}

/// F57, F58: the reason names the conflict, and the loss counts as a refusal.
#[actix::test]
async fn a_channel_taken_by_another_registrar_is_a_refusal() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.send("event: superseded\ndata: {}\n\nevent: task\n");
    setup.hub.close_channel();
    pass(SECOND).await;
    let lost = setup.last_lost();
    assert!(lost.refused && lost.reason.contains("another registrar uses the same session"), "{lost:?}");
    assert_eq!(setup.lost.borrow().len(), 1);
}

/// F57: a request that the hub answers when nobody waits for it any more takes the channel from this registrar itself.
#[actix::test]
async fn a_channel_taken_by_an_own_request_that_came_late_is_no_refusal() {
    let hub = ScriptedHub::default();
    hub.is_mute.set(true);
    let setup = start(hub);
    pass(61 * SECOND).await;
    assert_eq!(setup.lost.borrow().len(), 1, "it was given up");
    setup.hub.is_mute.set(false);
    for refused in [false, true] {
        setup.ready().await;
        setup.hub.send("event: superseded\ndata: {}\n\n");
        pass(SECOND).await;
        assert_eq!(setup.last_lost().refused, refused, "{:?}", setup.last_lost());
    }
}

/// F04, F82: silence is detected by the clock of the registrar.
#[actix::test]
async fn a_channel_that_is_silent_for_60_seconds_is_dropped() {
    let setup = start(ScriptedHub::default());
    for _ in 0..5 {
        pass(50 * SECOND).await;
        assert!(setup.hub.send(":"), "any byte counts");
    }
    pass(59 * SECOND).await;
    assert!(setup.lost.borrow().is_empty());
    pass(2 * SECOND).await;
    assert_eq!(setup.lost.borrow().len(), 1);
    assert!(!setup.hub.send(":"), "the connection is closed");
}

/// F14: a `retry:` field that is not a number of milliseconds is ignored.
#[actix::test]
async fn a_loss_reports_the_retry_field_of_the_channel() {
    let setup = start(ScriptedHub::default());
    for (field, hint) in
        [("0", Some(0)), ("20000", Some(20_000)), ("soon", None), ("100000000000000000000", None)]
    {
        setup.ready().await;
        setup.hub.send(&format!("retry: {field}\n\n"));
        pass(SECOND).await;
        setup.hub.close_channel();
        pass(SECOND).await;
        assert_eq!(setup.last_lost().retry_hint, hint.map(Duration::from_millis), "{field}");
    }
}

/// F21: the session registers at once after the first report, but not after the second in a row.
#[actix::test]
async fn an_unknown_session_is_reported_once_and_then_as_a_loss() {
    let hub = ScriptedHub::default();
    hub.opens.borrow_mut().extend([Err(status(404)), Err(status(410))]);
    let setup = start(hub);
    pass(SECOND).await;
    assert_eq!(*setup.session_lost.borrow(), [SessionLost { session: session("s") }]);
    assert!(setup.lost.borrow().is_empty());
    setup.ready().await;
    assert_eq!((setup.session_lost.borrow().len(), setup.lost.borrow().len()), (1, 1));
    assert!(!setup.last_lost().refused);
}

/// F16, F17, F26: the hub's answer decides between refusal and failure, and may name a delay.
#[actix::test]
async fn a_channel_that_does_not_open_is_a_refusal_or_a_failure() {
    let hint = HubError::Status {
        call: "provider-stream",
        status: 503,
        message: String::new(),
        retry_after: Some(17 * SECOND),
    };
    let cases = [
        (status(403), true, None),
        (unreachable(), false, None),
        (hint, false, Some(17 * SECOND)),
        (status(302), true, None),
    ];
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.close_channel();
    pass(SECOND).await;
    for (error, refused, retry_hint) in cases {
        setup.hub.opens.borrow_mut().push_back(Err(error));
        setup.ready().await;
        let lost = setup.last_lost();
        assert_eq!((lost.refused, lost.retry_hint, lost.open_for), (refused, retry_hint, None), "{lost:?}");
    }
}

/// P6: a channel that only the registrar holds open is given up.
#[actix::test]
async fn a_stream_that_the_hub_does_not_hold_is_lost() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.send("event: hello\ndata: {\"features\":[\"status\"],\"streamId\":\"st\"}\n\n");
    pass(SECOND).await;
    setup.actor.do_send(StreamUnknown { stream_id: "older".to_owned() });
    pass(SECOND).await;
    assert!(setup.lost.borrow().is_empty());
    setup.actor.do_send(StreamUnknown { stream_id: "st".to_owned() });
    pass(SECOND).await;
    assert_eq!((setup.lost.borrow().len(), setup.hub.open_channels()), (1, 0));
}

/// F60: one reconnect follows a suspend.
#[actix::test]
async fn after_a_suspend_the_channel_reconnects_at_once() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.actor.do_send(Reconnect);
    pass(SECOND).await;
    assert_eq!((setup.register.borrow().len(), setup.hub.open_channels()), (1, 0));
    assert!(setup.lost.borrow().is_empty(), "a suspend is not reported as a loss, which would cause a delay");
    setup.actor.do_send(Reconnect);
    pass(SECOND).await;
    assert_eq!(setup.register.borrow().len(), 1);
}

#[actix::test]
async fn a_repeated_registration_keeps_the_channel_unless_the_hub_lost_the_session() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    for (id, reopen, opened) in [("s", false, 1), ("s", true, 2), ("s2", false, 3)] {
        setup.actor.do_send(SessionReady { session: session(id), reopen });
        pass(SECOND).await;
        assert_eq!(setup.hub.opened(), opened, "{id} {reopen}");
    }
    assert!(setup.lost.borrow().is_empty());
}

#[actix::test]
async fn without_providers_the_channel_is_closed_until_the_next_session() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.actor.do_send(SetRoutes(HashMap::new()));
    pass(100 * SECOND).await;
    assert!(!setup.hub.send(":"));
    assert!(setup.register.borrow().is_empty());
    setup.ready().await;
    assert_eq!(setup.hub.opened(), 2);
}
