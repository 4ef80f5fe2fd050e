//! Sleeping backends and wake recipes.

use super::*;
use crate::wake::messages::PowerChanged;

/// F35: a backend with a wake recipe refuses connections.
#[actix::test]
async fn a_backend_that_refuses_connections_is_woken_and_called_again() {
    let setup = start(with_recipe());
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Unavailable);
    let start = Instant::now();
    sleep(Duration::from_secs(4)).await;
    setup.backend.next().whole(200, &answer("awake"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("t1")[0]["status"], 200);
    assert_eq!(*setup.asked.borrow(), ["wake"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    setup.infer("t2").await;
    setup.backend.next().fail(BackendError::Unavailable);
    sleep(Duration::from_secs(4)).await;
    setup.backend.next().fail(BackendError::Unavailable);
    run_ready_tasks().await;
    assert_eq!(setup.results.error_of("t2").as_deref(), Some("backend not available"));
}

/// A count is estimated at the hub while the backend is away.
#[actix::test]
async fn a_count_wakes_no_backend() {
    let setup = start(with_recipe());
    setup.infer_at("t1", "messages/count_tokens").await;
    setup.backend.next().fail(BackendError::Unavailable);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(setup.results.error_of("t1").as_deref(), Some("backend not available"));
    setup.backend.down.set(true);
    setup.infer_at("t2", "responses/input_tokens").await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(setup.results.error_of("t2").as_deref(), Some("backend not available"));
    assert!(setup.asked.borrow().is_empty());
}

/// P1: the backend may have run the request.
#[actix::test]
async fn a_backend_that_broke_off_is_not_called_again() {
    let setup = start(with_recipe());
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Failed("backend broke off before it answered".into()));
    sleep(Duration::from_secs(4)).await;
    assert_eq!(setup.results.error_of("t1").as_deref(), Some("backend broke off before it answered"));
    assert!(setup.asked.borrow().is_empty());
    assert_eq!(setup.backend.calls(), 0);
}

#[actix::test]
async fn a_failed_wake_ends_the_task_with_its_error() {
    let setup = start(with_recipe());
    setup.backend.down.set(true);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(setup.report().await.status.status, Status::Hibernating);
    setup.wake_answers.borrow_mut().push_back(Err("wake recipe failed: wake HTTP returned 500".into()));
    setup.infer("t1").await;
    sleep(Duration::from_secs(4)).await;
    let error = setup.results.error_of("t1");
    assert_eq!(error.as_deref(), Some("wake recipe failed: wake HTTP returned 500"));
    assert_eq!(setup.backend.calls(), 0);
}

/// F35: an inactive model is not offered by the hub.
#[actix::test]
async fn without_a_recipe_an_unreachable_backend_is_inactive() {
    let setup = start(config());
    setup.backend.down.set(true);
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Unavailable);
    run_ready_tasks().await;
    assert_eq!(setup.results.error_of("t1").as_deref(), Some("backend not available"));
    assert_eq!(setup.report().await.status.status, Status::Inactive);
}

fn with_sleep() -> ProviderConfig {
    let wake = with_recipe();
    let action = wake.wake.as_ref().unwrap().action.clone();
    let idle = Some(Duration::from_mins(1));
    let sleep = Some(SleepRecipe { action, max_wait: Duration::from_mins(1), idle });
    ProviderConfig { sleep, ..wake }
}

#[actix::test]
async fn the_sleep_recipe_runs_after_idle_seconds() {
    let setup = start(with_sleep());
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

#[actix::test]
async fn a_task_waits_while_the_backend_falls_asleep_and_then_wakes_it() {
    let setup = start(with_sleep());
    setup.falls_asleep_in.set(Duration::from_secs(5));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep"]);
    setup.infer("t1").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!((setup.backend.calls(), setup.asked.borrow().len()), (0, 1));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep", "wake"]);
    setup.backend.next().whole(200, &answer("x"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("t1")[0]["status"], 200);
}

#[actix::test]
async fn a_backend_put_to_sleep_is_woken_though_its_server_answers() {
    let setup = start(with_sleep());
    sleep(Duration::from_secs(61)).await;
    setup.backend.down.set(false);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(setup.report().await.status.status, Status::Hibernating);
    setup.infer("t1").await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep", "wake"]);
    setup.actor.do_send(PowerChanged { awake: true });
    run_ready_tasks().await;
    assert_eq!(setup.report().await.status.status, Status::Active);
}

#[actix::test]
async fn with_availability_a_sleeping_model_is_woken_before_the_task() {
    let availability = crate::options::Availability {
        url: Secret::new("http://127.0.0.1:1/is_sleeping"),
        json_pointer: "/is_sleeping".into(),
        equals: json!(false),
    };
    let setup = start(ProviderConfig { availability: Some(availability), ..with_recipe() });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.report().await.status.status, Status::Active);
    setup.backend.down.set(true);
    setup.infer("t1").await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(*setup.asked.borrow(), ["wake"]);
    assert_eq!(setup.backend.calls(), 1);
}

#[actix::test]
async fn a_backend_too_busy_for_a_health_check_stays_active() {
    let setup = start(config());
    setup.infer("t1").await;
    setup.backend.down.set(true);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(setup.report().await.status.status, Status::Active);
    setup.backend.next().whole(200, &answer("x"));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(setup.report().await.status.status, Status::Inactive);
}
