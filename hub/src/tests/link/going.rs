//! A hub that shuts down tells its registrars, and finishes their tasks.

use super::*;

/// The text of an answer from now on.
async fn rest(answer: &mut Answer) -> String {
    let mut rest = String::new();
    while let Some(piece) = answer.next().await {
        rest.push_str(&piece);
    }
    rest
}

/// F72: the answers of a hub that shuts down reach their callers; a new channel is refused, with the time to come back.
#[actix_rt::test]
async fn a_hub_that_stops_says_so_and_passes_running_answers_on() {
    let (hub, session, mut peer) = linked().await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("hello", true));
    let call = actix_rt::spawn(async move { ask.open().await });
    let (task, _) = peer.task().await;
    peer.link.push(&task, BodyKind::Events, Bytes::from_static(b"data: {\"choices\":[]}\n\n"));
    peer.flush().await;
    let mut answer = call.await.unwrap();
    answer.next().await.unwrap();
    let retry = hub
        .ask("GET", "/api/v1/llms/_provider-stream")
        .header("x-mcpctl-provider-session", session.clone())
        .header("x-virtual-llm-features", "cancel");
    let addr = hub.addr;
    let stopping = actix_rt::spawn(hub.stop());
    let going = loop {
        if let Received::Going(going) = peer.received().await.expect("the link ended without a word") {
            break going;
        }
    };
    assert_eq!((going.delay_ms, going.interval_ms), (0, 1000));
    assert_eq!(retry.open().await.status, 503);
    let (_, head, _) = peer::upgrade_at(addr, ADMIN, &session).await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 5"), "{head}");
    peer.answer(&task, BodyKind::Events, "data: {\"a\":1}\n\ndata: [DONE]\n\n").await;
    assert_eq!(peer.taken(&task).await, 200, "the registrar is told before the link ends");
    assert_eq!(rest(&mut answer).await, "data: {\"a\":1}\n\ndata: [DONE]\n\n");
    while peer.received().await.is_some() {}
    drop(peer);
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
}

/// F84: the registrars of one hub are told different times.
#[actix_rt::test]
async fn registrars_of_a_hub_that_stops_come_back_one_after_another() {
    let hub = hub().await;
    let mut peers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let publisher = Publisher::register(&hub, ADMIN, None, &[provider(name)]).await;
        peers.push(Peer::open(&hub, &publisher.session, Link::default()).await);
    }
    let stopping = actix_rt::spawn(hub.stop());
    let mut delays = Vec::new();
    for mut peer in peers {
        while let Some(received) = peer.received().await {
            if let Received::Going(going) = received {
                delays.push(going.delay_ms);
            }
        }
    }
    delays.sort_unstable();
    delays.dedup();
    // A quarter of a second apart, less the time in which the hub told them.
    assert!(delays.len() == 4 && delays[0] == 0, "{delays:?}");
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
}
