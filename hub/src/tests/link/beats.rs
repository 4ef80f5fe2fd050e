//! Heartbeats as frames: each means what a POST of it means.

use actix_codec::Encoder;
use bytes::BytesMut;

use super::super::publisher::report;
use super::*;

/// Sends a heartbeat. Returns the status and the body of its answer.
async fn beat(peer: &mut Peer, number: u64, body: impl Into<Bytes>) -> Option<(u16, Value)> {
    peer.write(Frame::Beat { number, body: body.into() }.encode()).await;
    loop {
        if let Received::Beaten { number: of, status, body } = peer.received().await? {
            assert_eq!(of, number);
            return Some((status, serde_json::from_slice(&body).unwrap()));
        }
    }
}

#[actix_rt::test]
async fn a_heartbeat_on_a_link_reports_the_providers() {
    let (hub, session, mut peer) = linked().await;
    let mut body = json!({ "providerSessionId": session, "streamId": peer.hello.stream_id });
    for (number, status) in [(1, "inactive"), (2, "active")] {
        body["providers"] = json!([report("al", status, 0, 4)]);
        assert_eq!(beat(&mut peer, number, body.to_string()).await, Some((200, json!({ "ok": true }))));
        assert_eq!(hub.row("al").await["status"], status);
    }
    hub.stop().await;
}

/// P6, A02: another user's session is 404, another stream 409, and the body is checked as that of a POST.
#[actix_rt::test]
async fn a_heartbeat_on_a_link_is_refused_with_the_status_and_body_of_a_post() {
    let (hub, session, mut peer) = linked().await;
    let member = hub.member("bob").await;
    let foreign = Publisher::register(&hub, &member, None, &[provider("bo")]).await;
    let many = vec![report("al", "active", 0, 4); 257];
    let other = Publisher::register(&hub, ADMIN, None, &[provider("other")]).await;
    let bodies = [
        (200, json!({ "providerSessionId": other.session }).to_string()),
        (404, json!({ "providerSessionId": "sess-unknown" }).to_string()),
        (409, json!({ "providerSessionId": session, "streamId": "stream-other" }).to_string()),
        (400, json!({ "providerSessionId": session, "providers": many }).to_string()),
        (400, json!({ "providerSessionId": 1 }).to_string()),
        (400, "[]".to_owned()),
        (400, "{\"providerSessionId\":\"s\"} x".to_owned()),
        (400, String::new()),
    ];
    for (number, (expected, body)) in (0..).zip(bodies) {
        let posted = hub.ask("POST", "/api/v1/llms/_provider-heartbeat").body(body.clone()).json().await;
        let framed = beat(&mut peer, number, body.clone()).await.unwrap();
        assert_eq!((framed.0, &framed), (expected, &posted), "{body}");
    }
    let mut peer = Peer::open_as(&hub, &member, &foreign.session, Link::default()).await;
    let body = json!({ "providerSessionId": session }).to_string();
    assert_eq!(beat(&mut peer, 1, body).await.unwrap().0, 404);
    hub.stop().await;
}

/// A27: the hub keeps at most one answer for a registrar that does not read.
#[actix_rt::test]
async fn a_heartbeat_before_the_answer_to_the_last_one_ends_the_link() {
    let (hub, session, mut peer) = linked().await;
    let body = Bytes::from(json!({ "providerSessionId": session }).to_string());
    let mut out = BytesMut::new();
    for number in 0..2 {
        let frame = Frame::Beat { number, body: body.clone() }.encode();
        ws::Codec::new().client_mode().encode(ws::Message::Binary(frame), &mut out).unwrap();
    }
    peer.socket.write_all(&out).await.unwrap();
    while peer.received().await.is_some() {}
    hub.stop().await;
}
