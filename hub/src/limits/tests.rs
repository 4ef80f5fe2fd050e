//! Limits of users and tokens in memory.

use std::time::Duration;

use wire::row::Timestamp;

use super::*;
use crate::model::{Role, UsageCounts, UsageKey};
use crate::telemetry::Limit;

const NOW: Now = Now { wall: Timestamp(86_400_000 * 20_000), mono: Duration::from_secs(500) };

fn later(seconds: u64) -> Now {
    let millis = i64::try_from(seconds * 1000).unwrap();
    Now { wall: NOW.wall.plus_millis(millis), mono: NOW.mono + Duration::from_secs(seconds) }
}

fn today() -> Day {
    Day::of(NOW.wall)
}

/// The caller with token `token` of the user `u`.
fn caller(token: &str) -> Caller {
    Caller { user: "u".into(), role: Role::Member, token_id: token.into(), models: AllowedModels::default() }
}

fn user() -> LimitOwner {
    LimitOwner::User("u".into())
}

fn token(id: &str) -> LimitOwner {
    LimitOwner::Token(id.into())
}

fn with(limits: &[(LimitOwner, CallLimits)]) -> CallerLimits {
    let records =
        limits.iter().map(|(owner, limits)| LimitRecord { owner: owner.clone(), limits: limits.clone() });
    CallerLimits::load(records.collect(), &[], today())
}

fn requests(number: u32) -> CallLimits {
    CallLimits { requests_per_minute: Some(number), ..CallLimits::default() }
}

fn calls(number: u32) -> CallLimits {
    CallLimits { max_concurrent: Some(number), ..CallLimits::default() }
}

fn budget(tokens: u64) -> CallLimits {
    CallLimits { tokens_per_day: Some(tokens), ..CallLimits::default() }
}

/// The limit that refuses a call, and its `Retry-After`.
fn refusal(limits: &CallerLimits, token: &str, now: Now) -> Option<(Limit, Option<u32>)> {
    limits.admit(&caller(token), now).err().map(|error| (error.limit.unwrap(), error.retry_after))
}

/// The limits of a token and of its user both hold, and a call that one of them refuses takes nothing of the other.
#[test]
fn the_stricter_of_two_limits_decides_and_a_refused_call_takes_nothing() {
    let limits = with(&[(user(), requests(3)), (token("t"), calls(1))]);
    let slot = limits.admit(&caller("t"), NOW).unwrap();
    for _ in 0..9 {
        assert_eq!(refusal(&limits, "t", NOW), Some((Limit::MaxConcurrent, None)));
    }
    drop(slot);
    drop(limits.admit(&caller("t"), NOW).unwrap());
    // Another token of the same user.
    drop(limits.admit(&caller("s"), NOW).unwrap());
    assert_eq!(refusal(&limits, "s", NOW), Some((Limit::RequestsPerMinute, Some(20))));
    assert_eq!(refusal(&limits, "t", later(19)), Some((Limit::RequestsPerMinute, Some(1))));
    assert_eq!(refusal(&limits, "t", later(20)), None);
    let others = Caller { user: "v".into(), ..caller("x") };
    (0..99).for_each(|_| drop(limits.admit(&others, NOW).unwrap()));
}

#[test]
fn a_budget_is_that_of_a_day_and_is_overrun_by_the_calls_under_way() {
    let limits = with(&[(user(), budget(100)), (token("t"), budget(50))]);
    let under_way: Vec<_> = (0..3).map(|_| limits.admit(&caller("t"), NOW).unwrap()).collect();
    for _ in under_way {
        limits.count("u", "t", today(), 40);
    }
    assert_eq!(refusal(&limits, "t", NOW), Some((Limit::TokensPerDay, Some(86_400))));
    assert_eq!(refusal(&limits, "s", later(3600)), Some((Limit::TokensPerDay, Some(82_800))));
    assert_eq!(limits.get(&user(), today()).1, Some(120));
    assert_eq!(refusal(&limits, "s", later(86_400)), None);
    assert_eq!(limits.get(&user(), Day(today().0 + 1)).1, Some(0));
}

/// F66: a restart gives nobody a new budget, and begins one on a new day.
#[test]
fn a_restart_begins_with_the_sums_of_the_day() {
    let sum = |day: Day, user: &str, token: &str, input| UsageSum {
        key: UsageKey { day, user: user.into(), token: token.into(), ..UsageKey::default() },
        counts: UsageCounts { input, cached: 9, output: 5, ..UsageCounts::default() },
    };
    let sums = [sum(today(), "u", "t", 10), sum(today(), "u", "s", 20), sum(today(), "v", "t2", 40)];
    let records = [user(), token("t")].map(|owner| LimitRecord { owner, limits: budget(1000) });
    let load = |day| CallerLimits::load(records.to_vec(), &sums, day);
    let used = |limits: &CallerLimits, day| [user(), token("t")].map(|owner| limits.get(&owner, day).1);
    assert_eq!(used(&load(today()), today()), [Some(40), Some(15)]);
    let tomorrow = Day(today().0 + 1);
    assert_eq!(used(&load(tomorrow), tomorrow), [Some(0), Some(0)]);
}

#[test]
fn changed_limits_keep_what_was_used_and_removed_ones_are_gone() {
    let limits = CallerLimits::default();
    assert!(!limits.is_any());
    limits.put(user(), budget(10), today(), 7);
    limits.count("u", "t", today(), 5);
    assert_eq!(refusal(&limits, "t", NOW).unwrap().0, Limit::TokensPerDay);
    let slot = {
        limits.put(user(), CallLimits { max_concurrent: Some(1), ..budget(20) }, today(), 0);
        assert_eq!(limits.get(&user(), today()).1, Some(12));
        limits.admit(&caller("t"), NOW).unwrap()
    };
    assert_eq!(refusal(&limits, "t", NOW), Some((Limit::MaxConcurrent, None)));
    limits.put(user(), CallLimits::default(), today(), 0);
    assert!(!limits.is_any() && limits.admit(&caller("t"), NOW).is_ok());
    drop(slot);
}

/// A durable task takes a request when it is accepted, and a slot when it runs.
#[test]
fn a_durable_task_takes_a_request_first_and_a_slot_later() {
    let limits =
        with(&[(user(), CallLimits { max_concurrent: Some(1), tokens_per_day: Some(9), ..requests(2) })]);
    let running = limits.admit(&caller("t"), NOW).unwrap();
    limits.accept(&caller("t"), NOW).unwrap();
    assert_eq!(limits.accept(&caller("t"), NOW).unwrap_err().limit, Some(Limit::RequestsPerMinute));
    assert!(limits.start(&caller("t"), NOW).is_none());
    drop(running);
    drop(limits.start(&caller("t"), NOW).unwrap());
    limits.count("u", "t", today(), 9);
    assert!(limits.start(&caller("t"), NOW).is_none());
    assert_eq!(limits.accept(&caller("t"), later(60)).unwrap_err().limit, Some(Limit::TokensPerDay));
}
