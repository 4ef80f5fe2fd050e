//! Hands tasks to the providers they are for.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use actix::Recipient;
use wire::result::TaskResult;
use wire::task::{self, Task};
use wire::{TaskId, texts};

use super::messages::Route;
use crate::failed::{self, Code};
use crate::news::news;
use crate::outbox::{Outbox, Ticket};
use crate::provider::messages::{Cancel, Infer};
use crate::uplink::Agreed;
use crate::wake::messages::Wake;

/// Who gets which task.
pub struct Dispatch {
    routes: HashMap<String, Route>,
    /// How many tasks may run and wait at all of them.
    room: usize,
    wake: Recipient<Wake>,
    outbox: Outbox,
    stopping: bool,
    /// Makes of a task's whole text what stands for it: another task has another one. Its key is this process's own.
    hasher: RandomState,
}

impl Dispatch {
    /// No provider yet. Wake tasks go to `wake`; what cannot be handed on ends in the outbox.
    pub fn new(wake: Recipient<Wake>, outbox: Outbox) -> Self {
        Self { routes: HashMap::new(), room: 0, wake, outbox, stopping: false, hasher: RandomState::new() }
    }

    pub(super) fn set_routes(&mut self, routes: HashMap<String, Route>) {
        self.room = routes.values().map(|route| route.room).fold(0, usize::saturating_add);
        self.routes = routes;
    }

    /// From now on every task ends with `publisher shutting down`.
    pub(super) fn refuse_all(&mut self) {
        self.stopping = true;
    }

    /// One `event: task`. Malformed data is logged, without a quote of it, and skipped.
    pub(super) fn task(&self, data: &str, agreed: Agreed) {
        let task = match Task::parse(data) {
            Ok(task) => task,
            Err(error) => {
                news!(warn, "tasks skipped", "the hub", "a task was skipped: {error}");
                return;
            }
        };
        let Some(ticket) = self.outbox.admit(task.id(), self.hasher.hash_one(data)) else {
            if self.outbox.is_disowned(task.id()) {
                self.cancel_at_all(task.id());
            }
            return;
        };
        let refuse = |ticket: Ticket, error: String| {
            // The hub's own name for it: there may be no provider.
            failed::note(&ticket, task.llm_name(), Code::of_text(&error));
            self.outbox.finish(ticket, &TaskResult::error(error));
        };
        if self.stopping {
            return refuse(ticket, texts::SHUTTING_DOWN.to_owned());
        }
        // A provider that was just given up is as good as gone, whether its route is or not.
        let Some(route) = self.routes.get(task.llm_name()).filter(|route| route.infer.connected()) else {
            return refuse(ticket, texts::not_registered_locally(task.llm_name()));
        };
        match task {
            Task::Infer(task) => route.infer.do_send(Infer { task, ticket, agreed }),
            Task::Wake(task) => self.wake.do_send(Wake { task, ticket }),
        }
    }

    /// Whether more tasks have come than can be remembered until the hub takes their results.
    pub(super) fn is_overrun(&self) -> bool {
        self.outbox.is_overrun(self.room)
    }

    /// One `event: cancel`. The hub names no provider, so all are told.
    pub(super) fn cancel(&self, data: &str) {
        let Ok(cancel) = serde_json::from_str::<task::Cancel>(data) else {
            news!(warn, "cancels skipped", "the hub", "a malformed cancel was skipped");
            return;
        };
        self.cancel_at_all(&cancel.task_id);
    }

    fn cancel_at_all(&self, id: &TaskId) {
        for route in self.routes.values() {
            route.cancel.do_send(Cancel { task_id: id.clone() });
        }
    }
}
