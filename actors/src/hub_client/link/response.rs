//! Reads the response to a request for a link. Not awc's work: the same connection carries the link afterwards.

use std::io;
use std::pin::Pin;

use actix_codec::Framed;
use actix_http::ResponseHead;
use actix_http::h1::{ClientCodec, MessageType};
use awc::http::header::RETRY_AFTER;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::poll_fn;
use tokio::io::AsyncRead;

use crate::http;
use crate::hub_client::response::server;
use crate::hub_client::{HubResponse, MAX_RESPONSE, error};

/// Reads the head of a response.
pub(super) async fn read_head<T: AsyncRead + Unpin>(
    framed: &mut Framed<T, ClientCodec>,
) -> io::Result<ResponseHead> {
    let head = poll_fn(|cx| Pin::new(&mut *framed).next_item(cx)).await;
    head.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)
}

/// Reads the rest of a response behind its head.
pub(super) async fn read_rest<T: AsyncRead + Unpin>(
    framed: Framed<T, ClientCodec>,
    head: &ResponseHead,
) -> HubResponse {
    let header = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|value| http::retry_after(value, jiff::Timestamp::now()));
    let redirects_to = head.status.is_redirection().then(|| error::redirect_target(&head.headers)).flatten();
    let server = server(&head.headers);
    let mut response =
        HubResponse { status: head.status, body: Bytes::new(), retry_after, redirects_to, server };
    if matches!(framed.codec_ref().message_type(), MessageType::None) {
        return response;
    }
    let mut framed = framed.into_map_codec(ClientCodec::into_payload_codec);
    let mut body = BytesMut::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut framed).next_item(cx)).await {
            Some(Ok(Some(piece))) if body.len() + piece.len() <= MAX_RESPONSE => body.put_slice(&piece),
            Some(Ok(None)) => break,
            // The status is enough.
            _ => return response,
        }
    }
    response.body = body.freeze();
    response
}
