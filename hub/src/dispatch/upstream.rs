//! Public rows: the hub calls the upstream itself, by the backends that registrars use. What comes goes the same way as a
//! publisher's answer, through the same checks.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use backend::http::{Client, tls_config};
use backend::{
    AnswerBudget, AnthropicBackend, Backend, BackendError, BackendRequest, ByteBudget, HttpBackend,
    OpenAiBackend, Refusal, Reply, Secret,
};
use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream::{LocalBoxStream, StreamExt};
use memchr::memmem;
use serde_json::value::RawValue;
use wire::json::{JsonError, Object, compact, quote};
use wire::task::Endpoint;

use super::attempt::ResponsePiece;
use super::body::RequestBody;
use super::encode;
use super::response_channel::ResponseChannel;
use super::run::Request;
use super::whole::Body;
use crate::error::{ApiError, ErrorKind};
use crate::heavy::heavy;
use crate::hub::Hub;
use crate::model::{Upstream, UserId};
use crate::news::news;
use crate::quota::BytesPermit;
use crate::registry::Candidate;

/// An upstream that says nothing for so long, before or within an answer, has failed: as the registrar has it.
const SILENCE: Duration = Duration::from_mins(10);
/// Bytes of events that go to the caller as one piece.
const WRITE: usize = 32 << 10;
/// Upstreams whose backend is kept on one thread. A hub has a few; more of them are made anew.
const MAX_KEPT: usize = 256;

const NO_ANSWER: &str = "backend's answer is not a JSON object";
const NO_CHUNK: &str = "backend sent a chunk that is not a JSON object";

/// One call of an upstream.
pub(super) struct UpstreamCall {
    backend: Rc<dyn Backend>,
    endpoint: Endpoint,
    streaming: bool,
    body: RequestBody,
    model: String,
    headers: Vec<(String, String)>,
    /// Who asks.
    user: UserId,
    /// The row's owner.
    owner: UserId,
}

impl UpstreamCall {
    /// The call that answers `request` by `candidate`.
    pub(super) fn new(
        upstream: &Upstream,
        candidate: &Candidate,
        request: &Request,
        body: &RequestBody,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            backend: backend(upstream, &candidate.provider_type)?,
            endpoint: request.endpoint,
            streaming: request.streaming,
            body: body.clone(),
            model: candidate.model.clone(),
            headers: request.headers.clone(),
            user: request.caller.user.clone(),
            owner: candidate.owner.clone(),
        })
    }

    /// Calls, and hands the answer to the caller of task `id`, for as long as somebody waits for it.
    pub(super) async fn run(mut self, hub: Arc<Hub>, id: String, lane: ResponseChannel) {
        let owner = std::mem::take(&mut self.owner);
        let last = tokio::select! {
            biased;
            () = lane.closed() => return,
            // Dropping the sender tells the caller that nothing more comes.
            () = hub.stopping() => return,
            last = self.answer(&lane) => last,
        };
        if let ResponsePiece::Error(error) = &last
            && [NO_ANSWER, NO_CHUNK].contains(&error.message.as_ref())
        {
            news!(info, "answers of upstreams not passed on", &owner, "task {id}: {error}");
        }
        hub.conclude(&id, last);
    }

    /// The last piece of an answer; the others go out before it.
    async fn answer(self, lane: &ResponseChannel) -> ResponsePiece {
        let Self { backend, endpoint, streaming, body, model, headers, user, owner: _ } = self;
        let body = match heavy(&user, body.size(), move || upstream_body(&body, &model, streaming)).await {
            Ok(body) => body,
            Err(error) => return ResponsePiece::Error(error),
        };
        let unread = Rc::new(Unread(RefCell::new(lane.counts_nothing())));
        let budget = AnswerBudget::new(unread.clone());
        let request = BackendRequest { endpoint, streaming, body, user: user.clone(), headers, budget };
        match backend.infer(request).await {
            Ok(Reply::Whole { status, body }) => whole(&user, status, body, unread.0.take(), None).await,
            Ok(Reply::Stream(mut pieces)) => {
                // A refusal in place of the first content is an answer of its own: nothing was said yet.
                match pieces.next().await {
                    Some(Err(BackendError::Refused(refusal))) => refused(&user, refusal).await,
                    first => stream(&user, endpoint, first, pieces, lane).await,
                }
            }
            Err(BackendError::Refused(refusal)) => refused(&user, refusal).await,
            Err(error) => ResponsePiece::Error(failed(&error)),
        }
    }
}

/// What is held of an answer that is not whole yet, among its caller's answers unread.
struct Unread(RefCell<BytesPermit>);

impl ByteBudget for Unread {
    fn reserve(&self, more: usize) -> bool {
        self.0.borrow_mut().grow(more).is_ok()
    }

    fn release(&self, less: usize) {
        self.0.borrow_mut().shrink(less);
    }
}

async fn whole(
    user: &str,
    status: u16,
    body: String,
    held: BytesPermit,
    retry_after: Option<u32>,
) -> ResponsePiece {
    let size = body.len();
    let work = move || {
        // Half an answer is none, either.
        let body = compact(&body).ok().and_then(|body| RawValue::from_string(body).ok());
        let body = body.filter(|body| status >= 400 || body.get().starts_with('{'));
        Ok(Body::read(status, body.ok_or_else(|| ApiError::bad_gateway(NO_ANSWER))?))
    };
    match heavy(user, size, work).await {
        Ok(body) => ResponsePiece::answer(status, body, held, retry_after),
        Err(error) => ResponsePiece::Error(error),
    }
}

async fn refused(user: &str, refusal: Box<Refusal>) -> ResponsePiece {
    let seconds = refusal.retry_after_seconds();
    whole(user, refusal.status, refusal.body, BytesPermit::default(), seconds).await
}

/// Sends `next` and what follows it as it comes: all that is there goes out as one piece.
async fn stream(
    user: &str,
    endpoint: Endpoint,
    mut next: Option<Result<String, BackendError>>,
    mut pieces: LocalBoxStream<'static, Result<String, BackendError>>,
    lane: &ResponseChannel,
) -> ResponsePiece {
    loop {
        let (mut bytes, mut usage, mut large) = (Vec::new(), None, lane.counts_nothing());
        let end = loop {
            match next {
                Some(Ok(data)) => {
                    if data.len() > WRITE && large.grow(data.len()).is_err() {
                        break Some(ResponsePiece::Error(no_room()));
                    }
                    let Ok(found) = encode::event(user, endpoint, data.into(), &mut bytes).await else {
                        break Some(ResponsePiece::Error(ApiError::bad_gateway(NO_CHUNK)));
                    };
                    usage = found.or(usage);
                }
                Some(Err(error)) => break Some(ResponsePiece::Error(failed(&error))),
                None => break Some(ResponsePiece::Done),
            }
            if bytes.len() >= WRITE {
                break None;
            }
            match pieces.next().now_or_never() {
                Some(ready) => next = ready,
                None => break None,
            }
        };
        if !bytes.is_empty() {
            let is_large = large.size() > 0;
            let events = ResponsePiece::Events { bytes: bytes.into(), usage, held: large };
            // A large event waits for nothing that other answers hold, which may wait for what it holds.
            if !(if is_large { lane.send_counted(events).await } else { lane.send(events).await }) {
                return ResponsePiece::Error(ApiError::bad_gateway("nobody waits for it"));
            }
        }
        if let Some(end) = end {
            return end;
        }
        next = pieces.next().await;
    }
}

fn no_room() -> ApiError {
    ApiError::new(ErrorKind::HubBusy, "the hub has no memory for the answer now: try again later")
}

fn failed(error: &BackendError) -> ApiError {
    match error {
        BackendError::Unavailable => ApiError::bad_gateway("the upstream cannot be reached"),
        BackendError::KeyRefused => {
            ApiError::new(ErrorKind::BackendKey, "the upstream refused the hub's key")
        }
        BackendError::Refused(refusal) => ApiError::backend(refusal.status, error.to_string()),
        BackendError::BudgetExceeded => no_room(),
        BackendError::Failed(text) => ApiError::bad_gateway(text.clone()),
    }
}

/// The request as the upstream gets it: the row's model, and `stream` only where it streams. Embeddings and ranks know no
/// such key, for the others its absence means false.
fn upstream_body(request: &RequestBody, model: &str, streaming: bool) -> Result<Bytes, ApiError> {
    let has_options = || memmem::find(request.as_str().as_bytes(), b"\"stream_options\"").is_some();
    let is_as_answered = match request.stream() {
        Some(stream) => streaming && stream == b"true",
        None => !streaming && !has_options(),
    };
    if is_as_answered {
        return request.made_to_send(request.pieces(Some(model)).concat());
    }
    let invalid = |error: JsonError| ApiError::bad_request(format!("the request's body is {error}"));
    let mut object = Object::parse(request.as_str()).map_err(invalid)?;
    object.set("model", quote(model));
    object.remove("stream");
    if streaming {
        object.set("stream", "true");
    } else {
        object.remove("stream_options");
    }
    request.made_to_send(object.to_string().into())
}

/// `base` with the API's version, where it has none.
fn versioned(base: &str) -> String {
    let base = base.trim_end_matches('/');
    let has_version = base.split('/').skip(3).any(|segment| {
        segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    if has_version { base.to_owned() } else { format!("{base}/v1") }
}

/// What a backend is made of: URL, key, and whether it speaks Anthropic's API.
type Settings = (String, Option<String>, bool);

/// Backends of this thread, which remember what their upstream does not know, and one client without and one with TLS,
/// made when it is first needed: most hubs have no public row.
#[derive(Default)]
struct Backends {
    plain: OnceCell<Client>,
    secure: OnceCell<Client>,
    made: RefCell<HashMap<Settings, Rc<dyn Backend>>>,
}

thread_local! {
    static BACKENDS: Backends = Backends::default();
}

/// This thread's backend for `upstream`.
fn backend(upstream: &Upstream, provider_type: &str) -> Result<Rc<dyn Backend>, ApiError> {
    BACKENDS.with(|backends| {
        let is_anthropic = provider_type == "anthropic";
        let key = (upstream.url.clone(), upstream.api_key.clone(), is_anthropic);
        if let Some(made) = backends.made.borrow().get(&key) {
            return Ok(Rc::clone(made));
        }
        let http = backends.client(&upstream.url)?;
        let settings = HttpBackend {
            url: Secret::new(versioned(&upstream.url)),
            api_key: upstream.api_key.as_deref().map(Secret::new),
        };
        let backend: Rc<dyn Backend> = if is_anthropic {
            Rc::new(AnthropicBackend::new(http, &settings, SILENCE, None))
        } else {
            Rc::new(OpenAiBackend::new(http, &settings, SILENCE, None))
        };
        let mut made = backends.made.borrow_mut();
        if made.len() >= MAX_KEPT {
            made.clear();
        }
        made.insert(key, Rc::clone(&backend));
        Ok(backend)
    })
}

impl Backends {
    fn client(&self, url: &str) -> Result<Client, ApiError> {
        if !url.starts_with("https://") {
            return Ok(self.plain.get_or_init(|| Client::new(None)).clone());
        }
        if let Some(client) = self.secure.get() {
            return Ok(client.clone());
        }
        let tls = tls_config(None).map_err(ApiError::internal)?;
        Ok(self.secure.get_or_init(|| Client::new(Some(tls))).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_or_may_not_end_in_its_version() {
        assert_eq!(versioned("http://h:1"), "http://h:1/v1");
        assert_eq!(versioned("http://h:1/v1/"), "http://h:1/v1");
        assert_eq!(versioned("https://h/api/v1"), "https://h/api/v1");
        assert_eq!(versioned("https://h/v1beta/openai"), "https://h/v1beta/openai");
        assert_eq!(versioned("https://v1host/proxy"), "https://v1host/proxy/v1");
    }

    #[test]
    fn a_request_says_stream_only_when_it_streams() {
        let of = |text: &str, streaming| {
            let body = RequestBody::parse(text.into()).unwrap();
            String::from_utf8(upstream_body(&body, "m", streaming).unwrap().into()).unwrap()
        };
        let both = r#"{"model":"x","stream":true,"stream_options":{},"seed":18446744073709551615}"#;
        assert_eq!(of(both, false), r#"{"model":"m","seed":18446744073709551615}"#);
        assert_eq!(of(both, true), both.replace("\"x\"", "\"m\""));
        assert_eq!(of(r#"{"model":"x","n":1.10}"#, false), r#"{"model":"m","n":1.10}"#);
        assert_eq!(of(r#"{"model":"x"}"#, true), r#"{"model":"m","stream":true}"#);
        assert_eq!(of(r#"{"stream":false,"stream_options":{"a":1}}"#, false), r#"{"model":"m"}"#);
    }
}
