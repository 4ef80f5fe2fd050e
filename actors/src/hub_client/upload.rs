//! Uploads of streamed answers (feature `result-stream`).
//!
//! awc is not used here: it sends a body in blocks of 8 KiB, but a token must be sent at once. It also reads the response
//! only after the whole body, but a hub may refuse early.

use std::io;
use std::pin::Pin;

use actix_codec::Framed;
use actix_http::ResponseHead;
use actix_http::h1::{ClientCodec, MessageType};
use awc::http::header::{CONNECTION, RETRY_AFTER};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{Either, poll_fn, select};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, split};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::TaskId;

use super::connections::Io;
use super::{CALL_TIMEOUT, HubClient, HubError, HubResponse, MAX_RESPONSE, error};
use crate::http;

const CALL: &str = "provider-task";

/// Most bytes of ready pieces that are sent in one write.
const MAX_WRITE: usize = 64 << 10;

type Pieces = mpsc::Receiver<Bytes>;

impl HubClient {
    /// Sends each piece when it is ready, and reads the response.
    pub(super) async fn send_upload(&self, task: &TaskId, pieces: Pieces) -> Result<(), HubError> {
        self.try_upload(task, pieces).await.map_err(|error| self.through_proxy(error))
    }

    async fn try_upload(&self, task: &TaskId, mut pieces: Pieces) -> Result<(), HubError> {
        let connecting = self.uploads.get(&self.address, self.tls.as_ref(), self.proxy.as_ref());
        let connection = connecting.await.map_err(|error| HubError::unconnected(CALL, &error))?;
        let (read, mut write) = split(connection);
        let used = self.token.current();
        let head = self.head(&format!("_provider-task/{}/stream", task.encoded()));
        let sending = Box::pin(send(&mut write, head, &mut pieces));
        let answering = Box::pin(read_answer(read));
        let answered = match select(sending, answering).await {
            // The hub has a deadline only after the last byte: before it, the caller decides how fast the body is read.
            Either::Left((Ok(()), answering)) => {
                timeout(CALL_TIMEOUT, answering).await.map_err(|_| HubError::silent(CALL))?
            }
            // A hub that refuses may close the connection during the upload.
            Either::Left((Err(_), answering)) => {
                answering.now_or_never().unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
            }
            // The hub answered before the end of the body: the connection cannot be used again.
            Either::Right((answered, _)) => answered.map(|(answer, _)| (answer, None)),
        };
        let (answer, read) = answered.map_err(|_| HubError::broken(CALL))?;
        if let Some(read) = read {
            self.uploads.put(read.unsplit(write));
        }
        match answer.status {
            status if status.is_success() => Ok(()),
            status => {
                // The body cannot be sent again. The next request has the new token.
                self.token.read_again(status, &used).await;
                Err(self.refused(CALL, &answer))
            }
        }
    }

    fn head(&self, path: &str) -> BytesMut {
        let hub = &self.address;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\nauthorization: {}\r\naccept: application/json\r\n\
             content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            hub.path_of(path),
            hub.authority(),
            http::USER_AGENT,
            self.token.bearer(),
        );
        BytesMut::from(head.as_bytes())
    }
}

/// Writes each piece when it is ready. The end mark is written only when the sender was dropped.
async fn send(
    write: &mut (impl AsyncWrite + Unpin),
    mut out: BytesMut,
    pieces: &mut Pieces,
) -> io::Result<()> {
    write.write_all(&out).await?;
    let mut ended = false;
    while !ended {
        out.clear();
        let mut piece = pieces.recv().await;
        loop {
            if let Some(bytes) = piece {
                put_chunk(&mut out, &bytes);
            } else {
                out.put_slice(b"0\r\n\r\n");
                ended = true;
            }
            if ended || out.len() >= MAX_WRITE {
                break;
            }
            // A piece that was taken from the channel is always written.
            match pieces.try_recv() {
                Ok(more) => piece = Some(more),
                Err(_) => break,
            }
        }
        write.write_all(&out).await?;
    }
    write.flush().await
}

fn put_chunk(out: &mut BytesMut, bytes: &[u8]) {
    // An empty chunk would be the end mark.
    if !bytes.is_empty() {
        out.put_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.put_slice(bytes);
        out.put_slice(b"\r\n");
    }
}

/// Reads the head of a response.
pub(super) async fn read_head<T: AsyncRead + Unpin>(
    framed: &mut Framed<T, ClientCodec>,
) -> io::Result<ResponseHead> {
    let head = poll_fn(|cx| Pin::new(&mut *framed).next_item(cx)).await;
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
    Ok(head)
}

/// Reads a response to its end. Returns the connection if it can be used again.
async fn read_answer(
    read: ReadHalf<Box<dyn Io>>,
) -> io::Result<(HubResponse, Option<ReadHalf<Box<dyn Io>>>)> {
    let mut framed = Framed::new(read, ClientCodec::default());
    let head = read_head(&mut framed).await?;
    Ok(read_rest(framed, &head).await)
}

/// Reads the rest of a response behind its head.
pub(super) async fn read_rest<T: AsyncRead + Unpin>(
    framed: Framed<T, ClientCodec>,
    head: &ResponseHead,
) -> (HubResponse, Option<T>) {
    let header = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|value| http::retry_after(value, jiff::Timestamp::now()));
    let says_close =
        head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let redirects_to = head.status.is_redirection().then(|| error::redirect_target(&head.headers)).flatten();
    let mut answer = HubResponse { status: head.status, body: Bytes::new(), retry_after, redirects_to };
    let kind = framed.codec_ref().message_type();
    if matches!(kind, MessageType::None) {
        return (answer, reusable(framed, says_close));
    }
    let mut framed = framed.into_map_codec(ClientCodec::into_payload_codec);
    let mut body = BytesMut::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut framed).next_item(cx)).await {
            Some(Ok(Some(piece))) if body.len() + piece.len() <= MAX_RESPONSE => body.put_slice(&piece),
            Some(Ok(None)) => break,
            // The status is enough, but the connection cannot be used again.
            _ => return (answer, None),
        }
    }
    answer.body = body.freeze();
    // A body without length or chunks ends with its connection.
    let ends = says_close || matches!(kind, MessageType::Stream);
    (answer, reusable(framed, ends))
}

fn reusable<T, C>(framed: Framed<T, C>, ends: bool) -> Option<T> {
    let parts = framed.into_parts();
    (!ends && parts.read_buf.is_empty()).then_some(parts.io)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The content of a complete chunked body.
    fn decoded(mut body: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let line = body.windows(2).position(|pair| pair == b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
            body = &body[line + 2..];
            if size == 0 {
                return (body == b"\r\n").then_some(out);
            }
            out.extend_from_slice(&body[..size]);
            body = body[size..].strip_prefix(b"\r\n")?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// P3: pieces of any size and number arrive whole, once and in order.
        #[test]
        fn every_piece_is_written(
            sizes in prop::collection::vec(prop_oneof![0_usize..300, MAX_WRITE - 9..MAX_WRITE + 9, Just(200_000)], 0..24),
            waiting in 1_usize..30,
            pipe in prop_oneof![Just(1_usize << 10), Just(1 << 20)],
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let written = runtime.block_on(async {
                let (sender, mut pieces) = mpsc::channel(waiting);
                let (mut write, mut read) = tokio::io::duplex(pipe);
                let feeding = async {
                    for (at, size) in sizes.iter().enumerate() {
                        let piece = vec![u8::try_from(at).unwrap(); *size];
                        sender.send(Bytes::from(piece)).await.unwrap();
                    }
                    drop(sender);
                };
                let sending = async {
                    send(&mut write, BytesMut::new(), &mut pieces).await.unwrap();
                    drop(write);
                };
                let mut written = Vec::new();
                let ((), (), read) = futures_util::join!(feeding, sending, read.read_to_end(&mut written));
                read.unwrap();
                written
            });
            let sent: Vec<u8> =
                sizes.iter().enumerate().flat_map(|(at, size)| vec![u8::try_from(at).unwrap(); *size]).collect();
            prop_assert!(decoded(&written) == Some(sent));
        }
    }
}
