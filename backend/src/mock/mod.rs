//! The built-in mock backend, for tests and demonstrations. It has no model; it echoes the last user text.

mod chat;
mod echo_request;
mod other_apis;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep_until};
use wire::task::Endpoint;

use crate::{Backend, BackendError, BackendRequest, MockConfig, Reply};
use echo_request::EchoRequest;

/// A backend that echoes the last user text.
#[derive(Debug)]
pub struct MockBackend {
    config: MockConfig,
    requests: Cell<u64>,
}

impl MockBackend {
    /// Creates a mock with this configuration.
    pub fn new(config: MockConfig) -> Self {
        Self { config, requests: Cell::new(0) }
    }

    fn pace(&self) -> Option<Duration> {
        let rate = self.config.tokens_per_second.filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(rate.recip()).ok()
    }
}

impl Backend for MockBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        let is_nth = |n: Option<u64>| n.is_some_and(|n| n > 0 && number.is_multiple_of(n));
        let (fails, panics) = (is_nth(self.config.fail_every), is_nth(self.config.panic_every));
        let (config, pace) = (self.config.clone(), self.pace());
        async move {
            assert!(!panics, "mock panic: the owner asked for it with `panicEvery`");
            if fails {
                return Err(BackendError::Failed("the mock failed, as configured".to_owned()));
            }
            let echo = EchoRequest::read(&request, number, config.tokens)
                .ok_or_else(|| BackendError::Failed("the mock cannot read this request".to_owned()))?;
            Ok(answer(&echo, &request, pace).await)
        }
        .boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        async { true }.boxed_local()
    }
}

async fn answer(echo: &EchoRequest, request: &BackendRequest, pace: Option<Duration>) -> Reply {
    if request.streaming {
        let events = match request.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => Some(chat::events(echo, request.endpoint)),
            Endpoint::Responses => Some(other_apis::response_events(echo)),
            Endpoint::Messages => Some(other_apis::message_events(echo)),
            Endpoint::Embeddings | Endpoint::Rerank | Endpoint::CountTokens | Endpoint::InputTokens => None,
        };
        if let Some(events) = events {
            return Reply::Stream(paced(events, pace));
        }
    }
    let body = match request.endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => chat::whole(echo, request.endpoint),
        Endpoint::Responses => other_apis::response(echo).to_string(),
        Endpoint::Messages => other_apis::message(echo).to_string(),
        Endpoint::Embeddings => other_apis::embeddings(echo).to_string(),
        Endpoint::Rerank => other_apis::ranking(echo).to_string(),
        Endpoint::CountTokens => format!(r#"{{"input_tokens":{}}}"#, echo.prompt_tokens),
        Endpoint::InputTokens => {
            format!(r#"{{"object":"response.input_tokens","input_tokens":{}}}"#, echo.prompt_tokens)
        }
    };
    if let Some(pace) = pace.filter(|_| !request.endpoint.is_count()) {
        let words = u32::try_from(echo.words.len()).unwrap_or(u32::MAX);
        sleep_until(Instant::now() + pace.saturating_mul(words)).await;
    }
    Reply::Whole { status: 200, body }
}

/// One event of the mock's stream.
struct MockEvent {
    data: String,
    /// Whether the event has a word, and so is sent at the configured pace.
    word: bool,
}

impl MockEvent {
    fn frame(data: String) -> Self {
        Self { data, word: false }
    }

    fn word(data: String) -> Self {
        Self { data, word: true }
    }
}

/// Sends the events. The words are sent at fixed intervals from the start, so that delays do not add up.
fn paced(
    events: Vec<MockEvent>,
    pace: Option<Duration>,
) -> LocalBoxStream<'static, Result<String, BackendError>> {
    let Some(pace) = pace else {
        return stream::iter(events).map(|event| Ok(event.data)).boxed_local();
    };
    let start = Instant::now();
    stream::iter(events)
        .scan(0_u32, move |words, event| {
            *words = words.saturating_add(u32::from(event.word));
            let at = event.word.then(|| start + pace.saturating_mul(*words));
            std::future::ready(Some((at, event.data)))
        })
        .then(|(at, data)| async move {
            if let Some(at) = at {
                sleep_until(at).await;
            }
            Ok(data)
        })
        .boxed_local()
}
