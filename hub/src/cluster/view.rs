//! What a process knows of itself and the others, for admins, load balancers and metrics.

use std::collections::HashMap;

use super::Process;
use super::members::State;
use super::report::{CutOff, Heard, Report, Without};
use super::shared::Shared;
use crate::hub::Hub;

impl Hub {
    /// What this process says of itself.
    pub(crate) fn report(&self, shared: &Shared) -> Report {
        let without = shared.without();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            is_draining: self.is_leaving(),
            has_nats: without.nats.is_none(),
            has_database: without.database.is_none(),
            channels: self.channels.len() as u64,
            calls: self.watch.metrics.in_flight(),
            table: shared.digest.lock().clone(),
        }
    }
}

impl Shared {
    /// Whether another hub can take what this one leaves.
    pub(crate) fn has_others(&self) -> bool {
        self.heard().values().any(|(seen, said)| *seen == Some(State::Alive) && !said.report.is_draining)
    }

    /// For how long this process has been without NATS and without the database.
    pub(crate) fn without(&self) -> Without {
        let nats = self.peers.members.lock().without_echo();
        Without { nats, database: self.store.reports().without_database() }
    }

    /// What the other processes say, by NATS or by the database, whichever is newer; and how this one sees those that it hears by
    /// NATS.
    pub(crate) fn heard(&self) -> HashMap<Process, (Option<State>, Heard)> {
        let stored = self.store.reports().others();
        let mut heard: HashMap<_, _> = stored.into_iter().map(|(of, said)| (of, (None, said))).collect();
        let members = self.peers.members.lock();
        // One that does not hear itself cannot tell who is silent.
        let has_echo = members.has_echo();
        for (process, state, said) in members.reports() {
            let known = heard.entry(process).or_insert_with(|| (None, said.clone()));
            known.0 = has_echo.then_some(state);
            if said.age <= known.1.age {
                known.1 = said;
            }
        }
        drop(members);
        heard
    }

    /// Why this hub should get no calls now.
    pub(crate) fn cut_off(&self) -> Option<CutOff> {
        let heard: Vec<Heard> = self.heard().into_values().map(|(_, said)| said).collect();
        self.without().cut_off(&heard)
    }

    /// Numbers for Prometheus.
    pub(crate) fn metrics_text(&self) -> String {
        let (without, heard) = (self.without(), self.heard());
        let count = |state| heard.values().filter(|(seen, _)| *seen == Some(state)).count();
        let up = |lost: Option<_>| u8::from(lost.is_none());
        let gauge = |name: &str, help: &str, lines: &str| {
            format!("# HELP virtual_llm_{name} {help}\n# TYPE virtual_llm_{name} gauge\n{lines}")
        };
        let nats = format!("virtual_llm_nats_up {}\n", up(without.nats));
        let database = format!("virtual_llm_database_up {}\n", up(without.database));
        let hubs = [("alive", count(State::Alive)), ("suspect", count(State::Suspect))]
            .map(|(state, number)| format!("virtual_llm_other_hubs{{state=\"{state}\"}} {number}\n"));
        [
            gauge("nats_up", "Whether this hub hears itself through NATS.", &nats),
            gauge("database_up", "Whether this hub could renew its lease.", &database),
            gauge("other_hubs", "Other hubs of the cluster as this one hears them.", &hubs.concat()),
        ]
        .concat()
    }
}
