//! Hidden rows and agents do not affect what a caller can read and call, for any set of rows, agents and pools.

use super::*;
use crate::model::Upstream;

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const NAMES: [&str; 8] = ["a", "b", "c", "d", "p", "q", "r", "s"];

fn visibility() -> impl Strategy<Value = Visibility> {
    prop_oneof![Just(Visibility::Private), Just(Visibility::Public)]
}

/// A row of kind `Public`, which can be called without a publisher.
fn any_row() -> impl Strategy<Value = Llm> {
    let pool = prop::option::of(prop::sample::select(&NAMES[2..6]));
    (pool, prop::sample::select(&USERS[..]), visibility()).prop_map(|(pool, owner, visibility)| Llm {
        id: String::new(),
        name: String::new(),
        provider_type: "openai".into(),
        model: "m".into(),
        tier: None,
        description: None,
        kind: Kind::Public,
        status: Status::Active,
        declared: Status::Active,
        last_heartbeat_at: None,
        inactive_since: None,
        pool_name: pool.map(str::to_owned),
        visibility,
        owner: owner.into(),
        session: None,
        registered: true,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        upstream: Some(Upstream { url: "http://h/v1".into(), api_key: None }),
        timeout_seconds: None,
        allow_remote_urls: false,
        abilities: Abilities::default(),
    })
}

fn any_agent() -> impl Strategy<Value = Agent> {
    let llm = prop::sample::select(&NAMES[..6]);
    (llm, prop::sample::select(&USERS[..]), visibility()).prop_map(|(llm, owner, visibility)| Agent {
        id: String::new(),
        name: String::new(),
        llm_name: llm.into(),
        description: None,
        system_prompt: None,
        project: None,
        default_params: None,
        extras: None,
        kind: Kind::Public,
        status: Status::Active,
        last_heartbeat_at: None,
        inactive_since: None,
        visibility,
        owner: owner.into(),
        session: None,
        registered: true,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    })
}

fn any_rows() -> impl Strategy<Value = Vec<Llm>> {
    let named = prop::collection::btree_map(prop::sample::select(&NAMES[..6]), any_row(), 0..6);
    named.prop_map(|rows| {
        rows.into_iter().map(|(name, llm)| Llm { name: name.into(), id: name.into(), ..llm }).collect()
    })
}

fn any_agents() -> impl Strategy<Value = Vec<Agent>> {
    let named = prop::collection::btree_map(prop::sample::select(&NAMES[5..]), any_agent(), 0..4);
    named.prop_map(|agents| {
        agents
            .into_iter()
            .map(|(name, agent)| Agent { name: name.into(), id: name.into(), ..agent })
            .collect()
    })
}

/// A registry with these rows and agents, in which pools have the same owners as in `of`.
fn registry(llms: &[Llm], agents: &[Agent], of: Option<&Registry>) -> Registry {
    let of_pools = of.into_iter().flat_map(|of| of.pools.keys().filter_map(|pool| of.names.record(pool)));
    let names = of_pools.cloned().collect();
    let snapshot = Snapshot { llms: llms.to_vec(), agents: agents.to_vec(), names, ..Snapshot::default() };
    let now = at(0);
    Registry::load(&snapshot, PoolPolicy::Members, &HubTimings::default(), now)
}

fn chosen(registry: &mut Registry, caller: &Caller, target: Option<&Target>) -> Option<String> {
    match registry.pick(caller, target?, Endpoint::ChatCompletions) {
        PickResult::Chosen(candidate) => Some(candidate.name),
        PickResult::EndpointUnsupported | PickResult::NoMember | PickResult::TakenOver => None,
    }
}

/// Everything that a caller can read, and the row that each of its calls reaches, as text.
fn all_answers(registry: &mut Registry, caller: &Caller) -> Vec<String> {
    let mut answers = Vec::new();
    answers
        .extend(registry.llms_after(caller, None).map(|llm| format!("{:?}", registry.llm_row(caller, llm))));
    let agents = registry.agents_after(caller, None);
    answers.extend(agents.map(|agent| format!("{:?}", registry.agent_row(caller, agent))));
    for name in NAMES {
        answers.push(format!("{:?}", registry.llm(caller, name)));
        answers.push(format!("{:?}", registry.pool(caller, name)));
        answers.extend(registry.members(caller, name).map(|llm| format!("{llm:?}")));
        let target = registry.target(caller, name);
        answers.push(format!("{target:?} {:?}", chosen(registry, caller, target.as_ref())));
    }
    answers
}

/// The agents that the caller sees, each with the row that a call through the agent reaches.
fn through_agents(registry: &mut Registry, caller: &Caller) -> Vec<(Agent, Option<Candidate>)> {
    let agents: Vec<Agent> = registry.agents_after(caller, None).cloned().collect();
    let mut reached = Vec::new();
    for agent in agents {
        let target = registry.agent_target(caller, &agent);
        let picked = target.map(|target| registry.pick(caller, &target, Endpoint::ChatCompletions));
        let candidate = match picked {
            Ok(PickResult::Chosen(candidate)) => Some(*candidate),
            _ => None,
        };
        reached.push((agent, candidate));
    }
    reached
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A34, A37: hidden rows do not change what a user reads, nor which rows its calls reach.
    #[test]
    fn hidden_rows_do_not_change_what_a_user_reads_and_reaches(
        llms in any_rows(),
        agents in any_agents(),
        user in prop::sample::select(&USERS[..]),
    ) {
        let caller = caller(user);
        let seen_llms: Vec<Llm> =
            llms.iter().filter(|llm| caller.sees(llm.visibility, &llm.owner)).cloned().collect();
        let seen_agents: Vec<Agent> =
            agents.iter().filter(|agent| caller.sees(agent.visibility, &agent.owner)).cloned().collect();
        let mut all = registry(&llms, &agents, None);
        let mut seen = registry(&seen_llms, &seen_agents, Some(&all));
        prop_assert_eq!(all_answers(&mut all, &caller), all_answers(&mut seen, &caller));
    }
    /// A34, A37: through an agent a caller reaches only rows that it sees and rows of the agent's owner. A hidden row is
    /// shown under the agent's name. Hidden rows of third users change nothing.
    #[test]
    fn an_agent_reaches_rows_that_its_caller_sees_and_rows_of_its_owner(
        llms in any_rows(),
        agents in any_agents(),
        user in prop::sample::select(&USERS[..]),
    ) {
        let caller = caller(user);
        for agent in &agents {
            let reachable: Vec<Llm> = llms
                .iter()
                .filter(|llm| llm.owner == agent.owner || caller.sees(llm.visibility, &llm.owner))
                .cloned()
                .collect();
            let one = std::slice::from_ref(agent);
            let mut all = registry(&llms, one, None);
            let mut some = registry(&reachable, one, Some(&all));
            let reached = through_agents(&mut all, &caller);
            let alone = through_agents(&mut some, &caller);
            prop_assert_eq!(format!("{:?}", reached), format!("{:?}", alone));
            let Some((_, Some(candidate))) = reached.first() else { continue };
            let row = llms.iter().find(|llm| llm.name == candidate.name).unwrap();
            let seen = caller.sees(row.visibility, &row.owner);
            prop_assert!(seen || row.owner == agent.owner);
            prop_assert_eq!(candidate.shown_name(), if seen { &row.name } else { &agent.name });
            // An agent for a public row gives no access to private rows in that row's pool.
            let pinned = llms.iter().find(|llm| llm.name == agent.llm_name);
            let public = pinned.is_some_and(|llm| llm.visibility == Visibility::Public);
            prop_assert!(seen || !public);
        }
    }
}
