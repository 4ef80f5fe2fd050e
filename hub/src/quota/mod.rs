//! Quotas of users (permits and bytes), the memory budget of the hub, and budgets of mistakes.
//!
//! A quota counts by user, whatever the number of the user's tokens. Rates of LLMs and connections are not here.

mod bytes;
mod memory;
mod mistakes;
mod usage;
mod users;

use std::sync::Arc;

use crate::error::{ApiError, ErrorKind};
use crate::telemetry::Limit;

pub(crate) use bytes::ByteQuota;
pub use bytes::BytesPermit;
pub(crate) use memory::MemoryBudget;
pub(crate) use mistakes::{MistakeBudgets, Verdict};
pub(crate) use usage::ByteKind;
use usage::{UsageByUser, UserUsage};
pub(crate) use users::UserQuotas;

/// A counter of permits, or of bytes of one kind, by user.
pub(crate) struct Quota {
    users: UsageByUser,
    kind: ByteKind,
    /// The budget of all users' bytes; `None` for permits.
    memory: Option<Arc<MemoryBudget>>,
}

impl Default for Quota {
    /// A quota of permits.
    fn default() -> Self {
        Self { users: UsageByUser::default(), kind: ByteKind::Requests, memory: None }
    }
}

/// Permits or bytes of one user, returned on drop.
pub struct QuotaPermit {
    quota: Arc<Quota>,
    user: Arc<str>,
    own: usize,
    shared: usize,
}

/// The limit that a user has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuotaError {
    /// The user's own limit of this kind.
    User,
    /// The user's share of the hub's memory.
    Memory,
}

impl Quota {
    /// A quota of bytes that also count against `memory`.
    pub(crate) fn of_bytes(memory: &Arc<MemoryBudget>, kind: ByteKind) -> Arc<Self> {
        Arc::new(Self { users: memory.users.clone(), kind, memory: Some(memory.clone()) })
    }

    /// Takes one permit, or fails if `user` has `limit`. `noun` names the permits in the error, `of` in the metric.
    pub(crate) fn take(
        self: &Arc<Self>,
        user: &str,
        limit: usize,
        noun: &str,
        of: Limit,
    ) -> Result<QuotaPermit, ApiError> {
        let mut permit = self.empty(user);
        if permit.grow(1, limit) { Ok(permit) } else { Err(too_many(limit, noun).refused_by(of)) }
    }

    /// A permit of size 0.
    pub(crate) fn empty(self: &Arc<Self>, user: &str) -> QuotaPermit {
        self.empty_for(user.into())
    }

    fn empty_for(self: &Arc<Self>, user: Arc<str>) -> QuotaPermit {
        QuotaPermit { quota: self.clone(), user, own: 0, shared: 0 }
    }

    /// Checks `usage`, which includes the new `own` bytes, and counts those against the memory budget.
    fn admit(&self, usage: &UserUsage, own: usize, limit: usize) -> Result<(), QuotaError> {
        let total = usage.total(self.kind);
        if total > limit {
            return Err(QuotaError::User);
        }
        if let Some(memory) = self.memory.as_ref().filter(|_| own > 0) {
            // A few heads are never refused: a user without memory can still send the calls that free some.
            let is_few = self.kind == ByteKind::Heads && memory.is_few(total);
            let purpose = self.kind.memory_use();
            if !is_few && !memory.admits(usage.counted_for(purpose), own, purpose) {
                return Err(QuotaError::Memory);
            }
            memory.take(own);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn taken_by(&self, user: &str) -> usize {
        self.users.lock().get(user).map_or(0, |usage| usage.total(self.kind))
    }

    #[cfg(test)]
    fn users(&self) -> usize {
        self.users.lock().len()
    }
}

impl QuotaPermit {
    /// Takes `more`; `false` if the user would exceed `limit`.
    pub(crate) fn grow(&mut self, more: usize, limit: usize) -> bool {
        self.take(more, 0, limit).is_ok()
    }

    /// Takes `own` bytes, and `shared` bytes that the memory budget already counts.
    fn take(&mut self, own: usize, shared: usize, limit: usize) -> Result<(), QuotaError> {
        let kind = self.quota.kind;
        let mut users = self.quota.users.lock();
        let mut usage = users.get(&*self.user).copied().unwrap_or_default();
        usage.add(kind, own, shared);
        self.quota.admit(&usage, own, limit)?;
        match users.get_mut(&*self.user) {
            Some(known) => *known = usage,
            None if own > 0 || shared > 0 => drop(users.insert((*self.user).to_owned(), usage)),
            None => {}
        }
        self.own += own;
        self.shared += shared;
        Ok(())
    }

    /// Returns up to `own` bytes.
    fn shrink(&mut self, own: usize) {
        let own = own.min(self.own);
        self.own -= own;
        self.release(own, 0);
    }

    fn release(&self, own: usize, shared: usize) {
        if own == 0 && shared == 0 {
            return;
        }
        if let Some(memory) = &self.quota.memory {
            memory.release(own);
        }
        let mut users = self.quota.users.lock();
        if let Some(usage) = users.get_mut(&*self.user) {
            usage.subtract(self.quota.kind, own, shared);
            // The first test is cheap, and mostly false.
            if usage.total(self.quota.kind) == 0 && *usage == UserUsage::default() {
                users.remove(&*self.user);
            }
        }
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        self.release(self.own, self.shared);
    }
}

/// The error for a user with `limit` of `noun`.
pub(crate) fn too_many(limit: usize, noun: &str) -> ApiError {
    ApiError::new(ErrorKind::Busy, format!("you have {limit} {noun} already: wait for some to end"))
}

/// The error for a user whose rows and agents have more than `limit` bytes.
pub(crate) fn too_large(limit: usize) -> ApiError {
    let text = format!(
        "your LLMs and agents have {} KiB, as much as one user may have: shorten prompts and descriptions, or delete some",
        limit >> 10
    );
    ApiError::new(ErrorKind::Busy, text).refused_by(Limit::DefinitionBytes)
}

#[cfg(test)]
mod tests;
