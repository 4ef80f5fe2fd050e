//! Each kind of crash of an actor, repeated 50 times, on a paused clock.

mod counting;
mod stopping;
mod worker;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, pause};

use super::catch_panic::Panicked;
use super::*;
use worker::*;

/// Number of repetitions; enough to expose a restart that works only by chance.
const ROUNDS: usize = 50;

async fn rounds(trap: Trap, test: impl AsyncFn(Setup)) {
    pause();
    for _ in 0..ROUNDS {
        test(Setup::new(trap)).await;
    }
}

#[actix::test]
async fn a_panic_loses_only_the_message_that_caused_it() {
    rounds(Trap::Nowhere, async |setup| {
        let worker = setup.worker();
        let before = worker.send(Do::Add(1));
        let crash = worker.send(Do::Panic);
        let after: Vec<_> = (2..10).map(|n| worker.send(Do::Add(n))).collect();
        assert_eq!(before.await.ok(), Some(1));
        assert!(crash.await.is_err());
        for answer in after {
            answer.await.expect("a message in the mailbox survives the crash");
        }
        assert_eq!(*setup.seen.answered.borrow(), (1..10).collect::<Vec<_>>());
        assert!(worker.connected());
        assert_eq!(setup.causes(), [Cause::Panic]);
    })
    .await;
}

#[actix::test]
async fn a_restart_begins_with_clean_state() {
    rounds(Trap::Nowhere, async |setup| {
        assert_eq!(setup.ask(Do::Add(5)).await.ok(), Some(5));
        assert!(setup.ask(Do::Panic).await.is_err());
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.seen.starts.get(), 2);
    })
    .await;
}

async fn restarts_after(message: Do) {
    rounds(Trap::Nowhere, async |setup| {
        setup.ask(message).await.expect("the handler itself returns");
        pass(Duration::from_secs(2)).await;
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.seen.starts.get(), 2);
        assert_eq!(setup.causes(), [Cause::Panic]);
    })
    .await;
}

#[actix::test]
async fn a_panic_in_a_spawned_future_restarts_the_actor() {
    restarts_after(Do::PanicInSpawned).await;
}

#[actix::test]
async fn a_panic_in_a_timer_restarts_the_actor() {
    restarts_after(Do::PanicInTimer).await;
}

#[actix::test]
async fn a_panic_in_started_restarts_the_actor() {
    rounds(Trap::Started(3), async |setup| {
        assert_eq!(
            setup.ask(Do::Add(1)).await.ok(),
            Some(1),
            "the message is handled after the fourth start"
        );
        assert_eq!(setup.seen.starts.get(), 4);
        assert_eq!(setup.delays(), [0, 10, 100]);
    })
    .await;
}

#[actix::test]
async fn a_stop_in_started_is_restarted_with_delays() {
    rounds(Trap::StopInStarted, async |setup| {
        pass(Duration::from_secs(10)).await;
        assert_eq!(setup.seen.starts.get(), 6);
        assert_eq!(setup.delays(), [0, 10, 100, 1000, 1000]);
        assert_eq!(setup.last_report(), Some(ChildReport::GaveUp { child: "worker".into() }));
    })
    .await;
}

#[actix::test]
async fn a_panic_in_restarting_counts_as_one_more_crash() {
    rounds(Trap::Restarting(2), async |setup| {
        assert!(setup.ask(Do::Panic).await.is_err());
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.causes(), [Cause::Panic, Cause::Panic, Cause::Panic]);
        assert_eq!(setup.seen.starts.get(), 2);
    })
    .await;
}

#[actix::test]
async fn a_panic_in_stopped_restarts_the_actor() {
    rounds(Trap::Stopped, async |setup| {
        setup.ask(Do::Stop).await.expect("the handler itself returns");
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.causes(), [Cause::Panic]);
    })
    .await;
}

#[actix::test]
async fn a_panic_in_stopped_during_shutdown_ends_the_actor() {
    rounds(Trap::Stopped, async |setup| {
        setup.ask(Do::Add(1)).await.expect("alive");
        setup.handle.stop();
        setup.handle.ended().await;
        assert_eq!(setup.seen.dropped.get(), 1);
    })
    .await;
}

#[actix::test]
async fn an_actor_that_stops_itself_is_restarted() {
    rounds(Trap::Nowhere, async |setup| {
        setup.ask(Do::Add(7)).await.expect("alive");
        setup.ask(Do::Stop).await.expect("the handler itself returns");
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!((setup.causes(), setup.seen.stopped.get()), (vec![Cause::Stop], 1));
    })
    .await;
}

#[actix::test]
async fn an_interval_is_armed_exactly_once_after_a_restart() {
    rounds(Trap::Nowhere, async |setup| {
        for _ in 0..3 {
            assert!(setup.ask(Do::Panic).await.is_err());
        }
        pass(Duration::from_secs(1)).await;
        let before = setup.seen.ticks.get();
        pass(Duration::from_mins(1)).await;
        assert_eq!(setup.seen.ticks.get() - before, 6);
    })
    .await;
}

#[actix::test]
async fn a_panic_fails_only_one_of_a_hundred_requests() {
    rounds(Trap::Nowhere, async |setup| {
        let worker = setup.worker();
        let asked: Vec<_> =
            (0..100).map(|n| worker.send(if n == 50 { Do::Panic } else { Do::Add(n) })).collect();
        let answers = futures_util::future::join_all(asked).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 99);
    })
    .await;
}
