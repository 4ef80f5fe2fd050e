//! The limit for crashes, and caught panics of single futures.

use super::*;

#[actix::test]
async fn more_crashes_than_the_limit_end_the_actor() {
    rounds(Trap::Nowhere, async |setup| {
        for _ in 0..5 {
            assert!(setup.ask(Do::Panic).await.is_err());
        }
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1), "five crashes are within the limit");
        assert!(setup.ask(Do::Panic).await.is_err());
        pass(Duration::from_millis(1)).await;
        assert_eq!(setup.delays(), [0, 10, 100, 1000, 1000]);
        assert_eq!(setup.last_report(), Some(ChildReport::GaveUp { child: "worker".into() }));
        assert!(!setup.worker().connected());
        assert_eq!(setup.seen.dropped.get(), 1);
    })
    .await;
}

#[actix::test]
async fn crashes_older_than_the_window_do_not_count() {
    rounds(Trap::Nowhere, async |setup| {
        for _ in 0..20 {
            assert!(setup.ask(Do::Panic).await.is_err());
            pass(Duration::from_secs(15)).await;
        }
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
    })
    .await;
}

#[actix::test]
async fn a_reported_crash_counts_but_does_not_restart_the_actor() {
    rounds(Trap::Nowhere, async |setup| {
        for _ in 0..5 {
            setup.ask(Do::ReportTaskCrash).await.expect("alive");
            pass(Duration::from_millis(1)).await;
        }
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!((setup.seen.starts.get(), setup.causes()), (1, vec![Cause::Task; 5]));
        setup.ask(Do::ReportTaskCrash).await.expect("alive");
        pass(Duration::from_millis(1)).await;
        assert_eq!(setup.last_report(), Some(ChildReport::GaveUp { child: "worker".into() }));
    })
    .await;
}

#[actix::test]
async fn a_caught_panic_ends_only_its_future() {
    pause();
    for _ in 0..ROUNDS {
        let seen = Rc::<Observed>::default();
        let held = Held(Rc::clone(&seen));
        let panics = catch_panic("task".into(), async move {
            let _held = held;
            tokio::task::yield_now().await;
            panic!("in a task");
        });
        let works = catch_panic("task".into(), async { 7 });
        let (panics, works): (Result<(), _>, _) = futures_util::join!(panics, works);
        assert_eq!((panics, works), (Err(Panicked), Ok(7)));
        assert!(seen.died_at.get().is_some(), "the future is dropped before `catch_panic` returns");
    }
}
