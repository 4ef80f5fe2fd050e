//! How capacity is assigned to waiting callers in any order of events, and the cost of that.

mod world;

use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::super::caller_queues::Decision;
use super::super::pick::TriedMembers;
use super::offers::try_assign;
use super::*;
use crate::tests::support::hub;
use world::{Op, ROWS, USERS, World, any_op, request, user};

fn waiter_of(request: &InferenceRequest, assign: oneshot::Sender<Candidate>) -> Waiter {
    Waiter { target: request.target.clone(), conversation: None, assign }
}

/// A27: in any order of events, no caller waits while there is capacity for it, and all assigned capacity is counted.
#[actix_rt::test]
async fn no_caller_waits_while_there_is_capacity_for_it() {
    let hub = hub().await;
    let core = hub.core();
    let case = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&prop::collection::vec(any_op(), 1..60), |ops| {
        case.set(case.get() + 1);
        let mut world = World::new(core, case.get());
        for op in &ops {
            world.step(op);
            // After a call the assignments are read later, together with those of the next event.
            if !matches!(op, Op::Call { .. }) {
                world.read();
            }
        }
        let mut rounds = 0;
        loop {
            let is_left = core.serve_offers(&mut core.registry.lock());
            if !world.read() && !is_left {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 1000, "the offers do not end");
        }
        prop_assert!(world.starved().is_none(), "{:?}", world.starved().map(|request| &request.target));
        let counted: u32 = (0..2)
            .flat_map(|who| (0..ROWS).map(move |row| (who, row)))
            .map(|(who, row)| core.registry.lock().in_flight(&world.row(who, row)))
            .sum();
        prop_assert_eq!(counted as usize, world.served.len());
        world.waiting.clear();
        world.served.clear();
        let queues = core.capacity.queues.lock();
        prop_assert!(queues.callers.is_empty());
        Ok(())
    });
    ran.unwrap();
    hub.stop().await;
}

/// A27: when the last active rows of a pool hibernate, a row that hibernated before is assigned to be woken.
#[actix_rt::test]
async fn a_hibernating_row_is_woken_when_the_active_ones_hibernate() {
    let hub = hub().await;
    let core = hub.core();
    let mut world = World::new(core, 0);
    world.step(&Op::Close(1));
    world.step(&Op::Beat(0, vec![(true, 1, 2), (false, 1, 1), (false, 1, 1)]));
    for _ in 0..ROWS {
        world.step(&Op::Call { user: 0, admin: false, to: 0, tried: None });
    }
    assert_eq!((world.waiting.len(), world.served.len()), (ROWS, 0));
    world.step(&Op::Beat(0, vec![(true, 1, 2), (true, 0, 1), (true, 0, 1)]));
    while core.serve_offers(&mut core.registry.lock()) {}
    world.read();
    assert_eq!((world.waiting.len(), world.served.len()), (0, ROWS));
    drop(world);
    hub.stop().await;
}

/// A34: a call whose agent was changed to another row costs no checks, and is served when the agent is changed back.
#[actix_rt::test]
async fn a_caller_of_a_detached_agent_waits_for_the_agent() {
    let hub = hub().await;
    let mut world = World::new(hub.core(), 0);
    let [full, free] = [2, 0].map(|busy| Op::Beat(0, vec![(false, busy, 2); ROWS]));
    world.step(&Op::Beat(1, vec![(false, 2, 2); ROWS]));
    world.step(&full);
    // Agent 1 leads only to the private row.
    world.step(&Op::Call { user: 2, admin: false, to: 2 + 2 * ROWS, tried: None });
    world.step(&Op::Agent(1, false, true));
    assert!(!world.read());
    world.step(&free);
    assert!(world.read() && world.waiting.len() == 1 && world.waiting[0].2.class.detached);
    let checks = || hub.core().capacity.checked_callers.load(std::sync::atomic::Ordering::Relaxed);
    let before = checks();
    for state in [&full, &free, &full, &free] {
        world.step(state);
    }
    assert_eq!((checks() - before, world.read()), (0, false));
    world.step(&Op::Agent(1, false, false));
    assert!(world.read() && world.waiting.is_empty() && world.served.len() == 1);
    drop(world);
    hub.stop().await;
}

/// P7: callers of many users without rows in a pool cost one scan of the pool; each owner of rows costs one more.
#[actix_rt::test]
async fn a_pool_is_scanned_once_for_all_users_without_rows_in_it() {
    const STRANGERS: usize = 50;
    let hub = hub().await;
    let mut world = World::new(hub.core(), 0);
    for who in 0..2 {
        // One row is active and full, the others hibernate and have capacity.
        world.step(&Op::Beat(who, vec![(false, 2, 2), (true, 0, 2), (true, 0, 2)]));
    }
    {
        let mut registry = hub.core().registry.lock();
        let (before, mut exhausted) = (registry.pool_scans, HashSet::new());
        for name in
            USERS.into_iter().map(str::to_owned).chain((0..STRANGERS).map(|n| format!("stranger-{n}")))
        {
            let caller = user(&name);
            let target = registry.target(&caller, "pool-0").unwrap();
            let request = request(caller, target);
            let mut waiter = Some(waiter_of(&request, oneshot::channel().0));
            assert_eq!(
                try_assign(
                    &mut registry,
                    &class_of(&request, false, BTreeSet::new()),
                    &mut waiter,
                    &mut exhausted
                ),
                Decision::Remove
            );
            let (assign, _assigned) = oneshot::channel();
            let mut waiter = Some(waiter_of(&request, assign));
            assert_eq!(
                try_assign(
                    &mut registry,
                    &class_of(&request, false, BTreeSet::new()),
                    &mut waiter,
                    &mut exhausted
                ),
                Decision::Keep
            );
        }
        assert_eq!(registry.pool_scans - before, 3);
    }
    drop(world);
    hub.stop().await;
}

/// A27: a caller that arrives during an offer overtakes no other caller and is served.
#[actix_rt::test]
async fn a_caller_that_arrives_during_an_offer_overtakes_no_other_caller() {
    let hub = hub().await;
    let core = hub.core();
    let mut world = World::new(core, 0);
    for who in 0..2 {
        world.step(&Op::Beat(who, vec![(false, 2, 2); ROWS]));
    }
    let strangers = (0..9).map(|n| format!("stranger-{n}"));
    for user in std::iter::once("carol".to_owned()).chain(strangers) {
        let target = core.registry.lock().target(&self::user(&user), "pool-0").unwrap();
        world.call(request(self::user(&user), target), TriedMembers::default());
    }
    // The private row has capacity, but none of the callers may use it.
    world.step(&Op::Beat(0, vec![(false, 2, 2), (false, 0, 2), (false, 2, 2)]));
    assert!(!core.capacity.queues.lock().offers.is_empty(), "the offer is finished at once");
    world.step(&Op::Call { user: 2, admin: false, to: 3 + 2 * ROWS, tried: None });
    assert_eq!((world.waiting.len(), world.served.len()), (11, 0));
    while core.serve_offers(&mut core.registry.lock()) {}
    world.read();
    assert_eq!((world.waiting.len(), world.served.len()), (10, 1));
    drop(world);
    hub.stop().await;
}

/// P7: durable tasks are notified of capacity that no caller takes, and only of that.
#[actix_rt::test]
async fn durable_tasks_are_not_notified_of_capacity_that_a_caller_takes() {
    let hub = hub().await;
    let core = hub.core();
    let mut world = World::new(core, 0);
    for who in 0..2 {
        world.step(&Op::Beat(who, vec![(false, 2, 2); ROWS]));
    }
    let body = json!({ "llm": world.row(0, 0), "request": { "messages": [] } }).to_string();
    assert_eq!(hub.ask("POST", "/api/v1/inference-tasks").body(body).send().await.0, 202);
    let notices = || core.tasks.capacity_notices.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..2 {
        world.step(&Op::Call { user: 2, admin: false, to: 1, tried: None });
    }
    assert_eq!((world.waiting.len(), core.tasks.depth()), (2, 1));
    let before = notices();
    let report = |room| Op::Beat(0, vec![(false, 0, room), (false, 2, 2), (false, 2, 2)]);
    world.step(&report(1));
    world.read();
    assert_eq!((world.waiting.len(), world.served.len(), notices() - before), (1, 1, 0));
    world.step(&report(2));
    world.read();
    assert_eq!((world.waiting.len(), world.served.len(), notices() - before), (0, 2, 0));
    drop(world.served.pop());
    assert!(notices() > before);
    drop(world);
    hub.stop().await;
}

/// A27: a connection whose call waits for capacity has priority until its task is sent.
#[actix_rt::test]
async fn a_waiting_connection_has_priority_until_its_task_is_sent() {
    let hub = hub().await;
    let mut world = World::new(hub.core(), 0);
    for who in 0..2 {
        world.step(&Op::Beat(who, vec![(false, 2, 2); ROWS]));
    }
    let call = Op::Call { user: 2, admin: false, to: 0, tried: None };
    let count = |pressure: &std::sync::Arc<std::sync::atomic::AtomicU32>| {
        pressure.load(std::sync::atomic::Ordering::Relaxed)
    };
    let ((), waiting_count) = crate::connections::with_priority_count(|| world.step(&call));
    assert_eq!((world.waiting.len(), count(&waiting_count)), (1, 1));
    world.step(&Op::Beat(0, vec![(false, 0, 2); ROWS]));
    let (.., mut queued) = world.waiting.pop().unwrap();
    let (reservation, reserved_count) =
        crate::connections::with_priority_count(|| queued.assigned().now_or_never());
    drop(queued);
    assert_eq!((count(&waiting_count), count(&reserved_count)), (0, 1));
    reservation.unwrap().unwrap().1.keep();
    assert_eq!(count(&reserved_count), 0);
    drop(world);
    hub.stop().await;
}

/// A wait for an earlier claim leaves the waits of later callers alone, and the last of these leaves nothing.
#[actix_rt::test]
async fn a_wait_for_an_earlier_claim_does_not_end_later_ones() {
    let hub = hub().await;
    let core = hub.core();
    let wait = || ClaimWait::new(core, &core.registry.lock(), "a");
    let early = wait();
    core.capacity.claims.claimed(&["a".into()]);
    let mut late = wait();
    drop(early);
    assert!(late.claimed().now_or_never().is_none(), "a caller is notified without a claim");
    core.capacity.claims.claimed(&["a".into()]);
    assert!(late.claimed().now_or_never().is_some());
    let (one, two) = (wait(), wait());
    drop((late, one, two));
    assert!(core.capacity.claims.is_empty());
    hub.stop().await;
}
