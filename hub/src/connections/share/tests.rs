//! Whose connections are served when.

use std::time::Duration;

use actix_rt::task::JoinHandle;
use proptest::prelude::*;

use super::*;
use crate::connections::table::{Place, Table};
use crate::connections::{ConnectionLimits, turn};
use crate::model::{Caller, Role};
use crate::telemetry::Metrics;

fn table() -> Rc<Table> {
    let limits =
        ConnectionLimits { all: 4096, strangers: 4096, members: 4096, of_member: 4096, of_address: None };
    Table::new(limits, Metrics::new().unwrap().of_machine().unwrap())
}

/// `user` shows a token on the connection.
fn speaks(place: &Place, user: &str) {
    let caller = Caller { user: user.to_owned(), role: Role::Member, token_id: "t".into() };
    place.flow.speaks(Some(&caller)).unwrap();
}

/// A connection of `user`'s.
fn connect(table: &Rc<Table>, user: &str) -> Place {
    let place = table.admit("10.0.0.1".parse().unwrap(), false);
    speaks(&place, user);
    place
}

#[expect(clippy::disallowed_methods, reason = "what a poll takes is no test's time")]
fn work(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {}
}

/// A connection that is busy for a while, so many times, each at the next poll; the names of all that were, in order.
fn busy(table: &Rc<Table>, user: &'static str, times: usize, each: Duration, log: &Log) -> JoinHandle<()> {
    let (place, log) = (connect(table, user), log.clone());
    actix_rt::spawn(Fair::new(place.flow.clone(), async move {
        let _place = place;
        for _ in 0..times {
            work(each);
            log.borrow_mut().push(user);
            tokio::task::yield_now().await;
        }
    }))
}

type Log = Rc<RefCell<Vec<&'static str>>>;

/// A24: one user's connections, however many are ready at once and whatever each of them costs, are served within its
/// share: another user's comes after one of them, not after all.
#[actix_rt::test]
async fn a_user_is_not_served_after_all_that_another_has() {
    let (table, log) = (table(), Log::default());
    let flood: Vec<_> =
        (0..100).map(|_| busy(&table, "mallory", 2, Duration::from_millis(3), &log)).collect();
    tokio::task::yield_now().await;
    for _ in 0..5 {
        let before = log.borrow().len();
        busy(&table, "alice", 3, Duration::from_micros(10), &log).await.unwrap();
        let others = log.borrow()[before..].iter().filter(|user| **user == "mallory").count();
        assert!(others <= 6, "{others} polls of another's within three of hers");
    }
    for one in flood {
        one.await.unwrap();
    }
    assert_eq!(log.borrow().len(), 215);
}

/// A24: whoever opens a connection for each request is served within its share all the same, be its token read on one
/// address or on many.
#[actix_rt::test]
async fn a_connection_for_each_request_does_not_get_around_a_share() {
    for is_spread in [false, true] {
        let (table, log) = (table(), Log::default());
        let comes = |number: u8| {
            let place = table.admit([10, 1, if is_spread { number } else { 0 }, 1].into(), false);
            let (flow, log) = (place.flow.clone(), log.clone());
            actix_rt::spawn(Fair::new(flow, async move {
                if !is_spread {
                    work(Duration::from_millis(3));
                    log.borrow_mut().push("mallory");
                }
                speaks(&place, "mallory");
                place.flow.is_let_in().await;
                work(Duration::from_millis(3));
                log.borrow_mut().push("mallory");
            }))
        };
        let flood: Vec<_> = (0..100).map(comes).collect();
        for _ in 0..5 {
            let before = log.borrow().len();
            busy(&table, "alice", 3, Duration::from_micros(10), &log).await.unwrap();
            let others = log.borrow()[before..].iter().filter(|user| **user == "mallory").count();
            assert!(others <= 12, "{others} polls of another's within three of hers, spread: {is_spread}");
        }
        for one in flood {
            one.await.unwrap();
        }
    }
}

/// A24: whoever leaves while somebody waits comes back with what it owes.
#[actix_rt::test]
async fn a_debt_outlives_its_users_connections() {
    let shares = table().shares.clone();
    let mallory = || shares.of(Who::User("mallory".into()));
    shares.is_serving.set(true);
    mallory().use_up(3 * SLICE);
    for _ in 0..2 {
        assert!(!mallory().has_time());
        shares.round.set(shares.round.get() + 1);
    }
    shares.round.set(shares.round.get() + 1);
    assert!(mallory().has_time());
    assert!(shares.owed.borrow().is_empty());
}

/// A27: a turn that is given to one of a user's connections is used and given on, however many others that user has in
/// line.
#[actix_rt::test]
async fn a_turn_is_not_held_by_a_connection_in_line() {
    static TURNS: backend::Turns = backend::Turns::of(1, 1);
    let (table, log) = (table(), Log::default());
    let takes = |user: &'static str| {
        let place = connect(&table, user);
        actix_rt::spawn(Fair::new(place.flow.clone(), async move {
            let _turn = turn(&TURNS, user).await;
            for _ in 0..3 {
                yield_now().await;
            }
        }))
    };
    let first = TURNS.take("alice").await;
    takes("mallory");
    let flood: Vec<_> =
        (0..200).map(|_| busy(&table, "mallory", 2, Duration::from_millis(2), &log)).collect();
    yield_now().await;
    drop(first);
    let before = log.borrow().len();
    takes("alice").await.unwrap();
    let others = log.borrow().len() - before;
    assert!(others <= 20, "{others} polls of another's before she had her turn");
    flood.iter().for_each(JoinHandle::abort);
}

/// One who is alone has round after round at once, until it is time to look who else is ready, and not where somebody
/// else is.
#[actix_rt::test]
async fn who_is_alone_waits_for_nobody() {
    let table = table();
    let [alice, bob] = ["alice", "bob"].map(|user| connect(&table, user));
    let admits = |place: &Place| {
        let share = place.flow.share.borrow().clone();
        let admits = share.admits(&place.flow, &Context::from_waker(Waker::noop()));
        share.use_up(SLICE);
        admits
    };
    assert!(admits(&alice));
    table.shares.round.set(2);
    assert!((0..=ALONE).all(|_| admits(&alice)));
    assert!(!admits(&alice));
    while table.shares.is_serving.get() {
        yield_now().await;
    }
    alice.flow.turn.set(Turn::Free);
    assert!(admits(&bob));
    table.shares.round.set(table.shares.round.get() + 9);
    assert!(admits(&alice) && admits(&bob) && !admits(&alice));
}

/// Those that come to their turn when the time is used up keep their order.
#[actix_rt::test]
async fn whoever_comes_too_late_keeps_its_place() {
    let table = table();
    let places: Vec<Place> = (0..5).map(|_| connect(&table, "alice")).collect();
    let share = places[0].flow.share.borrow().clone();
    let admits = |place: &Place| share.admits(&place.flow, &Context::from_waker(Waker::noop()));
    let line = || share.line.borrow().iter().map(|(flow, _)| flow.id()).collect::<Vec<_>>();
    share.use_up(SLICE);
    assert!(!places.iter().any(admits));
    let order = line();
    table.shares.round.set(table.shares.round.get() + 1);
    share.usual.set(SLICE / 4);
    share.wake();
    assert_eq!(line().len(), 1);
    share.use_up(SLICE);
    assert!(!places[..4].iter().any(admits));
    assert_eq!(line(), order);
}

/// A24: what a named proxy's connection does before it is known for whom is nobody's else.
#[actix_rt::test]
async fn a_proxys_connection_has_a_share_of_its_own_between_two_requests() {
    let table = table();
    let place = table.admit([10, 0, 0, 1].into(), true);
    let who = || place.flow.share.borrow().who.clone();
    let own = who();
    assert!(matches!(own, Who::Connection(_)));
    for user in ["alice", "bob"] {
        let open = place.flow.begin(&mut actix_http::Request::new());
        speaks(&place, user);
        assert_eq!(who(), Who::User(user.into()));
        drop(open);
        assert_eq!(who(), own);
    }
}

/// Nothing is kept of those who have left.
#[actix_rt::test]
async fn a_share_ends_with_the_last_connection() {
    let (table, log) = (table(), Log::default());
    let all: Vec<_> = (0..20).map(|_| busy(&table, "alice", 10, Duration::from_micros(500), &log)).collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(log.borrow().len(), 200);
    assert!(table.shares.waiting.borrow().is_empty());
    assert_eq!((table.shares.of.borrow().len(), table.shares.owed.borrow().len()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Nobody is forgotten, whoever comes and leaves, in any order.
    #[test]
    fn everybody_is_served(
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
                tokio::time::timeout(Duration::from_secs(10), task).await.expect("forgotten").unwrap();
            }
            assert!(log.borrow().len() >= expected);
        });
    }
}
