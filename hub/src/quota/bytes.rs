use std::fmt;
use std::sync::Arc;

use super::{Quota, QuotaError, QuotaPermit};
use crate::error::{ApiError, ErrorKind};

/// A [`Quota`] of bytes, for one user and with its limit.
#[derive(Clone)]
pub(crate) struct ByteQuota {
    quota: Arc<Quota>,
    user: Arc<str>,
    limit: usize,
    noun: &'static str,
}

/// Bytes of one body, returned on drop. The default counts nothing.
#[derive(Default)]
pub struct BytesPermit {
    permit: Option<QuotaPermit>,
    limit: usize,
    noun: &'static str,
}

impl ByteQuota {
    /// The quota of `user`, at most `limit` bytes. The error says "you have … MiB of `noun`".
    pub(crate) fn new(quota: &Arc<Quota>, user: &str, limit: usize, noun: &'static str) -> Self {
        Self { quota: quota.clone(), user: user.into(), limit, noun }
    }

    /// The user whose bytes it counts.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// A permit of size 0.
    pub(crate) fn empty(&self) -> BytesPermit {
        let permit = Some(self.quota.empty_for(self.user.clone()));
        BytesPermit { permit, limit: self.limit, noun: self.noun }
    }

    /// Takes `size` bytes. A refusal is counted in a metric, whatever becomes of the error.
    pub(crate) fn take(&self, size: usize) -> Result<BytesPermit, ApiError> {
        self.take_shared(size, 0)
    }

    /// Like `take`, but a refusal is neither logged nor counted: for a body that was refused before, or that can wait.
    pub(crate) fn retake(&self, size: usize) -> Option<BytesPermit> {
        let mut permit = self.empty();
        permit.regrow(size).then_some(permit)
    }

    /// Takes `own` bytes, and `shared` bytes that the memory budget already counts.
    pub(crate) fn take_shared(&self, own: usize, shared: usize) -> Result<BytesPermit, ApiError> {
        let mut permit = self.empty();
        permit.take(own, shared)?;
        Ok(permit)
    }
}

impl fmt::Debug for BytesPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BytesPermit").field(&self.size()).finish()
    }
}

impl BytesPermit {
    /// Takes `more` bytes.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), ApiError> {
        self.take(more, 0)
    }

    /// Takes `more` bytes like [`grow`](Self::grow), without a log line and not counted in the metric: for a body whose
    /// refusal was counted before, or that only waits.
    pub(crate) fn regrow(&mut self, more: usize) -> bool {
        self.permit.as_mut().is_none_or(|permit| permit.grow(more, self.limit))
    }

    /// Returns `less` bytes.
    pub(crate) fn shrink(&mut self, less: usize) {
        if let Some(permit) = &mut self.permit {
            permit.shrink(less);
        }
    }

    /// Counts the shared bytes against the memory budget: what counted them there is gone. `false` if they do not fit, and
    /// none of them count any more.
    pub(crate) fn own_shared(&mut self) -> bool {
        let Some(permit) = &mut self.permit else { return true };
        let shared = std::mem::take(&mut permit.shared);
        permit.release(0, shared);
        permit.grow(shared, self.limit)
    }

    /// Takes `size` bytes for another body of the same user.
    pub(crate) fn another(&self, size: usize) -> Result<Self, ApiError> {
        let permit = self.permit.as_ref().map(|permit| permit.quota.empty_for(permit.user.clone()));
        let mut another = Self { permit, limit: self.limit, noun: self.noun };
        another.grow(size)?;
        Ok(another)
    }

    /// The bytes that the memory budget counts for this permit.
    pub(crate) fn size(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.own)
    }

    fn take(&mut self, own: usize, shared: usize) -> Result<(), ApiError> {
        let Some(permit) = &mut self.permit else { return Ok(()) };
        permit.take(own, shared, self.limit).map_err(|error| match (error, &permit.quota.memory) {
            (QuotaError::Memory, Some(memory)) => memory.refusal(),
            (_, memory) => {
                if let Some((memory, limit)) = memory.as_ref().zip(permit.quota.kind.limit()) {
                    memory.refused_by(limit);
                }
                ApiError::new(ErrorKind::Busy, format!("you have {} MiB of {}", self.limit >> 20, self.noun))
            }
        })
    }
}
