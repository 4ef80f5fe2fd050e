//! Public rows: the hub calls the upstream itself, with the same backend code as registrars. Responses pass the same checks
//! as a publisher's.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use backend::{AnswerBudget, Backend, BackendError, BackendRequest, ByteBudget, Refusal, Reply};
use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream::{LocalBoxStream, StreamExt};
use memchr::memmem;
use serde_json::value::RawValue;
use wire::json::{Object, compact, quote};

use super::encode::{self, EventFormat};
use super::outbound::OutboundPermit;
use super::piece::ResponsePiece;
use super::request::InferenceRequest;
use super::request_body::{RequestBody, UsageOptions};
use super::response_body::ResponseBody;
use super::response_channel::ResponseChannel;
use super::tally::Tally;
use super::upstream_backends::backend;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Upstream, UserId};
use crate::news::news;
use crate::offload::offload;
use crate::quota::BytesPermit;
use crate::registry::Candidate;

/// Bytes of events that are sent to the caller as one piece.
const WRITE: usize = 32 << 10;

const NO_ANSWER: &str = "backend's answer is not a JSON object";
const NO_CHUNK: &str = "backend sent a chunk that is not a JSON object";

/// One call of an upstream.
pub(super) struct UpstreamCall {
    backend: Rc<dyn Backend>,
    format: EventFormat,
    streaming: bool,
    body: RequestBody,
    model: String,
    /// Replaces the request's `stream_options`.
    usage: Option<UsageOptions>,
    headers: Vec<(String, String)>,
    /// The caller.
    user: UserId,
    /// The row's owner.
    owner: UserId,
    place: OutboundPermit,
}

impl UpstreamCall {
    /// The call of `upstream`, the row of `candidate`, that answers `request`.
    pub(super) fn new(
        hub: &Hub,
        upstream: &Upstream,
        candidate: &Candidate,
        request: &InferenceRequest,
        body: &RequestBody,
        usage: Option<UsageOptions>,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            place: hub.outbound.take(&request.caller.user)?,
            backend: backend(upstream, &candidate.provider_type, hub.outbound.idle())?,
            format: EventFormat { endpoint: request.endpoint, drops_usage: usage.is_some() },
            streaming: request.streaming,
            body: body.clone(),
            model: candidate.model.clone(),
            usage,
            headers: request.headers.clone(),
            user: request.caller.user.clone(),
            owner: candidate.owner.clone(),
        })
    }

    /// Calls the upstream and passes the response to the caller of task `id`, until the caller leaves.
    pub(super) async fn run(mut self, hub: Arc<Hub>, id: String, channel: ResponseChannel) {
        let owner = std::mem::take(&mut self.owner);
        let last = tokio::select! {
            biased;
            () = channel.closed() => return,
            // The drop of the sender ends the pieces.
            () = hub.stopping() => return,
            last = self.answer(&channel) => last,
        };
        if let ResponsePiece::Error(error) = &last
            && [NO_ANSWER, NO_CHUNK].contains(&error.message.as_ref())
        {
            news!(info, "answers of upstreams not passed on", &owner, [task = id], "task {id}: {error}");
        }
        hub.finish_upstream(&id, last);
    }

    /// Sends the pieces of the response but the last one, which it returns.
    async fn answer(self, channel: &ResponseChannel) -> ResponsePiece {
        let Self { backend, format, streaming, body, model, usage, headers, user, owner: _, place: _place } =
            self;
        let endpoint = format.endpoint;
        let size = body.size();
        let body = move || upstream_body(&body, &model, streaming, usage.as_ref());
        let body = match offload(&user, size, body).await {
            Ok(body) => body,
            Err(error) => return ResponsePiece::Error(error),
        };
        let unread = Rc::new(UnreadQuota(RefCell::new(channel.empty_permit())));
        let budget = AnswerBudget::new(unread.clone());
        let request = BackendRequest { endpoint, streaming, body, user: user.clone(), headers, budget };
        match backend.infer(request).await {
            Ok(Reply::Whole { status, body }) => whole(&user, status, body, unread.0.take(), None).await,
            Ok(Reply::Stream(mut pieces)) => {
                // A refusal in place of the first content is a whole response.
                match pieces.next().await {
                    Some(Err(BackendError::Refused(refusal))) => refused(&user, refusal).await,
                    first => stream(&user, format, first, pieces, channel).await,
                }
            }
            Err(BackendError::Refused(refusal)) => refused(&user, refusal).await,
            Err(error) => ResponsePiece::Error(failed(&error)),
        }
    }
}

/// Counts the bytes of an incomplete response as unread by its caller.
struct UnreadQuota(RefCell<BytesPermit>);

impl ByteBudget for UnreadQuota {
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
        // An incomplete body does not parse.
        let body = compact(&body).ok().and_then(|body| RawValue::from_string(body).ok());
        let body = body.filter(|body| status >= 400 || body.get().starts_with('{'));
        Ok(ResponseBody::read(status, body.ok_or_else(|| ApiError::bad_gateway(NO_ANSWER))?))
    };
    match offload(user, size, work).await {
        Ok(body) => ResponsePiece::answer(status, body, held, retry_after),
        Err(error) => ResponsePiece::Error(error),
    }
}

async fn refused(user: &str, refusal: Box<Refusal>) -> ResponsePiece {
    let seconds = refusal.retry_after_seconds();
    whole(user, refusal.status, refusal.body, BytesPermit::default(), seconds).await
}

/// Sends `next` and the following events. Events that are ready are sent as one piece.
async fn stream(
    user: &str,
    format: EventFormat,
    mut next: Option<Result<String, BackendError>>,
    mut pieces: LocalBoxStream<'static, Result<String, BackendError>>,
    channel: &ResponseChannel,
) -> ResponsePiece {
    loop {
        let (mut bytes, mut tally, mut large) = (Vec::new(), Tally::default(), channel.empty_permit());
        let end = loop {
            match next {
                Some(Ok(data)) => {
                    if data.len() > WRITE && large.grow(data.len()).is_err() {
                        break Some(ResponsePiece::Error(no_room()));
                    }
                    let Ok(found) = encode::write_chunk_for(user, format, data.into(), &mut bytes).await
                    else {
                        break Some(ResponsePiece::Error(ApiError::bad_gateway(NO_CHUNK)));
                    };
                    tally.add(found);
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
        if !bytes.is_empty() || tally.usage.is_some() {
            let is_large = large.size() > 0;
            let events = ResponsePiece::Events { bytes: bytes.into(), tally, held: large };
            // A large event is counted already. Waiting for the quota again could block on itself.
            if !(if is_large { channel.send_counted(events).await } else { channel.send(events).await }) {
                return ResponsePiece::Error(ApiError::bad_gateway("the caller left"));
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
        BackendError::Unresolved => ApiError::bad_gateway(error.to_string()),
        BackendError::KeyRefused => {
            ApiError::new(ErrorKind::BackendKey, "the upstream refused the hub's key")
        }
        BackendError::Refused(refusal) => ApiError::backend(refusal.status, error.to_string()),
        BackendError::BudgetExceeded => no_room(),
        BackendError::Failed(text) => ApiError::bad_gateway(text.clone()),
    }
}

/// The request body for the upstream: with the row's model, with `usage` as its `stream_options` if given, and with `stream`
/// only if it is true. The embeddings and rerank APIs do not have this key; for the others a missing key means false.
fn upstream_body(
    request: &RequestBody,
    model: &str,
    streaming: bool,
    usage: Option<&UsageOptions>,
) -> Result<Bytes, ApiError> {
    let has_options = || memmem::find(request.as_str().as_bytes(), b"\"stream_options\"").is_some();
    let is_unchanged = match request.stream() {
        Some(stream) => streaming && stream == b"true",
        None => !streaming && !has_options(),
    };
    if is_unchanged {
        return request.derive_bytes(request.pieces(Some(model), usage).concat());
    }
    let mut object = Object::parse(request.as_str()).map_err(ApiError::bad_json)?;
    object.set("model", quote(model));
    object.remove("stream");
    if streaming {
        object.set("stream", "true");
        if let Some(usage) = usage {
            object.set("stream_options", usage.as_str());
        }
    } else {
        object.remove("stream_options");
    }
    request.derive_bytes(object.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_stream_only_if_it_streams() {
        let of = |text: &str, streaming| {
            let body = RequestBody::parse(text.into()).unwrap();
            String::from_utf8(upstream_body(&body, "m", streaming, None).unwrap().into()).unwrap()
        };
        let both = r#"{"model":"x","stream":true,"stream_options":{},"seed":18446744073709551615}"#;
        assert_eq!(of(both, false), r#"{"model":"m","seed":18446744073709551615}"#);
        assert_eq!(of(both, true), both.replace("\"x\"", "\"m\""));
        assert_eq!(of(r#"{"model":"x","n":1.10}"#, false), r#"{"model":"m","n":1.10}"#);
        assert_eq!(of(r#"{"model":"x"}"#, true), r#"{"model":"m","stream":true}"#);
        assert_eq!(of(r#"{"stream":false,"stream_options":{"a":1}}"#, false), r#"{"model":"m"}"#);
        // With the options that ask for usage, also of a durable task, whose request may say nothing of a stream.
        for text in
            [r#"{"stream":true,"stream_options":{}}"#, "{}", r#"{"stream_options":{"include_usage":false}}"#]
        {
            let body = RequestBody::parse(text.into()).unwrap();
            let sent = upstream_body(&body, "m", true, body.usage_options().as_ref()).unwrap();
            let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
            let expected = serde_json::json!({ "model": "m", "stream": true, "stream_options": { "include_usage": true } });
            assert_eq!(sent, expected, "{text}");
        }
    }
}
