//! One inference from its start to its ending.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use wire::request_policy::PolicyReport;
use wire::result::TaskResult;
use wire::task::{Endpoint, InferTask};
use wire::{Feature, Features, openai, texts};

use super::backend_call::{Answer, BackendCall};
use super::deliver;
use super::health::BackendState;
use crate::backend::{AnswerBudget, Backend, BackendError, BackendRequest, offload_stream_events};
use crate::failed::{self, Code};
use crate::options::{OnAbort, ProviderConfig};
use crate::outbox::{Outbox, Ticket};
use crate::wake::messages::EnsureAwake;

/// For the last word of an answer that is stopped: a hub that reads takes it in milliseconds.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What an inference needs; the settings are those of its start.
pub(super) struct Job {
    pub task: InferTask,
    pub ticket: Ticket,
    pub features: Features,
    pub config: Arc<ProviderConfig>,
    pub backend: Rc<dyn Backend>,
    pub outbox: Outbox,
    pub wake: Recipient<EnsureAwake>,
    /// How the backend stood when the task began.
    pub backend_state: BackendState,
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
        let (id, backend_call) = (ticket.id().clone(), BackendCall::new());
        let mut outcome = Outcome::default();
        let answering = Box::pin(self.answer(&id, &backend_call, &mut outcome));
        let stopped = match select(answering, stop).await {
            Either::Left((ending, _)) => Ok(ending),
            // The sender goes with the provider, which crashed too often.
            Either::Right((stop, answering)) => {
                match stop.unwrap_or_else(|_| {
                    Stop::Error(texts::not_registered_locally(self.config.wire_name.as_str()))
                }) {
                    Stop::Error(error) if backend_call.fail(&error) => {
                        // An answer that has begun ends where it goes, with this error as its last word.
                        timeout(LAST_WORD, answering).await.map_err(|_| Stop::Error(error))
                    }
                    stop => Err(stop),
                }
            }
        };
        let outbox = outbox.clone();
        let drain = self.config.on_abort == OnAbort::Drain;
        let (ticket, provider) = (self.ticket, self.config.name.as_str());
        match stopped {
            Ok(Ending::Result(result)) => {
                if let Some(code) = Code::of(&result) {
                    failed::note(&ticket, provider, code);
                }
                outbox.finish(ticket, &result);
            }
            Ok(Ending::Delivered) => {
                if let Some(error) = backend_call.failure() {
                    failed::note(&ticket, provider, Code::of_text(&error.to_string()));
                }
                outbox.close(ticket);
                if drain {
                    backend_call.exhaust().await;
                }
            }
            Err(Stop::CallerLeft) => {
                log::debug!("task {id}: the caller left");
                outbox.close(ticket);
                if drain {
                    backend_call.exhaust().await;
                }
            }
            Err(Stop::Error(error)) => {
                failed::note(&ticket, provider, Code::of_text(&error));
                outbox.finish(ticket, &TaskResult::error(error));
            }
        }
        outbox.room().await;
        outcome
    }

    async fn answer(&self, id: &wire::TaskId, backend_call: &BackendCall, outcome: &mut Outcome) -> Ending {
        let asked = match self.asked() {
            Ok(asked) => asked,
            Err(refused) => return Ending::Result(refused),
        };
        let request = match self.request(&asked) {
            Ok(request) => request,
            Err(error) => return Ending::Result(TaskResult::error(error)),
        };
        let endpoint = request.endpoint;
        let answer = match self.ask(backend_call, request).await {
            Ok(answer) => answer,
            Err(result) => {
                let gone = matches!(&result, TaskResult::Error(error) if error.message == texts::BACKEND_NOT_AVAILABLE);
                outcome.reached = Some(!gone);
                return Ending::Result(result);
            }
        };
        outcome.reached = Some(true);
        match answer {
            Answer::Whole { status, body } if self.task.streaming && status < 400 => {
                self.as_stream(id, endpoint, body).await
            }
            Answer::Whole { status, body } => Ending::Result(self.whole(status, &body)),
            Answer::Pieces => {
                // Until something is there to send, a failure is a plain result, which a hub may try elsewhere.
                let first = match backend_call.piece().await {
                    Some(Err(error)) => return Ending::Result(self.failed(error)),
                    first => first,
                };
                let start = Instant::now();
                let uplink = self.outbox.uplink();
                let (ending, pieces) = if self.features.has(Feature::ResultStream) {
                    deliver::upload(&*uplink, id, first, backend_call).await
                } else {
                    deliver::post_chunks(&*uplink, id, self.features, first, backend_call).await
                };
                let seconds = start.elapsed().as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "a pace for people")]
                let pace = (pieces > 1 && seconds > 0.0).then(|| (pieces - 1) as f64 / seconds);
                outcome.pace = pace;
                ending
            }
        }
    }

    /// The request, without what is its owner's alone on a hub that does not look for that: who calls is not said there,
    /// and counts as somebody else. Else the refusal.
    fn asked(&self) -> Result<Cow<'_, str>, TaskResult> {
        let request = self.task.request.get();
        if self.config.allow_remote_urls || self.features.has(Feature::Guard) {
            return Ok(Cow::Borrowed(request));
        }
        let report = PolicyReport::of(request);
        let report = report.map_err(|error| TaskResult::error(format!("the request is {error}")))?;
        match report.refusal(&report) {
            None => {
                // Any other endpoint is refused when the request is made.
                let endpoint = Endpoint::parse(self.task.endpoint.as_deref());
                let edits = endpoint.map(|endpoint| report.edits(&report, request, endpoint));
                let edits = edits.filter(|edits| !edits.is_empty());
                Ok(edits.map_or(Cow::Borrowed(request), |edits| Cow::Owned(edits.applied(request))))
            }
            Some(refused) => {
                let (param, text) =
                    (Some(refused.param.as_str()), refused.text(self.config.wire_name.as_str()));
                let body =
                    openai::error_about(param, &text, "invalid_request_error", Some("invalid_request"));
                Err(self.whole(400, &body))
            }
        }
    }

    /// The request as the backend gets it.
    fn request(&self, body: &str) -> Result<BackendRequest, String> {
        let endpoint = Endpoint::parse(self.task.endpoint.as_deref())
            .ok_or_else(|| "this publisher does not offer the endpoint that the task names".to_owned())?;
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
        // A task names nobody.
        let (body, user, budget) = (body.into(), String::new(), AnswerBudget::default());
        Ok(BackendRequest { endpoint, streaming, body, user, headers: self.task.headers.clone(), budget })
    }

    /// Asks the backend, waking it once where it sleeps and can be woken.
    async fn ask(&self, backend_call: &BackendCall, request: BackendRequest) -> Result<Answer, TaskResult> {
        let mut may_wake = self.config.wake.is_some();
        if !self.is_awake().await {
            if !may_wake {
                return Err(self.failed(BackendError::Unavailable));
            }
            self.wake().await.map_err(TaskResult::error)?;
            may_wake = false;
        }
        backend_call.call(self.backend.infer(request.clone()));
        let answer = match backend_call.answer().await {
            Err(BackendError::Unavailable) if may_wake => {
                self.wake().await.map_err(TaskResult::error)?;
                backend_call.call(self.backend.infer(request));
                backend_call.answer().await
            }
            answer => answer,
        };
        answer.map_err(|error| self.failed(error))
    }

    /// The result that tells of a failure before any content.
    fn failed(&self, error: BackendError) -> TaskResult {
        match error {
            BackendError::Refused(refusal) => {
                let seconds = refusal.retry_after_seconds();
                self.whole(refusal.status, &refusal.body).retry_after(seconds)
            }
            error => TaskResult::error(error.to_string()),
        }
    }

    /// Asked where there is reason to: a server may take connections while its model sleeps, and then the owner has said
    /// how to tell.
    async fn is_awake(&self) -> bool {
        match self.backend_state {
            BackendState::Asleep => false,
            BackendState::Up if self.config.availability.is_none() => true,
            // Nothing can be done about it: the task itself shows whether it is still so.
            BackendState::Down if self.config.availability.is_none() && self.config.wake.is_none() => true,
            BackendState::Up | BackendState::Down => self.backend.available().await,
        }
    }

    async fn wake(&self) -> Result<(), String> {
        let ask = EnsureAwake { wire_name: self.config.wire_name.to_string(), by_owner: false };
        match self.wake.send(ask).await {
            Ok(woken) => woken.map(|_| ()),
            // The message crashed the actor, or the registrar is ending.
            Err(_) => Err(texts::wake_recipe_failed("the recipe crashed")),
        }
    }

    fn whole(&self, status: u16, body: &str) -> TaskResult {
        if status >= 400 && self.task.streaming && self.features == Features::CLASSIC {
            let message = openai::error_message(body).unwrap_or_else(|| "no message".to_owned());
            return TaskResult::error(texts::backend_answered(status, &message));
        }
        TaskResult::answer(status, body)
            .unwrap_or_else(|error| TaskResult::error(format!("the backend's answer is {error}")))
    }

    /// A caller who asked for chunks gets chunks, though the backend answered in one piece.
    async fn as_stream(&self, id: &wire::TaskId, endpoint: Endpoint, body: String) -> Ending {
        let pieces = match offload_stream_events("", endpoint, body).await {
            Ok(pieces) => pieces,
            Err(error) => return Ending::Result(self.failed(error)),
        };
        let mut pieces = match pieces {
            Ok(pieces) => pieces.into_iter().map(Ok),
            Err(error) => {
                return Ending::Result(TaskResult::error(format!("the backend's answer is {error}")));
            }
        };
        let uplink = self.outbox.uplink();
        let (first, rest) = (pieces.next(), BackendCall::of(pieces));
        if self.features.has(Feature::ResultStream) {
            deliver::upload(&*uplink, id, first, &rest).await.0
        } else {
            deliver::post_chunks(&*uplink, id, self.features, first, &rest).await.0
        }
    }
}
