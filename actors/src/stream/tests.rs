use std::cell::Cell;
use std::collections::HashMap;

use tokio::time::pause;

use super::messages::{CloseChannel, Reconnect, RefuseTasks, Route, SetRoutes, StreamUnknown};
use super::*;
use crate::outbox::Outbox;
use crate::provider::messages::{Cancel, Infer};
use crate::session::messages::SessionReady;
use crate::test_hub::scripted::{Heard, Said, Scripted, pass, probe, session, status, unreachable};
use crate::test_log;
use crate::uplink::{Cut, Posted, Uplink};
use crate::wake::messages::Wake;

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    hub: Rc<Scripted>,
    actor: Addr<StreamActor>,
    register: Heard<Register>,
    session_lost: Heard<SessionLost>,
    opened: Heard<ChannelOpened>,
    lost: Heard<ChannelLost>,
    infer: Heard<Infer>,
    cancel: Heard<Cancel>,
    wake: Heard<Wake>,
    posted: Rc<Posts>,
    start: Instant,
    /// Registrations that were followed by a session.
    followed: Cell<usize>,
}

/// What was posted to the hub: task, body.
#[derive(Default)]
struct Posts(RefCell<Vec<(String, String)>>);

impl Uplink for Posts {
    fn post_result(
        &self,
        task: &wire::TaskId,
        body: bytes::Bytes,
    ) -> futures_util::future::LocalBoxFuture<'static, Posted> {
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.0.borrow_mut().push((task.to_string(), body));
        Box::pin(async { Posted::Taken })
    }

    fn upload(
        &self,
        _: &wire::TaskId,
        _: tokio::sync::mpsc::Receiver<Result<bytes::Bytes, Cut>>,
    ) -> futures_util::future::LocalBoxFuture<'static, Posted> {
        unreachable!("nothing is uploaded here")
    }
}

/// An actor that has a session, and a provider `a`. Without jitter: every delay is the base of 5 s.
fn start(hub: Scripted) -> Setup {
    start_with(hub, 0.0)
}

fn start_with(hub: Scripted, random: f64) -> Setup {
    pause();
    let hub = Rc::new(hub);
    let ((to_register, register), (to_session, session_lost)) = (probe(), probe());
    let ((to_opened, opened), (to_lost, lost)) = (probe(), probe());
    let ((to_infer, infer), (to_cancel, cancel), (to_wake, wake)) = (probe(), probe(), probe());
    let posted = Rc::<Posts>::default();
    let outbox = Outbox::new(Rc::clone(&posted) as Rc<dyn Uplink>);
    let config = Config {
        hub: Rc::clone(&hub) as Rc<dyn HubApi>,
        idle_timeout: 60 * SECOND,
        pace: Rc::new(RefCell::new(ReconnectDelay::new(5 * SECOND, 60 * SECOND, Box::new(move || random)))),
    };
    let links = StreamLinks {
        register: to_register,
        session_lost: to_session,
        opened: vec![to_opened],
        lost: vec![to_lost],
    };
    let actor = StreamActor::new(config, links, Dispatch::new(to_wake, outbox)).start();
    let route = Route { infer: to_infer, cancel: to_cancel, room: 68 };
    actor.do_send(SetRoutes(HashMap::from([("a".to_owned(), route)])));
    actor.do_send(SessionReady { session: session("s"), reopen: true });
    let start = Instant::now();
    Setup {
        hub,
        actor,
        register,
        session_lost,
        opened,
        lost,
        infer,
        cancel,
        wake,
        posted,
        start,
        followed: Cell::new(0),
    }
}

impl Setup {
    fn ready(&self) {
        self.actor.do_send(SessionReady { session: session("s"), reopen: false });
    }

    /// Registers the session again as often as it is asked to, for so long.
    async fn follow(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            pass(SECOND / 10).await;
            let asked = self.register.borrow().len();
            (self.followed.replace(asked)..asked).for_each(|_| self.ready());
        }
    }

    fn open_seconds(&self) -> Vec<u64> {
        let moments = self.hub.moments(|said| matches!(said, Said::Open(_)));
        moments.iter().map(|at| (*at - self.start).as_secs()).collect()
    }
}

const TASK: &str = r#"{"kind":"infer","taskId":"t1","llmName":"a","streaming":true,"request":{"x":1}}"#;

fn task(data: &str) -> String {
    format!("event: task\ndata: {data}\n\n")
}

#[actix::test]
async fn a_channel_opens_with_the_session_and_hands_tasks_on() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.hub.send(&task(TASK));
    setup.hub.send(&task(r#"{"kind":"wake","taskId":"t2","llmName":"a"}"#));
    pass(SECOND).await;
    assert_eq!(setup.infer.borrow()[0].task.request.get(), r#"{"x":1}"#);
    assert_eq!(setup.infer.borrow()[0].agreed, Agreed::default());
    assert_eq!(setup.wake.borrow().len(), 1);
    assert_eq!(setup.opened.borrow().len(), 1, "a classic hub's channel is announced once");
}

/// F08, F09, F89: what cannot be read is skipped, and the next task runs.
#[actix::test]
async fn an_event_of_another_name_and_malformed_data_do_not_end_the_channel() {
    test_log::listen();
    let setup = start(Scripted::default());
    pass(SECOND).await;
    for text in ["event: news\ndata: x\n\n", "data: y\n\n", ": ping\n\n", "id: 1\n\n", "\u{0}\n\n"] {
        setup.hub.send(text);
    }
    let malformed = [
        "canary",
        r#"{"kind":"infer","canary":"#,
        r#"["canary"]"#,
        r#"{"kind":"infer","request":{"canary":1}}"#,
        r#"{"kind":"canary","taskId":"t","llmName":"a"}"#,
    ];
    for data in malformed {
        setup.hub.send(&task(data));
    }
    setup.hub.send("event: cancel\ndata: {\n\n");
    setup.hub.send(&task(TASK));
    pass(SECOND).await;
    assert_eq!((setup.infer.borrow().len(), setup.hub.opened()), (1, 1));
    assert!(setup.posted.0.borrow().is_empty());
    assert_eq!(test_log::lines_with("WARN a task was skipped").len(), malformed.len());
    assert!(test_log::lines_with("canary").is_empty());
}

/// P7, F08: a hub that sends nonsense without end fills no log: some lines a minute of each kind, then how many more.
#[actix::test]
async fn a_hub_that_sends_nonsense_without_end_fills_no_log() {
    test_log::listen();
    let setup = start(Scripted::default());
    pass(SECOND).await;
    for number in 0..300 {
        setup.hub.send(&task("nonsense"));
        let unknown =
            format!(r#"{{"kind":"infer","taskId":"x{number}","llmName":"of-{number}","request":{{}}}}"#);
        setup.hub.send(&task(&unknown));
    }
    pass(SECOND).await;
    for text in ["WARN a task was skipped", "code=not_published"] {
        assert_eq!(test_log::lines_with(text).len(), 20, "{text}");
    }
    pass(30 * SECOND).await;
    setup.hub.send(": ping\n\n");
    pass(31 * SECOND).await;
    setup.hub.send(&task("nonsense"));
    pass(SECOND).await;
    let mut missed = test_log::lines_with(" more in the last minute: ");
    missed.sort();
    assert_eq!(
        missed,
        [
            "INFO 280 more in the last minute: not_published of the hub",
            "INFO 280 more in the last minute: tasks skipped of the hub",
        ]
    );
    assert_eq!(test_log::lines_with("WARN a task was skipped").len(), 21, "a new minute");
}

/// F07, P7: a frame beyond the limit is left out, the channel stays, and the next task runs.
#[actix::test]
async fn a_frame_that_is_too_long_is_left_out_and_the_next_task_runs() {
    test_log::listen();
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.hub.send(
        "event: task\ndata: {\"kind\":\"infer\",\"taskId\":\"t0\",\"llmName\":\"a\",\"request\":{\"x\":\"",
    );
    let part = "x".repeat(1 << 20);
    for _ in 0..=wire::sse::DEFAULT_MAX_FRAME >> 20 {
        setup.hub.send(&part);
        pass(SECOND / 1000).await;
    }
    setup.hub.send(&format!("\"}}}}\n\n{}", task(TASK)));
    pass(SECOND).await;
    assert_eq!((setup.infer.borrow().len(), setup.hub.opened()), (1, 1));
    assert!(setup.posted.0.borrow().is_empty() && setup.lost.borrow().is_empty());
    let told = test_log::lines_with("too long");
    assert!(told.len() == 1 && told[0].starts_with("WARN") && !told[0].contains("xx"), "{told:?}");
}

/// P7, A27: a hub that sends tasks without end and takes no result loses its channel, and what it sent is not held.
#[actix::test]
async fn a_hub_that_sends_tasks_without_end_loses_its_channel() {
    test_log::listen();
    let setup = start(Scripted::default());
    pass(SECOND).await;
    for n in 0..10_000 {
        setup.hub.send(&task(&TASK.replace("t1", &format!("t{n}"))));
    }
    pass(SECOND).await;
    assert_eq!(setup.lost.borrow().len(), 1);
    assert!((1..5000).contains(&setup.infer.borrow().len()), "{}", setup.infer.borrow().len());
    assert_eq!(test_log::lines_with("faster than it takes their results").len(), 1);
}

/// F89: a newer hub's features mean nothing to us, an older hub's silence turns nothing on.
#[actix::test]
async fn what_both_sides_name_is_on_and_a_classic_hello_turns_nothing_on() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.hub.send("event: cancel\ndata: {\"taskId\":\"t9\"}\n\n");
    setup
        .hub
        .send("event: hello\ndata: {\"features\":[\"cancel\",\"status\",\"beam\"],\"streamId\":\"st\"}\n\n");
    setup.hub.send("event: cancel\ndata: {\"taskId\":\"t1\"}\n\n");
    setup.hub.send(&task(TASK));
    pass(SECOND).await;
    let features = Features::CLASSIC.with(Feature::Cancel).with(Feature::Status);
    assert_eq!(setup.infer.borrow()[0].agreed, Agreed { features });
    let cancelled: Vec<_> = setup.cancel.borrow().iter().map(|cancel| cancel.task_id.to_string()).collect();
    assert_eq!(cancelled, ["t1"], "before the hello nothing is agreed");
    let hello = ChannelOpened { session: session("s"), stream_id: Some("st".into()), features, hello: true };
    assert_eq!(setup.opened.borrow()[1], hello);
}

/// F11: two tasks of one id that differ in one word, wherever it is, are two: the second is refused, the first is cancelled.
#[actix::test]
async fn a_task_with_the_id_of_another_that_runs_is_refused_and_the_first_is_cancelled() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    let (before, after) = ("x".repeat(20 << 10), "y".repeat(20 << 10));
    let of = |who: &str| task(&TASK.replace("1}", &format!("\"{before}{who}{after}\"}}")));
    setup.hub.send(&of("alice"));
    setup.hub.send(&of("alice"));
    pass(SECOND).await;
    assert_eq!((setup.infer.borrow().len(), setup.cancel.borrow().len()), (1, 0));
    setup.hub.send(&of("carol"));
    pass(SECOND).await;
    assert_eq!(setup.infer.borrow().len(), 1);
    let cancelled: Vec<_> = setup.cancel.borrow().iter().map(|cancel| cancel.task_id.to_string()).collect();
    assert_eq!(cancelled, ["t1"]);
    let error = r#"{"error":"another task of this id runs at this publisher"}"#;
    assert_eq!(*setup.posted.0.borrow(), [("t1".to_owned(), error.to_owned())]);
}

#[actix::test]
async fn a_task_for_nobody_is_answered_and_while_stopping_every_task_is() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.hub.send(&task(r#"{"kind":"wake","taskId":"t1","llmName":"b"}"#));
    setup.actor.send(RefuseTasks).await.unwrap();
    setup.hub.send(&task(r#"{"kind":"infer","taskId":"t2","llmName":"a","request":{}}"#));
    setup.hub.send(&task(r#"{"kind":"wake","taskId":"t3","llmName":"a"}"#));
    pass(SECOND).await;
    let stopping = || r#"{"error":"publisher shutting down"}"#.to_owned();
    let nobody = r#"{"error":"provider 'b' not registered locally"}"#.to_owned();
    let expected = [("t1", nobody), ("t2", stopping()), ("t3", stopping())];
    let expected: Vec<_> = expected.into_iter().map(|(id, body)| (id.to_owned(), body)).collect();
    let mut posted = setup.posted.0.borrow().clone();
    posted.sort();
    // The first was sent before the stop, and may be read after it.
    assert_eq!(posted[1..], expected[1..]);
    assert_eq!(posted.len(), 3);
    assert!(setup.infer.borrow().is_empty() && setup.wake.borrow().is_empty());
}

/// F01, F06, F83: a channel that closes right after it opened does not bring the base back.
#[actix::test]
async fn delays_grow_until_a_channel_was_open_for_60_seconds() {
    let setup = start_with(Scripted::default(), 1.0);
    for open_for in [1, 58, 1, 61, 1] {
        setup.follow(open_for * SECOND).await;
        setup.hub.close_channel();
        setup.follow(61 * SECOND).await;
        // A new channel, whose age is known to a tenth of a second.
        setup.actor.do_send(Reconnect);
    }
    let delays: Vec<_> = setup.lost.borrow().iter().map(|lost| lost.retry_in.as_secs()).collect();
    assert_eq!(delays, [15, 45, 60, 15, 45]);
}

/// F57, F58: a channel that another registrar took over is not taken back before a minute is over, and the reason names
/// the conflict.
#[actix::test]
async fn a_channel_that_another_registrar_took_is_not_taken_back_at_once() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    for _ in 0..3 {
        setup.hub.send("event: superseded\ndata: {}\n\nevent: task\n");
        setup.hub.close_channel();
        setup.follow(61 * SECOND).await;
    }
    assert_eq!(setup.open_seconds(), [0, 61, 122, 183]);
    for lost in setup.lost.borrow().iter() {
        assert!(lost.refused && lost.reason.contains("another registrar uses the same session"), "{lost:?}");
    }
}

/// F04, F82: silence is found by our own clock, whoever holds the bytes back.
#[actix::test]
async fn a_channel_that_is_silent_for_60_seconds_is_dropped_and_any_byte_counts() {
    let setup = start(Scripted::default());
    for _ in 0..5 {
        pass(50 * SECOND).await;
        assert!(setup.hub.send(":"));
    }
    pass(59 * SECOND).await;
    assert!(setup.lost.borrow().is_empty());
    pass(2 * SECOND).await;
    assert_eq!(setup.lost.borrow().len(), 1);
    assert!(!setup.hub.send(":"), "the connection is closed");
}

/// F14: whatever `retry:` asks, the delay stays between the base and 60 s.
#[actix::test]
async fn a_retry_field_raises_the_delay_and_never_shortens_it() {
    let setup = start(Scripted::default());
    for (asked, delay) in
        [("0", 5), ("20000", 20), ("soon", 5), ("99999999", 60), ("100000000000000000000", 5)]
    {
        setup.follow(SECOND).await;
        setup.hub.send(&format!("retry: {asked}\n\n"));
        pass(SECOND).await;
        setup.hub.close_channel();
        setup.follow(61 * SECOND).await;
        assert_eq!(setup.lost.borrow().last().unwrap().retry_in.as_secs(), delay, "{asked}");
    }
}

/// F21: at once, and calm where that did not help.
#[actix::test]
async fn an_unknown_session_is_registered_at_once_but_not_twice_in_a_row() {
    let hub = Scripted::default();
    hub.opens.borrow_mut().extend([Err(status(404)), Err(status(410))]);
    let setup = start(hub);
    pass(SECOND).await;
    assert_eq!(*setup.session_lost.borrow(), [SessionLost { session: session("s") }]);
    setup.ready();
    pass(SECOND).await;
    assert_eq!(setup.session_lost.borrow().len(), 1);
    setup.follow(10 * SECOND).await;
    assert_eq!(setup.open_seconds(), [0, 1, 6]);
}

/// F16, F17, F26: no tight loop, whatever the hub answers.
#[actix::test]
async fn a_refusal_is_tried_again_after_60_seconds_and_a_failure_after_the_delay() {
    let hub = Scripted::default();
    let hint = HubError::Status {
        call: "provider-stream",
        status: 503,
        message: String::new(),
        retry_after: Some(17 * SECOND),
    };
    hub.opens.borrow_mut().extend([Err(status(403)), Err(unreachable()), Err(hint), Err(status(302))]);
    let setup = start(hub);
    setup.follow(200 * SECOND).await;
    assert_eq!(setup.open_seconds(), [0, 60, 65, 82, 142]);
    let refused: Vec<_> = setup.lost.borrow().iter().map(|lost| lost.refused).collect();
    assert_eq!(refused, [true, false, false, true]);
}

/// P6: a channel that is open on our side only is given up.
#[actix::test]
async fn a_stream_that_the_hub_does_not_hold_is_opened_again() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.hub.send("event: hello\ndata: {\"features\":[\"status\"],\"streamId\":\"st\"}\n\n");
    pass(SECOND).await;
    setup.actor.do_send(StreamUnknown { stream_id: "older".to_owned() });
    pass(SECOND).await;
    assert!(setup.lost.borrow().is_empty());
    setup.actor.do_send(StreamUnknown { stream_id: "st".to_owned() });
    setup.follow(10 * SECOND).await;
    assert_eq!(setup.open_seconds(), [0, 8]);
    assert_eq!(setup.hub.open_channels(), 1, "the old connection is closed");
}

/// F60: after a suspend there is one reconnect, at once.
#[actix::test]
async fn a_machine_that_woke_up_reconnects_at_once() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.actor.do_send(Reconnect);
    setup.follow(SECOND).await;
    assert_eq!(setup.open_seconds(), [0, 1]);
    assert_eq!(setup.hub.open_channels(), 1, "the old connection is closed");
    setup.hub.close_channel();
    pass(SECOND).await;
    setup.actor.do_send(Reconnect);
    pass(SECOND / 10).await;
    assert_eq!(setup.register.borrow().len(), 2, "a delay that runs is cut short");
    pass(60 * SECOND).await;
    assert_eq!(setup.register.borrow().len(), 2, "and its timer means nothing any more");
}

#[actix::test]
async fn a_session_registered_again_keeps_its_channel_unless_it_is_new_to_the_hub() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.ready();
    pass(SECOND).await;
    assert_eq!(setup.hub.opened(), 1);
    setup.actor.do_send(SessionReady { session: session("s"), reopen: true });
    pass(SECOND).await;
    assert_eq!(setup.hub.opened(), 2);
    setup.actor.do_send(SessionReady { session: session("s2"), reopen: false });
    pass(SECOND).await;
    assert_eq!(setup.hub.opened(), 3);
    assert!(setup.lost.borrow().is_empty());
}

#[actix::test]
async fn a_closed_channel_stays_closed_until_there_is_a_session_again() {
    let setup = start(Scripted::default());
    pass(SECOND).await;
    setup.actor.do_send(CloseChannel);
    pass(100 * SECOND).await;
    assert!(!setup.hub.send(":"));
    assert!(setup.register.borrow().is_empty());
    setup.ready();
    pass(SECOND).await;
    assert_eq!(setup.hub.opened(), 2);
}
