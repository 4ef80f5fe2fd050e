//! Backends that sleep.

use super::*;

#[actix::test]
async fn a_backend_that_refuses_connections_is_woken_once_and_then_asked_again() {
    let setup = start(with_recipe());
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Unavailable);
    let start = Instant::now();
    sleep(Duration::from_secs(4)).await;
    setup.backend.next().whole(200, &answer("awake"));
    turns().await;
    assert_eq!(setup.desk.of("t1")[0]["status"], 200);
    assert_eq!(*setup.asked.borrow(), ["wake"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    setup.infer("t2").await;
    setup.backend.next().fail(BackendError::Unavailable);
    sleep(Duration::from_secs(4)).await;
    setup.backend.next().fail(BackendError::Unavailable);
    turns().await;
    assert_eq!(setup.desk.error_of("t2").as_deref(), Some("backend not available"));
}

#[actix::test]
async fn a_backend_that_sleeps_is_woken_before_it_is_asked_and_a_failed_wake_is_the_answer() {
    let setup = start(with_recipe());
    setup.backend.down.set(true);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(setup.report().await.status.status, Status::Hibernating);
    setup.wake_answers.borrow_mut().push_back(Err("wake recipe failed: wake HTTP returned 500".into()));
    setup.infer("t1").await;
    sleep(Duration::from_secs(4)).await;
    let error = setup.desk.error_of("t1");
    assert_eq!(error.as_deref(), Some("wake recipe failed: wake HTTP returned 500"));
    assert_eq!(setup.backend.calls(), 0);
}

#[actix::test]
async fn without_a_recipe_an_unreachable_backend_is_not_available_and_reads_inactive() {
    let setup = start(config());
    setup.backend.down.set(true);
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Unavailable);
    turns().await;
    assert_eq!(setup.desk.error_of("t1").as_deref(), Some("backend not available"));
    assert_eq!(setup.report().await.status.status, Status::Inactive);
}

#[actix::test]
async fn after_idle_seconds_without_a_task_the_sleep_recipe_runs_and_not_before() {
    let wake = with_recipe();
    let action = wake.wake.as_ref().unwrap().action.clone();
    let idle = Some(Duration::from_mins(1));
    let sleep_recipe = SleepRecipe { action, max_wait: Duration::from_mins(1), idle };
    let setup = start(ProviderConfig { sleep: Some(sleep_recipe), ..wake });
    sleep(Duration::from_secs(50)).await;
    setup.infer("t1").await;
    sleep(Duration::from_mins(5)).await;
    assert!(setup.asked.borrow().is_empty(), "a task runs");
    setup.backend.next().whole(200, &answer("x"));
    sleep(Duration::from_secs(59)).await;
    assert!(setup.asked.borrow().is_empty());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep"]);
    assert_eq!(setup.report().await.status.status, Status::Hibernating);
    setup.infer("t2").await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep", "wake"]);
    assert_eq!(setup.backend.calls(), 1);
}
