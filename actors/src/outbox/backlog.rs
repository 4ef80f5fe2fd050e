//! Counts the bytes of the queued requests at all providers of a registrar.

use std::cell::Cell;
use std::rc::Rc;

/// Limit: eight of the largest requests, or full queues at four providers with 1 MiB for each request.
pub(super) const MAX_BACKLOG: usize = 256 << 20;
/// Bytes that a task takes besides its request.
const TASK_OVERHEAD: usize = 1 << 10;

/// Counts waiting bytes. Clones share the count.
#[derive(Debug, Clone)]
pub(crate) struct Backlog {
    bytes: Rc<Cell<usize>>,
    limit: usize,
}

/// Counts one request until it is dropped.
#[derive(Debug)]
pub(crate) struct BacklogPermit {
    backlog: Backlog,
    size: usize,
}

impl Backlog {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Rc::default(), limit }
    }

    /// Counts a request of `size` bytes; `None` above the limit.
    pub(crate) fn try_reserve(&self, size: usize) -> Option<BacklogPermit> {
        let fits = self.bytes.get().saturating_add(size).saturating_add(TASK_OVERHEAD) <= self.limit;
        fits.then(|| self.reserve(size))
    }

    /// Counts a request that runs at once, also above the limit.
    pub(crate) fn reserve(&self, size: usize) -> BacklogPermit {
        let size = size.saturating_add(TASK_OVERHEAD);
        self.bytes.set(self.bytes.get().saturating_add(size));
        BacklogPermit { backlog: self.clone(), size }
    }

    /// The limit in MiB.
    pub(crate) fn limit_mebibytes(&self) -> usize {
        self.limit >> 20
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

impl Drop for BacklogPermit {
    fn drop(&mut self) {
        self.backlog.bytes.set(self.backlog.bytes.get().saturating_sub(self.size));
    }
}
