use std::rc::Rc;

use serde_json::json;
use tokio::time::{Instant, pause};
use wire::Features;
use wire::row::Status;

use super::*;
use crate::fakes::hub::{HubCall, Received, ScriptedHub, pass, probe, session, status, unreachable};
use crate::status::{ChannelTransport, Pace};
use crate::stream::messages::Restart;

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    hub: Rc<ScriptedHub>,
    actor: Addr<HeartbeatActor>,
    lost: Received<SessionLost>,
    unknown: Received<StreamUnknown>,
    start: Instant,
}

/// Starts a `HeartbeatActor` with a session.
fn start() -> Setup {
    pause();
    let hub = Rc::new(ScriptedHub::default());
    let ((to_lost, lost), (to_unknown, unknown), (to_result, _)) = (probe(), probe(), probe());
    let links = HeartbeatLinks { session_lost: to_lost, stream_unknown: to_unknown, result: to_result };
    let actor = HeartbeatActor::new(Rc::clone(&hub) as Rc<dyn HubApi>, 30 * SECOND, links).start();
    actor.do_send(SessionReady { session: session("s"), reopen: false });
    Setup { hub, actor, lost, unknown, start: Instant::now() }
}

impl Setup {
    fn beat_seconds(&self) -> Vec<u64> {
        let moments = self.hub.moments(|call| matches!(call, HubCall::Beat(_)));
        moments.iter().map(|at| (*at - self.start).as_secs()).collect()
    }

    fn open(&self, features: Features, stream_id: Option<&str>, hello: bool) {
        let stream_id = stream_id.map(str::to_owned);
        self.actor.do_send(ChannelOpened {
            session: session("s"),
            stream_id,
            features,
            hello,
            transport: ChannelTransport::Sse("the hub is a fake".to_owned()),
        });
    }
}

pub(super) fn report(name: &str, in_flight: u32) -> ProviderReport {
    ProviderReport {
        status: ProviderStatus {
            name: name.to_owned(),
            status: Status::Active,
            in_flight,
            queued: 0,
            max_concurrency: 4,
            ahead: 0,
            paused: false,
            paused_until: None,
        },
        reason: None,
        tasks_done: 0,
        tasks_refused: 0,
        tokens_per_second: None,
        paused: false,
        pace: Pace::default(),
    }
}

/// A fake provider that answers its first `GetReport`, and later ones only if the flag is set.
struct Reporter(bool);

impl Actor for Reporter {
    type Context = Context<Self>;
}

impl Handler<GetReport> for Reporter {
    type Result = ProviderReport;

    fn handle(&mut self, _: GetReport, ctx: &mut Self::Context) -> ProviderReport {
        if !self.0 {
            ctx.wait(std::future::pending::<()>().into_actor(self));
        }
        report("a", 1)
    }
}

/// P4: heartbeats are sent also without a channel.
#[actix::test]
async fn a_heartbeat_is_sent_every_30_seconds() {
    let setup = start();
    pass(45 * SECOND).await;
    setup.actor.do_send(ChannelLost {
        reason: "gone".to_owned(),
        refused: false,
        open_for: None,
        retry_hint: None,
        is_link: false,
        has_tasks: false,
        restart: None,
    });
    pass(50 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [30, 60, 90]);
    assert_eq!(setup.hub.beat_bodies()[0], json!({ "providerSessionId": "s" }));
}

#[actix::test]
async fn one_heartbeat_is_sent_right_after_each_reconnect() {
    let setup = start();
    setup.open(Features::CLASSIC, None, false);
    pass(10 * SECOND).await;
    setup.open(Features::CLASSIC, None, false);
    pass(10 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [0, 10]);
}

/// F24: heartbeats do not overlap, and none are sent in a burst afterwards.
#[actix::test]
async fn a_slow_hub_does_not_change_the_interval_of_heartbeats() {
    let setup = start();
    setup.hub.beat_takes.set(20 * SECOND);
    pass(95 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [30, 60, 90]);
    setup.hub.beat_takes.set(40 * SECOND);
    pass(60 * SECOND).await;
    assert_eq!(
        setup.beat_seconds(),
        [30, 60, 90, 120],
        "the tick at 150 s is skipped, because a heartbeat is under way"
    );
}

/// F60: heartbeats missed during a suspend are not sent later.
#[actix::test]
async fn a_suspend_is_followed_by_one_heartbeat() {
    let setup = start();
    pass(31 * SECOND).await;
    tokio::time::advance(7200 * SECOND).await;
    pass(29 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [30, 7231]);
    pass(2 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [30, 7231, 7261]);
}

#[actix::test]
async fn a_reconnect_during_a_heartbeat_causes_another_heartbeat() {
    let setup = start();
    setup.hub.beat_takes.set(5 * SECOND);
    setup.actor.do_send(Beat);
    pass(SECOND).await;
    setup.actor.do_send(Beat);
    pass(10 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [0]);
    setup.actor.do_send(Beat);
    setup.open(Features::CLASSIC, None, false);
    pass(15 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [0, 11, 16]);
}

#[actix::test]
async fn no_heartbeat_is_sent_without_providers() {
    let setup = start();
    setup.actor.do_send(SetReporters(Vec::new()));
    setup.actor.do_send(Beat);
    pass(100 * SECOND).await;
    assert!(setup.beat_seconds().is_empty());
}

/// F21, F27: other failures do not end the session.
#[actix::test]
async fn after_a_404_or_410_the_session_is_lost() {
    let setup = start();
    let answers =
        [Err(unreachable()), Err(status(500)), Err(status(403)), Err(status(404)), Err(status(410))];
    setup.hub.beats.borrow_mut().extend(answers);
    pass(95 * SECOND).await;
    assert!(setup.lost.borrow().is_empty());
    pass(60 * SECOND).await;
    assert_eq!(*setup.lost.borrow(), [session("s"), session("s")].map(|session| SessionLost { session }));
    assert!(setup.unknown.borrow().is_empty());
}

/// P6: a 409 means that the hub does not know the stream.
#[actix::test]
async fn with_status_a_heartbeat_names_the_stream_and_the_providers() {
    let setup = start();
    let reporters = vec![Reporter(true).start().recipient(), Reporter(false).start().recipient()];
    setup.actor.do_send(SetReporters(reporters));
    setup.open(Features::CLASSIC.with(Feature::Status), Some("st-1"), true);
    pass(2 * SECOND).await;
    let body = json!({ "providerSessionId": "s", "streamId": "st-1", "providers": [
        { "name": "a", "status": "active", "inFlight": 1, "queued": 0, "maxConcurrency": 4 },
        { "name": "a", "status": "active", "inFlight": 1, "queued": 0, "maxConcurrency": 4 },
    ] });
    assert_eq!(setup.hub.beat_bodies(), [body]);
    setup.hub.beats.borrow_mut().push_back(Err(status(409)));
    pass(30 * SECOND).await;
    assert_eq!(*setup.unknown.borrow(), [StreamUnknown { stream_id: "st-1".to_owned() }]);
}

/// A registration over an open channel, after a reload, is followed by what is known of the backends.
#[actix::test]
async fn a_registration_is_followed_by_a_heartbeat() {
    let setup = start();
    setup.open(Features::CLASSIC.with(Feature::Status), Some("st"), false);
    pass(10 * SECOND).await;
    setup.actor.do_send(SessionReady { session: session("s"), reopen: false });
    pass(10 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [0, 10]);
}

#[actix::test]
async fn a_provider_that_does_not_report_is_left_out() {
    let setup = start();
    let silent = Reporter(false).start();
    // This uses up the one report of the silent provider.
    silent.do_send(GetReport);
    setup.actor.do_send(SetReporters(vec![silent.recipient(), Reporter(true).start().recipient()]));
    setup.open(Features::CLASSIC.with(Feature::Status), Some("st-1"), true);
    pass(2 * SECOND).await;
    assert_eq!(setup.hub.beat_bodies()[0]["providers"].as_array().map(Vec::len), Some(1));
}

#[actix::test]
async fn a_changed_report_is_sent_at_most_once_a_second() {
    let setup = start();
    setup.actor.do_send(report("a", 1));
    pass(2 * SECOND).await;
    assert!(setup.beat_seconds().is_empty());
    setup.open(Features::CLASSIC.with(Feature::Status), Some("st-1"), true);
    for n in 0..100 {
        setup.actor.do_send(report("a", n % 5));
        pass(SECOND / 20).await;
    }
    let beats = setup.beat_seconds().len();
    assert!((5..=6).contains(&beats), "{beats} in 5 s");
    for _ in 0..10 {
        setup.actor.do_send(report("a", 4));
    }
    pass(5 * SECOND).await;
    let after = setup.beat_seconds().len();
    pass(5 * SECOND).await;
    assert_eq!(setup.beat_seconds().len(), after, "an equal report causes no heartbeat");
}

/// A hello follows at once, and says whether the link carries heartbeats.
#[actix::test]
async fn the_heartbeat_of_a_link_follows_its_hello() {
    let setup = start();
    let open = |features, hello: bool| {
        setup.actor.do_send(ChannelOpened {
            session: session("s"),
            stream_id: hello.then(|| "st-1".to_owned()),
            features,
            hello,
            transport: ChannelTransport::Link,
        });
    };
    let features = Features::CLASSIC.with(Feature::Status);
    open(Features::CLASSIC, false);
    pass(5 * SECOND).await;
    assert!(setup.beat_seconds().is_empty());
    open(features.with(Feature::Beat), true);
    pass(2 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [5]);
    // A POST must not overtake the answer to the hello on another connection.
    open(features, true);
    pass(5 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [5, 8]);
    assert_eq!(setup.hub.beat_bodies()[1]["streamId"], "st-1");
}

/// F84: heartbeats to a hub that restarts would be connections of their own.
#[actix::test]
async fn no_heartbeat_is_sent_while_the_hub_restarts() {
    let setup = start();
    pass(29 * SECOND).await;
    let going = wire::link::Going { delay_ms: 0, interval_ms: 1000 };
    let restart = Some(Restart { going, since: Instant::now() });
    let (reason, open_for) = ("gone".to_owned(), Some(29 * SECOND));
    let (refused, retry_hint, is_link, has_tasks) = (false, None, true, false);
    let lost = ChannelLost { reason, refused, open_for, retry_hint, is_link, has_tasks, restart };
    setup.actor.do_send(lost);
    pass(29 * SECOND).await;
    assert!(setup.beat_seconds().is_empty());
    pass(33 * SECOND).await;
    assert_eq!(setup.beat_seconds(), [60, 90], "a hub that does not come back gets them again");
}
