//! Delays before the control channel is opened again.

use super::*;

/// F01, F06, F83: a channel that closes right after it opened does not reset the delay.
#[actix::test]
async fn channel_delays_grow_until_a_channel_was_open_for_60_seconds() {
    pause();
    let setup = start_with(ScriptedHub::default(), published(&["a"]), None, 1.0);
    pass(SECOND).await;
    for (open_for, delay) in [(1, 15), (58, 45), (1, 60), (61, 15), (1, 45)] {
        assert_eq!(setup.channel_delay(false, Some(open_for), None).await, delay);
    }
}

/// F14: the delay stays between the base and 60 s, with any `retry:` field.
#[actix::test]
async fn a_retry_field_raises_the_delay_of_the_channel() {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    for (field, delay) in [(Some(0), 5), (Some(20_000), 20), (None, 5), (Some(99_999_999), 60), (None, 5)] {
        assert_eq!(setup.channel_delay(false, Some(1), field).await, delay, "{field:?}");
    }
}

/// F16, F17, F26, F57, F58: a refused channel does not cause a loop without delays.
#[actix::test]
async fn a_refused_channel_is_retried_after_60_seconds() {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    for (refused, hint, delay) in
        [(true, None, 60), (false, None, 5), (false, Some(17_000), 17), (true, None, 60)]
    {
        assert_eq!(setup.channel_delay(refused, None, hint).await, delay);
    }
}

/// F01: each reason of a loss is logged once.
#[actix::test]
async fn a_lost_channel_is_logged_once_until_one_opens() {
    pause();
    captured_log::listen("actors");
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    setup.channel_delay(false, None, None).await;
    setup.channel_delay(false, None, None).await;
    let lines = || captured_log::lines_with("no control channel");
    assert_eq!(lines(), ["WARN no control channel: lost; next try in 5.0 s"]);
    let (stream_id, features) = (None, wire::Features::CLASSIC);
    setup.actor.do_send(ChannelOpened {
        session: session("sess-1"),
        stream_id,
        features,
        hello: false,
        transport: ChannelTransport::Link,
    });
    setup.channel_delay(false, None, None).await;
    assert_eq!(lines().len(), 2);
}

/// F21: a lost session is registered at once, even during the delay of a channel.
#[actix::test]
async fn a_lost_session_cuts_the_delay_of_the_channel_short() {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    let reason = "lost".to_owned();
    setup.actor.do_send(ChannelLost {
        reason,
        refused: true,
        open_for: None,
        retry_hint: None,
        is_link: false,
        has_tasks: false,
        restart: None,
    });
    setup.actor.do_send(SessionLost { session: session("sess-1") });
    pass(SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
    pass(100 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2, "the timer of the delay has no effect");
}
