//! Which member answers: the healthy one with the least work for its room.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use wire::Features;
use wire::features::Feature;
use wire::row::{Kind, Status, Timestamp, Visibility};
use wire::task::Endpoint;

use super::feed::FeedKey;
use super::{LlmEntry, Registry, Target};
use crate::clock::Now;
use crate::model::{Caller, Llm, Role, Upstream, UserId};
use crate::store::Change;

/// A registrar opens its channel within milliseconds of its register call; one that needs longer has trouble.
const ARRIVAL: Duration = Duration::from_secs(2);

/// What a publisher said of one of its providers (feature `status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderReport {
    /// From a health check of the backend.
    pub status: Status,
    /// Inferences that run or wait there, ours included.
    pub busy: u32,
    /// Inferences that may run there at once.
    pub room: u32,
    /// Whether its owner has paused it.
    pub paused: bool,
    /// The end of the pause, where it has one.
    pub paused_until: Option<Timestamp>,
}

/// A row that was chosen, as it was then.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The row's name, also the wire name.
    pub name: String,
    /// The model that callers get.
    pub model: String,
    /// `openai`, `anthropic`, …
    pub provider_type: String,
    /// The agent through which a caller comes that does not see the row: what the caller reads names the agent.
    pub through: Option<String>,
    /// Its named pool.
    pub pool: Option<String>,
    /// The session that publishes it; none for a public row.
    pub session: Option<String>,
    /// What the publisher can do.
    pub features: Features,
    /// Its owner.
    pub owner: String,
    /// Who sees the row.
    pub visibility: Visibility,
    /// Whether it must be woken first.
    pub asleep: bool,
    /// Whether it has no room now: it will queue the task, or refuse it.
    pub full: bool,
    /// A public row's upstream.
    pub upstream: Option<Upstream>,
    /// Whether callers other than the owner may ask its backend for more than an answer (SPEC.md section 5, reach).
    pub allow_remote_urls: bool,
    /// Silence of its backend that its publisher bears, where it said so.
    pub timeout: Option<Duration>,
}

impl Candidate {
    /// Whether every caller sees the row.
    pub fn is_public(&self) -> bool {
        self.visibility == Visibility::Public
    }

    /// The name that the caller may read: the row's, or the agent's where the row is hidden.
    pub fn shown_name(&self) -> &str {
        self.through.as_deref().unwrap_or(&self.name)
    }

    /// What hides the row from the caller in its publisher's texts, where it is hidden.
    pub fn redaction(&self) -> NameRedaction {
        let quoted = |name: &str| format!("'{name}'");
        NameRedaction(self.through.as_ref().map(|agent| (quoted(&self.name), quoted(agent))))
    }
}

/// The name of a hidden row, and the agent's that its caller reads instead.
#[derive(Debug, Default)]
pub struct NameRedaction(Option<(String, String)>);

impl NameRedaction {
    /// Whether nothing is hidden.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// A publisher's text as the caller may read it.
    pub fn apply(&self, text: &str) -> String {
        match &self.0 {
            Some((row, agent)) => text.replace(row, agent),
            None => text.to_owned(),
        }
    }
}

/// Callers for whom the same members of a pool are there, as long as nothing of these changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerClass {
    pool: String,
    /// The caller, where it owns some of them.
    user: Option<UserId>,
    /// The owner of private ones that an agent opens.
    opens: Option<UserId>,
    only_owner: Option<UserId>,
    /// Whether a private one is reached for being of the pool's name.
    admin: bool,
    endpoint: Endpoint,
}

/// What a row is for those who wait: of two rows that are the same to them, neither serves who is not served by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// No task may go there.
    Unroutable,
    /// It must be woken first.
    Asleep {
        /// Whether it has no room.
        full: bool,
    },
    /// It is up.
    Awake {
        /// Whether it has no room.
        full: bool,
    },
}

/// The outcome of a pick.
#[derive(Debug, Clone)]
pub enum PickResult {
    /// This one.
    Chosen(Box<Candidate>),
    /// Somebody is there, but cannot serve this endpoint.
    EndpointUnsupported,
    /// NoMember is there.
    NoMember,
}

impl Registry {
    /// The best member of `target` for `caller`.
    pub fn pick(&mut self, caller: &Caller, target: &Target, endpoint: Endpoint) -> PickResult {
        self.pick_of(caller, target, endpoint, |_| true)
    }

    /// The best one of those of which `is_left` is true. Visibility is asked again here, at the last moment.
    pub fn pick_of(
        &mut self,
        caller: &Caller,
        target: &Target,
        endpoint: Endpoint,
        is_left: impl Fn(&Llm) -> bool,
    ) -> PickResult {
        #[cfg(test)]
        {
            self.pool_scans += 1;
        }
        let mut found = PickResult::NoMember;
        if !self.agent_is_unchanged(caller, target) {
            return found;
        }
        let mut best: Option<&LlmEntry> = None;
        let names = self.names(caller, target);
        self.count_examined(names.len());
        for name in names {
            let Some(entry) = self.llms.get(name) else { continue };
            let owned = target.only_owner.as_ref().is_none_or(|owner| *owner == entry.llm.owner);
            if !owned || !is_left(&entry.llm) || !self.is_routable(entry) {
                continue;
            }
            if !self.serves(entry, endpoint) {
                found = PickResult::EndpointUnsupported;
                continue;
            }
            if best.is_none_or(|best| entry.rank(best) == Ordering::Less) {
                best = Some(entry);
            }
        }
        let Some(best) = best.map(|entry| entry.llm.name.clone()) else { return found };
        self.picks += 1;
        let picks = self.picks;
        let Some(entry) = self.llms.get_mut(&best) else { return found };
        entry.last_pick = picks;
        let Some(entry) = self.llms.get(&best) else { return found };
        PickResult::Chosen(Box::new(Candidate {
            through: hidden_behind(caller, target, &entry.llm),
            name: best,
            model: entry.llm.model.clone(),
            provider_type: entry.llm.provider_type.clone(),
            pool: entry.llm.pool_name.clone().filter(|_| entry.member),
            session: entry.llm.session.clone(),
            features: self.features_of(entry),
            owner: entry.llm.owner.clone(),
            visibility: entry.llm.visibility,
            asleep: entry.llm.status == Status::Hibernating,
            full: entry.is_full(),
            upstream: entry.llm.upstream.clone(),
            allow_remote_urls: entry.llm.allow_remote_urls,
            timeout: entry.llm.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }))
    }

    pub(super) fn names(&self, caller: &Caller, target: &Target) -> Vec<&str> {
        if target.pool {
            let members = self.pool_members(&target.name).filter(|llm| self.may_reach(caller, target, llm));
            members.map(|llm| llm.name.as_str()).collect()
        } else {
            let row = self.llms.get(&target.name).map(|entry| &entry.llm);
            let row = row.filter(|llm| self.may_reach(caller, target, llm));
            row.map(|llm| llm.name.as_str()).into_iter().collect()
        }
    }

    /// Whether `candidate`, which was chosen some time ago, may still have a call of `caller` for `target`: a row that was
    /// deleted, given away or taken out of its pool since may not.
    pub fn may_still_serve(&self, caller: &Caller, target: &Target, candidate: &Candidate) -> bool {
        self.llms.get(&candidate.name).is_some_and(|entry| {
            let llm = &entry.llm;
            let key = if target.pool { entry.key() } else { &llm.name };
            key == target.name
                && (&llm.owner, &llm.session) == (&candidate.owner, &candidate.session)
                && (llm.allow_remote_urls || !candidate.allow_remote_urls)
                && target.only_owner.as_ref().is_none_or(|owner| *owner == llm.owner)
                && self.may_reach(caller, target, llm)
                && self.agent_is_unchanged(caller, target)
        })
    }

    /// Whether the agent through which a call comes still leads there. Whoever waits for room waits for what the agent
    /// stood for when it came.
    pub fn agent_is_unchanged(&self, caller: &Caller, target: &Target) -> bool {
        let Some(through) = &target.through else { return true };
        let now = self.agent(caller, &through.agent).map(|agent| self.agent_target(caller, agent));
        let same = |now: &Target| {
            (&now.name, now.pool, &now.through) == (&target.name, target.pool, &target.through)
                // A durable task asks its owner's own rows first; one through a private agent no others at all.
                && (now.only_owner.is_none() || now.only_owner == target.only_owner)
        };
        matches!(now, Some(Ok(now)) if same(&now))
    }

    /// For whom else a look at the members of the pool `target` finds the same; `None` for a row alone, of which a look is
    /// cheap. True of callers whose agents stand.
    pub fn caller_class(&self, caller: &Caller, target: &Target, endpoint: Endpoint) -> Option<CallerClass> {
        if !target.pool {
            return None;
        }
        let own = self.llms.get(&target.name).map(|entry| &entry.llm);
        let of = self.pools.get(&target.name).map(|rows| &rows.of);
        let has_some = |user: &&UserId| {
            own.is_some_and(|llm| llm.owner == **user) || of.is_some_and(|of| of.contains_key(*user))
        };
        let opens = target.through.as_ref().and_then(|through| through.opens.as_ref());
        Some(CallerClass {
            pool: target.name.clone(),
            user: Some(&caller.user).filter(has_some).cloned(),
            opens: opens.filter(has_some).cloned(),
            only_owner: target.only_owner.clone(),
            admin: caller.role == Role::Admin && target.through.is_none() && own.is_some(),
            endpoint,
        })
    }

    /// What the row is for those who wait.
    pub fn availability(&self, row: &str) -> Availability {
        self.llms
            .get(row)
            .map_or(Availability::Unroutable, |entry| entry.availability(self.is_routable(entry)))
    }

    /// How many rows were looked at in a search for one, so far.
    pub fn rows_examined(&self) -> usize {
        self.rows_examined.load(Relaxed)
    }

    /// So many more were.
    pub(super) fn count_examined(&self, rows: usize) {
        self.rows_examined.fetch_add(rows, Relaxed);
    }

    /// Whether a member has registered just now and its channel must be about to open: it already reads active.
    pub fn has_arriving_member(&self, caller: &Caller, target: &Target, now: Now) -> bool {
        self.names(caller, target).into_iter().filter_map(|name| self.llms.get(name)).any(|entry| {
            let session = entry.llm.session.as_ref().and_then(|id| self.sessions.get(id));
            entry.llm.registered
                && entry.llm.status != Status::Inactive
                && session.is_some_and(|session| {
                    !session.is_open()
                        && !session.silent
                        && now.mono.saturating_sub(session.last_heartbeat) < ARRIVAL
                })
        })
    }

    /// Whether tasks may go to the row now.
    fn is_routable(&self, entry: &LlmEntry) -> bool {
        match entry.llm.kind {
            Kind::Public => entry.llm.status == Status::Active,
            Kind::Virtual => {
                let session = entry.llm.session.as_ref().and_then(|id| self.sessions.get(id));
                entry.llm.registered
                    && entry.llm.status != Status::Inactive
                    && session.is_some_and(super::Session::takes_tasks)
            }
        }
    }

    /// A publisher that knows only section 3 knows only chat completions.
    fn serves(&self, entry: &LlmEntry, endpoint: Endpoint) -> bool {
        endpoint == Endpoint::ChatCompletions
            || entry.llm.kind == Kind::Public
            || self.features_of(entry).has(Feature::Endpoints)
    }

    fn features_of(&self, entry: &LlmEntry) -> Features {
        entry.llm.session.as_ref().map_or(Features::CLASSIC, |id| self.features(id))
    }

    /// A task of ours starts on the row.
    pub fn task_started(&mut self, name: &str) {
        if let Some(entry) = self.llms.get_mut(name) {
            entry.in_flight += 1;
            self.feed.change(&mut entry.version, || FeedKey::Llm(name.into()));
        }
    }

    /// A task of ours ended on the row. The changes are those of a publisher that was waiting to be drained.
    pub fn task_ended(&mut self, name: &str, now: Now) -> Vec<Change> {
        let Some(entry) = self.llms.get_mut(name) else { return Vec::new() };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if let Some(report) = &mut entry.report {
            // It counted ours; its next report comes a second later at most.
            report.busy = report.busy.saturating_sub(1);
        }
        self.feed.change(&mut entry.version, || FeedKey::Llm(name.into()));
        match entry.llm.session.clone() {
            Some(session) if entry.in_flight == 0 => self.drained(&session, now),
            _ => Vec::new(),
        }
    }

    /// Gives back a place that was taken for a task that did not start.
    pub fn release_reservation(&mut self, name: &str) {
        if let Some(entry) = self.llms.get_mut(name) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
            self.feed.change(&mut entry.version, || FeedKey::Llm(name.into()));
        }
    }

    /// Whether the row can be sent one more task now.
    pub fn has_capacity(&self, row: &str) -> bool {
        matches!(
            self.availability(row),
            Availability::Asleep { full: false } | Availability::Awake { full: false }
        )
    }

    /// The names under which callers may reach the row: its own, and that of its pool.
    pub fn names_reaching(&self, row: &str) -> Vec<String> {
        let Some(entry) = self.llms.get(row) else { return Vec::new() };
        let pool = std::iter::once(entry.key()).filter(|pool| *pool != row).map(str::to_owned);
        std::iter::once(row.to_owned()).chain(pool).collect()
    }

    /// The names of the session's rows.
    pub fn session_llms(&self, session: &str) -> Vec<String> {
        self.sessions.get(session).into_iter().flat_map(|session| &session.llms).cloned().collect()
    }

    /// The names of the session's agents.
    pub fn session_agents(&self, session: &str) -> Vec<String> {
        self.sessions.get(session).into_iter().flat_map(|session| &session.agents).cloned().collect()
    }

    /// The names under which there may be room for what is asked of `target`: its own, and those that an agent of this
    /// name is pinned to. Whoever may see them is asked later.
    pub fn capacity_names(&self, target: &str) -> Vec<String> {
        let mut names = vec![target.to_owned()];
        if let Some(entry) = self.agents.get(target) {
            let pinned = &entry.agent.llm_name;
            names.push(pinned.clone());
            names.extend(self.llms.get(pinned).map(|entry| entry.key().to_owned()));
        }
        names
    }

    /// The owners of the rows with room that are reached by `name`: the row of this name, and those that serve the pool
    /// of this name. It costs a look at each of them.
    pub fn owners_with_capacity(&self, name: &str) -> HashSet<String> {
        let own = self.llms.get(name).map(|entry| &entry.llm);
        let mut owners = HashSet::new();
        for llm in own.into_iter().chain(self.pool_rows(name)) {
            self.count_examined(1);
            if !owners.contains(&llm.owner) && self.has_capacity(&llm.name) {
                owners.insert(llm.owner.clone());
            }
        }
        owners
    }

    /// Our tasks on the row.
    pub fn in_flight(&self, name: &str) -> u32 {
        self.llms.get(name).map_or(0, |entry| entry.in_flight)
    }
}

/// The agent that a caller reads instead of a row that it does not see.
fn hidden_behind(caller: &Caller, target: &Target, llm: &Llm) -> Option<String> {
    let hidden = !caller.sees(llm.visibility, &llm.owner);
    target.through.as_ref().filter(|_| hidden).map(|through| through.agent.clone())
}

impl LlmEntry {
    /// What runs and waits there: our own count is newer, the publisher's knows of others.
    pub(super) fn load(&self) -> u32 {
        self.report.map_or(self.in_flight, |report| report.busy.max(self.in_flight))
    }

    /// What it is for those who wait.
    pub(super) fn availability(&self, routable: bool) -> Availability {
        match (routable, self.llm.status) {
            (false, _) => Availability::Unroutable,
            (true, Status::Hibernating) => Availability::Asleep { full: self.is_full() },
            (true, _) => Availability::Awake { full: self.is_full() },
        }
    }

    fn is_full(&self) -> bool {
        self.capacity().is_some_and(|room| self.load() >= room)
    }

    /// Awake before asleep, with room before full, least work for its room, fewest tasks; equals take turns. A
    /// classic publisher says nothing of its room: it is never full, and counts as room for one.
    fn rank(&self, other: &Self) -> Ordering {
        let asleep = |entry: &Self| entry.llm.status == Status::Hibernating;
        let room = |entry: &Self| u64::from(entry.capacity().map_or(1, |room| room.max(1)));
        let load = |one: &Self, two: &Self| u64::from(one.load()) * room(two);
        (asleep(self), self.is_full())
            .cmp(&(asleep(other), other.is_full()))
            .then_with(|| load(self, other).cmp(&load(other, self)))
            .then_with(|| (self.load(), self.last_pick).cmp(&(other.load(), other.last_pick)))
    }
}
