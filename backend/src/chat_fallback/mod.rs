//! Endpoints that a backend lacks, served by its chat completions.

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
use wire::json::Object;
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::budget::Reservation;
use crate::offload::{LONG_ANSWER, offload};
use crate::translate::responses::StoredItems;
use crate::translate::{AnswerError, ChatRequest, Context, InvalidRequest, messages, responses};
use crate::{AnswerBudget, BackendError, BackendRequest, Refusal, Reply};

/// Bytes of answers that later requests may refer to: some thousand answers, for each backend.
const KEPT: usize = 8 << 20;

/// What LM Studio says, with a status of 200, where it has no such endpoint.
const NO_ENDPOINT: &str = "Unexpected endpoint or method";

/// How long a missing endpoint stays missing: its server may have been exchanged for another.
const LOOK_AGAIN: Duration = Duration::from_mins(10);

/// How long one stays there that was found. Refusals that look as if it were missing have it probed so often.
const BELIEVED: Duration = Duration::from_mins(1);

/// Longest name of a model that a probe names.
const LONGEST_MODEL: usize = 1024;

/// What is known of one backend.
pub(crate) struct ChatFallback {
    /// When it was found to have `/v1/messages`, `/v1/responses`, and when to have none.
    found: Cell<[Option<(EndpointSupport, Instant)>; 2]>,
    kept: RefCell<StoredItems>,
}

/// Whether a backend has an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndpointSupport {
    Present,
    Missing,
}

impl ChatFallback {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { found: Cell::default(), kept: RefCell::new(StoredItems::new(KEPT)) })
    }

    /// Forgets what it has: a backend that was away may be another version of itself.
    pub(crate) fn forget(&self) {
        self.found.take();
    }

    /// The answer of `ask`, by translation where it has no such endpoint. What it says of a caller's request may speak of
    /// anything in that request, and one caller must not take the endpoint from all: a request of our own tells whether it
    /// is missing. That is remembered when its chat completions answered, since a 404 may speak of the model. What cannot
    /// be translated is asked anyway.
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
                    Err(error) if says_no_endpoint(&error) => Ok(refusal(endpoint, &invalid)),
                    reply => reply,
                },
            }
        } else {
            match ask(request.clone()).await {
                Err(error) if says_no_endpoint(&error) => match self.has(endpoint, &request, &ask).await {
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
        if matches!(reply, Err(BackendError::Unavailable)) {
            self.forget();
        }
        reply
    }

    /// Whether the backend has the endpoint at which it refused `request`: asked by a request in which nothing is a
    /// caller's but the model, which is the row's, and which no server that has the endpoint answers by 404, 405 or 501.
    async fn has<F>(
        &self,
        endpoint: Endpoint,
        request: &BackendRequest,
        ask: impl Fn(BackendRequest) -> F,
    ) -> Result<bool, BackendError>
    where
        F: Future<Output = Result<Reply, BackendError>>,
    {
        if self.found(endpoint, BELIEVED) == Some(EndpointSupport::Present) {
            return Ok(true);
        }
        let body = request.body.clone();
        let body = offload(&request.user, body.len(), move || probe(endpoint, &body)).await?;
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
            Err(BackendError::Unavailable) => return Err(BackendError::Unavailable),
            // Only these are said of what the probe says: any other refusal may be that of a proxy, or of a server that is
            // just busy.
            Err(BackendError::Refused(refusal)) if matches!(refusal.status, 400 | 413 | 415 | 422) => {
                (true, true)
            }
            Err(error) => (!says_no_endpoint(error), false),
            Ok(_) => (true, true),
        };
        if is_proof {
            self.note(endpoint, EndpointSupport::Present);
        }
        Ok(has)
    }

    /// The answer by translation to chat completions, which `ask` answers.
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

    /// The request for chat completions that asks what `request` asks.
    async fn to_chat(
        &self,
        request: &BackendRequest,
    ) -> Result<Result<ChatRequest, InvalidRequest>, BackendError> {
        let body = request.body.clone();
        let user = &request.user;
        if request.endpoint == Endpoint::Messages {
            return offload(user, body.len(), move || messages::to_chat(&body)).await;
        }
        let refers = memmem::find(&body, b"item_reference").is_some();
        let kept = if refers { self.kept.borrow().clone() } else { StoredItems::new(0) };
        offload(user, body.len(), move || responses::to_chat_with(&body, &kept)).await
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
        let asked = BackendRequest {
            endpoint: Endpoint::ChatCompletions,
            streaming: chat.streaming,
            body: std::mem::take(&mut chat.body).into(),
            user: user.clone(),
            // Those that came are of the other API.
            headers: Vec::new(),
            budget: budget.clone(),
        };
        let reply = ask(asked).await.map_err(|error| in_words_of(endpoint, error))?;
        Ok(match reply {
            Reply::Whole { status, body } if status >= 400 => {
                Reply::Whole { status, body: error(endpoint, status, &body) }
            }
            Reply::Whole { body, .. } if chat.streaming => {
                let whole = stream::once(future::ready(Ok(body))).boxed_local();
                Reply::Stream(self.events(endpoint, user, budget.reservation(), &chat, context, whole))
            }
            Reply::Whole { status, body } => {
                let keeps = keeps(endpoint, &chat);
                let translated = offload(&user, body.len(), move || {
                    let told = match endpoint {
                        Endpoint::Messages => messages::from_chat(&body, &context),
                        _ => responses::from_chat(&body, &context),
                    }?;
                    let kept = if keeps { responses::items(&told) } else { Vec::new() };
                    Ok((told, kept))
                });
                let (body, kept) = translated.await?.map_err(unreadable)?;
                self.kept.borrow_mut().add(kept);
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
        let open = Some(Translator::new(endpoint, context));
        let told = TranslatedStream {
            fallback: self,
            endpoint,
            user,
            keeps: keeps(endpoint, chat),
            open,
            chunks,
            reservation,
        };
        stream::unfold(told, TranslatedStream::next).map(stream::iter).flatten().boxed_local()
    }

    fn is_lacking(&self, endpoint: Endpoint) -> bool {
        self.found(endpoint, LOOK_AGAIN) == Some(EndpointSupport::Missing)
    }

    /// What was found not longer ago than this.
    fn found(&self, endpoint: Endpoint, ago: Duration) -> Option<EndpointSupport> {
        self.found.get()[place(endpoint)].filter(|(_, at)| at.elapsed() < ago).map(|(has, _)| has)
    }

    fn note(&self, endpoint: Endpoint, has: EndpointSupport) {
        let mut found = self.found.get();
        found[place(endpoint)] = Some((has, Instant::now()));
        self.found.set(found);
    }
}

/// A streamed answer that is being translated.
struct TranslatedStream {
    fallback: Rc<ChatFallback>,
    endpoint: Endpoint,
    user: String,
    /// Whether later requests may refer to what is told.
    keeps: bool,
    /// `None` behind an error, and at the end.
    open: Option<Translator>,
    chunks: LocalBoxStream<'static, Result<String, BackendError>>,
    /// Counts what is told again at the end, and the chunk that is being told.
    reservation: Reservation,
}

impl TranslatedStream {
    /// The events that the next chunk gives, or the last ones. After an error nothing follows.
    async fn next(mut self) -> Option<(Vec<Result<String, BackendError>>, Self)> {
        let open = self.open.take()?;
        let told = match self.chunks.next().await {
            Some(Ok(chunk)) => self.tell(open, Some(chunk)).await,
            Some(Err(error)) => Err(in_words_of(self.endpoint, error)),
            // A stream that ends without an error is whole: then the last events follow.
            None => self.tell(open, None).await,
        };
        Some((told.map_or_else(|error| vec![Err(error)], |told| told.into_iter().map(Ok).collect()), self))
    }

    async fn tell(
        &mut self,
        mut open: Translator,
        chunk: Option<String>,
    ) -> Result<Vec<String>, BackendError> {
        let (keeps, is_last) = (self.keeps, chunk.is_none());
        if !self.reservation.resize(open.size() + chunk.as_ref().map_or(0, String::len)) {
            return Err(BackendError::BudgetExceeded);
        }
        // The end of a reservation tells all of it again.
        let size = if open.size() > LONG_ANSWER { usize::MAX } else { chunk.as_ref().map_or(0, String::len) };
        let work = move || {
            let told = match &chunk {
                Some(chunk) => open.take(chunk)?,
                None => open.end(),
            };
            let kept = if keeps {
                told.iter().flat_map(|event| responses::items(event)).collect()
            } else {
                Vec::new()
            };
            Ok((open, told, kept))
        };
        let (open, told, kept) = offload(&self.user, size, work).await?.map_err(unreadable)?;
        self.fallback.kept.borrow_mut().add(kept);
        self.open = Some(open).filter(|_| !is_last);
        Ok(told)
    }
}

/// Whether items of the answer to `chat` are kept.
fn keeps(endpoint: Endpoint, chat: &ChatRequest) -> bool {
    endpoint == Endpoint::Responses && chat.is_stored()
}

/// The events of either API.
enum Translator {
    Messages(messages::StreamTranslator),
    Responses(responses::StreamTranslator),
}

impl Translator {
    fn new(endpoint: Endpoint, context: Context) -> Self {
        match endpoint {
            Endpoint::Messages => Self::Messages(messages::StreamTranslator::new(context)),
            _ => Self::Responses(responses::StreamTranslator::new(context)),
        }
    }

    fn take(&mut self, chunk: &str) -> Result<Vec<String>, AnswerError> {
        match self {
            Self::Messages(events) => events.take(chunk),
            Self::Responses(events) => events.take(chunk),
        }
    }

    /// Bytes of all that was said so far.
    fn size(&self) -> usize {
        match self {
            Self::Messages(events) => events.size(),
            Self::Responses(events) => events.size(),
        }
    }

    fn end(&mut self) -> Vec<String> {
        match self {
            Self::Messages(events) => events.end(),
            Self::Responses(events) => events.end(),
        }
    }
}

/// Whether a backend says that it has no such endpoint.
fn says_no_endpoint(error: &BackendError) -> bool {
    match error {
        BackendError::Refused(refusal) => matches!(refusal.status, 404 | 405 | 501),
        BackendError::Failed(text) => text.contains(NO_ENDPOINT),
        BackendError::Unavailable | BackendError::KeyRefused | BackendError::BudgetExceeded => false,
    }
}

fn place(endpoint: Endpoint) -> usize {
    usize::from(endpoint == Endpoint::Responses)
}

/// A request without what the endpoint needs: refused where there is such, before any work. It names the model of the one
/// that it stands for, since a server may pass it on to another one by that.
fn probe(endpoint: Endpoint, request: &[u8]) -> String {
    let text = std::str::from_utf8(request).ok();
    let request = text.and_then(|text| Object::parse(text).ok());
    let model = request.as_ref().and_then(|request| request.get("model"));
    let model = model.filter(|model| model.starts_with('"') && model.len() <= LONGEST_MODEL);
    let model = model.map(|model| format!(r#""model":{model},"#)).unwrap_or_default();
    match endpoint {
        Endpoint::Messages => format!(r#"{{{model}"max_tokens":1}}"#),
        _ => format!(r#"{{{model}"max_output_tokens":1,"store":false}}"#),
    }
}

fn refusal(endpoint: Endpoint, InvalidRequest(reason): &InvalidRequest) -> Reply {
    Reply::Whole {
        status: 400,
        body: error(endpoint, 400, &error_body(reason, "invalid_request_error", None)),
    }
}

fn in_words_of(endpoint: Endpoint, told: BackendError) -> BackendError {
    match told {
        BackendError::Refused(refusal) => {
            let body = error(endpoint, refusal.status, &refusal.body);
            BackendError::Refused(Box::new(Refusal { body, ..*refusal }))
        }
        other => other,
    }
}

fn error(endpoint: Endpoint, status: u16, body: &str) -> String {
    match endpoint {
        Endpoint::Messages => messages::error(status, body),
        _ => responses::error(status, body),
    }
}

fn unreadable(error: AnswerError) -> BackendError {
    BackendError::Failed(error.to_string())
}

/// 96 random bits: the ids of kept items must not be guessed. `None` where there is no randomness: with ids that are
/// alike one caller would have another's items.
fn random_id() -> Option<String> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(24), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    }))
}
