use std::sync::Arc;

use super::{ByteKind, ByteQuota, MemoryBudget, Quota, QuotaPermit};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::UserId;
use crate::telemetry::{Limit, Machine};

/// The quotas of all users.
pub(crate) struct UserQuotas {
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) calls: Arc<Quota>,
    pub(crate) searches: Arc<Quota>,
    pub(crate) lists: Arc<Quota>,
    pub(crate) echoes: Arc<Quota>,
    pub(crate) requests: Arc<Quota>,
    pub(crate) results: Arc<Quota>,
    pub(crate) unread: Arc<Quota>,
    pub(crate) outgoing: Arc<Quota>,
    pub(crate) heads: Arc<Quota>,
    pub(crate) unfinished: Arc<Quota>,
}

impl UserQuotas {
    /// Quotas whose bytes share a budget of `max_memory` bytes; `None` for a quarter of the machine's memory.
    pub(crate) fn new(max_memory: Option<u64>, machine: Machine) -> Self {
        let memory = Arc::new(MemoryBudget::new(max_memory, machine));
        Self {
            calls: Arc::default(),
            searches: Arc::default(),
            lists: Arc::default(),
            echoes: Arc::default(),
            requests: Quota::of_bytes(&memory, ByteKind::Requests),
            results: Quota::of_bytes(&memory, ByteKind::Results),
            unread: Quota::of_bytes(&memory, ByteKind::Unread),
            outgoing: Quota::of_bytes(&memory, ByteKind::Outgoing),
            heads: Quota::of_bytes(&memory, ByteKind::Heads),
            unfinished: Quota::of_bytes(&memory, ByteKind::Unfinished),
            memory,
        }
    }
}

impl Hub {
    /// Takes a permit for one call of `user`.
    pub(crate) fn call_of(&self, user: &UserId) -> Result<QuotaPermit, ApiError> {
        self.quotas.calls.take(user, self.options.limits.calls, "calls under way", Limit::Calls)
    }

    fn byte_quota(&self, quota: &Arc<Quota>, user: &str, noun: &'static str) -> ByteQuota {
        ByteQuota::new(quota, user, self.options.limits.bytes, noun)
    }

    /// The quota of `user`'s request bodies.
    pub(crate) fn bytes_of(&self, user: &str) -> ByteQuota {
        self.byte_quota(&self.quotas.requests, user, "requests under way: wait for some to end")
    }

    /// The quota of `user`'s results, and of its other bodies that begin no call.
    pub(crate) fn results_of(&self, user: &str) -> ByteQuota {
        self.byte_quota(&self.quotas.results, user, "results under way: wait for some to end")
    }

    /// The quota of answers that `user` has not read.
    pub(crate) fn unread_of(&self, user: &str) -> ByteQuota {
        self.byte_quota(&self.quotas.unread, user, "unread answers: read or close some first")
    }

    /// The quota of the dispatched requests of `user`'s durable tasks. A task beyond it waits.
    pub(crate) fn out_of(&self, user: &str) -> ByteQuota {
        self.byte_quota(&self.quotas.outgoing, user, "durable tasks under way")
    }

    /// The quota of the heads of `user`'s requests.
    pub(crate) fn heads_of(&self, user: &str) -> ByteQuota {
        self.byte_quota(&self.quotas.heads, user, "heads of requests under way: wait for some to end")
    }

    /// The quota of answers to `user`'s durable tasks that are not stored yet.
    pub(crate) fn unfinished_of(&self, user: &str) -> ByteQuota {
        self.byte_quota(&self.quotas.unfinished, user, "unfinished answers: wait for some tasks to end")
    }
}
