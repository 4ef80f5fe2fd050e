//! Limits on calls of public rows under way: each has a connection to its upstream, and so an open file.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::connections::OutboundLimits;
use crate::error::{ApiError, ErrorKind};
use crate::quota::{Quota, QuotaPermit};
use crate::telemetry::Limit;

/// The calls of public rows under way.
#[derive(Default)]
pub(crate) struct OutboundCalls {
    limits: Mutex<OutboundLimits>,
    by_user: Arc<Quota>,
    /// Counts all calls for one name.
    all: Arc<Quota>,
}

/// One call under way, until dropped.
pub(super) struct OutboundPermit {
    _of_user: QuotaPermit,
    _of_all: QuotaPermit,
}

impl OutboundCalls {
    /// Sets the limits.
    pub(crate) fn limit(&self, limits: OutboundLimits) {
        *self.limits.lock() = limits;
    }

    /// Idle connections that one client keeps.
    pub(super) fn idle(&self) -> usize {
        self.limits.lock().idle
    }

    /// Takes a place for a call of `user`.
    pub(super) fn take(&self, user: &str) -> Result<OutboundPermit, ApiError> {
        let OutboundLimits { calls, per_user, .. } = *self.limits.lock();
        let of_user =
            self.by_user.take(user, per_user, "calls of public rows under way", Limit::OutboundCalls)?;
        let mut of_all = self.all.empty("");
        if !of_all.grow(1, calls) {
            let text = format!("{calls} calls of public rows are under way: try again later");
            return Err(ApiError::new(ErrorKind::HubBusy, text).refused_by(Limit::OutboundCalls));
        }
        Ok(OutboundPermit { _of_user: of_user, _of_all: of_all })
    }
}
