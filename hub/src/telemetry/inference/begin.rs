//! The beginning of an inference.

use std::sync::Arc;

use tokio::time::Instant;
use wire::openai::Usage;
use wire::task::Endpoint;

use super::super::{TaskView, Watch};
use super::Inference;
use crate::model::{TaskStatus, UserId};
use crate::tasks::TaskState;
use crate::{clock, random};

/// The request of an inference.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    pub user: UserId,
    /// The id of the caller's token; empty if it is unknown.
    pub token: String,
    /// The row, pool or agent that the caller named.
    pub target: String,
    /// The owner of that name.
    pub target_owner: Option<UserId>,
    pub endpoint: Endpoint,
    pub streaming: bool,
    /// Bytes of its body.
    pub bytes: usize,
}

impl Watch {
    /// Begins a synchronous inference.
    pub fn begin(self: &Arc<Self>, request: RequestInfo) -> Inference {
        let mut inference = self.begin_unlisted(request, random::id("inf"));
        let view = TaskView {
            id: inference.id.clone(),
            status: TaskStatus::Pending,
            llm: inference.request.target.clone(),
            pool_name: None,
            llm_name: None,
            model: None,
            streaming: inference.request.streaming,
            durable: false,
            worker: None,
            owner_id: inference.request.user.clone(),
            position: None,
            error: None,
            code: None,
            tokens: None,
            created_at: inference.created_at,
            updated_at: inference.created_at,
        };
        inference.listed = Some(self.recent.add(view));
        inference
    }

    /// Begins the inference of a durable task, which is listed elsewhere under `id`.
    pub fn begin_unlisted(self: &Arc<Self>, request: RequestInfo, id: String) -> Inference {
        self.metrics.in_flight.inc();
        Inference {
            watch: Arc::clone(self),
            request,
            id,
            request_id: None,
            address: None,
            state: TaskState::new(),
            attempt: None,
            destination: None,
            meter: None,
            listed: None,
            created_at: clock::now(),
            began: Instant::now(),
            first_byte: None,
            last_chunk: None,
            usage: Usage::default(),
            content: None,
            answer_bytes: 0,
            ended: false,
            is_public: false,
            is_unsent: false,
        }
    }
}
