//! Serves the Messages and Responses APIs of a backend that has only chat completions, by translation.
//!
//! [`ChatFallback`] remembers which endpoints the backend lacks; `translate` has the translation itself.

mod errors;
mod probe;
mod translated_stream;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::LocalBoxStream;
use futures_util::{StreamExt, future, stream};
use memchr::memmem;
use tokio::time::Instant;
use wire::task::Endpoint;

use crate::budget::Reservation;
use crate::offload::offload;
use crate::translate::responses::StoredItems;
use crate::translate::{ChatRequest, Context, InvalidRequest, messages, responses};
use crate::{AnswerBudget, BackendError, BackendRequest, Reply};
use errors::{error_body_for, refusal, translate_error, unreadable};
use probe::{may_lack_endpoint, probe_body};
use translated_stream::{TranslatedStream, Translator};

/// Maximum size of stored items in bytes for each backend: some thousand answers.
const MAX_STORED: usize = 8 << 20;

/// Time after which a missing endpoint is tried again, because the server may have been updated.
const RETRY_MISSING: Duration = Duration::from_mins(10);

/// Time for which a probe's result that the endpoint exists is used.
const TRUST_PRESENT: Duration = Duration::from_mins(1);

/// The fallback of one backend.
pub(crate) struct ChatFallback {
    /// Whether `/v1/messages` and `/v1/responses` exist, and when that was found out.
    support: Cell<[Option<(EndpointSupport, Instant)>; 2]>,
    /// Output items that later requests can refer to.
    stored: RefCell<StoredItems>,
}

/// Whether a backend has an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndpointSupport {
    Present,
    Missing,
}

impl ChatFallback {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { support: Cell::default(), stored: RefCell::new(StoredItems::new(MAX_STORED)) })
    }

    /// Discards what is known about endpoints, after the backend was unavailable and may have been updated.
    pub(crate) fn reset(&self) {
        self.support.take();
    }

    /// Sends `request` with `ask`, or a translated request if the backend lacks the endpoint.
    ///
    /// A 404 can refer to anything in the caller's request, and one caller must not disable the endpoint for all. So a probe decides
    /// whether the endpoint is missing. The result is remembered if chat completions succeed, because a 404 can also refer to the
    /// model. A request that cannot be translated is sent as it is.
    pub(crate) async fn infer<F>(
        self: Rc<Self>,
        request: BackendRequest,
        ask: impl Fn(BackendRequest) -> F,
    ) -> Result<Reply, BackendError>
    where
        F: Future<Output = Result<Reply, BackendError>>,
    {
        let endpoint = request.endpoint;
        if !matches!(endpoint, Endpoint::Messages | Endpoint::Responses) {
            return ask(request).await;
        }
        let reply = if self.is_lacking(endpoint) {
            match self.to_chat(&request).await? {
                Ok(chat) => {
                    Rc::clone(&self).ask_chat(endpoint, request.user, &request.budget, chat, ask).await
                }
                Err(invalid) => match ask(request).await {
                    Err(error) if may_lack_endpoint(&error) => Ok(refusal(endpoint, &invalid)),
                    reply => reply,
                },
            }
        } else {
            match ask(request.clone()).await {
                Err(error) if may_lack_endpoint(&error) => match self.probe(endpoint, &request, &ask).await {
                    Ok(false) => {
                        let reply = Rc::clone(&self).translate(request, ask).await;
                        if matches!(&reply, Ok(Reply::Whole { status: 200, .. } | Reply::Stream(_))) {
                            self.note(endpoint, EndpointSupport::Missing);
                        }
                        reply
                    }
                    Ok(true) => Err(error),
                    Err(away) => Err(away),
                },
                reply => reply,
            }
        };
        if matches!(reply, Err(BackendError::Unavailable | BackendError::Unresolved)) {
            self.reset();
        }
        reply
    }

    /// Finds out whether the backend has the endpoint at which it refused `request`. The probe contains nothing of the caller except
    /// the model; a server that has the endpoint does not answer it with 404, 405 or 501.
    async fn probe<F>(
        &self,
        endpoint: Endpoint,
        request: &BackendRequest,
        ask: impl Fn(BackendRequest) -> F,
    ) -> Result<bool, BackendError>
    where
        F: Future<Output = Result<Reply, BackendError>>,
    {
        if self.support(endpoint, TRUST_PRESENT) == Some(EndpointSupport::Present) {
            return Ok(true);
        }
        let body = request.body.clone();
        let body = offload(&request.user, body.len(), move || probe_body(endpoint, &body)).await?;
        let probe = BackendRequest {
            endpoint,
            streaming: false,
            body: body.into(),
            headers: Vec::new(),
            user: request.user.clone(),
            budget: request.budget.clone(),
        };
        let reply = ask(probe).await;
        let (has, is_proof) = match &reply {
            Err(away @ (BackendError::Unavailable | BackendError::Unresolved)) => return Err(away.clone()),
            // These statuses refer to the body of the probe. Others can come from a proxy or from a busy server.
            Err(BackendError::Refused(refusal)) if matches!(refusal.status, 400 | 413 | 415 | 422) => {
                (true, true)
            }
            Err(error) => (!may_lack_endpoint(error), false),
            Ok(_) => (true, true),
        };
        if is_proof {
            self.note(endpoint, EndpointSupport::Present);
        }
        Ok(has)
    }

    /// Sends a translated request with `ask`.
    pub(crate) async fn translate<F>(
        self: Rc<Self>,
        request: BackendRequest,
        ask: impl Fn(BackendRequest) -> F,
    ) -> Result<Reply, BackendError>
    where
        F: Future<Output = Result<Reply, BackendError>>,
    {
        match self.to_chat(&request).await? {
            Ok(chat) => self.ask_chat(request.endpoint, request.user, &request.budget, chat, ask).await,
            Err(invalid) => Ok(refusal(request.endpoint, &invalid)),
        }
    }

    /// Translates `request` to chat completions.
    async fn to_chat(
        &self,
        request: &BackendRequest,
    ) -> Result<Result<ChatRequest, InvalidRequest>, BackendError> {
        let body = request.body.clone();
        let user = &request.user;
        if request.endpoint == Endpoint::Messages {
            return offload(user, body.len(), move || messages::to_chat(&body)).await;
        }
        let has_references = memmem::find(&body, b"item_reference").is_some();
        let stored = if has_references { self.stored.borrow().clone() } else { StoredItems::new(0) };
        offload(user, body.len(), move || responses::to_chat_with(&body, &stored)).await
    }

    async fn ask_chat<F>(
        self: Rc<Self>,
        endpoint: Endpoint,
        user: String,
        budget: &AnswerBudget,
        mut chat: ChatRequest,
        ask: impl Fn(BackendRequest) -> F,
    ) -> Result<Reply, BackendError>
    where
        F: Future<Output = Result<Reply, BackendError>>,
    {
        let Some(id) = random_id() else {
            return Err(BackendError::Failed("there are no random numbers for the answer's id".to_owned()));
        };
        let context = chat.context(id, jiff::Timestamp::now().as_second());
        let chat_request = BackendRequest {
            endpoint: Endpoint::ChatCompletions,
            streaming: chat.streaming,
            body: std::mem::take(&mut chat.body).into(),
            user: user.clone(),
            // The caller's headers belong to the other API.
            headers: Vec::new(),
            budget: budget.clone(),
        };
        let reply = ask(chat_request).await.map_err(|error| translate_error(endpoint, error))?;
        Ok(match reply {
            Reply::Whole { status, body } if status >= 400 => {
                Reply::Whole { status, body: error_body_for(endpoint, status, &body) }
            }
            Reply::Whole { body, .. } if chat.streaming => {
                let whole = stream::once(future::ready(Ok(body))).boxed_local();
                Reply::Stream(self.events(endpoint, user, budget.reservation(), &chat, context, whole))
            }
            Reply::Whole { status, body } => {
                let is_stored = is_stored(endpoint, &chat);
                let translated = offload(&user, body.len(), move || {
                    let answer = match endpoint {
                        Endpoint::Messages => messages::from_chat(&body, &context),
                        _ => responses::from_chat(&body, &context),
                    }?;
                    let items = if is_stored { responses::items(&answer) } else { Vec::new() };
                    Ok((answer, items))
                });
                let (body, items) = translated.await?.map_err(unreadable)?;
                self.stored.borrow_mut().add(items);
                Reply::Whole { status, body }
            }
            Reply::Stream(chunks) => {
                Reply::Stream(self.events(endpoint, user, budget.reservation(), &chat, context, chunks))
            }
        })
    }

    fn events(
        self: Rc<Self>,
        endpoint: Endpoint,
        user: String,
        reservation: Reservation,
        chat: &ChatRequest,
        context: Context,
        chunks: LocalBoxStream<'static, Result<String, BackendError>>,
    ) -> LocalBoxStream<'static, Result<String, BackendError>> {
        let translator = Some(Translator::new(endpoint, context));
        let stream = TranslatedStream {
            fallback: self,
            endpoint,
            user,
            is_stored: is_stored(endpoint, chat),
            translator,
            chunks,
            reservation,
        };
        stream::unfold(stream, TranslatedStream::next).map(stream::iter).flatten().boxed_local()
    }

    fn is_lacking(&self, endpoint: Endpoint) -> bool {
        self.support(endpoint, RETRY_MISSING) == Some(EndpointSupport::Missing)
    }

    /// Returns what was found out less than `max_age` ago.
    fn support(&self, endpoint: Endpoint, max_age: Duration) -> Option<EndpointSupport> {
        self.support.get()[index_of(endpoint)]
            .filter(|(_, at)| at.elapsed() < max_age)
            .map(|(support, _)| support)
    }

    fn note(&self, endpoint: Endpoint, support: EndpointSupport) {
        let mut known = self.support.get();
        known[index_of(endpoint)] = Some((support, Instant::now()));
        self.support.set(known);
    }
}

/// Whether the items of the answer to `chat` are stored.
fn is_stored(endpoint: Endpoint, chat: &ChatRequest) -> bool {
    endpoint == Endpoint::Responses && chat.is_stored()
}

fn index_of(endpoint: Endpoint) -> usize {
    usize::from(endpoint == Endpoint::Responses)
}

/// Returns 96 random bits as an id that cannot be guessed, because a stored item is accessible to anyone who knows its id. `None` if
/// there is no randomness.
fn random_id() -> Option<String> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(24), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    }))
}
