//! A scripted registrar's end of a link.

use std::net::SocketAddr;

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use testkit::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::link::{BodyKind, Frame, Hello, Link, MAX_FRAME, Received, Resume, SUBPROTOCOL};

use crate::tests::http::{Answer, Ask, PATIENCE};
use crate::tests::publisher::{Publisher, chunk, completion};
use crate::tests::support::{ADMIN, TestHub};

/// The features that a peer names, with one of an older version.
const FEATURES: &str = "cancel, result-stream, status, endpoints";

/// One connection of a link.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    pub(crate) input: BytesMut,
    pub(crate) codec: ws::Codec,
    pub(crate) link: Link,
    pub(crate) hello: Hello,
}

/// The head of the answer to a request for a link of `session`.
pub(crate) async fn upgrade(hub: &TestHub, token: &str, session: &str) -> (TcpStream, String, BytesMut) {
    upgrade_at(hub.addr, token, session).await
}

pub(crate) async fn upgrade_at(
    addr: SocketAddr,
    token: &str,
    session: &str,
) -> (TcpStream, String, BytesMut) {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "GET /api/v1/llms/_provider-stream HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\n\
         x-mcpctl-provider-session: {session}\r\nx-virtual-llm-features: {FEATURES}\r\n\
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
    /// Registers `providers` with `token`, and opens a link.
    pub(crate) async fn start(hub: &TestHub, token: &str, providers: &[Value]) -> Self {
        let session = Publisher::register(hub, token, None, providers).await.session;
        Self::open_as(hub, token, &session, Link::default()).await
    }

    /// Opens a link for `session`, with the state that an earlier one left.
    pub(crate) async fn open(hub: &TestHub, session: &str, link: Link) -> Self {
        Self::open_as(hub, ADMIN, session, link).await
    }

    /// As [`open`](Self::open), with `token`.
    pub(crate) async fn open_as(hub: &TestHub, token: &str, session: &str, link: Link) -> Self {
        let mut peer = Self::connect_as(hub, token, session, link).await;
        let hello = peer.next_frame().await.unwrap();
        let Some(Frame::Hello(json)) = Frame::decode(&hello).unwrap() else { panic!("{hello:?}") };
        peer.hello = Hello::parse(&json).unwrap();
        peer.link.resume(&peer.hello.tasks).unwrap();
        let resume = Resume { tasks: peer.link.tables() };
        peer.link.send_control(&Frame::Resume(resume.to_json()));
        peer.flush().await;
        let beat = json!({ "providerSessionId": session, "streamId": peer.hello.stream_id }).to_string();
        eventually("the hub has the resume", async || {
            let ask = hub.ask_as(token, "POST", "/api/v1/llms/_provider-heartbeat");
            ask.body(beat.clone()).json().await.0 == 200
        })
        .await;
        peer
    }

    /// Opens the connection, and leaves the hello unread.
    pub(crate) async fn connect(hub: &TestHub, session: &str, link: Link) -> Self {
        Self::connect_as(hub, ADMIN, session, link).await
    }

    async fn connect_as(hub: &TestHub, token: &str, session: &str, link: Link) -> Self {
        let (socket, head, input) = upgrade(hub, token, session).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "RFC 6455 section 1.3");
        assert!(head.contains(&format!("sec-websocket-protocol: {SUBPROTOCOL}")), "{head}");
        let codec = ws::Codec::new().client_mode().max_size(MAX_FRAME);
        Self { socket, input, codec, link, hello: Hello::default() }
    }

    pub(crate) async fn write(&mut self, frame: Bytes) {
        let mut out = BytesMut::new();
        ws::Codec::new().client_mode().encode(ws::Message::Binary(frame), &mut out).unwrap();
        self.socket.write_all(&out).await.unwrap();
    }

    /// Writes what the link has to send.
    pub(crate) async fn flush(&mut self) {
        while let Some(frame) = self.link.next_frame() {
            self.write(frame).await;
        }
    }

    /// The next binary message; `None` at the end of the connection.
    pub(crate) async fn next_frame(&mut self) -> Option<Bytes> {
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
    pub(crate) async fn received(&mut self) -> Option<Received> {
        let bytes = self.next_frame().await?;
        Some(self.link.receive(Frame::decode(&bytes).unwrap().unwrap()).unwrap())
    }

    /// The next task: its id and its data. Grants credit as it reads.
    pub(crate) async fn task(&mut self) -> (String, Value) {
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

    pub(crate) async fn answer(&mut self, task: &str, kind: BodyKind, body: &str) {
        self.link.push(task, kind, Bytes::copy_from_slice(body.as_bytes()));
        self.link.finish(task);
        self.flush().await;
    }

    /// Sends a part of a stream.
    pub(crate) async fn events(&mut self, task: &str, text: &str) {
        self.link.push(task, BodyKind::Events, Bytes::copy_from_slice(text.as_bytes()));
        self.flush().await;
    }

    /// Sends what waits for credit, until all of it is sent.
    pub(crate) async fn until_sent(&mut self, task: &str) {
        while self.link.pending_bytes(task) > 0 {
            self.received().await.expect("the link ended");
            self.flush().await;
        }
    }

    /// Sends a whole stream. Returns the status with which the hub takes it.
    pub(crate) async fn streams(&mut self, task: &str, text: &str) -> u16 {
        self.answer(task, BodyKind::Events, text).await;
        self.taken(task).await
    }

    /// Sends `call` and answers its task with `text`. Checks that call and answer have status 200.
    pub(crate) async fn serves(&mut self, call: &Ask, text: &str) {
        let ((status, answer), taken) = futures_util::join!(call.send(), async {
            let (task, _) = self.task().await;
            let result = json!({ "status": 200, "body": completion(text) }).to_string();
            self.answer(&task, BodyKind::Json, &result).await;
            self.taken(&task).await
        });
        assert_eq!((status, taken), (200, 200), "{answer}");
    }

    /// Sends the streaming `call` and a first chunk. Returns the caller's answer, read up to the chunk, and the task's id.
    pub(crate) async fn begins(&mut self, call: &Ask, text: &str) -> (Answer, String) {
        let (mut answer, task) = futures_util::join!(call.open(), async {
            let (task, _) = self.task().await;
            self.events(&task, &format!("data: {}\n\n", chunk(text))).await;
            task
        });
        answer.until(text).await;
        (answer, task)
    }

    /// Waits until the hub cancels a task. Returns its id.
    pub(crate) async fn cancelled(&mut self) -> String {
        loop {
            if let Received::Cancelled(task) = self.received().await.expect("the link ended") {
                return task.to_string();
            }
        }
    }

    /// The status with which the hub takes the answer of `task`. Sends what waits for credit.
    pub(crate) async fn taken(&mut self, task: &str) -> u16 {
        loop {
            match self.received().await.expect("the link ended") {
                Received::Taken { task: of, status } if *of == *task => return status,
                Received::Credit(_) => self.flush().await,
                _ => (),
            }
        }
    }
}
