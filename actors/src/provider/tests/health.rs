//! Health checks of the backend.

use super::*;

/// P7: checks do not overlap with a slow backend, after changed settings, or after a crash.
#[actix::test]
async fn health_checks_never_overlap() {
    let setup = start(config());
    setup.backend.check_takes.set(Duration::from_secs(25));
    sleep(Duration::from_mins(2)).await;
    for n in 0..4 {
        let config = ProviderConfig { model: n.to_string(), ..config() };
        setup.actor.do_send(Reconfigure { config: Arc::new(config) });
        sleep(Duration::from_secs(3)).await;
    }
    setup.actor.do_send(Poison);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(setup.backend.checked_at_once.get(), 1);
    let checks = setup.backend.checks.get();
    assert!(
        (10..=20).contains(&checks),
        "{checks} checks, expected one every 30 s and one for each change of settings"
    );
}

#[actix::test]
async fn a_check_of_old_settings_does_not_count_for_new_settings() {
    let setup = start(config());
    run_ready_tasks().await;
    setup.backend.down.set(true);
    setup.backend.check_takes.set(Duration::from_secs(5));
    sleep(Duration::from_secs(11)).await;
    setup.backend.down.set(false);
    setup.actor.do_send(Reconfigure { config: Arc::new(config()) });
    sleep(Duration::from_millis(4500)).await;
    assert_eq!(setup.report().await.status.status, Status::Active);
}

/// F86: the state of the old backend may have caused the crash.
#[actix::test]
async fn the_backend_is_replaced_after_a_crash() {
    let setup = start(config());
    run_ready_tasks().await;
    assert_eq!(setup.backend.made.get(), 1);
    setup.actor.do_send(Poison);
    run_ready_tasks().await;
    assert_eq!(setup.backend.made.get(), 2);
    setup.infer("t1").await;
    setup.backend.next().whole(200, &answer("x"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("t1")[0]["status"], 200);
}
