//! Serves the Messages and Responses APIs of a backend that has only chat completions, by translation.
//!
//! [`ChatFallback`] remembers which endpoints the backend lacks; `translate` has the translation itself.

mod chunk_translator;
mod probe;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{StreamExt, future, stream};
use memchr::memmem;
use parking_lot::Mutex;
use tokio::time::Instant;
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::offload::{MAX_INLINE, offload};
use crate::translate::responses::StoredItems;
use crate::translate::{AnswerError, ChatRequest, InvalidRequest, messages, responses};
use crate::translated_stream::translated_stream;
use crate::{BackendError, BackendRequest, Refusal, Reply, hex};
use chunk_translator::{ChunkTranslator, store_items};
use probe::{may_lack_endpoint, probe_body};

/// Maximum size of stored items in bytes for each backend: some thousand answers.
const MAX_STORED: usize = 8 << 20;

/// Time after which a missing endpoint is tried again, because the server may have been updated.
const RETRY_MISSING: Duration = Duration::from_mins(10);

/// Time for which a probe's result that the endpoint exists is used.
const TRUST_PRESENT: Duration = Duration::from_mins(1);

/// Sends a request to the backend.
pub(crate) type Ask<'a> = &'a dyn Fn(BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>>;

/// The fallback of one backend.
pub(crate) struct ChatFallback {
    /// Whether `/v1/messages`, `/v1/responses` and their counts exist, and when that was found out.
    is_present: Cell<[Option<(bool, Instant)>; 4]>,
    /// Output items that later requests can refer to.
    stored: Arc<Mutex<StoredItems>>,
}

impl ChatFallback {
    pub(crate) fn new() -> Self {
        Self { is_present: Cell::default(), stored: Arc::new(Mutex::new(StoredItems::new(MAX_STORED))) }
    }

    /// Discards what is known about endpoints, after the backend was unavailable and may have been updated.
    pub(crate) fn reset(&self) {
        self.is_present.take();
    }

    /// Sends `request`, or a translated request if the backend lacks the endpoint.
    ///
    /// A 404 can refer to anything in the caller's request, and one caller must not disable the endpoint for all. So a probe decides
    /// whether the endpoint is missing. The result is remembered if chat completions succeed, because a 404 can also refer to the
    /// model. A request that cannot be translated is sent as it is.
    pub(crate) async fn infer(&self, request: BackendRequest, ask: Ask<'_>) -> Result<Reply, BackendError> {
        let endpoint = request.endpoint;
        if !matches!(endpoint, Endpoint::Messages | Endpoint::Responses) && !endpoint.is_count() {
            return ask(request).await;
        }
        let reply = if endpoint.is_count() {
            self.count(request, ask).await
        } else if self.is_present(endpoint, RETRY_MISSING) == Some(false) {
            match self.to_chat(&request).await? {
                Ok(chat) => self.ask_chat(request, chat, ask).await,
                Err(invalid) => match ask(request).await {
                    Err(error) if may_lack_endpoint(&error) => Ok(refusal(endpoint, &invalid)),
                    reply => reply,
                },
            }
        } else {
            match ask(request.clone()).await {
                Err(error) if may_lack_endpoint(&error) => match self.probe(&request, ask).await {
                    Ok(false) => {
                        let reply = self.translate(request, ask).await;
                        if matches!(&reply, Ok(Reply::Whole { status: 200, .. } | Reply::Stream(_))) {
                            self.set_present(endpoint, false);
                        }
                        reply
                    }
                    Ok(true) => Err(error),
                    Err(unavailable) => Err(unavailable),
                },
                reply => reply,
            }
        };
        if matches!(reply, Err(BackendError::Unavailable | BackendError::Unresolved)) {
            self.reset();
        }
        reply
    }

    /// Sends a count, or refuses it like a server without the endpoint if the backend lacks it. Chat completions cannot tell
    /// a missing model from a missing endpoint here. If it was the model, counts are estimates until the next try.
    async fn count(&self, request: BackendRequest, ask: Ask<'_>) -> Result<Reply, BackendError> {
        let endpoint = request.endpoint;
        if self.is_present(endpoint, RETRY_MISSING) == Some(false) {
            return Err(no_count());
        }
        match ask(request.clone()).await {
            Err(error) if may_lack_endpoint(&error) => {
                if self.probe(&request, ask).await? {
                    return Err(error);
                }
                self.set_present(endpoint, false);
                Err(no_count())
            }
            reply => reply,
        }
    }

    /// Finds out whether the backend has the endpoint at which it refused `request`. The probe contains nothing of the caller except
    /// the model; a server that has the endpoint does not answer it with 404, 405 or 501.
    async fn probe(&self, request: &BackendRequest, ask: Ask<'_>) -> Result<bool, BackendError> {
        let endpoint = request.endpoint;
        if self.is_present(endpoint, TRUST_PRESENT) == Some(true) {
            return Ok(true);
        }
        let body = request.body.clone();
        let body = offload(&request.user, body.len(), move || probe_body(endpoint, &body)).await?.into();
        let probe = BackendRequest { streaming: false, body, headers: Vec::new(), ..request.clone() };
        let is_present = match ask(probe).await {
            Err(away @ (BackendError::Unavailable | BackendError::Unresolved)) => return Err(away),
            // These statuses refer to the body of the probe. Others can come from a proxy or from a busy server.
            Err(BackendError::Refused(refusal)) if matches!(refusal.status, 400 | 413 | 415 | 422) => true,
            Err(error) => return Ok(!may_lack_endpoint(&error)),
            Ok(_) => true,
        };
        self.set_present(endpoint, is_present);
        Ok(is_present)
    }

    /// Sends a translated request.
    pub(crate) async fn translate(
        &self,
        request: BackendRequest,
        ask: Ask<'_>,
    ) -> Result<Reply, BackendError> {
        match self.to_chat(&request).await? {
            Ok(chat) => self.ask_chat(request, chat, ask).await,
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
        let stored = Arc::clone(&self.stored);
        // The items of a small request can be large.
        let size = if body.len() <= MAX_INLINE && memmem::find(&body, b"item_reference").is_some() {
            usize::MAX
        } else {
            body.len()
        };
        offload(user, size, move || responses::to_chat_with(&body, &|id| stored.lock().get(id))).await
    }

    async fn ask_chat(
        &self,
        request: BackendRequest,
        mut chat: ChatRequest,
        ask: Ask<'_>,
    ) -> Result<Reply, BackendError> {
        let BackendRequest { endpoint, user, budget, body: original, .. } = request;
        drop(original);
        let Some(id) = random_id() else {
            return Err(BackendError::Failed("there are no random numbers for the answer's id".to_owned()));
        };
        let context = chat.context(id, jiff::Timestamp::now().as_second());
        let stored = chat.is_stored().then(|| Arc::clone(&self.stored));
        // What counted the caller's request goes with it, so its translation is counted like an answer.
        let mut reservation = budget.reservation();
        if !reservation.resize(chat.body.len() + context.size()) {
            return Err(BackendError::BudgetExceeded);
        }
        let chat_request = BackendRequest {
            endpoint: Endpoint::ChatCompletions,
            streaming: chat.streaming,
            body: std::mem::take(&mut chat.body).into(),
            user: user.clone(),
            // The caller's headers belong to the other API.
            headers: Vec::new(),
            budget: budget.clone(),
        };
        let translate_error = |status, body: &str| error_body_for(endpoint, status, body);
        let reply = ask(chat_request).await.map_err(|error| error.map_body(translate_error))?;
        let _smaller = reservation.resize(context.size());
        let chunks = match reply {
            Reply::Whole { status, body } if status >= 400 => {
                return Ok(Reply::Whole { status, body: translate_error(status, &body) });
            }
            Reply::Whole { body, .. } if chat.streaming => {
                stream::once(future::ready(Ok(body))).boxed_local()
            }
            Reply::Whole { status, body } => {
                let size = body.len();
                let translate = move || {
                    let answer = match endpoint {
                        Endpoint::Messages => messages::from_chat(&body, &context),
                        _ => responses::from_chat(&body, &context),
                    }?;
                    store_items(stored.as_deref(), &answer);
                    Ok::<_, AnswerError>(answer)
                };
                let body = offload(&user, size, translate).await??;
                return Ok(Reply::Whole { status, body });
            }
            Reply::Stream(chunks) => chunks,
        };
        let translator = match endpoint {
            Endpoint::Messages => messages::stream_translator(context),
            _ => responses::stream_translator(context),
        };
        let translator = ChunkTranslator { endpoint, translator, stored };
        Ok(Reply::Stream(translated_stream(chunks, translator, user, reservation)))
    }

    /// Returns whether the endpoint exists, if that was found out less than `max_age` ago.
    fn is_present(&self, endpoint: Endpoint, max_age: Duration) -> Option<bool> {
        let (is_present, at) = self.is_present.get()[index_of(endpoint)]?;
        (at.elapsed() < max_age).then_some(is_present)
    }

    fn set_present(&self, endpoint: Endpoint, is_present: bool) {
        let mut known = self.is_present.get();
        known[index_of(endpoint)] = Some((is_present, Instant::now()));
        self.is_present.set(known);
    }
}

impl From<AnswerError> for BackendError {
    fn from(error: AnswerError) -> Self {
        Self::Failed(error.to_string())
    }
}

fn refusal(endpoint: Endpoint, InvalidRequest(reason): &InvalidRequest) -> Reply {
    let body = error_body(reason, "invalid_request_error", None);
    Reply::Whole { status: 400, body: error_body_for(endpoint, 400, &body) }
}

/// Translates the body of an error to the API of `endpoint`.
fn error_body_for(endpoint: Endpoint, status: u16, body: &str) -> String {
    match endpoint {
        Endpoint::Messages => messages::error(status, body),
        _ => responses::error(status, body),
    }
}

fn index_of(endpoint: Endpoint) -> usize {
    match endpoint {
        Endpoint::Responses => 1,
        Endpoint::CountTokens => 2,
        Endpoint::InputTokens => 3,
        _ => 0,
    }
}

/// The error of a backend that counts no tokens. The hub estimates them instead.
pub(crate) fn no_count() -> BackendError {
    let body = error_body("this backend counts no tokens", "invalid_request_error", None);
    BackendError::Refused(Box::new(Refusal { status: 404, body, retry_after: None }))
}

/// Returns 96 random bits as an id that cannot be guessed, because a stored item is accessible to anyone who knows its id. `None` if
/// there is no randomness.
fn random_id() -> Option<String> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}
