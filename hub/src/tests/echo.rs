//! The echo that `check` uses: what it answers, and where it ends.

use std::time::Duration;

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use bytes::{Bytes, BytesMut};
use testkit::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::echo::{HELLO, MAX_MESSAGE, MAX_TOTAL, SUBPROTOCOL, message};

use super::http::PATIENCE;
use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, hub};

/// A client of an echo.
struct Client {
    socket: TcpStream,
    input: BytesMut,
    codec: ws::Codec,
}

/// The head of the answer to a request for an echo, with `upgrade` among its headers.
async fn ask(hub: &TestHub, token: &str, upgrade: &str) -> (Client, String) {
    let mut socket = TcpStream::connect(hub.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/llms/_provider-echo HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\n\
         {upgrade}sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut input = BytesMut::new();
    let end = loop {
        if let Some(at) = input.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(timeout(PATIENCE, socket.read_buf(&mut input)).await.unwrap().unwrap() > 0);
    };
    let head = String::from_utf8(input.split_to(end).to_vec()).unwrap().to_ascii_lowercase();
    (Client { socket, input, codec: ws::Codec::new().client_mode().max_size(MAX_MESSAGE) }, head)
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\n";

impl Client {
    async fn open(hub: &TestHub, token: &str) -> Self {
        let (mut client, head) = ask(hub, token, UPGRADE).await;
        assert!(head.starts_with("http/1.1 101") && head.contains(SUBPROTOCOL), "{head}");
        assert_eq!(client.next().await, Ok(Bytes::from_static(HELLO)));
        client
    }

    async fn send(&mut self, message: Vec<u8>) {
        let mut out = BytesMut::new();
        ws::Codec::new().client_mode().encode(ws::Message::Binary(message.into()), &mut out).unwrap();
        // The hub may have ended the echo.
        let _ = self.socket.write_all(&out).await;
    }

    /// The next message, or the reason for which the hub ends the echo.
    async fn next(&mut self) -> Result<Bytes, String> {
        loop {
            match self.codec.decode(&mut self.input).unwrap() {
                Some(ws::Frame::Binary(bytes)) => return Ok(bytes),
                Some(ws::Frame::Close(reason)) => {
                    return Err(reason.and_then(|reason| reason.description).unwrap_or_default());
                }
                Some(_) => (),
                None => {
                    let read = timeout(PATIENCE, self.socket.read_buf(&mut self.input)).await.unwrap();
                    if !read.is_ok_and(|bytes| bytes > 0) {
                        return Err("no word".to_owned());
                    }
                }
            }
        }
    }
}

#[actix_rt::test]
async fn an_echo_has_room_for_one_mib_each_way() {
    let hub = hub().await;
    let mut client = Client::open(&hub, &hub.member("alice").await).await;
    for (length, answer) in [(MAX_MESSAGE, 4), (4, MAX_MESSAGE)] {
        for _ in 0..16 {
            client.send(message(length, answer)).await;
            assert_eq!(client.next().await.unwrap().len(), answer);
        }
    }
    hub.stop().await;
}

/// A24: what is beyond the bounds ends the echo, in words, and nothing else.
#[actix_rt::test]
async fn an_echo_beyond_its_bounds_ends_in_words() {
    let hub = hub().await;
    let most = MAX_TOTAL / MAX_MESSAGE + 1;
    for (what, messages, words) in [
        ("too much up", vec![message(MAX_MESSAGE, 4); most], "1.25 MiB"),
        ("too much down", vec![message(4, MAX_MESSAGE); most], "1.25 MiB"),
        ("a long message", vec![message(MAX_MESSAGE + 1, 4)], "64 KiB"),
        ("a long answer", vec![message(4, MAX_MESSAGE + 1)], "begins with the length"),
        ("no length", vec![b"abc".to_vec()], "begins with the length"),
    ] {
        let mut client = Client::open(&hub, ADMIN).await;
        let mut end = None;
        for message in messages {
            client.send(message).await;
            if let Err(words) = client.next().await {
                end = Some(words);
                break;
            }
        }
        let end = end.unwrap_or_else(|| panic!("{what}: no end"));
        assert!(end.contains(words), "{what}: {end}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_user_with_two_echoes_gets_429_for_another() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let (first, _second) = (Client::open(&hub, &alice).await, Client::open(&hub, &alice).await);
    let (_, head) = ask(&hub, &alice, UPGRADE).await;
    assert!(head.starts_with("http/1.1 429"), "{head}");
    let _of_another = Client::open(&hub, ADMIN).await;
    drop(first);
    eventually("the first has ended", async || {
        ask(&hub, &alice, UPGRADE).await.1.starts_with("http/1.1 101")
    })
    .await;
    hub.stop().await;
}

#[actix_rt::test]
async fn a_request_without_an_upgrade_gets_426() {
    let hub = hub().await;
    for headers in ["", "connection: close\r\n"] {
        let (_, head) = ask(&hub, ADMIN, headers).await;
        assert!(head.starts_with("http/1.1 426") && head.contains("upgrade: websocket"), "{head}");
    }
    let (_, head) = ask(&hub, "vlt_unknown", UPGRADE).await;
    assert!(head.starts_with("http/1.1 401"), "{head}");
    hub.stop().await;
}

#[actix_rt::test]
async fn an_echo_disturbs_no_channel_of_its_user() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("al")], Some("cancel")).await;
    let mut client = Client::open(&hub, ADMIN).await;
    client.send(message(8, 8)).await;
    client.next().await.unwrap();
    let call = hub.ask("POST", "/v1/chat/completions").body(super::road::chat("al", false));
    publisher.serves(&hub, &call, "hello").await;
    assert_eq!(hub.row("al").await["status"], "active");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_revoked_token_ends_its_echo() {
    let hub = hub().await;
    let mut client = Client::open(&hub, &hub.member("alice").await).await;
    hub.revoke("alice").await;
    let ended = timeout(Duration::from_secs(10), client.next()).await.unwrap();
    assert!(ended.unwrap_err().contains("revoked"));
    hub.stop().await;
}
