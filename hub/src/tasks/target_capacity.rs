//! The owners of rows with free capacity, looked up once a name in a pass of the scheduler: many queues may wait for one
//! pool.

use std::collections::{HashMap, HashSet};

use crate::hub::Hub;

/// The free capacity for targets in one pass of the scheduler.
pub(super) struct TargetCapacity<'a> {
    hub: &'a Hub,
    /// The owners of rows with free capacity, by the name of the row or pool.
    owners: HashMap<String, HashSet<String>>,
    /// The names whose capacity serves each target.
    names: HashMap<&'a str, Vec<String>>,
}

impl<'a> TargetCapacity<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self { hub, owners: HashMap::new(), names: HashMap::new() }
    }

    /// Loads the capacity for `target`, and updates the names of its queue: an agent may have been moved to another LLM.
    pub(super) fn load(&mut self, target: &'a str) {
        let names = {
            let registry = self.hub.registry.lock();
            let names = registry.capacity_names(target);
            for name in &names {
                if !self.owners.contains_key(name) {
                    self.owners.insert(name.clone(), registry.owners_with_capacity(name));
                }
            }
            names
        };
        self.hub.tasks.set_names(target, names.clone());
        self.names.insert(target, names);
    }

    /// Loads the capacity of the names of `target` again that had some, after a claim found them full. The other names are
    /// loaded in the next pass.
    pub(super) fn reload(&mut self, target: &'a str) {
        for name in self.names.get(target).into_iter().flatten() {
            if self.owners.get(name).is_some_and(|owners| !owners.is_empty()) {
                self.owners.remove(name);
            }
        }
        self.load(target);
    }

    /// Whether a row had capacity for `target` when it was last loaded.
    pub(super) fn is_free(&self, target: &str) -> bool {
        self.owners(target).any(|owners| !owners.is_empty())
    }

    /// Whether a row of `user` had.
    pub(super) fn is_free_of(&self, target: &str, user: &str) -> bool {
        self.owners(target).any(|owners| owners.contains(user))
    }

    fn owners(&self, target: &str) -> impl Iterator<Item = &HashSet<String>> {
        self.names.get(target).into_iter().flatten().filter_map(|name| self.owners.get(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::publisher::{Publisher, pooled, provider};
    use crate::tests::support::{ADMIN, hub};

    /// P7: a pass over the queues examines a pool once, however many queues wait for it.
    #[actix_rt::test]
    async fn a_pool_is_examined_once_a_pass_however_many_queues_wait() {
        const ROWS: usize = 20;
        const AGENTS: usize = 50;
        let hub = hub().await;
        let members: Vec<_> = (0..ROWS).map(|n| pooled(&format!("row-{n}"), "pool")).collect();
        let mut here = Publisher::start(&hub, ADMIN, &members, None).await;
        let _away = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
        let mut targets: Vec<String> = ["pool", "row-0", "away", "nothing"].map(str::to_owned).into();
        for n in 0..AGENTS {
            let name = format!("agent-{n}");
            let agent =
                json!({ "name": name, "llmName": format!("row-{}", n % ROWS), "visibility": "public" });
            assert_eq!(hub.ask("POST", "/api/v1/agents").body(agent.to_string()).send().await.0, 201);
            targets.push(name);
        }
        let core = hub.core();
        let examined = || core.registry.lock().rows_examined();
        let mut capacity = TargetCapacity::new(core);
        let before = examined();
        for target in &targets {
            capacity.load(target);
        }
        // One examination of the pool's rows, and one of each row by its own name.
        assert!(examined() - before <= 3 * ROWS, "{}", examined() - before);
        for target in &targets {
            let is_there = !["away", "nothing"].contains(&target.as_str());
            assert_eq!(
                (capacity.is_free(target), capacity.is_free_of(target, "admin")),
                (is_there, is_there),
                "{target}"
            );
            assert!(!capacity.is_free_of(target, "bob"));
        }
        // If the first queue finds no capacity, the rows are not examined for the other queues.
        here.close();
        hub.until_status("row-0", "inactive").await;
        assert!(capacity.is_free("pool"));
        let before = examined();
        capacity.reload("agent-0");
        assert!(!capacity.is_free("pool") && !capacity.is_free("agent-0"));
        for n in 1..AGENTS {
            capacity.reload(&targets[4 + n]);
            assert!(!capacity.is_free(&targets[4 + n]));
        }
        assert!(examined() - before <= 2 * ROWS, "{}", examined() - before);
        hub.stop().await;
    }
}
