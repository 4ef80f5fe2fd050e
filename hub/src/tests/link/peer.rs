//! A scripted registrar's end of a link.

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use testkit::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::link::{BodyKind, Frame, Hello, Link, MAX_FRAME, Received, Resume, SUBPROTOCOL};

use crate::tests::http::PATIENCE;
use crate::tests::support::{ADMIN, TestHub};

/// One connection of a link.
pub(super) struct Peer {
    pub(super) socket: TcpStream,
    pub(super) input: BytesMut,
    pub(super) codec: ws::Codec,
    pub(super) link: Link,
    pub(super) hello: Hello,
}

/// The head of the answer to a request for a link of `session`.
pub(super) async fn upgrade(hub: &TestHub, token: &str, session: &str) -> (TcpStream, String, BytesMut) {
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
    pub(super) async fn open(hub: &TestHub, session: &str, link: Link) -> Self {
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
    pub(super) async fn connect(hub: &TestHub, session: &str, link: Link) -> Self {
        let (socket, head, input) = upgrade(hub, ADMIN, session).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "RFC 6455 section 1.3");
        assert!(head.contains(&format!("sec-websocket-protocol: {SUBPROTOCOL}")), "{head}");
        let codec = ws::Codec::new().client_mode().max_size(MAX_FRAME);
        Self { socket, input, codec, link, hello: Hello::default() }
    }

    pub(super) async fn write(&mut self, frame: Bytes) {
        let mut out = BytesMut::new();
        ws::Codec::new().client_mode().encode(ws::Message::Binary(frame), &mut out).unwrap();
        self.socket.write_all(&out).await.unwrap();
    }

    /// Writes what the link has to send.
    pub(super) async fn flush(&mut self) {
        while let Some(frame) = self.link.next_frame() {
            self.write(frame).await;
        }
    }

    /// The next binary message; `None` at the end of the connection.
    pub(super) async fn next_frame(&mut self) -> Option<Bytes> {
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
    pub(super) async fn received(&mut self) -> Option<Received> {
        let bytes = self.next_frame().await?;
        Some(self.link.receive(Frame::decode(&bytes).unwrap().unwrap()).unwrap())
    }

    /// The next task: its id and its data. Grants credit as it reads.
    pub(super) async fn task(&mut self) -> (String, Value) {
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

    pub(super) async fn answer(&mut self, task: &str, kind: BodyKind, body: &str) {
        self.link.push(task, kind, Bytes::copy_from_slice(body.as_bytes()));
        self.link.finish(task);
        self.flush().await;
    }

    /// The status with which the hub takes the answer of `task`.
    pub(super) async fn taken(&mut self, task: &str) -> u16 {
        loop {
            match self.received().await.unwrap() {
                Received::Taken { task: of, status } if *of == *task => return status,
                _ => (),
            }
        }
    }
}
