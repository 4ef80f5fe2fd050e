//! Heartbeats over a link, and links of a hub that shuts down.

use super::*;
use crate::fakes::link_hub::LinkHub;

/// A hub, and a client whose link has the hub's hello. The link lives as long as the task that reads it.
async fn linked() -> (LinkHub, Rc<HubClient>, actix_rt::task::JoinHandle<()>) {
    let hub = LinkHub::start(&["cancel", "status", "beat"]);
    let client = Rc::new(HubClient::new(&hub.credentials()).unwrap());
    let ControlChannel::Link(mut link) = client.open_channel(session()).await.unwrap() else {
        panic!("no link")
    };
    let hello = link.next().await;
    assert!(matches!(hello, Some(LinkEvent::Hello { .. })), "{hello:?}");
    let reading = actix_rt::spawn(async move { while link.next().await.is_some() {} });
    (hub, client, reading)
}

/// The hub takes one heartbeat of a link at a time.
#[actix::test]
async fn a_heartbeat_beside_an_unanswered_one_is_a_post() {
    let (hub, client, _reading) = linked().await;
    client.heartbeat(beat()).await.unwrap();
    assert_eq!((hub.beats().len(), hub.posts("_provider-heartbeat")), (1, 0));
    hub.answer_next_beat(None);
    let first = client.heartbeat(beat());
    let (sender, sent) = tokio::sync::oneshot::channel();
    let waiting = async {
        tokio::select! {
            _ = first => panic!("answered"),
            _ = sent => (),
        }
    };
    let second = async {
        wait_until("the first comes", || hub.beats().len() == 2).await;
        client.heartbeat(beat()).await.unwrap();
        sender.send(()).unwrap();
    };
    tokio::join!(waiting, second);
    assert_eq!((hub.beats().len(), hub.posts("_provider-heartbeat")), (2, 1));
    client.heartbeat(beat()).await.unwrap();
    assert_eq!(hub.beats().len(), 2, "the first may still be answered");
}

#[actix::test]
async fn a_heartbeat_that_is_longer_than_a_frame_is_a_post() {
    let (hub, client, _reading) = linked().await;
    let long = Heartbeat { stream_id: Some("x".repeat(64 << 10)), ..beat() };
    client.heartbeat(long).await.unwrap();
    assert_eq!((hub.beats().len(), hub.posts("_provider-heartbeat")), (0, 1));
}

#[actix::test]
async fn a_heartbeat_fails_with_its_link_and_the_next_one_is_a_post() {
    let (hub, client, reading) = linked().await;
    hub.answer_next_beat(None);
    let beating = client.heartbeat(beat());
    let breaking = async {
        wait_until("the heartbeat comes", || hub.beats().len() == 1).await;
        hub.close(0);
    };
    let (beaten, ()) = tokio::join!(beating, breaking);
    assert_eq!(beaten.unwrap_err().kind(), HubErrorKind::Retry);
    reading.await.unwrap();
    client.heartbeat(beat()).await.unwrap();
    assert_eq!(hub.posts("_provider-heartbeat"), 1);
}

/// F16: what a proxy answers while its hub restarts is no reason to give links up.
#[actix::test]
async fn a_502_after_a_hub_went_is_no_reason_for_a_channel_without_a_link() {
    let (hub, client, reading) = linked().await;
    hub.going(0, 0);
    hub.close(0);
    reading.await.unwrap();
    hub.refuse(Some(502));
    client.open_channel(session()).await.unwrap_err();
    assert_eq!(hub.asked(), 2, "one request, with an upgrade");
    hub.refuse(None);
    assert!(matches!(client.open_channel(session()).await, Ok(ControlChannel::Link(_))));
}

/// Two links that a hub ends within 30 s by restarting twice did not break.
#[actix::test]
async fn short_links_of_a_hub_that_goes_are_not_short() {
    let (hub, client, reading) = linked().await;
    hub.going(0, 0);
    hub.cut(0);
    reading.await.unwrap();
    for link in 1..4 {
        let Ok(ControlChannel::Link(mut channel)) = client.open_channel(session()).await else {
            panic!("no link number {link}")
        };
        channel.next().await;
        hub.going(link, 0);
        hub.cut(link);
        while channel.next().await.is_some_and(|event| !matches!(event, LinkEvent::Broken(_))) {}
    }
}
