//! The hub's end of a link, with a scripted registrar that has the real state of the other end.

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use testkit::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::link::{BodyKind, Frame, Hello, Link, MAX_FRAME, Piece, Received, Resume, SUBPROTOCOL};

use super::http::{Answer, PATIENCE};
use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, hub};

/// One connection of a link.
struct Peer {
    socket: TcpStream,
    input: BytesMut,
    codec: ws::Codec,
    link: Link,
    hello: Hello,
}

/// The head of the answer to a request for a link of `session`.
async fn upgrade(hub: &TestHub, token: &str, session: &str) -> (TcpStream, String, BytesMut) {
    let mut socket = TcpStream::connect(hub.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/llms/_provider-stream HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\n\
         x-mcpctl-provider-session: {session}\r\nx-virtual-llm-features: cancel, status\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut input = BytesMut::new();
    let end = loop {
        if let Some(at) = input.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(timeout(PATIENCE, socket.read_buf(&mut input)).await.unwrap().unwrap() > 0);
    };
    let head = String::from_utf8(input.split_to(end).to_vec()).unwrap();
    (socket, head, input)
}

impl Peer {
    /// Opens a link for `session`, with the state that an earlier one left.
    async fn open(hub: &TestHub, session: &str, link: Link) -> Self {
        let mut peer = Self::connect(hub, session, link).await;
        let hello = peer.next_frame().await.unwrap();
        let Some(Frame::Hello(json)) = Frame::decode(&hello).unwrap() else { panic!("{hello:?}") };
        peer.hello = Hello::parse(&json).unwrap();
        peer.link.attach(&peer.hello.tasks).unwrap();
        let resume = Resume { tasks: peer.link.tables() };
        peer.link.send_control(&Frame::Resume(resume.to_json()));
        peer.flush().await;
        let beat = json!({ "providerSessionId": session, "streamId": peer.hello.stream_id }).to_string();
        eventually("the hub has the resume", async || {
            hub.ask("POST", "/api/v1/llms/_provider-heartbeat").body(beat.clone()).json().await.0 == 200
        })
        .await;
        peer
    }

    /// Opens the connection, and leaves the hello unread.
    async fn connect(hub: &TestHub, session: &str, link: Link) -> Self {
        let (socket, head, input) = upgrade(hub, ADMIN, session).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "RFC 6455 section 1.3");
        assert!(head.contains(&format!("sec-websocket-protocol: {SUBPROTOCOL}")), "{head}");
        let codec = ws::Codec::new().client_mode().max_size(MAX_FRAME);
        Self { socket, input, codec, link, hello: Hello::default() }
    }

    async fn write(&mut self, frame: Bytes) {
        let mut out = BytesMut::new();
        ws::Codec::new().client_mode().encode(ws::Message::Binary(frame), &mut out).unwrap();
        self.socket.write_all(&out).await.unwrap();
    }

    /// Writes what the link has to send.
    async fn flush(&mut self) {
        while let Some(frame) = self.link.next_frame() {
            self.write(frame).await;
        }
    }

    /// The next binary message; `None` at the end of the connection.
    async fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            match self.codec.decode(&mut self.input).unwrap() {
                Some(ws::Frame::Binary(bytes)) => return Some(bytes),
                Some(ws::Frame::Close(_)) => return None,
                Some(_) => (),
                None => {
                    let read = timeout(PATIENCE, self.socket.read_buf(&mut self.input)).await.unwrap();
                    if read.is_ok_and(|bytes| bytes > 0) {
                        continue;
                    }
                    return None;
                }
            }
        }
    }

    /// What the next frame means; `None` at the end of the connection.
    async fn received(&mut self) -> Option<Received> {
        let bytes = self.next_frame().await?;
        Some(self.link.receive(Frame::decode(&bytes).unwrap().unwrap()).unwrap())
    }

    /// The next task: its id and its data. Grants credit as it reads.
    async fn task(&mut self) -> (String, Value) {
        let mut data = Vec::new();
        loop {
            let Received::Piece { task, piece, .. } = self.received().await.unwrap() else { continue };
            data.extend_from_slice(&piece.bytes);
            self.link.consumed(&task, piece.bytes.len());
            self.flush().await;
            if piece.is_last {
                return (task.to_string(), serde_json::from_slice(&data).unwrap());
            }
        }
    }

    async fn answer(&mut self, task: &str, kind: BodyKind, body: &str) {
        self.link.push(task, kind, Bytes::copy_from_slice(body.as_bytes()));
        self.link.finish(task);
        self.flush().await;
    }

    /// The status with which the hub takes the answer of `task`.
    async fn taken(&mut self, task: &str) -> u16 {
        loop {
            match self.received().await.unwrap() {
                Received::Taken { task: of, status } if *of == *task => return status,
                _ => (),
            }
        }
    }
}

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
    peer.answer(&task, BodyKind::Events, "ta: {\"a\":1}\n\ndata: [DONE]\n\n").await;
    assert_eq!(peer.taken(&task).await, 200);
    let mut rest = String::new();
    while let Some(piece) = answer.next().await {
        rest.push_str(&piece);
    }
    assert_eq!(rest, "data: {\"a\":1}\n\ndata: [DONE]\n\n");
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
    link.detach();
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

/// Java's `HttpClient` asks for h2c with its first request. A body in chunks would be announced and not written.
#[actix_rt::test]
async fn a_stream_in_response_to_another_upgrade_ends_with_its_connection() {
    let hub = hub().await;
    let publisher = Publisher::register(&hub, ADMIN, None, &[provider("al")]).await;
    let mut socket = TcpStream::connect(hub.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/llms/_provider-stream HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {ADMIN}\r\n\
         x-mcpctl-provider-session: {}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n",
        publisher.session
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"data: {}\n\n") {
        assert!(timeout(PATIENCE, socket.read_buf(&mut text)).await.unwrap().unwrap() > 0);
    }
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, "event: hello\ndata: {}\n\n");
    hub.stop().await;
}

/// A03: another user's session does not exist.
#[actix_rt::test]
async fn a_link_needs_a_session_of_its_user() {
    let (hub, session, _peer) = linked().await;
    let other = hub.member("mallory").await;
    for (token, session) in [(other.as_str(), session.as_str()), (ADMIN, "sess-unknown")] {
        let (_, head, _) = upgrade(&hub, token, session).await;
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    }
    hub.stop().await;
}

/// Two registrars with copies of one session file must not take the session from each other for ever.
#[actix_rt::test]
async fn a_link_in_use_stays_until_a_newer_one_resumes_and_is_told_then() {
    let (hub, session, mut peer) = linked().await;
    let mut newer = Peer::connect(&hub, &session, Link::default()).await;
    newer.next_frame().await.unwrap();
    let call = call(&hub, chat("hello", false));
    let (task, _) = peer.task().await;
    peer.answer(&task, BodyKind::Json, RESULT).await;
    assert_eq!(call.await.unwrap().0, 200, "a link without a resume disturbs none");
    newer.write(Frame::Resume(Resume::default().to_json()).encode()).await;
    // What comes on the older link is ignored, and does not end it before it is told.
    peer.answer("task-unknown", BodyKind::Json, RESULT).await;
    loop {
        let frame = peer.next_frame().await.expect("the link was closed without a word");
        if Frame::decode(&frame) == Ok(Some(Frame::Superseded)) {
            break;
        }
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_newer_link_of_the_session_supersedes_the_older_one() {
    let (hub, session, mut peer) = linked().await;
    let _newer = Peer::open(&hub, &session, Link::default()).await;
    let mut was_told = false;
    while let Some(frame) = peer.next_frame().await {
        was_told |= Frame::decode(&frame) == Ok(Some(Frame::Superseded));
    }
    assert!(was_told);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_revoked_token_ends_its_link_and_the_answers_on_it() {
    let hub = hub().await;
    let token = hub.member("alice").await;
    let publisher = Publisher::register(&hub, &token, None, &[provider("al")]).await;
    let (socket, _, input) = upgrade(&hub, &token, &publisher.session).await;
    let codec = ws::Codec::new().client_mode().max_size(MAX_FRAME);
    let mut peer = Peer { socket, input, codec, link: Link::default(), hello: Hello::default() };
    peer.next_frame().await.unwrap();
    peer.link.attach(&Hello::default().tasks).unwrap();
    peer.write(Frame::Resume(Resume::default().to_json()).encode()).await;
    hub.until_status("al", "active").await;
    hub.revoke("alice").await;
    assert_eq!(peer.next_frame().await, None);
    hub.stop().await;
}

/// A24: what breaks the rules ends the connection, and nobody else's.
#[actix_rt::test]
async fn a_link_against_the_rules_is_closed() {
    let piece = |seq, bytes: usize| Frame::Piece {
        task: "task-unknown",
        piece: Piece { seq, kind: BodyKind::Events, is_last: false, bytes: vec![b'x'; bytes].into() },
    };
    let (hub, session, peer) = linked().await;
    drop(peer);
    for (what, frames) in [
        ("a piece that is too long", vec![piece(0, (64 << 10) + 1).encode()]),
        ("a second resume", vec![Frame::Resume(Resume::default().to_json()).encode()]),
        ("a hello", vec![Frame::Hello(Hello::default().to_json()).encode()]),
        ("half a frame", vec![Bytes::from_static(b"\x03\0\x09ta")]),
        ("no frame", vec![Bytes::new()]),
    ] {
        let mut peer = Peer::open(&hub, &session, Link::default()).await;
        for frame in frames {
            peer.write(frame).await;
        }
        while peer.next_frame().await.is_some() {}
        let mut peer = Peer::open(&hub, &session, Link::default()).await;
        let call = call(&hub, chat("hello", false));
        let (task, _) = peer.task().await;
        peer.answer(&task, BodyKind::Json, RESULT).await;
        assert_eq!(call.await.unwrap().0, 200, "after {what}");
    }
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
