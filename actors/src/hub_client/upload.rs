//! A streamed answer on its way to the hub (feature `result-stream`).
//!
//! Not by awc: it holds a body back until 8 KiB of it are there, and a token must go out when it comes. It also sends
//! all of a body before it looks at the answer; here a hub that refuses early is heard at once.

use std::io;

use actix_codec::Framed;
use actix_http::h1::{ClientCodec, MessageType};
use awc::http::StatusCode;
use awc::http::header::{CONNECTION, RETRY_AFTER};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{Either, poll_fn, select};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::TaskId;

use super::connections::Io;
use super::{Answer, CALL_TIMEOUT, HubClient, HubError, MAX_ANSWER};
use crate::http;
use crate::uplink::Cut;

const CALL: &str = "provider-task";

/// Pieces that are there already go out together, up to this: one write for a backend faster than the line, and a
/// memory of no size to speak of.
const MAX_WRITE: usize = 64 << 10;

type Pieces = mpsc::Receiver<Result<Bytes, Cut>>;

impl HubClient {
    /// Sends the pieces as they come, and reads what the hub says to it.
    pub(super) async fn upload_now(&self, task: &TaskId, mut pieces: Pieces) -> Result<(), HubError> {
        let inner = &self.inner;
        let connecting = inner.uploads.get(&inner.address, inner.tls.as_ref());
        let connection = connecting.await.map_err(|error| HubError::unconnected(CALL, &error))?;
        let (read, mut write) = split(connection);
        let head = self.head(&format!("_provider-task/{}/stream", task.encoded()));
        let sending = Box::pin(send(&mut write, head, &mut pieces));
        let answering = Box::pin(read_answer(read));
        let answered = match select(sending, answering).await {
            // After the last byte the hub has a deadline; before it, it takes as long as the caller reads.
            Either::Left((Ok(()), answering)) => {
                timeout(CALL_TIMEOUT, answering).await.map_err(|_| HubError::silent(CALL))?
            }
            // A hub that has refused may close the door while we still talk.
            Either::Left((Err(_), answering)) => {
                answering.now_or_never().unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
            }
            // An answer before the end of the body: the rest is not wanted, and the connection of no use.
            Either::Right((answered, _)) => answered.map(|(answer, _)| (answer, None)),
        };
        let (answer, read) = answered.map_err(|_| HubError::broken(CALL))?;
        if let Some(read) = read {
            inner.uploads.put(read.unsplit(write));
        }
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED => {
                // The body is spent: what comes next has the new token.
                inner.token.read_again().await;
                Err(self.refused(CALL, &answer))
            }
            _ => Err(self.refused(CALL, &answer)),
        }
    }

    fn head(&self, path: &str) -> BytesMut {
        let hub = &self.inner.address;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\nauthorization: {}\r\naccept: application/json\r\n\
             content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            hub.path_of(path),
            hub.authority(),
            http::USER_AGENT,
            self.inner.token.bearer(),
        );
        BytesMut::from(head.as_bytes())
    }
}

/// Writes each piece when it comes. Only a body whose sender was dropped gets its end mark.
async fn send(write: &mut WriteHalf<Box<dyn Io>>, mut out: BytesMut, pieces: &mut Pieces) -> io::Result<()> {
    write.write_all(&out).await?;
    let mut ended = false;
    while !ended {
        out.clear();
        let mut piece = pieces.recv().await;
        loop {
            match piece {
                Some(Ok(bytes)) => put_chunk(&mut out, &bytes),
                Some(Err(cut)) => return Err(io::Error::other(cut)),
                None => {
                    out.put_slice(b"0\r\n\r\n");
                    ended = true;
                }
            }
            piece = match pieces.try_recv() {
                Ok(more) if !ended && out.len() < MAX_WRITE => Some(more),
                _ => break,
            };
        }
        write.write_all(&out).await?;
    }
    write.flush().await
}

fn put_chunk(out: &mut BytesMut, bytes: &[u8]) {
    // A chunk of no bytes would be the end mark.
    if !bytes.is_empty() {
        out.put_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.put_slice(bytes);
        out.put_slice(b"\r\n");
    }
}

/// Reads one answer to its end; the connection comes back where it can be used again.
async fn read_answer(read: ReadHalf<Box<dyn Io>>) -> io::Result<(Answer, Option<ReadHalf<Box<dyn Io>>>)> {
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut framed = Framed::new(read, ClientCodec::default());
    let head = poll_fn(|cx| std::pin::Pin::new(&mut framed).next_item(cx)).await;
    let head = head.ok_or_else(broken)?.map_err(io::Error::other)?;
    let header = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|value| http::retry_after(value, jiff::Timestamp::now()));
    let says_close =
        head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let mut answer = Answer { status: head.status, body: Bytes::new(), retry_after, redirects_to: None };
    let kind = framed.codec_ref().message_type();
    if matches!(kind, MessageType::None) {
        return Ok((answer, reusable(framed, says_close)));
    }
    let mut framed = framed.into_map_codec(ClientCodec::into_payload_codec);
    let mut body = BytesMut::new();
    loop {
        match poll_fn(|cx| std::pin::Pin::new(&mut framed).next_item(cx)).await {
            Some(Ok(Some(piece))) if body.len() + piece.len() <= MAX_ANSWER => body.put_slice(&piece),
            Some(Ok(None)) => break,
            // The status stands; the connection does not.
            _ => return Ok((answer, None)),
        }
    }
    answer.body = body.freeze();
    // One without length or chunks ends with its connection.
    let ends = says_close || matches!(kind, MessageType::Stream);
    Ok((answer, reusable(framed, ends)))
}

fn reusable<C>(framed: Framed<ReadHalf<Box<dyn Io>>, C>, ends: bool) -> Option<ReadHalf<Box<dyn Io>>> {
    let parts = framed.into_parts();
    (!ends && parts.read_buf.is_empty()).then_some(parts.io)
}
