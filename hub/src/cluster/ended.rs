//! Calls and relays of other hubs that have ended, for a while.

use std::collections::{HashSet, VecDeque};

use super::Process;

/// Most calls that are remembered.
const MOST: usize = 20_000;

/// Calls that have ended: a message that comes twice begins none again.
#[derive(Default)]
pub(super) struct Ended {
    calls: HashSet<(Process, u64)>,
    order: VecDeque<(Process, u64)>,
}

impl Ended {
    pub(super) fn add(&mut self, call: (Process, u64)) {
        if self.calls.insert(call) {
            self.order.push_back(call);
        }
        if self.order.len() > MOST
            && let Some(first) = self.order.pop_front()
        {
            self.calls.remove(&first);
        }
    }

    pub(super) fn has(&self, call: (Process, u64)) -> bool {
        self.calls.contains(&call)
    }
}
