//! One inference as it is watched, shared by those who bring it forward.

use std::sync::Arc;

use parking_lot::Mutex;
use wire::openai::Usage;

use super::run::Request;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::Caller;
use crate::quota::QuotaPermit;
use crate::registry::Candidate;
use crate::telemetry::{Asked, Inference, Taker};
use crate::trace::Trace;

/// One inference. When the last holder lets go before its end, its caller left.
pub struct Call {
    inference: Mutex<Option<Inference>>,
    /// Who asks, and the HTTP call that waits for the answer; a durable one has none.
    traced: Option<(Caller, Arc<Trace>)>,
    /// Its place among its user's calls; durable ones are counted in the queue.
    _seat: Option<QuotaPermit>,
}

impl Call {
    /// An inference begins, unless its user has too many.
    pub fn new(hub: &Hub, request: &Request) -> Result<Arc<Self>, ApiError> {
        let seat = hub.call_of(&request.caller.user)?;
        let asked = Asked {
            user: request.caller.user.clone(),
            target: request.target.shown_name().to_owned(),
            endpoint: request.endpoint,
            streaming: request.streaming,
        };
        let trace = Trace::current();
        let mut inference = hub.watch.begin(asked);
        if let Some(trace) = &trace {
            trace.set_has_inference();
            inference.set_request(trace.id(), trace.address());
        }
        let traced = trace.map(|trace| (request.caller.clone(), trace));
        Ok(Arc::new(Self { inference: Mutex::new(Some(inference)), traced, _seat: Some(seat) }))
    }

    /// One that the queue lists under its own id.
    pub fn of(inference: Inference) -> Arc<Self> {
        Arc::new(Self { inference: Mutex::new(Some(inference)), traced: None, _seat: None })
    }

    fn note(&self, note: impl FnOnce(&mut Inference)) {
        if let Some(inference) = &mut *self.inference.lock() {
            note(inference);
        }
    }

    /// It is sent to a member.
    pub fn sent(&self, task: &str, candidate: &Candidate) {
        let taker = Taker {
            llm: candidate.name.clone(),
            through: candidate.through.clone(),
            pool: candidate.pool.clone(),
            model: candidate.model.clone(),
            session: candidate.session.clone(),
            task: task.to_owned(),
            shared: candidate.is_public(),
        };
        self.note(|inference| inference.sent(taker));
        if let Some((caller, trace)) = &self.traced {
            let seen = caller.sees(candidate.visibility, &candidate.owner);
            trace.set_dispatched(seen.then_some(candidate.name.as_str()));
        }
    }

    /// The answer has begun: what goes into its head is known.
    pub fn began(&self) {
        if let Some((_, trace)) = &self.traced {
            trace.set_first_content();
        }
    }

    /// Content came.
    pub fn chunk(&self) {
        self.note(Inference::chunk);
    }

    /// The answer says what it cost; an API may say it in two parts.
    pub fn used(&self, usage: Usage) {
        self.note(|inference| inference.usage(usage));
    }

    /// It is over: the status that its caller has, and the error, if it is one.
    pub fn ended(&self, status: u16, error: Option<&ApiError>) {
        if let Some(inference) = self.inference.lock().take() {
            inference.end(status, error.map(|error| (error.kind, error.message.as_ref())));
        }
    }

    /// It has failed.
    pub fn failed(&self, error: &ApiError) {
        self.ended(error.status().as_u16(), Some(error));
    }
}
