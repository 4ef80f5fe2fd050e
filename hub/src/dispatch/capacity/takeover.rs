//! Calls and durable tasks that wait for a name end when another user takes it over.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Offer, detached_queue};
use crate::hub::Hub;
use crate::registry::Registry;

/// The names whose claim callers wait for. Dropping a sender wakes its callers.
#[derive(Default)]
pub(super) struct ClaimWaits(Mutex<HashMap<String, watch::Sender<()>>>);

/// A caller that waits until a name is claimed: of its agent, or of the row that its task was sent to.
pub(in crate::dispatch) struct ClaimWait {
    hub: Arc<Hub>,
    name: String,
    claimed: watch::Receiver<()>,
}

impl ClaimWait {
    /// The registry is locked, so that the name is not claimed between the caller's last look at it and this.
    pub(in crate::dispatch) fn new(hub: &Arc<Hub>, _: &Registry, name: &str) -> Self {
        let mut names = hub.capacity.claims.0.lock();
        let claimed = names.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(names);
        Self { hub: hub.clone(), name: name.to_owned(), claimed }
    }

    /// Resolves when the name has been claimed.
    pub(in crate::dispatch) async fn claimed(&mut self) {
        // An error: nothing is sent.
        let _ = self.claimed.changed().await;
    }
}

impl Drop for ClaimWait {
    fn drop(&mut self) {
        let mut names = self.hub.capacity.claims.0.lock();
        // The entry may be that of later callers after a claim: they at most look once more.
        if names.get(&self.name).is_some_and(|sender| sender.receiver_count() == 1) {
            names.remove(&self.name);
        }
    }
}

impl Hub {
    /// Ends the calls and durable tasks that wait for names which other users have claimed, also those that wait for a
    /// wake or whose events no publisher has read.
    pub(crate) fn end_taken_over(&self, registry: &mut Registry) {
        let claimed = registry.take_claimed_names();
        if claimed.is_empty() {
            return;
        }
        {
            let mut waits = self.capacity.claims.0.lock();
            for name in &claimed {
                waits.remove(name);
            }
        }
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
