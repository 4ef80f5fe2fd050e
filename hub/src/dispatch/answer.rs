//! The caller's side of an answer: a whole body, or a stream of events.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};
use wire::json::Object;
use wire::openai::error_message;
use wire::task::Endpoint;

use super::attempt::{Dispatch, ResponsePiece};
use super::call::Call;
use super::encode;
use super::failure::LONGEST_ERROR;
use super::responses::Progress;
use super::run::{Request, StartedResponse, run};
use super::whole::{Body, unfolded};
use crate::clock;
use crate::error::{ApiError, Dialect, ErrorKind, retry_after};
use crate::hub::Hub;
use crate::model::Caller;
use crate::quota::BytesPermit;
use crate::random;

/// In which form a caller reads its answer.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Of errors.
    pub dialect: Dialect,
    /// Of events.
    pub endpoint: Endpoint,
}

/// Runs one inference and answers it.
pub async fn serve(hub: Arc<Hub>, request: Request, dialect: Dialect) -> Result<HttpResponse, ApiError> {
    let style = Style { dialect, endpoint: request.endpoint };
    let call = Call::new(&hub, &request)?;
    let keepalive = hub.options.timings.keepalive_interval;
    if !request.streaming {
        let reply = noted(&call, while_valid(&hub, &request.caller, run(&hub, &request, &call)).await)?;
        return Ok(respond(reply, style, call, None, &hub, &request));
    }
    let request = Arc::new(request);
    let mut waiting: Waiting = Box::pin({
        let (hub, request, call) = (hub.clone(), request.clone(), call.clone());
        async move {
            let reply = async {
                unfolded(run(&hub, &request, &call).await?, request.endpoint, &request.caller.user).await
            };
            while_valid(&hub, &request.caller, reply).await
        }
    });
    if keepalive.is_zero() {
        let reply = noted(&call, waiting.await)?;
        return Ok(respond(reply, style, call, None, &hub, &request));
    }
    match tokio::time::timeout(keepalive, &mut waiting).await {
        Ok(reply) => {
            let reply = noted(&call, reply)?;
            Ok(respond(reply, style, call, Some(keepalive), &hub, &request))
        }
        Err(_) => Ok(stream(State::Opening(waiting), style, call, Some(keepalive), &hub, &request)),
    }
}

/// What comes of `answer`, unless the caller's token ends before: then it is dropped, and with it what it has begun.
async fn while_valid<T>(
    hub: &Hub,
    caller: &Caller,
    answer: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::select! {
        biased;
        () = hub.tokens.ended(caller) => Err(ApiError::revoked()),
        answer = answer => answer,
    }
}

fn noted(call: &Call, reply: Result<StartedResponse, ApiError>) -> Result<StartedResponse, ApiError> {
    match &reply {
        Ok(_) => call.began(),
        Err(error) => call.failed(error),
    }
    reply
}

fn respond(
    reply: StartedResponse,
    style: Style,
    call: Arc<Call>,
    keepalive: Option<Duration>,
    hub: &Arc<Hub>,
    request: &Request,
) -> HttpResponse {
    match reply {
        StartedResponse::Whole { status, body, retry_after, .. } => {
            whole(style, &call, status, body, retry_after)
        }
        StartedResponse::Unfolded { bytes, usage, held } => {
            let all = ResponsePiece::Events { bytes, usage, held };
            stream(State::Last(all), style, call, keepalive, hub, request)
        }
        StartedResponse::Stream { first, attempt } => {
            stream(State::Flowing(first, attempt), style, call, keepalive, hub, request)
        }
    }
}

/// A publisher's status and body, passed on. An error that is not in the dialect's shape is put into it.
pub fn whole(style: Style, call: &Call, status: u16, body: Body, named: Option<u32>) -> HttpResponse {
    if let Some(usage) = body.usage() {
        call.used(usage);
    }
    // Anything between success and error would make a client do something on a publisher's word: go elsewhere, say.
    let status = match status {
        200..=203 | 400..=599 => status,
        204..=299 => 200,
        _ => 502,
    };
    call.chunk();
    let failed = (status >= 400).then(|| refusal(status, body.get()));
    call.ended(status, failed.as_ref());
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
    response.content_type("application/json");
    if let Some(seconds) = retry_after(status, named) {
        response.insert_header((RETRY_AFTER, seconds));
    }
    match failed {
        Some(error) if !has_shape(style.dialect, body.get()) => response.body(error.body(style.dialect)),
        _ => response.body(body.into_bytes()),
    }
}

/// What a status and body of 400 and more say: the publisher's own refusal of one task too many, else the backend's.
pub(crate) fn refusal(status: u16, body: &str) -> ApiError {
    if body.len() > LONGEST_ERROR {
        return ApiError::backend(status, "the backend failed, and gave its reason at too great a length");
    }
    let message = error_message(body).unwrap_or_else(|| "the backend failed".to_owned());
    let code = || Object::parse(Object::parse(body).ok()?.get("error")?).ok()?.get_string("code");
    let own = [ErrorKind::QueueFull, ErrorKind::Paused].into_iter().find(|kind| kind.status() == status);
    match own.filter(|kind| code().is_some_and(|code| code == kind.code())) {
        Some(kind) => ApiError::new(kind, message),
        None => ApiError::backend(status, message),
    }
}

fn has_shape(dialect: Dialect, body: &str) -> bool {
    let Ok(object) = Object::parse(body) else { return false };
    if dialect == Dialect::Api {
        return true;
    }
    let error = object.get("error").is_some_and(|error| error.starts_with('{'));
    error && (dialect != Dialect::Anthropic || object.get("type") == Some("\"error\""))
}

type Waiting = Pin<Box<dyn Future<Output = Result<StartedResponse, ApiError>>>>;

/// The body of a streamed answer. Dropping it cancels what is not over.
pub struct Answer {
    state: State,
    style: Style,
    call: Arc<Call>,
    /// The name that was called.
    target: String,
    /// How far it is, where its end has to say so.
    responses: Option<Progress>,
    keepalive: Option<Keepalive>,
    /// What the piece counts for that is being written.
    writing: BytesPermit,
    /// Resolves when the caller's token does not count any more.
    revoked: Pin<Box<dyn Future<Output = ()>>>,
    /// How often more was asked for.
    asked: u32,
}

struct Keepalive {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    last: Instant,
}

enum State {
    /// Opened with a comment, before any content.
    Opening(Waiting),
    /// This piece, then those of the attempt.
    Flowing(ResponsePiece, Dispatch),
    /// This piece, then the end.
    Last(ResponsePiece),
    /// The attempt's pieces.
    Following(Dispatch),
    /// The end mark.
    DispatchEnd,
    /// Nothing more.
    Over,
}

/// Pieces between two looks whether the caller's token still counts, where none is waited for.
const LOOK_EVERY: u32 = 32;
const LOST: &str = "the publisher was lost in the middle of its answer";

fn stream(
    state: State,
    style: Style,
    call: Arc<Call>,
    keepalive: Option<Duration>,
    hub: &Arc<Hub>,
    request: &Request,
) -> HttpResponse {
    let opened = matches!(state, State::Opening(_));
    let revoked = {
        let (tokens, caller) = (hub.tokens.clone(), request.caller.clone());
        Box::pin(async move { tokens.ended(&caller).await })
    };
    let keepalive = keepalive.map(|interval| Keepalive {
        interval,
        // The one that opens the stream is due.
        timer: Box::pin(sleep(if opened { Duration::ZERO } else { interval })),
        last: if opened {
            Instant::now().checked_sub(interval).unwrap_or_else(Instant::now)
        } else {
            Instant::now()
        },
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Answer {
            state,
            style,
            call,
            target: request.target.shown_name().to_owned(),
            responses: (style.endpoint == Endpoint::Responses).then(Progress::default),
            keepalive,
            writing: BytesPermit::default(),
            revoked,
            asked: 0,
        })
}

impl Answer {
    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.call.failed(error);
        self.state = State::Over;
        match &self.responses {
            Some(progress) => {
                let id = format!("resp_{}", random::hex(&random::bytes::<16>()));
                progress.failed(error, &self.target, &id, clock::now().0 / 1000).into()
            }
            None => encode::failure(self.style.dialect, error).into(),
        }
    }

    /// What a piece makes of the stream; `None` when nothing is to be written.
    fn take(&mut self, piece: ResponsePiece) -> Option<Bytes> {
        match piece {
            ResponsePiece::Events { bytes, usage, held } => {
                self.writing = held;
                self.call.chunk();
                if let Some(usage) = usage {
                    self.call.used(usage);
                }
                if let Some(keepalive) = &mut self.keepalive {
                    keepalive.last = Instant::now();
                }
                if let Some(progress) = &mut self.responses {
                    progress.note(&bytes);
                }
                Some(bytes)
            }
            ResponsePiece::Done => {
                self.call.ended(200, None);
                self.state = State::Over;
                let done = encode::done(self.style.endpoint);
                (!done.is_empty()).then(|| Bytes::from_static(done))
            }
            ResponsePiece::Error(error) => Some(self.fail(&error)),
            ResponsePiece::Answer { status, body, .. } if status >= 400 => {
                Some(self.fail(&refusal(status, body.get())))
            }
            ResponsePiece::Answer { .. } => {
                let text = "the publisher sent a whole answer within a stream";
                Some(self.fail(&ApiError::bad_gateway(text)))
            }
            // Only before the first word.
            ResponsePiece::Reattached => None,
        }
    }

    fn opened(&mut self, reply: Result<StartedResponse, ApiError>) -> Option<Bytes> {
        match reply {
            Ok(StartedResponse::Stream { first, attempt }) => {
                self.state = State::Following(attempt);
                self.take(first)
            }
            Ok(StartedResponse::Unfolded { bytes, usage, held }) => {
                self.state = State::DispatchEnd;
                self.take(ResponsePiece::Events { bytes, usage, held })
            }
            Ok(StartedResponse::Whole { status, body, held, retry_after }) => {
                self.take(ResponsePiece::Answer { status, body, held, retry_after })
            }
            Err(error) => Some(self.fail(&error)),
        }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // More is wanted when what was given before is written.
        self.writing = BytesPermit::default();
        self.asked = self.asked.wrapping_add(1);
        // A stream of which something is always there would never come to the look at its end.
        if self.asked.is_multiple_of(LOOK_EVERY)
            && !matches!(self.state, State::Over)
            && self.revoked.as_mut().poll(cx).is_ready()
        {
            let written = self.fail(&ApiError::revoked());
            return Poll::Ready(Some(Ok(written)));
        }
        loop {
            let written = match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Flowing(..) | State::Last(_) => {
                    match std::mem::replace(&mut self.state, State::DispatchEnd) {
                        State::Flowing(piece, attempt) => {
                            self.state = State::Following(attempt);
                            self.take(piece)
                        }
                        State::Last(piece) => self.take(piece),
                        _ => None,
                    }
                }
                State::DispatchEnd => self.take(ResponsePiece::Done),
                State::Opening(waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Ready(reply) => self.opened(reply),
                    Poll::Pending => break,
                },
                State::Following(attempt) => match attempt.poll_next(cx) {
                    Poll::Ready(Some(piece)) => self.take(piece),
                    Poll::Ready(None) => Some(self.fail(&ApiError::new(ErrorKind::Interrupted, LOST))),
                    Poll::Pending => break,
                },
            };
            if let Some(written) = written {
                return Poll::Ready(Some(Ok(written)));
            }
        }
        if self.revoked.as_mut().poll(cx).is_ready() {
            let written = self.fail(&ApiError::revoked());
            return Poll::Ready(Some(Ok(written)));
        }
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        while keepalive.timer.as_mut().poll(cx).is_ready() {
            let quiet = keepalive.last.elapsed();
            if quiet >= keepalive.interval {
                keepalive.last = Instant::now();
                let next = keepalive.last + keepalive.interval;
                keepalive.timer.as_mut().reset(next);
                let said = encode::keepalive(self.style.dialect);
                return Poll::Ready(Some(Ok(Bytes::from_static(said))));
            }
            let next = keepalive.last + keepalive.interval;
            keepalive.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}
