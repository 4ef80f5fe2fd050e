//! The request that a [`Job`] sends to its backend.

use std::borrow::Cow;

use wire::request_policy::PolicyReport;
use wire::result::TaskResult;
use wire::task::Endpoint;
use wire::{Feature, openai};

use super::job::Job;
use crate::backend::{AnswerBudget, BackendRequest};

impl Job {
    /// The request for the backend, or the result that refuses the task.
    pub(super) fn backend_request(&self) -> Result<BackendRequest, TaskResult> {
        let body = self.permitted_body()?;
        let endpoint = Endpoint::parse(self.task.endpoint.as_deref()).ok_or_else(|| {
            TaskResult::error("this publisher does not offer the endpoint that the task names")
        })?;
        let keeps_model = self.config.allow_model_override && openai::requested_model(&body).is_some();
        let model = (!keeps_model).then_some(self.config.model.as_str());
        let streaming = self.task.streaming && endpoint.can_stream();
        let body = if endpoint.can_stream() {
            openai::backend_request(&body, model, streaming)
        } else {
            openai::unstreamed_request(&body, model)
        };
        let body = body.map_err(|error| TaskResult::error(format!("the request is {error}")))?;
        // A task does not name its user.
        let (body, user, budget) = (body.into(), String::new(), AnswerBudget::default());
        Ok(BackendRequest { endpoint, streaming, body, user, headers: self.task.headers.clone(), budget })
    }

    /// The task's request without its owner-only parts. A hub with `guard` has checked the request itself; for any other hub every
    /// caller counts as a user other than the owner.
    fn permitted_body(&self) -> Result<Cow<'_, str>, TaskResult> {
        let request = self.task.request.get();
        if self.config.allow_remote_urls || self.features.has(Feature::Guard) {
            return Ok(Cow::Borrowed(request));
        }
        let report = PolicyReport::of(request)
            .map_err(|error| TaskResult::error(format!("the request is {error}")))?;
        if let Some(refused) = report.refusal(&report) {
            let text = refused.text(self.config.wire_name.as_str());
            let param = Some(refused.param.as_str());
            let body = openai::error_about(param, &text, "invalid_request_error", Some("invalid_request"));
            return Err(self.whole(400, &body));
        }
        // An unknown endpoint is refused by `backend_request`.
        let endpoint = Endpoint::parse(self.task.endpoint.as_deref());
        let edits = endpoint.map(|endpoint| report.edits(&report, request, endpoint));
        let edits = edits.filter(|edits| !edits.is_empty());
        Ok(edits.map_or(Cow::Borrowed(request), |edits| Cow::Owned(edits.applied(request))))
    }
}
