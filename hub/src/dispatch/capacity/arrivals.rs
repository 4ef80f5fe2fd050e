//! Callers that wait for a publisher to open its channel.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::registry::Registry;

/// The names under which callers wait for a channel.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<HashMap<String, Arc<Notify>>>);

impl Arrivals {
    fn wait<'a>(&'a self, name: &'a str) -> ArrivalWait<'a> {
        let opened = self.0.lock().entry(name.to_owned()).or_default().clone();
        ArrivalWait { arrivals: self, name, opened }
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn notify(&self, name: &str) {
        if let Some(opened) = self.0.lock().remove(name) {
            opened.notify_waiters();
        }
    }
}

/// A caller that waits for a publisher to open its channel.
pub(in crate::dispatch) struct ArrivalWait<'a> {
    arrivals: &'a Arrivals,
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
        let mut arrivals = self.arrivals.0.lock();
        // After a notice the entry is that of later callers.
        let is_entry = arrivals.get(self.name).is_some_and(|entry| Arc::ptr_eq(entry, &self.opened));
        // The table holds one reference and this caller the other: nobody else waits.
        if is_entry && Arc::strong_count(&self.opened) == 2 {
            arrivals.remove(self.name);
        }
    }
}

impl Hub {
    /// Begins to wait for a channel under `name`. The registry stays locked since the pick that found no member.
    pub(in crate::dispatch) fn await_arrival<'a>(&'a self, _: &Registry, name: &'a str) -> ArrivalWait<'a> {
        self.capacity.arrivals.wait(name)
    }

    /// Notifies the callers that wait for a channel of this session.
    pub(crate) fn channel_opened(&self, registry: &Registry, session: &str) {
        if self.capacity.arrivals.is_empty() {
            return;
        }
        let names: HashSet<String> =
            registry.session_llms(session).iter().flat_map(|row| registry.names_reaching(row)).collect();
        for name in names {
            self.capacity.arrivals.notify(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_caller_that_was_notified_takes_nothing_from_later_ones() {
        let arrivals = Arrivals::default();
        let [first, second, third] = std::array::from_fn(|_| arrivals.wait("pool"));
        arrivals.notify("pool");
        drop(first);
        let later = arrivals.wait("pool");
        let mut opened = Box::pin(later.opened());
        assert_eq!(opened.as_mut().now_or_never(), None);
        // Two of the former entry are left, then one.
        drop(second);
        drop(third);
        arrivals.notify("pool");
        assert_eq!(opened.now_or_never(), Some(()));
        drop(later);
        drop(arrivals.wait("pool"));
        assert!(arrivals.is_empty(), "no entry outlives its callers");
    }
}
