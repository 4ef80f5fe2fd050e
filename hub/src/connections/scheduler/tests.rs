use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use proptest::prelude::*;

use super::*;
use crate::connections::scheduled::Scheduled;
use crate::connections::table::{ConnectionPermit, ConnectionTable};
use crate::connections::{ConnectionLimits, turn};
use crate::model::{Caller, Role};
use crate::telemetry::Metrics;

fn table() -> Rc<ConnectionTable> {
    ConnectionTable::new(ConnectionLimits::of_test(4096), Metrics::new().unwrap().of_machine().unwrap())
}

/// Makes `user` the caller of the connection.
fn set_user(permit: &ConnectionPermit, user: &str) {
    let caller = Caller {
        user: user.to_owned(),
        role: Role::Member,
        token_id: "t".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    permit.connection.set_caller(Some(&caller)).unwrap();
}

fn connect(table: &Rc<ConnectionTable>, user: &str) -> ConnectionPermit {
    let permit = table.admit("10.0.0.1".parse().unwrap(), false);
    set_user(&permit, user);
    permit
}

#[expect(clippy::disallowed_methods, reason = "the time of a poll does not follow a test's clock")]
fn busy_wait(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {}
}

/// Spawns a connection of `user` that is busy for `each` in each of `times` polls and logs its user in each poll.
fn busy(
    table: &Rc<ConnectionTable>,
    user: &'static str,
    times: usize,
    each: Duration,
    log: &Log,
) -> JoinHandle<()> {
    let (permit, log) = (connect(table, user), log.clone());
    actix_rt::spawn(Scheduled::new(permit.connection.slot.clone(), async move {
        let _permit = permit;
        for _ in 0..times {
            busy_wait(each);
            log.borrow_mut().push(user);
            tokio::task::yield_now().await;
        }
    }))
}

type Log = Rc<RefCell<Vec<&'static str>>>;

/// A24: a user's connection waits for one busy connection of another user, not for all of them.
#[actix_rt::test]
async fn a_user_does_not_wait_for_all_connections_of_another() {
    let (table, log) = (table(), Log::default());
    let flood: Vec<_> =
        (0..100).map(|_| busy(&table, "mallory", 2, Duration::from_millis(3), &log)).collect();
    tokio::task::yield_now().await;
    for _ in 0..5 {
        let before = log.borrow().len();
        busy(&table, "alice", 3, Duration::from_micros(10), &log).await.unwrap();
        let others = log.borrow()[before..].iter().filter(|user| **user == "mallory").count();
        assert!(others <= 6, "{others} polls of mallory within three of alice");
    }
    for one in flood {
        one.await.unwrap();
    }
    assert_eq!(log.borrow().len(), 215);
}

/// A24: a user gains no time by a new connection for each request, from one address or many.
#[actix_rt::test]
async fn a_connection_for_each_request_gains_no_time() {
    for is_spread in [false, true] {
        let (table, log) = (table(), Log::default());
        let request = |number: u8| {
            let permit = table.admit([10, 1, if is_spread { number } else { 0 }, 1].into(), false);
            let (slot, log) = (permit.connection.slot.clone(), log.clone());
            actix_rt::spawn(Scheduled::new(slot, async move {
                if !is_spread {
                    busy_wait(Duration::from_millis(3));
                    log.borrow_mut().push("mallory");
                }
                set_user(&permit, "mallory");
                permit.connection.wait_for_new_queue().await;
                busy_wait(Duration::from_millis(3));
                log.borrow_mut().push("mallory");
            }))
        };
        let flood: Vec<_> = (0..100).map(request).collect();
        for _ in 0..5 {
            let before = log.borrow().len();
            busy(&table, "alice", 3, Duration::from_micros(10), &log).await.unwrap();
            let others = log.borrow()[before..].iter().filter(|user| **user == "mallory").count();
            assert!(others <= 12, "{others} polls of mallory within three of alice, spread: {is_spread}");
        }
        for one in flood {
            one.await.unwrap();
        }
    }
}

/// A24: a user's debt of time remains after the user's connections were closed.
#[actix_rt::test]
async fn a_debt_outlives_its_users_connections() {
    let scheduler = table().scheduler.clone();
    let mallory = || scheduler.queue(QueueOwner::User("mallory".into()));
    scheduler.is_running.set(true);
    mallory().charge(3 * SLICE);
    for _ in 0..2 {
        assert!(!mallory().has_time());
        scheduler.round.set(scheduler.round.get() + 1);
    }
    scheduler.round.set(scheduler.round.get() + 1);
    assert!(mallory().has_time());
    assert!(scheduler.debts.borrow().is_empty());
}

/// A27: a connection that gets its turn at a semaphore is polled at once, before other connections of its user.
#[actix_rt::test]
async fn a_connection_with_a_semaphore_turn_is_polled_at_once() {
    static TURNS: backend::FairSemaphore = backend::FairSemaphore::new(1, 1);
    let (table, log) = (table(), Log::default());
    let take_turn = |user: &'static str| {
        let permit = connect(&table, user);
        actix_rt::spawn(Scheduled::new(permit.connection.slot.clone(), async move {
            let _turn = turn(&TURNS, user).await;
            for _ in 0..3 {
                yield_now().await;
            }
        }))
    };
    let first = TURNS.acquire("alice").await;
    take_turn("mallory");
    let flood: Vec<_> =
        (0..200).map(|_| busy(&table, "mallory", 2, Duration::from_millis(2), &log)).collect();
    yield_now().await;
    drop(first);
    let before = log.borrow().len();
    take_turn("alice").await.unwrap();
    let others = log.borrow().len() - before;
    assert!(others <= 20, "{others} polls of mallory before alice had her turn");
    flood.iter().for_each(JoinHandle::abort);
}

/// A user without competitors begins up to [`MAX_SOLO_ROUNDS`] rounds at once; beside another user it begins one.
#[actix_rt::test]
async fn a_user_without_competitors_does_not_wait_for_its_next_round() {
    let table = table();
    let [alice, bob] = ["alice", "bob"].map(|user| connect(&table, user));
    let admits = |permit: &ConnectionPermit| {
        let slot = &permit.connection.slot;
        let queue = slot.queue.borrow().clone();
        let admits = queue.admits(slot, &Context::from_waker(Waker::noop()));
        queue.charge(SLICE);
        admits
    };
    assert!(admits(&alice));
    table.scheduler.round.set(2);
    assert!((0..=MAX_SOLO_ROUNDS).all(|_| admits(&alice)));
    assert!(!admits(&alice));
    while table.scheduler.is_running.get() {
        yield_now().await;
    }
    alice.connection.slot.state.set(SlotState::Idle);
    assert!(admits(&bob));
    table.scheduler.round.set(table.scheduler.round.get() + 9);
    assert!(admits(&alice) && admits(&bob) && !admits(&alice));
}

#[actix_rt::test]
async fn connections_that_find_no_time_left_keep_their_order() {
    let table = table();
    let permits: Vec<ConnectionPermit> = (0..5).map(|_| connect(&table, "alice")).collect();
    let queue = permits[0].connection.slot.queue.borrow().clone();
    let noop = Context::from_waker(Waker::noop());
    let admits = |permit: &ConnectionPermit| queue.admits(&permit.connection.slot, &noop);
    let line = || queue.line.borrow().iter().map(|(slot, _)| Rc::as_ptr(slot)).collect::<Vec<_>>();
    queue.charge(SLICE);
    assert!(!permits.iter().any(admits));
    let order = line();
    table.scheduler.round.set(table.scheduler.round.get() + 1);
    queue.usual.set(SLICE / 4);
    queue.wake();
    assert_eq!(line().len(), 1);
    queue.charge(SLICE);
    assert!(!permits[..4].iter().any(admits));
    assert_eq!(line(), order);
}

/// A24: a trusted proxy's connection is in the caller's queue during a request and in a queue of its own otherwise.
#[actix_rt::test]
async fn a_proxys_connection_has_its_own_queue_between_requests() {
    let table = table();
    let permit = table.admit([10, 0, 0, 1].into(), true);
    let owner = || permit.connection.slot.queue.borrow().owner.clone();
    let own = owner();
    assert!(matches!(own, QueueOwner::Connection(_)));
    for user in ["alice", "bob"] {
        let call = permit.connection.begin(&mut actix_http::Request::new());
        set_user(&permit, user);
        assert_eq!(owner(), QueueOwner::User(user.into()));
        drop(call);
        assert_eq!(owner(), own);
    }
}

#[actix_rt::test]
async fn a_queue_is_dropped_with_its_last_connection() {
    let (table, log) = (table(), Log::default());
    let all: Vec<_> = (0..20).map(|_| busy(&table, "alice", 10, Duration::from_micros(500), &log)).collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(log.borrow().len(), 200);
    assert!(table.scheduler.waiting.borrow().is_empty());
    assert_eq!((table.scheduler.queues.borrow().len(), table.scheduler.debts.borrow().len()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_connection_is_polled_to_its_end(
        tasks in prop::collection::vec((0..3_usize, 0..5_usize, 0..1500_u64, prop::bool::weighted(0.1)), 1..40),
    ) {
        actix_rt::System::new().block_on(async {
            let (table, log) = (table(), Log::default());
            let mut expected = 0;
            let mut all = Vec::new();
            for (user, times, micros, leaves) in tasks {
                let each = Duration::from_micros(micros);
                let task = busy(&table, ["a", "b", "c"][user], times, each, &log);
                if leaves {
                    tokio::task::yield_now().await;
                    task.abort();
                } else {
                    expected += times;
                    all.push(task);
                }
            }
            for task in all {
                tokio::time::timeout(Duration::from_secs(10), task).await.expect("the connection is polled to its end").unwrap();
            }
            assert!(log.borrow().len() >= expected);
        });
    }
}
