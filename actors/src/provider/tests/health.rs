//! What is asked of the backend beside its tasks.

use super::*;

/// P7: however slow a backend is with its health, and however often its settings change, it is asked once at a time.
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
    assert!((10..=20).contains(&checks), "{checks}: one every 30 s, and one for each change");
}

/// What was asked of a backend under the old settings says nothing of the new.
#[actix::test]
async fn a_check_of_the_old_settings_does_not_count_for_the_new() {
    let setup = start(config());
    turns().await;
    setup.backend.down.set(true);
    setup.backend.check_takes.set(Duration::from_secs(5));
    sleep(Duration::from_secs(11)).await;
    setup.backend.down.set(false);
    setup.actor.do_send(Reconfigure { config: Arc::new(config()) });
    sleep(Duration::from_millis(4500)).await;
    assert_eq!(setup.report().await.status.status, Status::Active);
}

/// F86: a crash of the actor makes its backend anew: what crashed may be the backend's own bookkeeping.
#[actix::test]
async fn a_backend_is_made_anew_after_a_crash() {
    let setup = start(config());
    turns().await;
    assert_eq!(setup.backend.made.get(), 1);
    setup.actor.do_send(Poison);
    turns().await;
    assert_eq!(setup.backend.made.get(), 2);
    setup.infer("t1").await;
    setup.backend.next().whole(200, &answer("x"));
    turns().await;
    assert_eq!(setup.desk.of("t1")[0]["status"], 200);
}
