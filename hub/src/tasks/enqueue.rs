//! The way of a task into the queue.

use std::time::Duration;

use wire::row::Timestamp;

use crate::clock::Now;
use crate::hub::Hub;
use crate::model::{Caller, DurableTask, UserId};
use crate::quota::QuotaPermit;

/// The monotonic time at which a task created at `created_at` expires. The wall clock tells only how long it waited before
/// the hub was started, so setting it while the hub runs expires no task.
fn deadline(created_at: Timestamp, now: Now, queue_timeout: Duration) -> Duration {
    let waited = Duration::from_millis(now.wall.millis_since(created_at));
    now.mono.saturating_add(queue_timeout.saturating_sub(waited))
}

impl Hub {
    /// Enqueues a task that the store has. Returns its position in the queue, from 1.
    pub(crate) fn enqueue(&self, task: DurableTask, permit: QuotaPermit) -> usize {
        let deadline = deadline(task.created_at, self.now(), self.options.timings.queue_timeout);
        let names = self.registry.lock().capacity_names(&task.target);
        self.tasks.add(task, deadline, names, permit)
    }

    /// The number of waiting tasks for targets that are public.
    pub(crate) fn shared_queue_depth(&self) -> usize {
        let waiting = self.tasks.targets();
        let registry = self.registry.lock();
        waiting.iter().filter(|(target, _)| registry.is_public_name(target)).map(|(_, count)| count).sum()
    }

    /// The row, pool or agent that a task of `caller` for `name` is for, and the owner of its name.
    pub(crate) fn owned_target(&self, caller: &Caller, name: &str) -> Option<(String, UserId)> {
        let registry = self.registry.lock();
        let target = registry.called_name(caller, name)?;
        Some((target.to_owned(), registry.name_owner(target)?.clone()))
    }
}

#[cfg(test)]
mod tests;
