//! The body of a streamed response.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};
use wire::task::Endpoint;

use super::call::ActiveCall;
use super::encode;
use super::failure::refusal;
use super::handle::Dispatch;
use super::piece::{ResponsePiece, StartedResponse};
use super::request::InferenceRequest;
use super::respond::ResponseFormat;
use super::responses_api::ResponsesProgress;
use crate::affinity::Conversation;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::UserId;
use crate::quota::BytesPermit;
use crate::registry::Target;
use crate::{clock, random};

/// Pieces between two checks of the caller's token while the stream is never pending.
const REVOKED_EVERY: u32 = 32;

/// A response that has no content yet.
pub(super) type PendingResponse = Pin<Box<dyn Future<Output = Result<StartedResponse, ApiError>>>>;

/// The body of a streamed response. Dropping it cancels the dispatch.
struct ResponseStream {
    state: StreamState,
    format: ResponseFormat,
    call: Arc<ActiveCall>,
    /// The name that was called.
    target: String,
    /// Only for the responses API.
    responses: Option<ResponsesProgress>,
    /// Until the id of the response is known, if the next call may name it.
    chain: Option<ResponseChain>,
    keepalive: Option<Keepalive>,
    /// Counts the piece that is being written.
    writing: BytesPermit,
    /// Resolves when the caller's token ends.
    revoked: Pin<Box<dyn Future<Output = ()>>>,
    polls: u32,
}

/// Where the id of a response is remembered.
struct ResponseChain {
    hub: Arc<Hub>,
    user: UserId,
    target: Target,
    /// What the response is an answer of.
    former: Option<Conversation>,
}

struct Keepalive {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    last: Instant,
}

pub(super) enum StreamState {
    /// No content yet. The stream opens with a comment.
    Opening(PendingResponse),
    /// This piece, then those of the dispatch.
    First(ResponsePiece, Dispatch),
    /// This piece, then the end.
    Last(ResponsePiece),
    /// The pieces of the dispatch.
    Following(Dispatch),
    /// The end mark.
    EndMark,
    Over,
}

/// The HTTP response whose body starts in `state`.
pub(super) fn stream(
    state: StreamState,
    format: ResponseFormat,
    call: Arc<ActiveCall>,
    keepalive: Option<Duration>,
    hub: &Arc<Hub>,
    request: &InferenceRequest,
) -> HttpResponse {
    let is_opening = matches!(state, StreamState::Opening(_));
    let revoked = {
        let (tokens, caller) = (hub.tokens.clone(), request.caller.clone());
        Box::pin(async move { tokens.ended(&caller).await })
    };
    let now = Instant::now();
    let keepalive = keepalive.map(|interval| Keepalive {
        interval,
        // The comment that opens the stream is due at once.
        timer: Box::pin(sleep(if is_opening { Duration::ZERO } else { interval })),
        last: if is_opening { now.checked_sub(interval).unwrap_or(now) } else { now },
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(ResponseStream {
            state,
            format,
            call,
            target: request.target.shown_name().to_owned(),
            responses: (format.endpoint == Endpoint::Responses).then(ResponsesProgress::default),
            chain: request.is_chained.then(|| ResponseChain {
                hub: hub.clone(),
                user: request.caller.user.clone(),
                target: request.target.clone(),
                former: request.conversation.clone(),
            }),
            keepalive,
            writing: BytesPermit::default(),
            revoked,
            polls: 0,
        })
}

impl ResponseStream {
    /// Ends the stream with an error event.
    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.call.fail_within_stream(error);
        self.state = StreamState::Over;
        match &self.responses {
            Some(progress) => {
                let id = format!("resp_{}", random::hex(&random::bytes::<16>()));
                progress.failed(error, &self.target, &id, clock::now().0 / 1000).into()
            }
            None => encode::failure(self.format.dialect, error).into(),
        }
    }

    /// The bytes to write for a piece; `None` if there are none.
    fn write(&mut self, piece: ResponsePiece) -> Option<Bytes> {
        match piece {
            ResponsePiece::Events { bytes, tally, held } => {
                self.writing = held;
                self.call.add_events(&bytes, tally);
                if let Some(keepalive) = &mut self.keepalive {
                    keepalive.last = Instant::now();
                }
                if let Some(progress) = &mut self.responses {
                    progress.update(&bytes);
                    if progress.has_response()
                        && let Some(ResponseChain { hub, user, target, former }) = self.chain.take()
                        && let Some((id, row)) = progress.id().zip(self.call.row())
                    {
                        hub.name_response(&user, &target, &id, &row, former.as_ref());
                    }
                }
                (!bytes.is_empty()).then_some(bytes)
            }
            ResponsePiece::Done => {
                self.call.end(200, None);
                self.state = StreamState::Over;
                let mark = encode::end_mark(self.format.endpoint);
                (!mark.is_empty()).then(|| Bytes::from_static(mark))
            }
            ResponsePiece::Error(error) => Some(self.fail(&error)),
            ResponsePiece::Answer { status, body, .. } if status >= 400 => {
                Some(self.fail(&refusal(status, body.get())))
            }
            ResponsePiece::Answer { .. } => {
                let text = "the publisher sent a whole answer within a stream";
                Some(self.fail(&ApiError::bad_gateway(text)))
            }
            // Come only before any content.
            ResponsePiece::Reattached | ResponsePiece::Recheck => None,
        }
    }

    fn open(&mut self, result: Result<StartedResponse, ApiError>) -> Option<Bytes> {
        match result {
            Ok(StartedResponse::Stream { first, dispatch }) => {
                self.state = StreamState::Following(dispatch);
                self.write(first)
            }
            Ok(StartedResponse::Expanded { bytes, tally, held }) => {
                self.state = StreamState::EndMark;
                self.write(ResponsePiece::Events { bytes, tally, held })
            }
            Ok(StartedResponse::Whole { status, body, held, retry_after }) => {
                self.write(ResponsePiece::Answer { status, body, held, retry_after })
            }
            // A count has no stream.
            Ok(StartedResponse::Uncounted) => None,
            Err(error) => Some(self.fail(&error)),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let written = match &mut self.state {
                StreamState::Over => return Poll::Ready(None),
                StreamState::First(..) | StreamState::Last(_) => {
                    match std::mem::replace(&mut self.state, StreamState::EndMark) {
                        StreamState::First(piece, dispatch) => {
                            self.state = StreamState::Following(dispatch);
                            self.write(piece)
                        }
                        StreamState::Last(piece) => self.write(piece),
                        _ => None,
                    }
                }
                StreamState::EndMark => self.write(ResponsePiece::Done),
                StreamState::Opening(pending) => match pending.as_mut().poll(cx) {
                    Poll::Ready(result) => self.open(result),
                    Poll::Pending => return Poll::Pending,
                },
                StreamState::Following(dispatch) => match dispatch.poll_next(cx) {
                    Poll::Ready(Some(piece)) => self.write(piece),
                    Poll::Ready(None) => {
                        let text = "the publisher was lost in the middle of its answer";
                        Some(self.fail(&ApiError::new(ErrorKind::Interrupted, text)))
                    }
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Some(written) = written {
                return Poll::Ready(Some(written));
            }
        }
    }
}

impl Stream for ResponseStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The previous piece is written when the next one is asked for.
        self.writing = BytesPermit::default();
        self.polls = self.polls.wrapping_add(1);
        // A stream that always has a piece would never reach the check at the end.
        let is_check_due =
            self.polls.is_multiple_of(REVOKED_EVERY) && !matches!(self.state, StreamState::Over);
        if !is_check_due && let Poll::Ready(written) = self.poll_piece(cx) {
            return Poll::Ready(written.map(Ok));
        }
        if self.revoked.as_mut().poll(cx).is_ready() {
            let written = self.fail(&ApiError::revoked());
            return Poll::Ready(Some(Ok(written)));
        }
        if is_check_due && let Poll::Ready(written) = self.poll_piece(cx) {
            return Poll::Ready(written.map(Ok));
        }
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        while keepalive.timer.as_mut().poll(cx).is_ready() {
            let is_due = keepalive.last.elapsed() >= keepalive.interval;
            if is_due {
                keepalive.last = Instant::now();
            }
            let next = keepalive.last + keepalive.interval;
            keepalive.timer.as_mut().reset(next);
            if is_due {
                let comment = encode::keepalive(self.format.dialect);
                return Poll::Ready(Some(Ok(Bytes::from_static(comment))));
            }
        }
        Poll::Pending
    }
}
