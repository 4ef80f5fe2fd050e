//! Single cases of the registry's rules; [`lifecycle`] and [`rule`] test the rules in any order of events.

mod aliases;
mod feed;
mod lifecycle;
mod merge;
mod rule;
mod sessions;
mod visibility;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use wire::register::{Heartbeat, ProviderEntry, ProviderStatus, RegisterRequest};
use wire::row::{Kind, Status, Timestamp, Visibility};
use wire::task::Endpoint;
use wire::{Abilities, Capabilities, Features};

use super::*;
use crate::model::{Agent, Alias, AliasScope, Caller, Llm, NameRecord, Role, SessionRecord};
use crate::store::Change;

const USERS: [&str; 2] = ["alice", "bob"];
const NAMES: [&str; 4] = ["a", "b", "c", "p"];
const HOUR: u64 = 3_600_000;

#[derive(Debug, Clone)]
struct Spec {
    name: usize,
    pool: Option<usize>,
    visibility: Visibility,
    asleep: bool,
}

fn next(ids: &Cell<u64>) -> u64 {
    ids.set(ids.get() + 1);
    ids.get()
}

fn caller(user: &str) -> Caller {
    Caller {
        user: user.into(),
        role: Role::Member,
        token_id: "t".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
}

fn empty(policy: PoolPolicy) -> Registry {
    Registry::load(&Snapshot::default(), policy, &HubTimings::default(), at(0))
}

fn at(mono: u64) -> Now {
    Now { wall: Timestamp(i64::try_from(mono).unwrap()), mono: Duration::from_millis(mono) }
}

fn entry(spec: &Spec) -> ProviderEntry {
    ProviderEntry {
        name: NAMES[spec.name].into(),
        provider_type: "openai".into(),
        model: "m".into(),
        tier: None,
        description: None,
        pool_name: spec.pool.map(|pool| NAMES[pool].into()),
        visibility: spec.visibility,
        timeout_seconds: None,
        allow_remote_urls: false,
        max_concurrency: None,
        context_length: None,
        max_output_tokens: None,
        capabilities: Capabilities::default(),
        initial_status: if spec.asleep { Status::Hibernating } else { Status::Active },
    }
}

/// A registry with an open session of alice that publishes `rows`, given by name and pool.
fn registry_with(rows: &[(&str, Option<&str>)], policy: PoolPolicy) -> Registry {
    let mut registry = empty(policy);
    let providers = rows.iter().map(|(name, pool)| provider(name, *pool)).collect();
    register(&mut registry, "alice", "alice-1", providers).unwrap();
    registry.open(&caller("alice"), "alice-1", "s".into(), Features::ALL, at(0)).unwrap();
    registry
}

fn provider(name: &str, pool: Option<&str>) -> ProviderEntry {
    let spec = Spec { name: 0, pool: None, visibility: Visibility::Public, asleep: false };
    ProviderEntry { name: name.into(), pool_name: pool.map(Into::into), ..entry(&spec) }
}

fn register(
    registry: &mut Registry,
    user: &str,
    session: &str,
    providers: Vec<ProviderEntry>,
) -> Result<super::register::Registration, RegisterRefusal> {
    let request =
        RegisterRequest { provider_session_id: Some(session.into()), providers, agents: Vec::new() };
    let count = Cell::new(0);
    let fresh = |prefix: &str| {
        count.set(count.get() + 1);
        format!("{prefix}-{session}-{}", count.get())
    };
    registry.register(&caller(user), &request, &fresh, at(0))
}

#[test]
fn a_pool_and_another_users_row_never_share_a_name() {
    let mut registry = registry_with(&[("row", None), ("member", Some("pool"))], PoolPolicy::Members);
    let conflict = |text: &str| Err(RegisterRefusal::Conflict(text.into()));
    let mut bob = |name, pool| register(&mut registry, "bob", "bob-1", vec![provider(name, pool)]).map(drop);
    assert_eq!(bob("x", Some("row")), conflict("poolName 'row' is the name of another user's LLM"));
    assert_eq!(bob("pool", None), conflict("name 'pool' is the name of another user's pool"));
    assert_eq!(bob("x", Some("pool")), Ok(()), "--pools members does not admit to a named pool");
    assert_eq!(bob("x", Some("x")), Ok(()), "a user's own name is a conflict");
}

#[test]
fn under_the_owner_policy_only_the_owner_joins_a_pool() {
    let mut registry = registry_with(&[("member", Some("pool"))], PoolPolicy::Owner);
    let refused = register(&mut registry, "bob", "bob-1", vec![provider("x", Some("pool"))]);
    assert_eq!(refused.unwrap_err(), RegisterRefusal::Conflict("pool 'pool' belongs to another user".into()));
    assert!(register(&mut registry, "alice", "alice-2", vec![provider("y", Some("pool"))]).is_ok());
}

#[test]
fn a_register_call_does_not_replace_a_public_row() {
    let mut registry = registry_with(&[("a", None)], PoolPolicy::Members);
    let mut public = registry.llms["a"].llm.clone();
    registry.remove_llm("a", at(0));
    (public.kind, public.session) = (Kind::Public, None);
    registry.put_llm(public.clone(), at(0));
    for user in USERS {
        let refused = register(&mut registry, user, "new", vec![provider("a", None)]).unwrap_err();
        assert_eq!(refused, RegisterRefusal::Conflict("Cannot publish over public LLM: a".into()));
    }
    public.visibility = Visibility::Private;
    registry.put_llm(public, at(0));
    let refused = register(&mut registry, "bob", "new", vec![provider("a", None)]).unwrap_err();
    assert_eq!(refused, RegisterRefusal::Conflict("name 'a' is taken".into()));
}

#[test]
fn a_row_of_a_session_without_channel_is_adopted_after_90_seconds() {
    let mut registry = registry_with(&[("a", None)], PoolPolicy::Members);
    let snapshot = Snapshot {
        llms: registry.llms.values().map(|entry| entry.llm.clone()).collect(),
        sessions: registry.sessions.values().map(|session| session.record.clone()).collect(),
        ..Snapshot::default()
    };
    registry = Registry::load(&snapshot, PoolPolicy::Members, &HubTimings::default(), at(0));
    let request = RegisterRequest {
        provider_session_id: None,
        providers: vec![provider("a", None)],
        agents: Vec::new(),
    };
    let mut adopt = |now| registry.register(&caller("alice"), &request, &|_| "new".into(), now).is_ok();
    assert!(!adopt(at(90_000)), "adopted while its channel may still open");
    assert!(adopt(at(90_001)));
}

#[test]
fn equal_members_take_turns() {
    let mut registry = registry_with(&[("a", Some("p")), ("b", Some("p"))], PoolPolicy::Members);
    let alice = caller("alice");
    let target = registry.target(&alice, "p").unwrap();
    let mut pick = || match registry.pick(&alice, &target, Endpoint::ChatCompletions) {
        PickResult::Chosen(candidate) => candidate.name,
        other => panic!("{other:?}"),
    };
    let turns: Vec<String> = (0..4).map(|_| pick()).collect();
    assert!(turns[0] != turns[1] && turns[0] == turns[2] && turns[1] == turns[3], "{turns:?}");
}

#[test]
fn a_target_restricted_to_one_owner_has_no_rows_of_others() {
    let mut registry = registry_with(&[("a", Some("p"))], PoolPolicy::Members);
    let alice = caller("alice");
    let mut target = registry.target(&alice, "p").unwrap();
    target.only_owner = Some("bob".into());
    let result = registry.pick(&alice, &target, Endpoint::ChatCompletions);
    assert!(matches!(result, PickResult::NoMember));
}

/// F23, P5: two lost heartbeats change nothing, a third makes the row inactive, and the next heartbeat makes it active.
#[test]
fn the_third_lost_heartbeat_makes_a_row_inactive_until_the_next() {
    let mut registry = registry_with(&[("a", None)], PoolPolicy::Members);
    let beat = Heartbeat { provider_session_id: "alice-1".into(), stream_id: None, providers: None };
    let mut due = 0;
    for lost in 0..3 {
        due += 30_000 * (lost + 1);
        assert!(registry.sweep(at(due - 1), true).silent.is_empty(), "{lost} heartbeats lost");
        registry.heartbeat(&caller("alice"), &beat, at(due)).unwrap();
        assert_eq!(registry.llms["a"].llm.status, Status::Active, "{lost} heartbeats lost");
    }
    assert!(registry.sweep(at(due + 90_000), true).silent.is_empty());
    assert_eq!(registry.sweep(at(due + 90_001), true).silent, [("alice-1".to_owned(), "alice".to_owned())]);
    assert_eq!(registry.llms["a"].llm.status, Status::Inactive);
    registry.heartbeat(&caller("alice"), &beat, at(due + 100_000)).unwrap();
    assert_eq!(registry.llms["a"].llm.status, Status::Active);
}
