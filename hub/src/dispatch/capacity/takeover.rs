//! Calls and durable tasks that wait for a name end when another user takes it over.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Offer, detached_queue};
use crate::hub::Hub;
use crate::registry::Registry;

/// The agents through which callers wait in the queues of other names. Dropping a sender wakes its callers.
#[derive(Default)]
pub(super) struct AgentWaits(Mutex<HashMap<String, watch::Sender<()>>>);

/// A caller that waits through an agent.
pub(super) struct AgentWait {
    hub: Arc<Hub>,
    agent: String,
    taken_over: watch::Receiver<()>,
}

impl AgentWait {
    /// The registry is locked, so that no name is claimed between the pick and this.
    pub(super) fn new(hub: &Arc<Hub>, _: &Registry, agent: &str) -> Self {
        let mut agents = hub.capacity.agents.0.lock();
        let taken_over = agents.entry(agent.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(agents);
        Self { hub: hub.clone(), agent: agent.to_owned(), taken_over }
    }

    /// Resolves when the agent's name has been claimed.
    pub(super) async fn claimed(&mut self) {
        // An error: nothing is sent.
        let _ = self.taken_over.changed().await;
    }
}

impl Drop for AgentWait {
    fn drop(&mut self) {
        let mut agents = self.hub.capacity.agents.0.lock();
        // A caller that waits through a later agent of this name at most picks again.
        if agents.get(&self.agent).is_some_and(|sender| sender.receiver_count() == 1) {
            agents.remove(&self.agent);
        }
    }
}

impl Hub {
    /// Ends the calls and durable tasks that wait for names which other users have claimed.
    pub(crate) fn end_taken_over(&self, registry: &mut Registry) {
        let claimed = registry.take_claimed_names();
        if claimed.is_empty() || !self.has_waiters() {
            return;
        }
        self.tasks.names_claimed(&claimed);
        let (mut queues, mut agents) = (self.capacity.queues.lock(), self.capacity.agents.0.lock());
        for name in claimed {
            agents.remove(&name);
            for queue in [detached_queue(&name), name] {
                queues.add(Offer::Queue(queue.clone()), std::slice::from_ref(&queue));
            }
        }
        drop((queues, agents));
        self.serve_offers(registry);
    }
}
