//! Endpoints that a backend lacks, served by its chat completions.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;

use futures_util::{Stream, StreamExt, future, stream};
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::translate::responses::Kept;
use crate::translate::{ChatRequest, Context, Invalid, Unreadable, messages, responses};
use crate::{BackendError, BackendRequest, Refusal, Reply};

/// Bytes of answers that later requests may refer to: some thousand answers, for each backend.
const KEPT: usize = 8 << 20;

/// What LM Studio says, with a status of 200, where it has no such endpoint.
const NO_ENDPOINT: &str = "Unexpected endpoint or method";

/// What is known of one backend.
pub(crate) struct ByChat {
    /// It has no `/v1/messages`, no `/v1/responses`.
    lacks: Cell<(bool, bool)>,
    kept: RefCell<Kept>,
}

impl ByChat {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { lacks: Cell::new((false, false)), kept: RefCell::new(Kept::new(KEPT)) })
    }

    /// Forgets what it lacks: a backend that was away may be another version of itself.
    pub(crate) fn forget(&self) {
        self.lacks.set((false, false));
    }

    /// The answer of `ask`, by translation where it has no such endpoint. That is remembered when its chat completions
    /// answered: a 404 may speak of the model.
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
            Rc::clone(&self).translate(request, ask).await
        } else {
            match ask(request.clone()).await {
                Err(error) if says_no_endpoint(&error) => {
                    let reply = Rc::clone(&self).translate(request, ask).await;
                    if matches!(&reply, Ok(Reply::Whole { status: 200, .. } | Reply::Stream(_))) {
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
        let endpoint = request.endpoint;
        let chat = match endpoint {
            Endpoint::Messages => messages::to_chat(&request.body),
            _ => responses::to_chat_with(&request.body, &self.kept.borrow()),
        };
        let chat = match chat {
            Ok(chat) => chat,
            Err(Invalid(reason)) => {
                let body = error(endpoint, 400, &error_body(&reason, "invalid_request_error", None));
                return Ok(Reply::Whole { status: 400, body });
            }
        };
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
                let body = match endpoint {
                    Endpoint::Messages => messages::from_chat(&body, &context),
                    _ => responses::from_chat(&body, &context),
                };
                let body = body.map_err(unreadable)?;
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
        let (messages, responses) = self.lacks.get();
        if endpoint == Endpoint::Messages { messages } else { responses }
    }

    fn note_lacking(&self, endpoint: Endpoint) {
        let (messages, responses) = self.lacks.get();
        let is_messages = endpoint == Endpoint::Messages;
        self.lacks.set((messages || is_messages, responses || !is_messages));
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
