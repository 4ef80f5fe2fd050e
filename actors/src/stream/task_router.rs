//! Routes each task to its provider.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use actix::Recipient;
use wire::result::TaskResult;
use wire::task::{self, Task};
use wire::{Features, TaskId, texts};

use super::messages::Route;
use crate::failed::{self, Code};
use crate::news::hub_news;
use crate::outbox::{Outbox, Ticket};
use crate::provider::messages::{Cancel, Infer};
use crate::wake::messages::Wake;

/// Sends tasks to providers by wire name, and ends tasks without a provider.
pub(crate) struct TaskRouter {
    routes: HashMap<String, Route>,
    /// Number of tasks that may run and wait at all providers.
    capacity: usize,
    wake: Recipient<Wake>,
    outbox: Outbox,
    stopping: bool,
    /// Makes the fingerprint of a task from its whole text, with a key of this process.
    hasher: RandomState,
}

impl TaskRouter {
    /// A router without routes. Wake tasks go to `wake`; a task without a route ends in the outbox.
    pub(crate) fn new(wake: Recipient<Wake>, outbox: Outbox) -> Self {
        Self {
            routes: HashMap::new(),
            capacity: 0,
            wake,
            outbox,
            stopping: false,
            hasher: RandomState::new(),
        }
    }

    pub(super) fn set_routes(&mut self, routes: HashMap<String, Route>) {
        self.capacity = routes.values().map(|route| route.capacity).fold(0, usize::saturating_add);
        self.routes = routes;
    }

    /// Ends every later task with `publisher shutting down`.
    pub(super) fn refuse_all(&mut self) {
        self.stopping = true;
    }

    /// Routes the data of an `event: task`. Malformed data is skipped, and logged without a quote.
    pub(super) fn task(&self, data: &str, features: Features) {
        let task = match Task::parse(data) {
            Ok(task) => task,
            Err(error) => {
                hub_news!(warn, "tasks skipped", "a task was skipped: {error}");
                return;
            }
        };
        let Some(ticket) = self.outbox.accept(task.id(), self.hasher.hash_one(data)) else {
            if self.outbox.is_disowned(task.id()) {
                self.cancel_at_all(task.id());
            }
            return;
        };
        let refuse = |ticket: Ticket, error: String| {
            // Logged under the hub's name: there may be no provider.
            failed::note(&ticket, task.llm_name(), Code::of_text(&error));
            self.outbox.finish(ticket, &TaskResult::error(error));
        };
        if self.stopping {
            return refuse(ticket, texts::SHUTTING_DOWN.to_owned());
        }
        // The route may be of a provider that the supervisor has just given up.
        let Some(route) = self.routes.get(task.llm_name()).filter(|route| route.infer.connected()) else {
            return refuse(ticket, texts::not_registered_locally(task.llm_name()));
        };
        match task {
            Task::Infer(task) => route.infer.do_send(Infer { task, ticket, features }),
            Task::Wake(task) => self.wake.do_send(Wake { task, ticket, features }),
        }
    }

    /// Whether a task has come whose result the hub has not decided on.
    pub(super) fn has_tasks(&self) -> bool {
        self.outbox.open() > 0
    }

    /// Whether too many tasks are open to accept more; the hub must accept results first.
    pub(super) fn is_overrun(&self) -> bool {
        self.outbox.is_overrun(self.capacity)
    }

    /// Sends an `event: cancel` to all providers, because a cancel does not name its provider.
    pub(super) fn cancel(&self, data: &str) {
        let Ok(cancel) = serde_json::from_str::<task::Cancel>(data) else {
            hub_news!(warn, "cancels skipped", "a malformed cancel was skipped");
            return;
        };
        self.cancel_at_all(&cancel.task_id);
    }

    /// Routes the cancellation of a task on a link.
    pub(super) fn cancel_task(&self, id: &str) {
        // An id that is not valid is no task's.
        if let Ok(id) = TaskId::parse(id) {
            self.cancel_at_all(&id);
        }
    }

    fn cancel_at_all(&self, id: &TaskId) {
        for route in self.routes.values() {
            route.cancel.do_send(Cancel { task_id: id.clone() });
        }
    }
}
