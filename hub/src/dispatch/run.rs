//! Commit on first content: members are tried one after the other until one begins to answer.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use wire::openai::Usage;
use wire::task::Endpoint;

use super::answer::refusal;
use super::attempt::{Dispatch, ResponsePiece, Work};
use super::body::RequestBody;
use super::call::Call;
use super::capacity::{Arriving, InLine, Reservation};
use super::failure::absent;
use super::receipt::Receipt;
use super::upstream::UpstreamCall;
use super::wake::wake;
use super::whole::Body;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, Llm};
use crate::quota::BytesPermit;
use crate::registry::{Candidate, PickResult, Registry, Target, UnavailableReason};

/// Members that one call is tried on: each costs a look at all of them.
const MOST_TRIES: usize = 16;
/// How long one who waits for an arriving publisher waits before it looks whether it still arrives.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One inference.
pub struct Request {
    /// Who asks.
    pub caller: Caller,
    /// Whom.
    pub target: Target,
    /// What.
    pub endpoint: Endpoint,
    /// Whether chunks are wanted.
    pub streaming: bool,
    /// What is asked of it.
    pub body: RequestBody,
    /// Headers of the caller that go with it: those of [`wire::task::CALLER_HEADERS`].
    pub headers: Vec<(String, String)>,
    /// Whether the body's `model` becomes the row's.
    pub set_model: bool,
    /// How long to wait for a member that is there and has room (`x-queue-timeout`).
    pub patience: Option<Duration>,
}

/// An answer that has begun.
pub enum StartedResponse {
    /// All of it.
    Whole {
        /// HTTP status.
        status: u16,
        /// All of it.
        body: Body,
        /// What it counts for until it is read.
        held: BytesPermit,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// All of it as events for the caller's stream.
    Unfolded {
        /// Their bytes.
        bytes: Bytes,
        /// What they say that the answer cost, if they do.
        usage: Option<Usage>,
        /// What they count for until they are read.
        held: BytesPermit,
    },
    /// Its first piece; the others follow.
    Stream {
        /// Not yet given to the caller.
        first: ResponsePiece,
        /// Where the others come from.
        attempt: Dispatch,
    },
}

/// Runs one inference up to its first content.
pub async fn run(hub: &Arc<Hub>, request: &Request, call: &Call) -> Result<StartedResponse, ApiError> {
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let wait = hub.options.timings.wait_timeout;
    let wakes = Cell::new(false);
    let tries = timeout_at(
        Instant::now() + request.patience.unwrap_or_default() + wait,
        try_members(hub, request, call, &wakes),
    );
    let answer = tries.await;
    answer.unwrap_or_else(|_| {
        let (name, seconds) = (request.target.shown_name(), wait.as_secs_f64());
        Err(if wakes.get() {
            let text = format!("'{name}' is waking and was not up within {seconds} s, try again later");
            ApiError::new(ErrorKind::Waking, text)
        } else {
            ApiError::new(ErrorKind::Timeout, format!("no answer from '{name}' within {seconds} s"))
        })
    })
}

/// The members that a call was tried on.
#[derive(Default)]
pub(crate) struct Tried {
    names: HashSet<String>,
    /// Whether one of them refused what the request asks for: others that would are not asked.
    refused: bool,
}

impl Tried {
    /// One more; whether it refused what the request asks for.
    pub(crate) fn add(&mut self, candidate: &Candidate, refused: bool) {
        self.names.insert(candidate.name.clone());
        self.refused |= refused;
    }

    /// The best one of the others.
    pub(crate) fn pick_another(&self, registry: &mut Registry, request: &Request) -> PickResult {
        if self.names.len() >= MOST_TRIES {
            return PickResult::NoMember;
        }
        let user = &request.caller.user;
        let refuses = |llm: &Llm| request.body.is_refused_at(user, &llm.owner, llm.allow_remote_urls);
        let is_left = |llm: &Llm| !(self.names.contains(&llm.name) || self.refused && refuses(llm));
        registry.pick_of(&request.caller, &request.target, request.endpoint, is_left)
    }
}

/// Tries members until one begins to answer. `wakes` tells whether one is being woken at the moment.
async fn try_members(
    hub: &Arc<Hub>,
    request: &Request,
    call: &Call,
    wakes: &Cell<bool>,
) -> Result<StartedResponse, ApiError> {
    let mut tried = Tried::default();
    let mut last = None;
    let until = Instant::now() + request.patience.unwrap_or_default();
    loop {
        let (candidate, place) = match next(hub, request, &tried, until).await {
            Ok(next) => next,
            Err(nobody) => return last.unwrap_or(Err(nobody)),
        };
        wakes.set(candidate.asleep);
        let refusal = request.body.refused_by(&request.caller.user, &candidate);
        let refused = refusal.is_some();
        tried.add(&candidate, refused);
        let woken = match refusal {
            Some(error) => Err(error),
            None if candidate.asleep => wake(hub, &candidate).await,
            None => Ok(()),
        };
        wakes.set(false);
        let outcome = match woken {
            Ok(()) => try_one(hub, request, call, &candidate, place, None).await,
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(StartedResponse::Whole { status: 429 | 502..=504, .. }) => (),
            Ok(_) => return outcome,
            Err(error) if !refused && !error.may_fail_over() => return outcome,
            Err(error) => log::debug!("'{}' did not answer: {:?}", candidate.name, error.kind),
        }
        last = Some(outcome);
    }
}

/// Why there is room for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// Those who are there are full.
    Room,
    /// Nobody is there.
    Members,
}

/// What a look at the members found.
pub(super) enum Found<'a> {
    /// This one, with a place on it for one who has patience.
    Member(Candidate, Option<Reservation>),
    /// One is about to open its channel.
    Arriving(Arriving<'a>),
    /// There is room for nobody; it waits in line.
    InLine(InLine),
    /// There is room for nobody.
    Nobody(Lack),
}

/// The best member that was not tried. Who has patience waits for one with room, behind those who came before.
async fn next(
    hub: &Arc<Hub>,
    request: &Request,
    tried: &Tried,
    until: Instant,
) -> Result<(Candidate, Option<Reservation>), ApiError> {
    let start = Instant::now();
    let patient = tried.names.is_empty() && request.patience.is_some();
    loop {
        let (candidate, place) = match look(hub, request, tried, patient && Instant::now() < until)? {
            Found::Member(candidate, place) => (candidate, place),
            Found::Arriving(arriving) => {
                // It opens its channel, or is no longer arriving.
                let _ = timeout(LOOK_AGAIN, arriving.opened()).await;
                continue;
            }
            Found::InLine(mut line) => match timeout_at(until, line.place()).await {
                Ok(Some((candidate, place))) => (candidate, Some(place)),
                // Things have changed, or its patience is over: another look tells why there is no room now.
                Ok(None) | Err(_) => continue,
            },
            Found::Nobody(lack) => return Err(nobody(hub, request, lack)),
        };
        if patient {
            let wait = start.elapsed();
            hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.waited(wait));
        }
        return Ok((candidate, place));
    }
}

/// Looks once. All of it under one lock: what is freed afterwards is offered to who is in line by then.
pub(super) fn look<'a>(
    hub: &'a Arc<Hub>,
    request: &'a Request,
    tried: &Tried,
    waits: bool,
) -> Result<Found<'a>, ApiError> {
    let patient = tried.names.is_empty() && request.patience.is_some();
    let mut registry = hub.registry.lock();
    let pick = tried.pick_another(&mut registry, request);
    let lack = match pick {
        PickResult::Chosen(candidate) if !patient => return Ok(Found::Member(*candidate, None)),
        PickResult::Chosen(candidate) if !(candidate.full || waits && hub.has_to_queue(request)) => {
            let place = Reservation::take(hub, &mut registry, &candidate);
            return Ok(Found::Member(*candidate, Some(place)));
        }
        PickResult::Chosen(candidate) => {
            if waits {
                let line = hub.stand_in_line(&registry, request);
                if !candidate.full {
                    // There is room, for those before it and perhaps for itself.
                    hub.offer(&mut registry, &candidate.name);
                }
                return Ok(Found::InLine(line));
            }
            Lack::Room
        }
        PickResult::NoMember if tried.names.is_empty() && !waits => {
            if registry.has_arriving_member(&request.caller, &request.target, hub.now()) {
                return Ok(Found::Arriving(hub.await_arrival(&registry, &request.target.name)));
            }
            Lack::Members
        }
        PickResult::NoMember => Lack::Members,
        PickResult::EndpointUnsupported => {
            let (name, endpoint) = (request.target.shown_name(), request.endpoint.as_str());
            return Err(ApiError::bad_request(format!("'{name}' does not offer {endpoint}")));
        }
    };
    Ok(if waits { Found::InLine(hub.stand_in_line(&registry, request)) } else { Found::Nobody(lack) })
}

/// Why no member takes the request: all are full, or none is there.
fn nobody(hub: &Hub, request: &Request, lack: Lack) -> ApiError {
    if lack == Lack::Room {
        return ApiError::new(
            ErrorKind::NoRoom,
            format!("'{}' is busy, try again later", request.target.shown_name()),
        );
    }
    let absence = hub.registry.lock().unavailable_reason(&request.caller, &request.target);
    absent(request.target.shown_name(), absence, hub.now().wall)
}

/// Runs it on one member, which is awake, up to its first content; with the place that it has there, if it has one, and
/// with what the member's last word waits for.
pub(crate) async fn try_one(
    hub: &Arc<Hub>,
    request: &Request,
    call: &Call,
    candidate: &Candidate,
    place: Option<Reservation>,
    receipt: Option<Receipt>,
) -> Result<StartedResponse, ApiError> {
    let (streaming, endpoint) = (request.streaming, request.endpoint);
    let model = request.set_model.then_some(candidate.model.as_str());
    let body = request.body.for_row(&request.caller.user, candidate, endpoint).await?;
    if !hub.registry.lock().may_still_serve(&request.caller, &request.target, candidate) {
        // It was taken away while the caller waited for it to wake, or for its turn with a large body.
        return Err(absent(request.target.shown_name(), UnavailableReason::PublisherAway, hub.now().wall));
    }
    let work = Work::Infer { streaming, endpoint, request: &body, model, headers: &request.headers };
    let send = |attempt: &mut Dispatch| attempt.send(candidate, &request.caller.user, &work);
    let (mut attempt, lane) =
        Dispatch::open(hub, candidate, &request.caller.user, streaming, endpoint, place, receipt)?;
    attempt.mask = candidate.redaction();
    if let Some(upstream) = &candidate.upstream {
        let upstream = UpstreamCall::new(upstream, candidate, request, &body)?;
        actix_rt::spawn(upstream.run(hub.clone(), attempt.id.clone(), lane));
    } else {
        // The publisher's end alone is left: it is the end of the pieces.
        drop(lane);
        send(&mut attempt)?;
    }
    call.sent(&attempt.id, candidate);
    let first = loop {
        match attempt.next().await {
            Some(ResponsePiece::Reattached) => send(&mut attempt)?,
            first => break first,
        }
    };
    match first {
        // It was paused while the task was on its way.
        Some(ResponsePiece::Answer { status: 503, body, retry_after, .. })
            if refusal(503, body.get()).kind == ErrorKind::Paused =>
        {
            Err(refusal(503, body.get()).retry_after(retry_after))
        }
        Some(ResponsePiece::Answer { status, body, held, retry_after }) => {
            Ok(StartedResponse::Whole { status, body, held, retry_after })
        }
        Some(ResponsePiece::Error(error)) => Err(error),
        Some(first @ (ResponsePiece::Events { .. } | ResponsePiece::Done)) => {
            Ok(StartedResponse::Stream { first, attempt })
        }
        Some(ResponsePiece::Reattached) | None => {
            Err(ApiError::new(ErrorKind::PublisherLost, "the publisher was lost before it answered"))
        }
    }
}
