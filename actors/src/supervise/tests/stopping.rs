//! Delays of restarts, and shutdown.

use super::*;

/// Crashes the actor until its next restart has a delay of 1 s.
async fn crash_three_times(setup: &Setup) {
    for _ in 0..3 {
        assert!(setup.ask(Do::Panic).await.is_err());
    }
    setup.ask(Do::Add(1)).await.expect("alive");
}

#[actix::test]
async fn futures_of_a_crashed_actor_are_dropped_before_the_delay() {
    rounds(Trap::Nowhere, async |setup| {
        crash_three_times(&setup).await;
        setup.ask(Do::HoldAndPanic).await.expect("the handler itself returns");
        let start = Instant::now();
        pass(Duration::from_millis(1500)).await;
        let died = setup.seen.died_at.get().expect("the futures are dropped during the delay");
        assert!(died - start < Duration::from_millis(1500));
        assert_eq!(setup.seen.starts.get(), 4);
    })
    .await;
}

#[actix::test]
async fn a_shutdown_during_a_delay_is_prompt() {
    rounds(Trap::Nowhere, async |setup| {
        crash_three_times(&setup).await;
        assert!(setup.ask(Do::Panic).await.is_err());
        pass(Duration::from_millis(500)).await;
        let start = Instant::now();
        setup.handle.stop();
        setup.handle.ended().await;
        assert!(start.elapsed() < Duration::from_millis(10));
        assert_eq!((setup.seen.starts.get(), setup.seen.dropped.get()), (4, 1));
    })
    .await;
}

#[actix::test]
async fn shutdown_runs_the_hooks_once_and_nothing_restarts() {
    rounds(Trap::Nowhere, async |setup| {
        setup.ask(Do::Add(1)).await.expect("alive");
        setup.handle.stop();
        let Setup { worker, handle, seen, reports } = setup;
        handle.ended().await;
        pass(Duration::from_secs(5)).await;
        assert_eq!((seen.starts.get(), seen.stopped.get(), seen.dropped.get()), (1, 1, 1));
        assert!(!worker.expect("kept").connected());
        assert_eq!(*reports.borrow(), [ChildReport::Ended { child: "worker".into() }]);
    })
    .await;
}

#[actix::test]
async fn an_actor_without_addresses_is_not_restarted() {
    rounds(Trap::Nowhere, async |mut setup| {
        setup.ask(Do::PanicInTimer).await.expect("the handler itself returns");
        setup.worker = None;
        setup.handle.ended().await;
        assert_eq!((setup.seen.starts.get(), setup.seen.dropped.get()), (1, 1));
    })
    .await;
}
