//! Bytes of requests that wait for their turn, at all providers of a registrar together.

use std::cell::Cell;
use std::rc::Rc;

/// Eight of the largest requests, or all of `maxQueue` at four providers with a megabyte each.
pub(super) const MAX_BACKLOG: usize = 256 << 20;
/// What a task takes besides its request.
const TASK: usize = 1 << 10;

/// How much waits. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Backlog {
    bytes: Rc<Cell<usize>>,
    most: usize,
}

/// One request that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    backlog: Backlog,
    size: usize,
}

impl Backlog {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Rc::default(), most }
    }

    /// One more request of `size` bytes; `None` where there is no room for it.
    pub(crate) fn take(&self, size: usize) -> Option<Load> {
        let fits = self.bytes.get().saturating_add(size).saturating_add(TASK) <= self.most;
        fits.then(|| self.add(size))
    }

    /// One more that has its turn at once: it is not refused.
    pub(crate) fn add(&self, size: usize) -> Load {
        let size = size.saturating_add(TASK);
        self.bytes.set(self.bytes.get().saturating_add(size));
        Load { backlog: self.clone(), size }
    }

    /// MiB that may wait, for the words of a refusal.
    pub(crate) fn mebibytes(&self) -> usize {
        self.most >> 20
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.backlog.bytes.set(self.backlog.bytes.get().saturating_sub(self.size));
    }
}
