//! The record of one caller's call: quota, metrics, audit and trace.

use std::sync::Arc;

use parking_lot::Mutex;
use wire::openai::Usage;

use super::capacity::TurnCharge;
use super::request::InferenceRequest;
use super::tally::Tally;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::limits::Slot;
use crate::model::{Caller, TokenCounts};
use crate::quota::QuotaPermit;
use crate::registry::Candidate;
use crate::telemetry::{Inference, RequestInfo};
use crate::trace::Trace;

/// One call. If the last holder drops it before its end, it counts as a caller who left.
pub(crate) struct ActiveCall {
    running: Mutex<Option<Running>>,
    /// The caller and the trace of the HTTP request; `None` for a durable task.
    traced: Option<(Caller, Arc<Trace>)>,
    /// What it was charged if it waited in a line.
    charge: Mutex<Option<TurnCharge>>,
    /// `None` for a durable task, which counts in the queue's own quota.
    _permit: Option<QuotaPermit>,
}

/// What a call has until its end.
struct Running {
    inference: Inference,
    /// Among the calls that its user and its token may have at a time. A durable task's runner has it instead.
    _slot: Slot,
}

impl ActiveCall {
    /// Admits a call, unless its user has too many, or it or its token is at a limit.
    pub(crate) fn admit(hub: &Hub, request: &InferenceRequest) -> Result<Arc<Self>, ApiError> {
        let (caller, target) = (&request.caller, &request.target);
        let count = |error: &ApiError| hub.watch.refused(caller, target.shown_name(), error);
        let permit = hub.call_of(&caller.user).inspect_err(count)?;
        let slot = hub.tokens.limits().admit(caller, hub.now()).inspect_err(count)?;
        let mut inference = hub.watch.begin(RequestInfo {
            user: request.caller.user.clone(),
            token: request.caller.token_id.clone(),
            target: request.target.shown_name().to_owned(),
            target_owner: request.target.shown_owner().cloned(),
            endpoint: request.endpoint,
            streaming: request.streaming,
            bytes: request.body.as_str().len(),
        });
        let trace = Trace::current();
        if let Some(trace) = &trace {
            trace.set_has_inference();
            inference.set_request(trace.id(), trace.address());
        }
        let traced = trace.map(|trace| (request.caller.clone(), trace));
        let running = Mutex::new(Some(Running { inference, _slot: slot }));
        Ok(Arc::new(Self { running, traced, charge: Mutex::default(), _permit: Some(permit) }))
    }

    /// The call of a durable task.
    pub(crate) fn durable(inference: Inference) -> Arc<Self> {
        let running = Mutex::new(Some(Running { inference, _slot: Slot::default() }));
        Arc::new(Self { running, traced: None, charge: Mutex::default(), _permit: None })
    }

    fn update(&self, update: impl FnOnce(&mut Inference)) {
        if let Some(running) = &mut *self.running.lock() {
            update(&mut running.inference);
        }
    }

    /// Records that the call was sent to a member as the task `task`.
    pub(crate) fn dispatched(&self, task: &str, candidate: &Candidate) {
        self.update(|inference| inference.sent(task, candidate));
        if let Some((caller, trace)) = &self.traced {
            let seen = caller.sees(candidate.visibility, &candidate.owner);
            trace.set_dispatched(seen.then_some(candidate.name.as_str()));
        }
    }

    /// Records that a member is tried.
    pub(crate) fn tries(&self, member: &Candidate) {
        self.update(|inference| inference.tries(member));
    }

    /// The row that the call was sent to last.
    pub(super) fn row(&self) -> Option<String> {
        self.running.lock().as_ref().and_then(|running| running.inference.row().map(str::to_owned))
    }

    /// Records that the response's head is known.
    pub(crate) fn mark_started(&self) {
        if let Some((_, trace)) = &self.traced {
            trace.set_first_content();
        }
    }

    /// Records that a whole response is written.
    pub(crate) fn mark_first_byte(&self) {
        self.update(Inference::piece);
    }

    /// Records one piece of a streamed response: its `bytes`, none if all that came was left out, and what it counts for.
    pub(crate) fn add_events(&self, bytes: &[u8], tally: Tally) {
        self.update(|inference| {
            if !bytes.is_empty() {
                inference.piece();
            }
            inference.answer(bytes.len());
            inference.events(tally);
        });
    }

    /// Records a whole response of so many bytes, and the usage that it reports.
    pub(crate) fn add_whole(&self, bytes: usize, usage: Option<Usage>) {
        self.update(|inference| {
            inference.answer(bytes);
            if let Some(usage) = usage {
                inference.usage(usage);
            }
        });
    }

    /// The tokens so far; `None` if the call has ended.
    pub(crate) fn tokens(&self) -> Option<TokenCounts> {
        self.running.lock().as_ref().map(|running| running.inference.tokens(false))
    }

    /// Ends the call with the status that the caller gets. Returns its tokens; `None` if it had ended before.
    pub(crate) fn end(&self, status: u16, error: Option<&ApiError>) -> Option<TokenCounts> {
        let Running { inference, _slot } = self.running.lock().take()?;
        let is_whole = status < 400 && error.is_none();
        self.settle(&inference, inference.tokens(is_whole), is_whole);
        Some(inference.end(status, error.map(|error| (error.kind, error.message.as_ref()))))
    }

    /// Records what the call was charged in the line in which it waited.
    pub(super) fn charged(&self, charge: TurnCharge) {
        *self.charge.lock() = Some(charge);
    }

    /// Corrects the charge. Only a whole answer whose tokens are known may lower it: a caller that leaves just before the end has
    /// had its slot as long.
    fn settle(&self, inference: &Inference, tokens: TokenCounts, is_whole: bool) {
        if let Some(charge) = self.charge.lock().take() {
            charge.settle(inference.taken(tokens), is_whole && tokens.input.or(tokens.output).is_some());
        }
    }

    /// Ends the call with an error that is an event of its stream, and counts the limit that refused it. A limit that is
    /// answered with a status is counted by [`trace`](crate::http::middleware::trace).
    pub(crate) fn fail_within_stream(&self, error: &ApiError) {
        if let Some(limit) = error.limit {
            self.update(|inference| inference.count_refusal(limit));
        }
        self.fail(error);
    }

    /// Ends the call with an error.
    pub(crate) fn fail(&self, error: &ApiError) {
        self.end(error.status().as_u16(), Some(error));
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        // Its caller has left.
        if let Some(Running { inference, _slot }) = self.running.lock().take() {
            self.settle(&inference, inference.tokens(false), false);
        }
    }
}
