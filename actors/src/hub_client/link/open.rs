//! Opens a link, or an echo: a request with an upgrade to WebSocket (RFC 6455 section 4.1).

use std::io;
use std::pin::Pin;

use actix_codec::Framed;
use actix_http::h1::ClientCodec;
use actix_http::ws::hash_key;
use awc::http::StatusCode;
use awc::http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use futures_util::future::poll_fn;
use futures_util::stream;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use wire::echo;
use wire::features::{FEATURES_HEADER, SESSION_HEADER};
use wire::link::SUBPROTOCOL;
use wire::{Features, SessionId};

use super::response::{read_head, read_rest};
use crate::http;
use crate::hub_client::connection::{Io, connect};
use crate::hub_client::{CALL_TIMEOUT, ChannelBody, HubClient, HubError, HubResponse, STREAM_CALL};

/// What an upgrade asks for.
pub(in crate::hub_client) struct Wanted {
    /// Path behind `/api/v1/llms/`.
    path: &'static str,
    protocol: &'static str,
    /// Further lines of the request's head.
    headers: String,
}

impl Wanted {
    fn link(session: &SessionId) -> Self {
        let (session, features) = (session.as_str(), Features::ALL.header_value());
        let headers = format!("{SESSION_HEADER}: {session}\r\n{FEATURES_HEADER}: {features}\r\n");
        Self { path: "_provider-stream", protocol: SUBPROTOCOL, headers }
    }

    /// An echo, which names no session.
    pub(in crate::hub_client) fn echo() -> Self {
        Self { path: echo::PATH, protocol: echo::SUBPROTOCOL, headers: String::new() }
    }
}

/// What came of a request for an upgrade.
pub(in crate::hub_client) enum Opened {
    /// The connection, with what was read behind the response's head.
    Link { connection: Box<dyn Io>, input: BytesMut },
    /// A hub or a proxy that ignored the upgrade opened the SSE channel.
    Events(ChannelBody),
    /// It answered 200, and only the same request without an upgrade has a body that can be read.
    NotUpgraded,
    /// Any other response.
    Response(HubResponse),
    /// No response that is HTTP.
    Broken(io::Error),
}

impl HubClient {
    /// Asks for a link.
    pub(in crate::hub_client) async fn open_link(&self, session: &SessionId) -> Result<Opened, HubError> {
        self.open_web_socket(&Wanted::link(session)).await
    }

    /// Asks for an upgrade.
    pub(in crate::hub_client) async fn open_web_socket(&self, wanted: &Wanted) -> Result<Opened, HubError> {
        let unconnected = |error: io::Error| {
            self.note_unconnected(error.kind());
            self.through_proxy(HubError::unconnected(STREAM_CALL, &error))
        };
        let connection = connect(&self.address, self.tls.as_ref(), self.proxy.as_ref());
        let upgrading = self.upgrade(connection.await.map_err(unconnected)?, wanted);
        match timeout(CALL_TIMEOUT, upgrading).await {
            Ok(Err(error)) => Ok(Opened::Broken(error)),
            Ok(Ok(opened)) => opened,
            Err(_elapsed) => Err(HubError::silent(STREAM_CALL)),
        }
    }

    async fn upgrade(
        &self,
        mut connection: Box<dyn Io>,
        wanted: &Wanted,
    ) -> io::Result<Result<Opened, HubError>> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let key = STANDARD.encode(nonce);
        let Wanted { path, protocol, headers } = wanted;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\nauthorization: {}\r\naccept: text/event-stream\r\n\
             accept-encoding: identity\r\n{headers}connection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\nsec-websocket-protocol: {protocol}\r\n\r\n",
            self.address.path_of(path),
            self.address.authority(),
            http::USER_AGENT,
            self.token.bearer(),
        );
        connection.write_all(request.as_bytes()).await?;
        connection.flush().await?;
        let mut framed = Framed::new(connection, ClientCodec::default());
        let head = read_head(&mut framed).await?;
        let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let is_ours = header(SEC_WEBSOCKET_PROTOCOL) == Some(protocol.as_bytes())
                && header(SEC_WEBSOCKET_ACCEPT) == Some(&hash_key(key.as_bytes())[..]);
            if !is_ours {
                return Err(io::Error::other("it is to another protocol"));
            }
            let parts = framed.into_parts();
            return Ok(Ok(Opened::Link { connection: parts.io, input: parts.read_buf }));
        }
        if head.status != StatusCode::OK {
            return Ok(Ok(Opened::Response(read_rest(framed, &head).await)));
        }
        // actix-web announces chunks in the response to an upgrade, and writes none.
        if header(CONNECTION).is_some_and(|value| value.eq_ignore_ascii_case(b"close")) {
            return Ok(Ok(Opened::NotUpgraded));
        }
        let kind = header(CONTENT_TYPE).and_then(|kind| std::str::from_utf8(kind).ok());
        let body = framed.into_map_codec(ClientCodec::into_payload_codec);
        // Ends with the connection, also if that fails.
        let body = stream::unfold(body, async |mut body| {
            match poll_fn(|cx| Pin::new(&mut body).next_item(cx)).await {
                Some(Ok(Some(bytes))) => Some((bytes, body)),
                _ => None,
            }
        });
        Ok(ChannelBody::new(STREAM_CALL, kind, body).map(Opened::Events))
    }
}
