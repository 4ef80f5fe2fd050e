//! Limits of users and tokens in memory.

use std::time::Duration;

use wire::row::Timestamp;

use super::*;
use crate::cluster::Process;
use crate::model::Role;
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
    Caller {
        user: "u".into(),
        role: Role::Member,
        token_id: token.into(),
        models: AllowedModels::default(),
        secret: None,
    }
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
    CallerLimits::load(records.collect(), &[], "", today())
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
    let spent = [spent("", "u", "t", 15), spent("", "u", "s", 25), spent("", "v", "t2", 40)];
    let records = [user(), token("t")].map(|owner| LimitRecord { owner, limits: budget(1000) });
    let limits = CallerLimits::load(records.to_vec(), &spent, "", today());
    let used = |day| [user(), token("t")].map(|owner| limits.get(&owner, day).1);
    assert_eq!(used(today()), [Some(40), Some(15)]);
    assert_eq!(used(Day(today().0 + 1)), [Some(0), Some(0)]);
}

fn spent(hub: &str, user: &str, token: &str, tokens: u64) -> Spent {
    Spent { hub: hub.into(), user: user.into(), token: token.into(), tokens }
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

/// Two hubs with the same limits, which tell each other what they used.
struct Hubs {
    limits: [CallerLimits; 2],
    processes: [Process; 2],
}

impl Hubs {
    fn with(of_user: CallLimits) -> Self {
        let processes = ["a.aaaaaa", "b.bbbbbb"].map(|name| Process::parse(name).unwrap());
        let mut hubs =
            Self { limits: [with(&[(user(), of_user.clone())]), with(&[(user(), of_user)])], processes };
        hubs.tell(true, NOW);
        hubs
    }

    fn tell(&mut self, again: bool, now: Now) {
        for (from, to) in [(0, 1), (1, 0)] {
            let told = self.limits[from].tell(again);
            self.limits[to].told(self.processes[from], told, now);
        }
    }
}

#[test]
fn a_budget_is_that_of_all_hubs() {
    let mut hubs = Hubs::with(budget(100));
    hubs.limits[0].count("u", "t", today(), 60);
    hubs.limits[1].count("u", "t", today(), 60);
    assert!(hubs.limits.iter().all(|limits| limits.admit(&caller("t"), NOW).is_ok()));
    hubs.tell(false, NOW);
    for limits in &hubs.limits {
        assert_eq!(refusal(limits, "t", NOW).unwrap().0, Limit::TokensPerDay);
        assert_eq!(limits.get(&user(), today()).1, Some(120));
    }
    // What was told twice counts once, and nothing is left of it on the next day.
    hubs.tell(true, NOW);
    assert_eq!(hubs.limits[0].get(&user(), today()).1, Some(120));
    assert!(hubs.limits[0].tell(false).is_empty());
    let tomorrow = later(86_400);
    hubs.tell(true, tomorrow);
    assert!(hubs.limits.iter().all(|limits| limits.admit(&caller("t"), tomorrow).is_ok()));
}

#[test]
fn calls_at_a_time_are_those_of_all_hubs_that_live() {
    let mut hubs = Hubs::with(calls(2));
    let _of_a = hubs.limits[0].admit(&caller("t"), NOW).unwrap();
    let of_b = hubs.limits[1].admit(&caller("t"), NOW).unwrap();
    hubs.tell(false, NOW);
    for limits in &hubs.limits {
        assert_eq!(refusal(limits, "t", NOW).unwrap().0, Limit::MaxConcurrent);
    }
    drop(of_b);
    hubs.tell(false, NOW);
    let again = hubs.limits[0].admit(&caller("t"), NOW).unwrap();
    hubs.tell(false, NOW);
    assert_eq!(refusal(&hubs.limits[1], "t", NOW).unwrap().0, Limit::MaxConcurrent);
    // The other hub dies with its calls.
    hubs.limits[1].gone("a");
    assert!(hubs.limits[1].admit(&caller("t"), NOW).is_ok());
    drop(again);
}

#[test]
fn requests_of_a_minute_are_those_of_all_hubs() {
    let mut hubs = Hubs::with(requests(4));
    for limits in &hubs.limits {
        (0..2).for_each(|_| drop(limits.admit(&caller("t"), NOW).unwrap()));
    }
    hubs.tell(false, NOW);
    for limits in &hubs.limits {
        assert_eq!(refusal(limits, "t", NOW), Some((Limit::RequestsPerMinute, Some(15))));
        assert_eq!(refusal(limits, "t", later(15)), None);
    }
    // One that starts anew counts from zero, and what it accepted before it was known is over.
    let [a, b] = hubs.processes;
    let restarted = Process::parse("a.cccccc").unwrap();
    let share = |requests| vec![(user(), Share { requests, ..Share::default() })];
    let fresh = with(&[(user(), requests(4))]);
    fresh.told(b, share(1000), NOW);
    fresh.told(a, share(0), NOW);
    assert_eq!(refusal(&fresh, "t", NOW), None);
    fresh.told(a, share(2), NOW);
    fresh.told(restarted, share(1), NOW);
    assert_eq!(refusal(&fresh, "t", NOW), Some((Limit::RequestsPerMinute, Some(15))));
    // No more than all is missing, however many others accepted.
    fresh.told(b, share(9000), NOW);
    assert_eq!(refusal(&fresh, "t", later(15)), None);
}

/// What a hub used before another one starts is in the store, and counts once when it tells it as well.
#[test]
fn a_hub_that_starts_begins_with_the_shares_of_all() {
    let record = LimitRecord { owner: user(), limits: budget(1000) };
    let stored = [
        spent("a", "u", "t", 10),
        spent("b", "u", "s", 20),
        spent("b", "u", "t", 40),
        spent("b", "v", "x", 9),
    ];
    let limits = CallerLimits::load(vec![record], &stored, "a", today());
    let used = || limits.get(&user(), today()).1;
    assert_eq!(used(), Some(70));
    let share = Share { day: today().0, tokens: 65, ..Share::default() };
    limits.told(Process::parse("b.bbbbbb").unwrap(), vec![(user(), share)], NOW);
    assert_eq!(used(), Some(75));
    // A process that was killed before it had written all begins with less.
    limits.told(Process::parse("b.cccccc").unwrap(), vec![(user(), Share { tokens: 60, ..share })], NOW);
    limits.learn(&[spent("b", "u", "t", 62), spent("a", "u", "t", 500)], "a", today());
    assert_eq!(used(), Some(75));
    limits.learn(&[spent("b", "u", "t", 80)], "a", today());
    assert_eq!(used(), Some(90));
}

/// A clock that is set back over midnight gives nobody a second budget, and one that was years ahead takes nobody's.
#[test]
fn a_clock_that_is_set_back_begins_no_day() {
    let limits = with(&[(user(), budget(100))]);
    let at = |days: i64| Now { wall: NOW.wall.plus_millis(days * 86_400_000), ..NOW };
    let count = |now: Now, tokens| limits.count("u", "t", Day::of(now.wall), tokens);
    let used = |now: Now| limits.get(&user(), Day::of(now.wall)).1;
    count(at(1), 60);
    assert_eq!(used(at(0)), Some(60), "yesterday's budget begins again");
    count(at(0), 60);
    assert!(refusal(&limits, "t", at(0)).is_some() && refusal(&limits, "t", at(1)).is_some());
    assert_eq!(used(at(2)), Some(0));
    count(at(4000), 100);
    assert_eq!(used(at(3)), Some(0), "the budget of a day in ten years stays");
}
