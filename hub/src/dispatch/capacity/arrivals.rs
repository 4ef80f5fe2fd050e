//! Callers that wait for a publisher to open its channel.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::hub::Hub;
use crate::registry::Registry;

/// A caller that waits for a publisher to open its channel.
pub(in crate::dispatch) struct ArrivalWait<'a> {
    hub: &'a Hub,
    name: &'a str,
    opened: Arc<Notify>,
}

impl ArrivalWait<'_> {
    /// Resolves when a channel is opened after this call.
    pub(in crate::dispatch) fn opened(&self) -> impl Future<Output = ()> + '_ {
        self.opened.notified()
    }
}

impl Drop for ArrivalWait<'_> {
    fn drop(&mut self) {
        let mut arrivals = self.hub.capacity.arrivals.lock();
        // The table holds one reference and this caller the other: nobody else waits.
        if Arc::strong_count(&self.opened) == 2 {
            arrivals.remove(self.name);
        }
    }
}

impl Hub {
    /// Waits for a channel to be opened under `name`. The registry stays locked since the pick that found no member.
    pub(in crate::dispatch) fn await_arrival<'a>(&'a self, _: &Registry, name: &'a str) -> ArrivalWait<'a> {
        let opened = self.capacity.arrivals.lock().entry(name.to_owned()).or_default().clone();
        ArrivalWait { hub: self, name, opened }
    }

    /// Notifies the callers that wait for a channel of this session.
    pub(crate) fn channel_opened(&self, registry: &Registry, session: &str) {
        let mut arrivals = self.capacity.arrivals.lock();
        if arrivals.is_empty() {
            return;
        }
        let names: HashSet<String> =
            registry.session_llms(session).iter().flat_map(|row| registry.names_reaching(row)).collect();
        for name in names {
            if let Some(opened) = arrivals.remove(&name) {
                opened.notify_waiters();
            }
        }
    }
}
