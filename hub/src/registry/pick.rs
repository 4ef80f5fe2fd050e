//! Choice of the member that answers a call: the healthy one with the least load for its capacity.

use std::cmp::Ordering;
use std::time::Duration;

use wire::Features;
use wire::features::Feature;
use wire::row::{Kind, Status};
use wire::task::Endpoint;

use super::entry::LlmEntry;
use super::session::Session;
use super::{Candidate, Registry, Target};
use crate::affinity::Conversation;
use crate::clock::Now;
use crate::model::{Caller, Llm};

/// Time in which a registered publisher opens its channel: it takes milliseconds unless something is wrong.
pub(super) const ARRIVAL: Duration = Duration::from_secs(2);

/// Result of a pick.
#[derive(Debug, Clone)]
pub enum PickResult {
    Chosen(Box<Candidate>),
    /// Members are routable, but none of them serves the endpoint.
    EndpointUnsupported,
    /// No member is routable.
    NoMember,
    /// The target's name has been taken over by another user: for this call it is gone.
    TakenOver,
}

impl Registry {
    /// Chooses the best member of `target` for `caller`.
    pub fn pick(&mut self, caller: &Caller, target: &Target, endpoint: Endpoint) -> PickResult {
        self.pick_of(caller, target, endpoint, None, |_| true)
    }

    /// Chooses the best member of `target` among those for which `is_left` is true: for a `conversation` the one that
    /// [`AffinityTable::place`](crate::affinity::AffinityTable::place) chooses, if any is awake and has room; else the
    /// one with the least load.
    ///
    /// Visibility is checked again here, since it may have changed since `target` was resolved.
    pub fn pick_of(
        &mut self,
        caller: &Caller,
        target: &Target,
        endpoint: Endpoint,
        conversation: Option<&Conversation>,
        is_left: impl Fn(&Llm) -> bool,
    ) -> PickResult {
        #[cfg(test)]
        {
            self.pool_scans += 1;
        }
        if self.is_target_taken_over(target) {
            return PickResult::TakenOver;
        }
        let mut result = PickResult::NoMember;
        if !self.agent_is_unchanged(caller, target) {
            return result;
        }
        let mut best: Option<&LlmEntry> = None;
        let (mut awake, mut members) = (Vec::new(), Vec::new());
        let names = self.reachable_rows(caller, target);
        self.count_examined(names.len());
        for name in names {
            let Some(entry) = self.llms.get(name) else { continue };
            if !target.allows_owner(&entry.llm) || !is_left(&entry.llm) || !self.is_routable(entry) {
                continue;
            }
            if !self.serves(entry, endpoint) {
                result = PickResult::EndpointUnsupported;
                continue;
            }
            if best.is_none_or(|best| self.cmp_preference(entry, best) == Ordering::Less) {
                best = Some(entry);
            }
            if conversation.is_some() && entry.llm.status != Status::Hibernating {
                awake.push(&**entry);
                members.push(entry.as_member());
            }
        }
        if let Some(conversation) = conversation
            && let Some(index) = self.affinity.place(conversation, &mut members)
        {
            best = awake.get(index).copied();
        }
        let Some(entry) = best else { return result };
        let hidden = !caller.sees(entry.llm.visibility, &entry.llm.owner);
        let candidate = Candidate {
            name: entry.llm.name.clone(),
            model: entry.llm.model.clone(),
            provider_type: entry.llm.provider_type.clone(),
            through: target.through.as_ref().filter(|_| hidden).map(|route| route.agent.clone()),
            pool: entry.llm.pool_name.clone().filter(|_| entry.member),
            session: entry.llm.session.clone(),
            is_elsewhere: self.is_told(entry),
            features: self.features_of(entry),
            owner: entry.llm.owner.clone(),
            visibility: entry.llm.visibility,
            asleep: entry.llm.status == Status::Hibernating,
            room: entry.room(),
            reports: entry.report.is_some_and(|report| report.capacity > 0),
            upstream: entry.llm.upstream.clone(),
            allow_remote_urls: entry.llm.allow_remote_urls,
            timeout: entry.llm.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            cache: entry.cache.clone(),
            usage_support: entry.usage_support.clone(),
        };
        self.picks += 1;
        if let Some(entry) = self.llms.get_mut(&candidate.name) {
            entry.last_pick = self.picks;
        }
        PickResult::Chosen(Box::new(candidate))
    }

    /// Orders rows as [`LlmEntry::cmp_load`] does, but the own awake and free ones before those of other hubs.
    fn cmp_preference(&self, one: &LlmEntry, two: &LlmEntry) -> Ordering {
        (one.rank(), self.is_told(one)).cmp(&(two.rank(), self.is_told(two))).then_with(|| one.cmp_load(two))
    }

    /// Whether another hub has the row's channel, and tells of it.
    fn is_told(&self, entry: &LlmEntry) -> bool {
        self.session_of(entry).is_some_and(|session| session.told.is_some())
    }

    /// Whether several rows serve `target`.
    pub fn has_choice(&self, target: &Target) -> bool {
        if !target.pool {
            return false;
        }
        let Some(rows) = self.pools.get(&target.name) else { return false };
        let own = !rows.members.contains(&target.name) && self.llms.contains_key(&target.name);
        rows.members.len() + usize::from(own) > 1
    }

    /// Names of the rows that a call of `caller` for `target` may be sent to.
    pub(super) fn reachable_rows(&self, caller: &Caller, target: &Target) -> Vec<&str> {
        if target.pool {
            let members = self.pool_members(&target.name).filter(|llm| self.may_reach(caller, target, llm));
            members.map(|llm| llm.name.as_str()).collect()
        } else {
            let row = self.llms.get(&target.name).map(|entry| &entry.llm);
            let row = row.filter(|llm| self.may_reach(caller, target, llm));
            row.map(|llm| llm.name.as_str()).into_iter().collect()
        }
    }

    /// Names of the rows of which `is_so` holds, among those that a call of `caller` for `target` may be sent to.
    pub fn rows_where(
        &self,
        caller: &Caller,
        target: &Target,
        is_so: impl Fn(&Llm) -> bool,
    ) -> impl Iterator<Item = String> {
        let rows = self.reachable_rows(caller, target).into_iter();
        let rows = rows.filter(move |name| self.llms.get(*name).is_some_and(|entry| is_so(&entry.llm)));
        rows.map(str::to_owned)
    }

    /// Whether an earlier `candidate` may still serve a call of `caller` for `target`: not after the row was deleted, given
    /// away, published by another session, made private or taken out of its pool, nor after `target` was taken over.
    pub fn may_still_serve(&self, caller: &Caller, target: &Target, candidate: &Candidate) -> bool {
        self.llms.get(&candidate.name).is_some_and(|entry| {
            let llm = &entry.llm;
            let key = if target.pool { entry.key() } else { &llm.name };
            key == target.name
                && self.is_same_row(candidate)
                && (llm.allow_remote_urls || !candidate.allow_remote_urls)
                && target.allows_owner(llm)
                && self.may_reach(caller, target, llm)
                && self.agent_is_unchanged(caller, target)
                && !self.is_target_taken_over(target)
        })
    }

    /// Whether the row of an earlier `candidate` is still the same user's and the same session's.
    pub fn is_same_row(&self, candidate: &Candidate) -> bool {
        self.llms.get(&candidate.name).is_some_and(|entry| {
            (&entry.llm.owner, &entry.llm.session) == (&candidate.owner, &candidate.session)
        })
    }

    /// Whether the agent of `target` still resolves to it: a call waits for what its agent stood for when the call came.
    pub fn agent_is_unchanged(&self, caller: &Caller, target: &Target) -> bool {
        let Some(route) = &target.through else { return true };
        let current = self.agent(caller, &route.agent).map(|agent| self.agent_target(caller, agent));
        let same = |current: &Target| {
            (&current.name, &current.owner, current.pool, &current.through)
                == (&target.name, &target.owner, target.pool, &target.through)
                // A durable task restricts a target to its owner's rows; a private agent's target is restricted anyway.
                && (current.only_owner.is_none() || current.only_owner == target.only_owner)
        };
        matches!(current, Some(Ok(current)) if same(&current))
    }

    /// Whether a member registered just now, reads active, and its channel is about to open.
    pub fn has_arriving_member(&self, caller: &Caller, target: &Target, now: Now) -> bool {
        self.reachable_rows(caller, target).into_iter().filter_map(|name| self.llms.get(name)).any(|entry| {
            let arrives = |session: &Session| {
                let age = now.mono.saturating_sub(session.last_heartbeat);
                !session.is_open()
                    && !session.silent
                    && !session.is_of_other(self.hub.as_deref())
                    && age < ARRIVAL
            };
            entry.llm.registered
                && entry.llm.status != Status::Inactive
                && self.session_of(entry).is_some_and(arrives)
        })
    }

    /// The session that publishes the row.
    pub(super) fn session_of(&self, entry: &LlmEntry) -> Option<&Session> {
        entry.llm.session.as_ref().and_then(|id| self.sessions.get(id))
    }

    /// Whether tasks may be sent to the row now.
    pub(super) fn is_routable(&self, entry: &LlmEntry) -> bool {
        match entry.llm.kind {
            Kind::Public => entry.llm.status == Status::Active,
            Kind::Virtual => {
                entry.llm.registered
                    && entry.llm.status != Status::Inactive
                    && self.session_of(entry).is_some_and(Session::takes_tasks)
            }
        }
    }

    /// Whether the row serves the endpoint: a classic publisher serves chat completions alone (SPEC.md section 4). A count is
    /// estimated where it cannot be sent.
    fn serves(&self, entry: &LlmEntry, endpoint: Endpoint) -> bool {
        endpoint == Endpoint::ChatCompletions
            || endpoint.is_count()
            || entry.llm.kind == Kind::Public
            || self.features_of(entry).has(Feature::Endpoints)
    }

    fn features_of(&self, entry: &LlmEntry) -> Features {
        self.session_of(entry).map_or(Features::CLASSIC, Session::features)
    }
}
