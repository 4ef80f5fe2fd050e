//! `GET /api/v1/llms/_provider-echo`: a WebSocket by which `check` measures the way to the hub (SPEC.md section 4.2). It
//! belongs to no session.
//!
//! As with the link, all of it is the body of the response with status 101: the scheduler of connections counts it as the work
//! of its user.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use actix_web::http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Sleep, sleep};
use wire::echo::{HELLO, MAX_MESSAGE, MAX_TOTAL, SUBPROTOCOL, answer};

use crate::error::{ApiError, ErrorKind};
use crate::http::middleware::HeadOnly;
use crate::hub::{Hub, HubData};
use crate::model::Caller;
use crate::quota::QuotaPermit;
use crate::telemetry::Limit;

/// Most echoes of a user at once: `check` has one, and one that a proxy left open does not block the next.
const MAX_OF_USER: usize = 2;
/// Longest life of an echo: 1 MiB each way at some 300 kbit/s.
const LIFETIME: Duration = Duration::from_mins(1);
/// Bytes to write, above which no more is read.
const BURST: usize = 64 << 10;

const TOO_LONG: &str = "a message has at most 64 KiB";
const TOO_MUCH: &str = "an echo has at most 1.25 MiB each way";
const TOO_LATE: &str = "an echo lasts at most 60 s";
const NO_LENGTH: &str = "a message begins with the length of its answer, at most 64 KiB";

pub(super) async fn open(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let hub = hub.into_inner();
    if hub.is_leaving() {
        return Err(ApiError::hub_stopping());
    }
    let protocols = req.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let is_wanted = protocols.unwrap_or_default().split(',').any(|protocol| protocol.trim() == SUBPROTOCOL);
    let is_upgrade = ws::verify_handshake(req.head()).is_ok() && !req.extensions().contains::<HeadOnly>();
    let (true, true, Some(key)) = (is_wanted, is_upgrade, req.headers().get(SEC_WEBSOCKET_KEY)) else {
        let text = format!("expected an upgrade to WebSocket, with the subprotocol {SUBPROTOCOL}");
        return Err(ApiError::new(ErrorKind::UpgradeRequired, text));
    };
    let permit = hub.quotas.echoes.take(&caller.user, MAX_OF_USER, "echoes under way", Limit::Echoes)?;
    let accepted = ws::hash_key(key.as_bytes());
    Ok(HttpResponse::SwitchingProtocols()
        .upgrade("websocket")
        .insert_header((SEC_WEBSOCKET_ACCEPT, &accepted[..]))
        .insert_header((SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL))
        .streaming(EchoBody::new(&hub, &caller, payload, permit)))
}

struct EchoBody {
    payload: Payload,
    /// Bytes of an incomplete WebSocket frame.
    input: BytesMut,
    output: BytesMut,
    codec: ws::Codec,
    /// Bytes so far, with those of frames.
    received: usize,
    sent: usize,
    deadline: Pin<Box<Sleep>>,
    /// Resolves when the token is revoked or the hub stops.
    end: LocalBoxFuture<'static, ()>,
    /// Whether the connection ends when `output` is written.
    is_over: bool,
    _permit: QuotaPermit,
}

/// The end of an echo: why the hub ends it; `None` if the client does.
type End = Option<&'static str>;

impl EchoBody {
    fn new(hub: &Arc<Hub>, caller: &Caller, payload: Payload, permit: QuotaPermit) -> Self {
        let mut body = Self {
            payload,
            input: BytesMut::new(),
            output: BytesMut::new(),
            codec: ws::Codec::new().max_size(MAX_MESSAGE),
            received: 0,
            sent: 0,
            deadline: Box::pin(sleep(LIFETIME)),
            end: hub.end_for(caller),
            is_over: false,
            _permit: permit,
        };
        body.write(ws::Message::Binary(Bytes::from_static(HELLO)));
        body
    }

    fn write(&mut self, message: ws::Message) {
        // Fails only for an unfinished continuation, which is never sent.
        let _ = self.codec.encode(message, &mut self.output);
    }

    /// Reads and answers until there is nothing to read, or enough to write.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while self.output.len() < BURST {
            if let Some(frame) = self.codec.decode(&mut self.input).map_err(|_| Some(TOO_LONG))? {
                match frame {
                    ws::Frame::Binary(message) => {
                        let answer = answer(&message).ok_or(Some(NO_LENGTH))?;
                        self.write(ws::Message::Binary(answer.into()));
                    }
                    ws::Frame::Ping(bytes) => self.write(ws::Message::Pong(bytes)),
                    ws::Frame::Pong(_) => (),
                    ws::Frame::Close(_) => return Err(None),
                    ws::Frame::Text(_) | ws::Frame::Continuation(_) => return Err(Some(NO_LENGTH)),
                }
                if self.sent + self.output.len() > MAX_TOTAL {
                    return Err(Some(TOO_MUCH));
                }
                continue;
            }
            match self.payload.poll_next_unpin(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(bytes))) => {
                    self.received += bytes.len();
                    if self.received > MAX_TOTAL {
                        return Err(Some(TOO_MUCH));
                    }
                    self.input.extend_from_slice(&bytes);
                }
                Poll::Ready(Some(Err(_)) | None) => return Err(None),
            }
        }
        Ok(())
    }

    /// Runs what can be run now.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.read(cx)?;
        if self.deadline.poll_unpin(cx).is_ready() {
            return Err(Some(TOO_LATE));
        }
        if self.end.poll_unpin(cx).is_ready() {
            return Err(Some("the hub is shutting down, or the token was revoked"));
        }
        Ok(())
    }
}

impl Stream for EchoBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.is_over
            && let Err(end) = self.poll_work(cx)
        {
            let reason = end.map(|text| ws::CloseReason::from((ws::CloseCode::Policy, text)));
            self.write(ws::Message::Close(reason));
            self.is_over = true;
        }
        if !self.output.is_empty() {
            self.sent += self.output.len();
            return Poll::Ready(Some(Ok(self.output.split().freeze())));
        }
        if self.is_over { Poll::Ready(None) } else { Poll::Pending }
    }
}
