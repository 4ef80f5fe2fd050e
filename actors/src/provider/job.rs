//! One inference from its start to its ending.

use std::rc::Rc;
use std::sync::Arc;

use actix::Recipient;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::json::Object;
use wire::result::TaskResult;
use wire::task::{Endpoint, InferTask};
use wire::{Feature, Features, openai, texts};

use super::deliver;
use super::generation::{Answer, Generation};
use crate::backend::{Backend, BackendError, BackendRequest};
use crate::options::{OnAbort, ProviderConfig};
use crate::outbox::{Outbox, Ticket};
use crate::wake::messages::EnsureAwake;

/// What an inference needs; the settings are those of its start.
pub(super) struct Job {
    pub task: InferTask,
    pub ticket: Ticket,
    pub features: Features,
    pub config: Arc<ProviderConfig>,
    pub backend: Rc<dyn Backend>,
    pub outbox: Outbox,
    pub wake: Recipient<EnsureAwake>,
    /// Whether the backend was asleep when last seen.
    pub asleep: bool,
}

/// How a task ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// With this word to the hub.
    Result(TaskResult),
    /// The hub knows all that it wants to know.
    Delivered,
}

/// Why a running task is stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its caller has gone.
    CallerLeft,
    /// The provider stops; callers get this error.
    Error(String),
}

/// What a finished job tells its provider.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// Tokens a second, of a streamed answer.
    pub pace: Option<f64>,
    /// Whether the backend was there; `None` if it was not asked.
    pub reached: Option<bool>,
}

impl Job {
    /// Runs to the ending, or until `stop` says so. The slot is free when this resolves.
    pub(super) async fn run(self, stop: oneshot::Receiver<Stop>) -> Outcome {
        let Self { ticket, outbox, .. } = &self;
        let (id, generation) = (ticket.id().clone(), Generation::new());
        let mut outcome = Outcome::default();
        let answering = Box::pin(self.answer(&id, &generation, &mut outcome));
        let stopped = match select(answering, stop).await {
            Either::Left((ending, _)) => Ok(ending),
            // The sender goes with the provider, which crashed too often.
            Either::Right((stop, _)) => Err(stop.unwrap_or_else(|_| {
                Stop::Error(texts::not_registered_locally(self.config.wire_name.as_str()))
            })),
        };
        let outbox = outbox.clone();
        let drain = self.config.on_abort == OnAbort::Drain;
        let ticket = self.ticket;
        match stopped {
            Ok(Ending::Result(result)) => outbox.finish(ticket, &result),
            Ok(Ending::Delivered) => {
                outbox.close(ticket);
                if drain {
                    generation.exhaust().await;
                }
            }
            Err(Stop::CallerLeft) => {
                log::debug!("task {id}: the caller left");
                outbox.close(ticket);
                if drain {
                    generation.exhaust().await;
                }
            }
            Err(Stop::Error(error)) => outbox.finish(ticket, &TaskResult::Error(error)),
        }
        outbox.room().await;
        outcome
    }

    async fn answer(&self, id: &wire::TaskId, generation: &Generation, outcome: &mut Outcome) -> Ending {
        let request = match self.request() {
            Ok(request) => request,
            Err(error) => return Ending::Result(TaskResult::Error(error)),
        };
        let streaming = request.streaming;
        let answer = match self.ask(generation, request).await {
            Ok(answer) => answer,
            Err(error) => {
                outcome.reached = Some(error != texts::BACKEND_NOT_AVAILABLE);
                return Ending::Result(TaskResult::Error(error));
            }
        };
        outcome.reached = Some(true);
        match answer {
            Answer::Whole { status, body } if streaming && status < 400 => self.as_stream(id, &body).await,
            Answer::Whole { status, body } => Ending::Result(self.whole(status, &body, streaming)),
            Answer::Pieces => {
                // Until something is there to send, a failure is a plain result, which a hub may try elsewhere.
                let first = match generation.piece().await {
                    Some(Err(error)) => return Ending::Result(TaskResult::Error(error.to_string())),
                    first => first,
                };
                let start = Instant::now();
                let uplink = self.outbox.uplink();
                let (ending, pieces) = if self.features.has(Feature::ResultStream) {
                    deliver::upload(&*uplink, id, first, generation).await
                } else {
                    deliver::post_chunks(&*uplink, id, self.features, first, generation).await
                };
                let seconds = start.elapsed().as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "a pace for people")]
                let pace = (pieces > 1 && seconds > 0.0).then(|| (pieces - 1) as f64 / seconds);
                outcome.pace = pace;
                ending
            }
        }
    }

    /// The request as the backend gets it.
    fn request(&self) -> Result<BackendRequest, String> {
        let endpoint = Endpoint::parse(self.task.endpoint.as_deref())
            .ok_or_else(|| "this publisher does not offer the endpoint that the task names".to_owned())?;
        let body = self.task.request.get();
        let own = self.config.allow_model_override && openai::requested_model(body).is_some();
        let model = (!own).then_some(self.config.model.as_str());
        let streams = !matches!(endpoint, Endpoint::Embeddings | Endpoint::Rerank);
        let streaming = self.task.streaming && streams;
        let body = if streams {
            openai::backend_request(body, model, streaming)
        } else {
            openai::unstreamed_request(body, model)
        };
        let body = body.map_err(|error| format!("the request is {error}"))?;
        Ok(BackendRequest { endpoint, streaming, body: body.into() })
    }

    /// Asks the backend, waking it once where it sleeps and can be woken.
    async fn ask(&self, generation: &Generation, request: BackendRequest) -> Result<Answer, String> {
        let mut may_wake = self.config.wake.is_some();
        if self.asleep && may_wake && !self.backend.available().await {
            self.wake().await?;
            may_wake = false;
        }
        generation.call(self.backend.infer(request.clone()));
        match generation.answer().await {
            Err(BackendError::Unavailable) if may_wake => {
                self.wake().await?;
                generation.call(self.backend.infer(request));
                generation.answer().await.map_err(|error| error.to_string())
            }
            answer => answer.map_err(|error| error.to_string()),
        }
    }

    async fn wake(&self) -> Result<(), String> {
        let ask = EnsureAwake { wire_name: self.config.wire_name.to_string() };
        match self.wake.send(ask).await {
            Ok(woken) => woken.map(|_| ()),
            // The message crashed the actor, or the registrar is ending.
            Err(_) => Err(texts::wake_recipe_failed("the recipe crashed")),
        }
    }

    fn whole(&self, status: u16, body: &str, streaming: bool) -> TaskResult {
        if status >= 400 && streaming && self.features == Features::CLASSIC {
            let message = openai::error_message(body).unwrap_or_else(|| "no message".to_owned());
            return TaskResult::Error(format!("backend answered {status}: {message}"));
        }
        TaskResult::answer(status, body)
            .unwrap_or_else(|error| TaskResult::Error(format!("the backend's answer is {error}")))
    }

    /// A caller who asked for chunks gets a chunk, though the backend answered in one piece.
    async fn as_stream(&self, id: &wire::TaskId, body: &str) -> Ending {
        let whole = wire::json::compact(body).and_then(|body| {
            if Object::parse(&body)?.get("error").is_some_and(|error| error != "null") {
                return Ok(Err(body));
            }
            openai::completion_as_chunk(&body).map(Ok)
        });
        let chunk = match whole {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                let message = openai::error_message(&error).unwrap_or_else(|| "no message".to_owned());
                return Ending::Result(TaskResult::Error(format!("backend failed: {message}")));
            }
            Err(error) => {
                return Ending::Result(TaskResult::Error(format!("the backend's answer is {error}")));
            }
        };
        let uplink = self.outbox.uplink();
        // A generation that was never called is over after the first piece.
        let (first, over) = (Some(Ok(chunk)), Generation::new());
        if self.features.has(Feature::ResultStream) {
            deliver::upload(&*uplink, id, first, &over).await.0
        } else {
            deliver::post_chunks(&*uplink, id, self.features, first, &over).await.0
        }
    }
}
