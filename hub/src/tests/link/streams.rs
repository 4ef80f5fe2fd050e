//! Streamed answers over a link.

use std::time::Duration;

use super::*;
use crate::links::Links;
use crate::tests::publisher::chunk;
use crate::tests::road::infer;

/// The caller gets 502 at once, as for a chunk.
#[actix_rt::test]
async fn a_stream_for_a_call_that_does_not_stream_fails_the_task() {
    let (hub, _, mut peer) = linked().await;
    let call = call(&hub, chat("hello", false));
    let (task, _) = peer.task().await;
    let events = format!("data: {}\n\ndata: [DONE]\n\n", chunk("one"));
    for expected in [409, 410] {
        assert_eq!(peer.streams(&task, &events).await, expected);
    }
    assert_eq!(call.await.unwrap().0, 502);
    hub.stop().await;
}

/// P3, F34: a stream that ends without its end mark ends the caller's stream with an error.
#[actix_rt::test]
async fn a_stream_without_an_end_mark_fails_the_task() {
    let (hub, _, mut peer) = linked().await;
    let (mut answer, task) = peer.begins(&infer(&hub, "al", true), "one").await;
    assert_eq!(peer.streams(&task, "").await, 400);
    assert_eq!(
        answer.rest().await,
        "data: {\"error\":\"the publisher's answer broke off\",\"code\":\"upstream_error\"}\n\n"
    );
    hub.stop().await;
}

/// F74, P7, A26: a caller that does not read blocks its own answer in bounded memory, and no other answer.
#[actix_rt::test]
async fn a_caller_that_does_not_read_blocks_its_own_stream_only() {
    let (hub, _, mut peer) = linked().await;
    let (answer, task) = peer.begins(&infer(&hub, "al", true), "one").await;
    let event = format!("data: {}\n\n", chunk(&"x".repeat(30_000)));
    let mut pushed = 0;
    // As the registrar does, it pushes more when all was sent, until no more credit comes.
    loop {
        while peer.link.pending_bytes(&task) == 0 {
            assert!(pushed < 64 << 20, "{pushed} bytes are buffered");
            pushed += event.len();
            peer.events(&task, &event).await;
        }
        match timeout(Duration::from_millis(500), peer.received()).await {
            Ok(received) => drop(received.expect("the link ended")),
            Err(_elapsed) => break,
        }
        peer.flush().await;
    }
    let other = call(&hub, chat("hello", false));
    let (small, _) = peer.task().await;
    peer.answer(&small, BodyKind::Json, RESULT).await;
    assert_eq!(other.await.unwrap().0, 200);
    drop(answer);
    assert_eq!(peer.cancelled().await, task);
    hub.stop().await;
}

/// F76: the hub cancels a stream between two of its chunks.
#[actix_rt::test]
async fn a_stream_whose_caller_disconnects_is_cancelled() {
    let (hub, _, mut peer) = linked().await;
    let (answer, task) = peer.begins(&infer(&hub, "al", true), "one").await;
    drop(answer);
    assert_eq!(timeout(Duration::from_secs(1), peer.cancelled()).await.expect("within a second"), task);
    hub.stop().await;
}

/// F89: a registrar of an older version sends events over a link only if the hello names its former feature `result-stream`.
#[actix_rt::test]
async fn a_hello_names_result_stream_to_a_registrar_that_offers_it() {
    let ours = ["cancel", "chunk-seq", "status", "drain", "endpoints", "guard", "beat"];
    for (offered, more) in [("cancel", None), ("cancel, result-stream", Some("result-stream"))] {
        let (_, _, hello) = Links::default().connect("session", "stream-1", offered, []);
        let Ok(Some(Frame::Hello(json))) = Frame::decode(&hello.frame) else { panic!("{:?}", hello.frame) };
        let expected: Vec<_> = ours.into_iter().chain(more).collect();
        assert_eq!(Hello::parse(&json).unwrap().features, expected);
    }
}
