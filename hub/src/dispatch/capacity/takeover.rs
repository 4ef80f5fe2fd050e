//! Calls and durable tasks that wait for a name end when another user takes it over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Offer, detached_queue};
use crate::hub::Hub;
use crate::registry::Registry;

/// The names whose claim callers wait for. Dispatches are not among them: [`DispatchTable`](super::super::DispatchTable)
/// has their names.
#[derive(Default)]
pub(super) struct ClaimWaits {
    /// Dropping a sender wakes its callers.
    names: Mutex<HashMap<String, watch::Sender<()>>>,
    /// How often names were claimed.
    count: AtomicU64,
}

impl ClaimWaits {
    /// Notifies the callers that wait for a claim of one of `claimed`.
    pub(super) fn claimed(&self, claimed: &[String]) {
        let mut names = self.names.lock();
        for name in claimed {
            names.remove(name);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.lock().is_empty()
    }
}

/// A caller that waits until a name is claimed: of its agent, or of the row that wakes for it.
pub(in crate::dispatch) struct ClaimWait {
    hub: Arc<Hub>,
    name: String,
    /// `None` only while it is dropped.
    claimed: Option<watch::Receiver<()>>,
}

impl ClaimWait {
    /// The registry is locked, so that the name is not claimed between the caller's last look at it and this.
    pub(in crate::dispatch) fn new(hub: &Arc<Hub>, _: &Registry, name: &str) -> Self {
        let mut names = hub.capacity.claims.names.lock();
        let claimed = names.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(names);
        Self { hub: hub.clone(), name: name.to_owned(), claimed: Some(claimed) }
    }

    /// Resolves when the name has been claimed.
    pub(in crate::dispatch) async fn claimed(&mut self) {
        if let Some(claimed) = &mut self.claimed {
            // An error: nothing is sent.
            let _ = claimed.changed().await;
        }
    }
}

impl Drop for ClaimWait {
    fn drop(&mut self) {
        let mut names = self.hub.capacity.claims.names.lock();
        // Without a sender the name was claimed, and the entry is that of later callers.
        let Some(claimed) = self.claimed.take().filter(|claimed| claimed.has_changed().is_ok()) else {
            return;
        };
        // Dropped behind the lock: of the last two callers, one finds no other.
        drop(claimed);
        if names.get(&self.name).is_some_and(|sender| sender.receiver_count() == 0) {
            names.remove(&self.name);
        }
    }
}

impl Hub {
    /// How often names were claimed. A check of a task holds if this is the same, once the task is among the dispatches,
    /// as it was while the registry was locked for the check; [`end_taken_over`](Self::end_taken_over) notifies the
    /// dispatches of later claims. The locks of both tables order its reads and writes.
    pub(in crate::dispatch) fn claims(&self) -> u64 {
        self.capacity.claims.count.load(Ordering::Relaxed)
    }

    /// Ends the calls and durable tasks that wait for names which other users have claimed, also those that wait for a
    /// wake or whose events no publisher has read.
    pub(crate) fn end_taken_over(&self, registry: &mut Registry) {
        let claimed = registry.take_claimed_names();
        if claimed.is_empty() {
            return;
        }
        // Before the look at the dispatches: one that is added later reads the new count.
        self.capacity.claims.count.fetch_add(1, Ordering::Relaxed);
        for channel in self.dispatches.lock().unstarted_by(&claimed) {
            channel.recheck();
        }
        self.capacity.claims.claimed(&claimed);
        if !self.has_waiters() {
            return;
        }
        self.tasks.names_claimed(&claimed);
        let mut queues = self.capacity.queues.lock();
        for name in claimed {
            for queue in [detached_queue(&name), name] {
                queues.add(Offer::Queue(queue.clone()), std::slice::from_ref(&queue));
            }
        }
        drop(queues);
        self.serve_offers(registry);
    }
}
