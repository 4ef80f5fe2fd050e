//! The whole registrar on a link: heartbeats as frames, and a hub that shuts down.

use std::time::Duration;

use testkit::captured_log;
use testkit::classic_hub::ClassicHub;
use testkit::wait::{eventually, wait_until};

use super::controlled_backend::{ControlledBackend, provider};
use super::{end, infer, started};
use crate::fakes::link_hub::LinkHub;
use crate::fakes::quick;
use crate::options::{Options, ProviderConfig, Timings};
use crate::registrar::Registrar;
use crate::status::{ChannelState, ChannelStatus, ChannelTransport};

/// The features of a hub of ours.
const FEATURES: &[&str] = &["cancel", "status", "drain", "endpoints", "guard", "beat"];

/// A hub with `features`, and a registrar whose link is open. Only a hub that goes is tried again within a minute.
async fn linked(features: &[&'static str], providers: Vec<ProviderConfig>) -> (LinkHub, Registrar) {
    let hub = LinkHub::start(features);
    let timings =
        Timings { reconnect_base: Duration::from_mins(1), reconnect_max: Duration::from_mins(2), ..quick() };
    let options = Options { timings, ..Options::new(hub.credentials(), providers) };
    let registrar = Registrar::start(options).unwrap();
    registrar.ready().await.unwrap();
    hub.until_opened(1).await;
    (hub, registrar)
}

async fn channel(registrar: &Registrar) -> ChannelStatus {
    registrar.status().await.unwrap().channel
}

async fn until_state(registrar: &Registrar, state: ChannelState) {
    eventually("the status has the state", async || channel(registrar).await.state == state).await;
}

#[actix::test]
async fn heartbeats_are_frames_of_the_link() {
    let backend = ControlledBackend::held("hello");
    let (hub, registrar) = linked(FEATURES, vec![backend.provider("a")]).await;
    wait_until("heartbeats come", || hub.beats().len() >= 3).await;
    let beat = hub.beats()[0].clone();
    assert_eq!((&beat["providerSessionId"], &beat["streamId"]), (&"sess-1".into(), &"stream-0".into()));
    hub.task(0, "t", &infer("t", "a"));
    let is_busy = |beat: &serde_json::Value| beat["providers"][0]["inFlight"] == 1;
    wait_until("the change is reported", || hub.beats().iter().any(is_busy)).await;
    assert_eq!(hub.posts("_provider-heartbeat"), 0);
    end(registrar).await;
}

/// F89: only features that both sides name are used.
#[actix::test]
async fn a_hub_without_beat_gets_heartbeats_by_post() {
    let (hub, registrar) = linked(&["cancel", "status"], vec![provider("a")]).await;
    wait_until("heartbeats come", || hub.posts("_provider-heartbeat") >= 3).await;
    assert_eq!((hub.beats().len(), hub.asked()), (0, 1));
    end(registrar).await;
}

/// F21, F27: the status of a frame means what that of a POST means.
#[actix::test]
async fn a_404_to_a_heartbeat_on_a_link_registers_again() {
    let (hub, registrar) = linked(FEATURES, vec![provider("a")]).await;
    wait_until("heartbeats come", || !hub.beats().is_empty()).await;
    hub.answer_next_beat(Some((500, "{}")));
    hub.answer_next_beat(Some((404, "{}")));
    wait_until("the session is registered again", || hub.posts("_provider-register") == 2).await;
    hub.until_opened(2).await;
    end(registrar).await;
}

/// P6: a 409 means that the hub does not know the stream.
#[actix::test]
async fn a_409_to_a_heartbeat_on_a_link_drops_the_link() {
    let (hub, registrar) = linked(FEATURES, vec![provider("a")]).await;
    hub.answer_next_beat(Some((409, r#"{"error":"connect again"}"#)));
    until_state(&registrar, ChannelState::Connecting).await;
    wait_until("the link is closed", || hub.open() == 0).await;
    end(registrar).await;
}

/// F18: only a POST can use a token that was replaced.
#[actix::test]
async fn a_heartbeat_that_is_refused_on_a_link_for_its_token_is_posted() {
    let (hub, registrar) = linked(FEATURES, vec![provider("a")]).await;
    hub.answer_next_beat(Some((401, "{}")));
    wait_until("it is posted", || hub.posts("_provider-heartbeat") == 1).await;
    end(registrar).await;
}

/// F72: a hub that shuts down gets the answers of its running tasks, and nothing of it is a fault.
#[actix::test]
async fn tasks_end_on_the_link_of_a_hub_that_goes() {
    captured_log::listen("actors");
    let backend = ControlledBackend::held("hello");
    let (hub, registrar) = linked(FEATURES, vec![backend.provider("a")]).await;
    hub.task(0, "t", &infer("t", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    hub.refuse(Some(503));
    hub.going(0, 0);
    until_state(&registrar, ChannelState::Restarting).await;
    wait_until("another hub is looked for", || hub.asked() == 2).await;
    backend.permits.add_permits(1);
    assert_eq!(hub.result(0, "t").await["body"]["choices"][0]["message"]["content"], "hello");
    assert_eq!(hub.asked(), 2, "the open link is kept");
    hub.close(0);
    hub.refuse(None);
    hub.until_opened(2).await;
    until_state(&registrar, ChannelState::Connected).await;
    assert_eq!(channel(&registrar).await.transport, Some(ChannelTransport::Link));
    assert_eq!(hub.posts("_provider-register"), 1, "each reconnect is one connection");
    assert_eq!(captured_log::lines_with("the hub shuts down").len(), 1);
    assert!(captured_log::lines_with("no control channel").is_empty());
    assert!(registrar.status().await.unwrap().last_error.is_none());
    end(registrar).await;
}

/// F01, F72: a hub that is away for a moment is tried every second, although the delay after a loss is a minute.
#[actix::test]
async fn a_hub_that_went_is_tried_again_until_it_is_back() {
    let (hub, registrar) = linked(FEATURES, vec![provider("a")]).await;
    hub.refuse(Some(502));
    hub.going(0, 0);
    wait_until("another hub is looked for", || hub.asked() == 2).await;
    hub.close(0);
    wait_until("two tries fail", || hub.asked() == 4).await;
    hub.refuse(None);
    hub.until_opened(2).await;
    assert_eq!(
        channel(&registrar).await.transport,
        Some(ChannelTransport::Link),
        "no try was without upgrade"
    );
    end(registrar).await;
}

/// F72: with several hubs at one address, another one takes new tasks before the old one has ended.
#[actix::test]
async fn another_hub_takes_new_tasks_while_one_that_goes_finishes_its_own() {
    let backend = ControlledBackend::held("hello");
    let (hub, registrar) = linked(FEATURES, vec![backend.provider("a")]).await;
    hub.task(0, "old", &infer("old", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    hub.going(0, 0);
    hub.until_opened(2).await;
    until_state(&registrar, ChannelState::Connected).await;
    hub.task(1, "new", &infer("new", "a"));
    hub.task(0, "late", &infer("late", "a"));
    wait_until("all tasks run", || backend.started() == 3).await;
    backend.permits.add_permits(3);
    for (link, id) in [(0, "old"), (0, "late"), (1, "new")] {
        assert_eq!(hub.result(link, id).await["status"], 200, "{id}");
    }
    hub.close(0);
    wait_until("the old link is closed", || hub.open() == 1).await;
    hub.task(1, "last", &infer("last", "a"));
    backend.permits.add_permits(1);
    assert_eq!(hub.result(1, "last").await["status"], 200);
    assert_eq!((backend.dropped(), hub.opened()), (0, 2));
    end(registrar).await;
}

#[actix::test]
async fn the_status_has_the_age_and_the_round_trip_of_the_link() {
    let (hub, registrar) = linked(FEATURES, vec![provider("a")]).await;
    eventually("a round trip is measured", async || channel(&registrar).await.round_trip_ms.is_some()).await;
    let open = channel(&registrar).await;
    assert_eq!(open.transport, Some(ChannelTransport::Link));
    assert!(open.open_since.is_some() && open.round_trip_ms.unwrap() < 5_000.0, "{open:?}");
    hub.close(0);
    until_state(&registrar, ChannelState::Connecting).await;
    let lost = channel(&registrar).await;
    assert_eq!((lost.open_since, lost.round_trip_ms), (None, None));
    end(registrar).await;
}

#[actix::test]
async fn the_status_says_why_a_channel_is_no_link() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    let open = channel(&registrar).await;
    assert!(matches!(open.transport, Some(ChannelTransport::Sse(reason)) if reason.contains("upgrade")));
    assert!(open.open_since.is_some() && open.round_trip_ms.is_none());
    end(registrar).await;
}
