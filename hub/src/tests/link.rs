//! The hub's end of a link, with a scripted registrar that has the real state of the other end.

mod beats;
mod ended;
mod going;
mod hostile;
mod opening;
pub(crate) mod peer;
mod streams;

use actix_http::ws;
use bytes::Bytes;
use serde_json::{Value, json};
use testkit::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::link::{BodyKind, Frame, Hello, Link, MAX_FRAME, Piece, Received, Resume};

use peer::{Peer, upgrade};

use super::http::{Answer, PATIENCE};
use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, hub};

/// A hub, and a session that publishes `al` with its link.
async fn linked() -> (TestHub, String, Peer) {
    let hub = hub().await;
    let publisher = Publisher::register(&hub, ADMIN, None, &[provider("al")]).await;
    let peer = Peer::open(&hub, &publisher.session, Link::default()).await;
    (hub, publisher.session, peer)
}

fn chat(content: &str, streaming: bool) -> String {
    json!({ "model": "al", "stream": streaming, "messages": [{ "role": "user", "content": content }] })
        .to_string()
}

fn call(hub: &TestHub, body: String) -> actix_rt::task::JoinHandle<(u16, Value)> {
    let ask = hub.ask("POST", "/v1/chat/completions").body(body);
    actix_rt::spawn(async move { ask.json().await })
}

const RESULT: &str = r#"{"status":200,"body":{"choices":[{"message":{"content":"hi"}}]}}"#;

#[actix_rt::test]
async fn a_whole_answer_comes_over_the_link() {
    let (hub, _, mut peer) = linked().await;
    let call = call(&hub, chat("hello", false));
    let (task, data) = peer.task().await;
    assert_eq!((&data["llmName"], &data["taskId"]), (&json!("al"), &json!(task)));
    peer.answer(&task, BodyKind::Json, RESULT).await;
    assert_eq!(peer.taken(&task).await, 200);
    let (status, answer) = call.await.unwrap();
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("hi")));
    hub.stop().await;
}

#[actix_rt::test]
async fn events_of_a_stream_are_written_as_they_come() {
    let (hub, _, mut peer) = linked().await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("hello", true));
    let mut opened: Option<Answer> = None;
    let opening = async { opened = Some(ask.open().await) };
    let serving = async {
        let (task, _) = peer.task().await;
        peer.link.push(&task, BodyKind::Events, Bytes::from_static(b"data: {\"choices\":[]}\n\nda"));
        peer.flush().await;
        task
    };
    let ((), task) = futures_util::join!(opening, serving);
    let mut answer = opened.unwrap();
    assert_eq!(answer.next().await.unwrap(), "data: {\"choices\":[]}\n\n");
    peer.answer(&task, BodyKind::Events, "ta: { \"a\" : [1, 2] }\n\ndata: [DONE]\n\n").await;
    assert_eq!(peer.taken(&task).await, 200);
    let mut rest = String::new();
    while let Some(piece) = answer.next().await {
        rest.push_str(&piece);
    }
    assert_eq!(rest, "data: {\"a\":[1,2]}\n\ndata: [DONE]\n\n");
    hub.stop().await;
}

/// P3: the answer goes on where it was, although the hub's acknowledgements were lost.
#[actix_rt::test]
async fn a_task_continues_on_the_next_link_of_its_session() {
    let (hub, session, mut peer) = linked().await;
    let call = call(&hub, chat("hello", false));
    let (task, _) = peer.task().await;
    peer.link.push(&task, BodyKind::Json, Bytes::copy_from_slice(&RESULT.as_bytes()[..20]));
    peer.flush().await;
    let Peer { mut link, socket, .. } = peer;
    drop(socket);
    link.disconnect();
    let mut peer = Peer::open(&hub, &session, link).await;
    assert!(peer.hello.tasks.contains_key(&task), "{:?}", peer.hello);
    peer.answer(&task, BodyKind::Json, &RESULT[20..]).await;
    assert_eq!(peer.taken(&task).await, 200);
    assert_eq!(call.await.unwrap().0, 200);
    hub.stop().await;
}

/// P1: a registrar that was killed knows no task. What it has not answered is sent again, under the same id.
#[actix_rt::test]
async fn a_task_is_sent_again_to_a_registrar_that_lost_it() {
    let (hub, session, mut peer) = linked().await;
    let call = call(&hub, chat("hello", false));
    let (task, data) = peer.task().await;
    drop(peer);
    let mut peer = Peer::open(&hub, &session, Link::default()).await;
    assert_eq!(peer.task().await, (task.clone(), data));
    peer.answer(&task, BodyKind::Json, RESULT).await;
    assert_eq!(call.await.unwrap().0, 200);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_stream_of_a_registrar_that_lost_it_breaks_off() {
    let (hub, session, mut peer) = linked().await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("hello", true));
    let call = actix_rt::spawn(async move { ask.open().await });
    let (task, _) = peer.task().await;
    peer.link.push(&task, BodyKind::Events, Bytes::from_static(b"data: {\"choices\":[]}\n\n"));
    peer.flush().await;
    let mut answer = call.await.unwrap();
    answer.next().await.unwrap();
    drop(peer);
    let _peer = Peer::open(&hub, &session, Link::default()).await;
    let mut rest = String::new();
    while let Some(piece) = answer.next().await {
        rest.push_str(&piece);
    }
    assert!(rest.contains("the publisher's answer broke off") && !rest.contains("[DONE]"), "{rest}");
    hub.stop().await;
}

/// A27: a small task and a cancel wait for one piece of a large task.
#[actix_rt::test]
async fn a_small_task_does_not_wait_for_a_large_one() {
    let (hub, _, mut peer) = linked().await;
    let large = call(&hub, chat(&"x".repeat(8 << 20), false));
    let Some(Received::Piece { task: first, piece, .. }) = peer.received().await else { panic!("no piece") };
    assert!(!piece.is_last && piece.bytes.len() <= wire::link::MAX_PIECE);
    let small = call(&hub, chat("hello", false));
    // Without credit the hub sends no more of the large task.
    let mut of_first = piece.bytes.len();
    let small_task = loop {
        let Some(Received::Piece { task, piece, .. }) = peer.received().await else { panic!("no piece") };
        if task != first {
            assert!(piece.is_last);
            break task;
        }
        of_first += piece.bytes.len();
    };
    assert!(of_first <= 256 << 10, "{of_first} bytes without credit");
    peer.answer(&small_task, BodyKind::Json, RESULT).await;
    assert_eq!(small.await.unwrap().0, 200);
    large.abort();
    eventually(
        "the large task is cancelled",
        async || matches!(peer.received().await, Some(Received::Cancelled(task)) if task == first),
    )
    .await;
    hub.stop().await;
}

/// A38: of a task that a publisher has not read, nothing more is sent when its name goes to another user.
#[actix_rt::test]
async fn an_unread_task_is_withdrawn_from_a_link_when_its_name_is_given_away() {
    let (hub, _, mut peer) = linked().await;
    let call = call(&hub, chat(&"x".repeat(1 << 20), false));
    let Some(Received::Piece { task, piece, .. }) = peer.received().await else { panic!("no piece") };
    assert!(!piece.is_last);
    hub.member("bob").await;
    let body = json!({ "ownerId": "bob" }).to_string();
    let (status, answer) = hub.ask("PUT", "/api/v1/names/al").body(body).json().await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(call.await.unwrap().0, 404);
    let mut sent = piece.bytes.len();
    loop {
        match peer.received().await.unwrap() {
            Received::Piece { piece, .. } => sent += piece.bytes.len(),
            Received::Cancelled(of) => break assert_eq!(of, task),
            other => panic!("{other:?}"),
        }
    }
    assert!(sent <= 256 << 10, "{sent}");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_session_is_active_only_after_its_resume() {
    let hub = hub().await;
    let publisher = Publisher::register(&hub, ADMIN, None, &[provider("al")]).await;
    let mut peer = Peer::connect(&hub, &publisher.session, Link::default()).await;
    peer.next_frame().await.unwrap();
    let (status, _) = call(&hub, chat("hello", false)).await.unwrap();
    assert_eq!(status, 503);
    hub.stop().await;
}

/// An answer for a task that is unknown or ended gets the status that a POST of it would have had.
#[actix_rt::test]
async fn an_answer_that_nobody_waits_for_is_refused_with_its_status() {
    let (hub, _, mut peer) = linked().await;
    peer.answer("task-unknown", BodyKind::Json, RESULT).await;
    assert_eq!(peer.taken("task-unknown").await, 404);
    let call = call(&hub, chat("hello", false));
    let (task, _) = peer.task().await;
    peer.answer(&task, BodyKind::Json, "no JSON").await;
    assert_eq!(peer.taken(&task).await, 400);
    assert_eq!(call.await.unwrap().0, 502);
    peer.answer(&task, BodyKind::Json, RESULT).await;
    assert_eq!(peer.taken(&task).await, 410);
    hub.stop().await;
}

/// A03: a request that is refused changes nothing for the session that it names.
#[actix_rt::test]
async fn a_channel_that_is_refused_leaves_the_link_of_its_session() {
    let (hub, session, mut peer) = linked().await;
    let call = call(&hub, chat("hello", false));
    let (task, _) = peer.task().await;
    let bob = hub.member("bob").await;
    let opening = hub.ask_as(&bob, "GET", "/api/v1/llms/_provider-stream");
    let (status, _) = opening.header("x-mcpctl-provider-session", session.clone()).json().await;
    assert_eq!(status, 404);
    let Peer { mut link, socket, .. } = peer;
    drop(socket);
    link.disconnect();
    let mut peer = Peer::open(&hub, &session, link).await;
    assert!(peer.hello.tasks.contains_key(&task), "{:?}", peer.hello);
    peer.answer(&task, BodyKind::Json, RESULT).await;
    assert_eq!(call.await.unwrap().0, 200);
    hub.stop().await;
}

/// A24: of a message that is too long the hub reads no more than the longest one.
#[actix_rt::test]
async fn a_message_that_is_too_long_is_refused_before_its_end() {
    let (hub, session, resumed) = linked().await;
    let mut waiting = Peer::connect(&hub, &session, Link::default()).await;
    waiting.next_frame().await.unwrap();
    for (mut peer, most) in [(resumed, wire::link::MAX_PIECE), (waiting, 2 << 10)] {
        let mut head = vec![0x82, 0x80 | 127];
        head.extend_from_slice(&(1_u64 << 40).to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        peer.socket.write_all(&head).await.unwrap();
        peer.socket.write_all(&vec![0; most + (4 << 10)]).await.unwrap();
        assert_eq!(peer.next_frame().await, None);
    }
    hub.stop().await;
}

/// P1: tokens of one task do not wait for the requests of others, which go down a slow line.
#[actix_rt::test]
async fn an_answer_passes_while_its_registrar_reads_nothing() {
    const LARGE: usize = 12;
    let (hub, session, mut peer) = linked().await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("hello", true));
    let streamed = actix_rt::spawn(async move { ask.open().await });
    let (task, _) = peer.task().await;
    // Each sends its first credit, together more than the buffers of the connection hold.
    let large: Vec<_> = (0..LARGE).map(|_| call(&hub, chat(&"x".repeat(1 << 20), false))).collect();
    eventually("all are sent", async || hub.core().dispatches.lock().of_session(&session).len() == LARGE + 1)
        .await;
    let event = "data: {\"choices\":[]}\n\n";
    peer.link.push(&task, BodyKind::Events, Bytes::from_static(event.as_bytes()));
    peer.flush().await;
    let mut answer = streamed.await.unwrap();
    for _ in 0..20 {
        assert_eq!(answer.next().await.unwrap(), event);
        peer.link.push(&task, BodyKind::Events, Bytes::from_static(event.as_bytes()));
        peer.flush().await;
    }
    large.iter().for_each(actix_rt::task::JoinHandle::abort);
    drop(answer);
    hub.stop().await;
}
