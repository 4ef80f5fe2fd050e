//! One inference, from its start to its result.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use wire::result::TaskResult;
use wire::task::{Endpoint, InferTask};
use wire::{Features, TaskId, openai, texts};

use super::backend_call::{BackendCall, NextChunk, ReplyHead};
use super::chunk_posts::post_chunks;
use super::health::BackendState;
use super::link_stream::{STREAM_DEPTH, send_events};
use crate::backend::{Backend, BackendError, BackendRequest, offload_stream_events};
use crate::failed::{self, Code};
use crate::options::{OnAbort, ProviderConfig};
use crate::outbox::{Outbox, Ticket};
use crate::wake::messages::EnsureAwake;

/// The error of a streamed answer that cannot be delivered to its end.
pub(super) const UPLINK_BROKEN: &str = "the way to the hub broke in the middle of the answer";

/// Limit for delivering the error that ends a stopped stream. A working hub needs milliseconds.
const LAST_EVENT: Duration = Duration::from_secs(2);

/// An inference, with the settings of its start.
pub(super) struct Job {
    pub(super) task: InferTask,
    pub(super) ticket: Ticket,
    pub(super) features: Features,
    pub(super) config: Arc<ProviderConfig>,
    pub(super) backend: Rc<dyn Backend>,
    pub(super) outbox: Outbox,
    pub(super) wake: Recipient<EnsureAwake>,
    pub(super) backend_state: BackendState,
}

/// How a task ends.
#[derive(Debug)]
pub(super) enum TaskEnding {
    /// This result must be sent.
    Result(TaskResult),
    /// The hub has the whole answer, or the caller has left.
    Delivered,
}

impl TaskEnding {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::Result(TaskResult::error(message.into()))
    }
}

/// Why a running task is stopped.
#[derive(Debug)]
pub(super) enum StopReason {
    CallerLeft,
    /// The provider stops; the caller gets this error.
    Error(String),
}

/// What a job that has ended reports to its provider.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct JobReport {
    /// Speed of a streamed answer.
    pub(super) tokens_per_second: Option<f64>,
    /// Whether the backend was reached; `None` if it was not called.
    pub(super) reached: Option<bool>,
}

impl Job {
    /// Runs until the task has ended or `stop` resolves. When this returns, its slot can be freed.
    pub(super) async fn run(self, stop: oneshot::Receiver<StopReason>) -> JobReport {
        let Self { ticket, outbox, .. } = &self;
        let (id, backend_call) = (ticket.id().clone(), BackendCall::new());
        let mut report = JobReport::default();
        let answering = Box::pin(self.answer(&id, &backend_call, &mut report));
        let ended = match select(answering, stop).await {
            Either::Left((ending, _)) => Ok(ending),
            Either::Right((stop, answering)) => {
                // The sender is dropped with a provider that has crashed too often.
                let stop = stop.unwrap_or_else(|_dropped| {
                    StopReason::Error(texts::not_registered_locally(self.config.wire_name.as_str()))
                });
                match stop {
                    // A stream that has begun ends with the error as its last event.
                    StopReason::Error(error) if backend_call.fail(&error) => {
                        timeout(LAST_EVENT, answering).await.map_err(|_| StopReason::Error(error))
                    }
                    stop => Err(stop),
                }
            }
        };
        let outbox = outbox.clone();
        let drain = self.config.on_abort == OnAbort::Drain;
        let (ticket, provider) = (self.ticket, self.config.name.as_str());
        match ended {
            Ok(TaskEnding::Result(result)) => {
                if let Some(code) = Code::of(&result) {
                    failed::note(&ticket, provider, code);
                }
                outbox.finish(ticket, &result);
            }
            Ok(TaskEnding::Delivered) => {
                if let Some(error) = backend_call.failure() {
                    failed::note(&ticket, provider, Code::of_text(&error.to_string()));
                }
                outbox.close(ticket);
                if drain {
                    backend_call.exhaust().await;
                }
            }
            Err(StopReason::CallerLeft) => {
                log::debug!("task {id}: the caller left");
                outbox.close(ticket);
                if drain {
                    backend_call.exhaust().await;
                }
            }
            Err(StopReason::Error(error)) => {
                failed::note(&ticket, provider, Code::of_text(&error));
                outbox.finish(ticket, &TaskResult::error(error));
            }
        }
        outbox.has_room().await;
        report
    }

    async fn answer(&self, id: &TaskId, backend_call: &BackendCall, report: &mut JobReport) -> TaskEnding {
        match self.try_answer(id, backend_call, report).await {
            Ok(ending) => ending,
            Err(result) => TaskEnding::Result(result),
        }
    }

    async fn try_answer(
        &self,
        id: &TaskId,
        backend_call: &BackendCall,
        report: &mut JobReport,
    ) -> Result<TaskEnding, TaskResult> {
        let request = self.backend_request()?;
        let endpoint = request.endpoint;
        let head = self.call(backend_call, request).await.inspect_err(|result| {
            let unreachable =
                matches!(result, TaskResult::Error(error) if error.message == texts::BACKEND_NOT_AVAILABLE);
            report.reached = Some(!unreachable);
        })?;
        report.reached = Some(true);
        match head {
            ReplyHead::Whole { status, body } if self.task.streaming && status < 400 => {
                self.deliver_as_stream(id, endpoint, body).await
            }
            ReplyHead::Whole { status, body } => Ok(TaskEnding::Result(self.whole(status, &body))),
            ReplyHead::Stream => {
                // Before the first chunk is sent, a failure is a plain result: the hub may try another member.
                let first =
                    backend_call.next_chunk().await.transpose().map_err(|error| self.failure(error))?;
                let start = Instant::now();
                let (ending, chunks) = self.deliver(id, first.map(Ok), backend_call).await;
                let seconds = start.elapsed().as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                let rate = (chunks > 1 && seconds > 0.0).then(|| (chunks - 1) as f64 / seconds);
                report.tokens_per_second = rate;
                Ok(ending)
            }
        }
    }

    /// Delivers a streamed reply. Also returns the number of chunks.
    async fn deliver(&self, id: &TaskId, first: NextChunk, reply: &BackendCall) -> (TaskEnding, u64) {
        let (sender, body) = mpsc::channel(STREAM_DEPTH);
        match self.outbox.send_stream(id, body) {
            Some(sending) => send_events(sender, sending, first, reply).await,
            None => post_chunks(&self.outbox, id, self.features, first, reply).await,
        }
    }

    /// Calls the backend, and wakes it at most once; not for a count, which the hub can estimate.
    async fn call(
        &self,
        backend_call: &BackendCall,
        request: BackendRequest,
    ) -> Result<ReplyHead, TaskResult> {
        let mut may_wake = self.config.wake.is_some() && !request.endpoint.is_count();
        if !self.is_awake().await {
            if !may_wake {
                return Err(self.failure(BackendError::Unavailable));
            }
            self.wake().await.map_err(TaskResult::error)?;
            may_wake = false;
        }
        backend_call.call(self.backend.infer(request.clone()));
        let head = match backend_call.head().await {
            Err(BackendError::Unavailable | BackendError::Unresolved) if may_wake => {
                self.wake().await.map_err(TaskResult::error)?;
                backend_call.call(self.backend.infer(request));
                backend_call.head().await
            }
            head => head,
        };
        head.map_err(|error| self.failure(error))
    }

    /// The result for a failure before the first chunk.
    fn failure(&self, error: BackendError) -> TaskResult {
        match error {
            BackendError::Refused(refusal) => {
                let seconds = refusal.retry_after_seconds();
                self.whole(refusal.status, &refusal.body).retry_after(seconds)
            }
            // Hubs know one text for a backend that is away.
            BackendError::Unresolved => TaskResult::error(BackendError::Unavailable.to_string()),
            error => TaskResult::error(error.to_string()),
        }
    }

    /// Whether the backend is awake. Sends a check only if the state is in doubt. A server may accept connections while its model
    /// sleeps; for such a server the owner configures `availability`.
    async fn is_awake(&self) -> bool {
        match self.backend_state {
            BackendState::Asleep => false,
            BackendState::Up if self.config.availability.is_none() => true,
            // Without a recipe, the task itself shows whether the backend is back.
            BackendState::Down if self.config.availability.is_none() && self.config.wake.is_none() => true,
            BackendState::Up | BackendState::Down => self.backend.available().await,
        }
    }

    async fn wake(&self) -> Result<(), String> {
        let ask = EnsureAwake { wire_name: self.config.wire_name.to_string(), by_owner: false };
        match self.wake.send(ask).await {
            Ok(woken) => woken.map(|_| ()),
            // The actor crashed, or the registrar ends.
            Err(_) => Err(texts::wake_recipe_failed("the recipe crashed")),
        }
    }

    /// The result for a whole reply. A classic hub takes only an error text for a refused stream.
    pub(super) fn whole(&self, status: u16, body: &str) -> TaskResult {
        if status >= 400 && self.task.streaming && self.features == Features::CLASSIC {
            let message = openai::error_message(body).unwrap_or_else(|| "no message".to_owned());
            return TaskResult::error(texts::backend_answered(status, &message));
        }
        TaskResult::answer(status, body)
            .unwrap_or_else(|error| TaskResult::error(format!("the backend's answer is {error}")))
    }

    /// Delivers a whole reply as chunks, because the caller asked for a stream.
    async fn deliver_as_stream(
        &self,
        id: &TaskId,
        endpoint: Endpoint,
        body: String,
    ) -> Result<TaskEnding, TaskResult> {
        let chunks = offload_stream_events("", endpoint, body).await.map_err(|error| self.failure(error))?;
        let chunks = chunks.map_err(|error| TaskResult::error(format!("the backend's answer is {error}")))?;
        let mut chunks = chunks.into_iter().map(Ok);
        let (first, rest) = (chunks.next(), BackendCall::of(chunks));
        Ok(self.deliver(id, first, &rest).await.0)
    }
}
