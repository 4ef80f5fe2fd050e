//! Endpoints that a backend lacks, served by its chat completions.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, future, stream};
use memchr::memmem;
use tokio::time::Instant;
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::aside::aside;
use crate::translate::responses::Kept;
use crate::translate::{ChatRequest, Context, Invalid, Unreadable, messages, responses};
use crate::{BackendError, BackendRequest, Refusal, Reply};

/// Bytes of answers that later requests may refer to: some thousand answers, for each backend.
const KEPT: usize = 8 << 20;

/// What LM Studio says, with a status of 200, where it has no such endpoint.
const NO_ENDPOINT: &str = "Unexpected endpoint or method";

/// How long a missing endpoint stays missing: its server may have been exchanged for another, or its refusal have meant
/// something else.
const LOOK_AGAIN: Duration = Duration::from_mins(10);

/// What is known of one backend.
pub(crate) struct ByChat {
    /// When it was found to have no `/v1/messages`, no `/v1/responses`.
    lacks: Cell<[Option<Instant>; 2]>,
    kept: RefCell<Kept>,
}

impl ByChat {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { lacks: Cell::default(), kept: RefCell::new(Kept::new(KEPT)) })
    }

    /// Forgets what it lacks: a backend that was away may be another version of itself.
    pub(crate) fn forget(&self) {
        self.lacks.take();
    }

    /// The answer of `ask`, by translation where it has no such endpoint. That is remembered when its chat completions
    /// answered, since a 404 may speak of the model, and when the request names nothing that a server could miss: else one
    /// caller's ids would take the endpoint from all. What cannot be translated is asked anyway.
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
                Ok(chat) => Rc::clone(&self).ask_chat(endpoint, chat, ask).await,
                Err(invalid) => match ask(request).await {
                    Err(error) if says_no_endpoint(&error) => Ok(refusal(endpoint, &invalid)),
                    reply => reply,
                },
            }
        } else {
            match ask(request.clone()).await {
                Err(error) if says_no_endpoint(&error) => {
                    let may_learn = !names_what_is_stored(&request);
                    let reply = Rc::clone(&self).translate(request, ask).await;
                    if may_learn && matches!(&reply, Ok(Reply::Whole { status: 200, .. } | Reply::Stream(_)))
                    {
                        self.note_lacking(endpoint);
                    }
                    reply
                }
                reply => reply,
            }
        };
        if matches!(reply, Err(BackendError::Unavailable)) {
            self.forget();
        }
        reply
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
            Ok(chat) => self.ask_chat(request.endpoint, chat, ask).await,
            Err(invalid) => Ok(refusal(request.endpoint, &invalid)),
        }
    }

    /// The request for chat completions that asks what `request` asks.
    async fn to_chat(&self, request: &BackendRequest) -> Result<Result<ChatRequest, Invalid>, BackendError> {
        let body = request.body.clone();
        if request.endpoint == Endpoint::Messages {
            return aside(body.len(), move || messages::to_chat(&body)).await;
        }
        let refers = memmem::find(&body, b"item_reference").is_some();
        let kept = if refers { self.kept.borrow().clone() } else { Kept::new(0) };
        aside(body.len(), move || responses::to_chat_with(&body, &kept)).await
    }

    async fn ask_chat<F>(
        self: Rc<Self>,
        endpoint: Endpoint,
        chat: ChatRequest,
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
            body: chat.body.clone().into(),
            // Those that came are of the other API.
            headers: Vec::new(),
        };
        let reply = ask(asked).await.map_err(|error| in_words_of(endpoint, error))?;
        Ok(match reply {
            Reply::Whole { status, body } if status >= 400 => {
                Reply::Whole { status, body: error(endpoint, status, &body) }
            }
            Reply::Whole { body, .. } if chat.streaming => {
                let whole = stream::once(future::ready(Ok(body))).boxed_local();
                Reply::Stream(self.events(endpoint, chat, context, whole).boxed_local())
            }
            Reply::Whole { status, body } => {
                let translated = aside(body.len(), move || match endpoint {
                    Endpoint::Messages => messages::from_chat(&body, &context),
                    _ => responses::from_chat(&body, &context),
                });
                let body = translated.await?.map_err(unreadable)?;
                self.keep(endpoint, &chat, &body);
                Reply::Whole { status, body }
            }
            Reply::Stream(chunks) => {
                Reply::Stream(self.events(endpoint, chat, context, chunks).boxed_local())
            }
        })
    }

    fn events(
        self: Rc<Self>,
        endpoint: Endpoint,
        chat: ChatRequest,
        context: Context,
        chunks: impl Stream<Item = Result<String, BackendError>>,
    ) -> impl Stream<Item = Result<String, BackendError>> {
        // A stream that ends without an error is whole: then the last events follow.
        let chunks = chunks.map(Some).chain(stream::once(future::ready(None)));
        let events = chunks.scan(Some(Events::new(endpoint, context)), move |events, chunk| {
            let told = match (events.as_mut(), chunk) {
                // After an error nothing follows.
                (None, _) => return future::ready(None),
                (Some(open), Some(Ok(chunk))) => open.take(&chunk).map_err(unreadable),
                (Some(_), Some(Err(error))) => Err(in_words_of(endpoint, error)),
                (Some(open), None) => Ok(open.end()),
            };
            let told: Vec<_> = match told {
                Ok(told) => told.into_iter().map(Ok).collect(),
                Err(error) => {
                    *events = None;
                    vec![Err(error)]
                }
            };
            for event in told.iter().flatten() {
                self.keep(endpoint, &chat, event);
            }
            future::ready(Some(stream::iter(told)))
        });
        events.flatten()
    }

    fn keep(&self, endpoint: Endpoint, chat: &ChatRequest, told: &str) {
        if endpoint == Endpoint::Responses {
            self.kept.borrow_mut().keep(chat, told);
        }
    }

    fn is_lacking(&self, endpoint: Endpoint) -> bool {
        self.lacks.get()[place(endpoint)].is_some_and(|found| found.elapsed() < LOOK_AGAIN)
    }

    fn note_lacking(&self, endpoint: Endpoint) {
        let mut lacks = self.lacks.get();
        lacks[place(endpoint)] = Some(Instant::now());
        self.lacks.set(lacks);
    }
}

/// The events of either API.
enum Events {
    Messages(messages::Events),
    Responses(responses::Events),
}

impl Events {
    fn new(endpoint: Endpoint, context: Context) -> Self {
        match endpoint {
            Endpoint::Messages => Self::Messages(messages::Events::new(context)),
            _ => Self::Responses(responses::Events::new(context)),
        }
    }

    fn take(&mut self, chunk: &str) -> Result<Vec<String>, Unreadable> {
        match self {
            Self::Messages(events) => events.take(chunk),
            Self::Responses(events) => events.take(chunk),
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
        BackendError::Unavailable | BackendError::KeyRefused => false,
    }
}

fn place(endpoint: Endpoint) -> usize {
    usize::from(endpoint == Endpoint::Responses)
}

/// Whether `request` may name something that its server keeps, so that a 404 may speak of that: items, answers, prompts,
/// files, containers. A word where there is no such thing, or an escape that may hide one, costs no more than a question.
fn names_what_is_stored(request: &BackendRequest) -> bool {
    const WORDS: [&str; 11] = [
        r#""id""#,
        "item_reference",
        "previous_response_id",
        r#""conversation""#,
        r#""prompt""#,
        "file_id",
        r#""container"#,
        "vector_store",
        "skill_id",
        "server_label",
        r"\u00",
    ];
    // Every tool call of the Messages API has an id, of which the server keeps nothing.
    let words = if request.endpoint == Endpoint::Messages { &WORDS[5..] } else { &WORDS[..] };
    words.iter().any(|word| memmem::find(&request.body, word.as_bytes()).is_some())
}

fn refusal(endpoint: Endpoint, Invalid(reason): &Invalid) -> Reply {
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

fn unreadable(error: Unreadable) -> BackendError {
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
