//! Whose rows have room, asked once for each name in a look at the lines: many lines wait for one pool.

use std::collections::{HashMap, HashSet};

use crate::hub::Hub;

/// What is known of the room for some targets, in one look.
pub(super) struct TargetCapacity<'a> {
    hub: &'a Hub,
    /// The owners of the rows with room, by the name under which they are reached: a row's, a pool's.
    owners: HashMap<String, HashSet<String>>,
    /// The names under which each target may be served.
    names: HashMap<&'a str, Vec<String>>,
}

impl<'a> TargetCapacity<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self { hub, owners: HashMap::new(), names: HashMap::new() }
    }

    /// Learns of `target`, and tells its line under which names there may be room: an agent may be pinned to something
    /// else since.
    pub(super) fn look(&mut self, target: &'a str) {
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

    /// Learns anew of `target`, where somebody found no room: it may be full since. TargetCapacity that comes meanwhile is for the
    /// next look.
    pub(super) fn look_again(&mut self, target: &'a str) {
        for name in self.names.get(target).into_iter().flatten() {
            if self.owners.get(name).is_some_and(|owners| !owners.is_empty()) {
                self.owners.remove(name);
            }
        }
        self.look(target);
    }

    /// Whether somebody's row had room for `target` at the last look.
    pub(super) fn is_at(&self, target: &str) -> bool {
        self.owners_at(target).any(|owners| !owners.is_empty())
    }

    /// Whether a row of `user`'s had.
    pub(super) fn is_own(&self, target: &str, user: &str) -> bool {
        self.owners_at(target).any(|owners| owners.contains(user))
    }

    fn owners_at(&self, target: &str) -> impl Iterator<Item = &HashSet<String>> {
        self.names.get(target).into_iter().flatten().filter_map(|name| self.owners.get(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::publisher::{Publisher, pooled, provider};
    use crate::tests::support::{ADMIN, hub};

    /// P7: what a look costs does not grow with the lines that wait for one and the same pool; and what it tells is what
    /// each of them would be told by itself.
    #[actix_rt::test]
    async fn a_pool_is_walked_once_a_look_however_many_wait_for_it() {
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
        let walked = || core.registry.lock().rows_examined();
        let mut room = TargetCapacity::new(core);
        let before = walked();
        for target in &targets {
            room.look(target);
        }
        // The pool's rows, and each row by its own name.
        assert!(walked() - before <= 3 * ROWS, "{}", walked() - before);
        for target in &targets {
            let is_there = !["away", "nothing"].contains(&target.as_str());
            assert_eq!((room.is_at(target), room.is_own(target, "admin")), (is_there, is_there), "{target}");
            assert!(!room.is_own(target, "bob"));
        }
        // Where the first finds none, the others know of it.
        here.close();
        hub.until_status("row-0", "inactive").await;
        assert!(room.is_at("pool"));
        let before = walked();
        room.look_again("agent-0");
        assert!(!room.is_at("pool") && !room.is_at("agent-0"));
        for n in 1..AGENTS {
            room.look_again(&targets[4 + n]);
            assert!(!room.is_at(&targets[4 + n]));
        }
        assert!(walked() - before <= 2 * ROWS, "{}", walked() - before);
        hub.stop().await;
    }
}
