//! Hands tasks to the providers they are for.

use std::collections::HashMap;
use std::rc::Rc;

use actix::Recipient;
use wire::TaskId;
use wire::task::{self, Task};
use wire::texts;

use super::messages::Route;
use crate::provider::messages::{Cancel, Infer};
use crate::uplink::Agreed;
use crate::wake::messages::Wake;

/// Ends a task with an error, by the outbox.
pub type Refuse = Rc<dyn Fn(TaskId, String)>;

/// Who gets which task.
pub struct Dispatch {
    routes: HashMap<String, Route>,
    wake: Recipient<Wake>,
    refuse: Refuse,
    stopping: bool,
}

impl Dispatch {
    /// No provider yet. Wake tasks go to `wake`; what cannot be handed on ends by `refuse`.
    pub fn new(wake: Recipient<Wake>, refuse: Refuse) -> Self {
        Self { routes: HashMap::new(), wake, refuse, stopping: false }
    }

    pub(super) fn set_routes(&mut self, routes: HashMap<String, Route>) {
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
                log::warn!("a task was skipped: {error}");
                return;
            }
        };
        if self.stopping {
            (self.refuse)(task.id().clone(), texts::SHUTTING_DOWN.to_owned());
            return;
        }
        // A provider that was just given up is as good as gone, whether its route is or not.
        let Some(route) = self.routes.get(task.llm_name()).filter(|route| route.infer.connected()) else {
            (self.refuse)(task.id().clone(), texts::not_registered_locally(task.llm_name()));
            return;
        };
        match task {
            Task::Infer(task) => route.infer.do_send(Infer { task, agreed }),
            Task::Wake(task) => self.wake.do_send(Wake { task }),
        }
    }

    /// One `event: cancel`. The hub names no provider, so all are told.
    pub(super) fn cancel(&self, data: &str) {
        let Ok(cancel) = serde_json::from_str::<task::Cancel>(data) else {
            log::warn!("a malformed cancel was skipped");
            return;
        };
        for route in self.routes.values() {
            route.cancel.do_send(Cancel { task_id: cancel.task_id.clone() });
        }
    }
}
