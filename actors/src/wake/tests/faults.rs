//! Recipes that hang, print endlessly, or cannot run, and endless requests.

use std::os::unix::fs::PermissionsExt;

use tokio::time::{Instant, pause};

use super::*;

fn program(path: &std::path::Path) -> Action {
    Action::Command { command: path.display().to_string(), args: Vec::new(), scrub_env: Vec::new() }
}

/// F47: the server accepts the connection and never answers.
#[actix::test]
async fn an_http_call_times_out_after_30_seconds() {
    let listener = Listener::bind().await;
    let setup = start(config(Some(http(listener.url())), Duration::from_mins(10)));
    let waking = actix_rt::spawn(setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: false }));
    let mut connection = listener.accept().await;
    connection.request().await.unwrap();
    pause();
    let start = Instant::now();
    let failure = waking.await.unwrap().unwrap().unwrap_err();
    assert_eq!(failure, "wake recipe failed: wake HTTP timed out");
    assert!((29..=31).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

/// F48: the command ignores SIGTERM.
#[actix::test]
async fn a_command_that_times_out_leaves_no_process_and_no_zombie() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("trap '' TERM HUP; echo $$ > {}; while :; do sleep 0.05; done", pid.display());
    let setup = start(config(Some(command(&script)), Duration::from_millis(500)));
    assert_eq!(setup.failure().await, "wake recipe failed: wake command timed out");
    let late = pid_in(&pid).unwrap();
    wait_until("the process is reaped", || !std::path::Path::new(&format!("/proc/{late}")).exists()).await;
}

/// F48: the daemon is not killed.
#[actix::test]
async fn a_daemon_that_keeps_the_output_open_does_not_delay_the_wake() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("(sleep 300; echo late) & echo $! > {}", pid.display());
    let setup = start(config(Some(command(&script)), Duration::from_secs(20)));
    let start = Instant::now();
    setup.wake().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let daemon = pid_in(&pid).unwrap();
    assert!(is_alive(daemon));
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(daemon))).unwrap();
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// F49, P7: the command's standard streams are `/dev/null`.
#[actix::test]
async fn the_output_of_a_recipe_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let fds = dir.path().join("fds");
    let list = "for fd in 0 1 2; do all=\"$all $(readlink /proc/$$/fd/$fd)\"; done";
    let list = format!("{list}; echo $all > {}", fds.display());
    let output = "head -c 200000000 /dev/zero; head -c 1000000 /dev/urandom >&2; echo $HOME";
    let setup = start(config(Some(command(&format!("{list}; {output}"))), Duration::from_secs(20)));
    setup.wake().await.unwrap();
    assert_eq!(std::fs::read_to_string(fds).unwrap(), "/dev/null /dev/null /dev/null\n");
}

/// F50: recipes of other models still run.
#[actix::test]
async fn a_command_that_cannot_be_executed_affects_no_other_model() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-executable");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let no_interpreter = dir.path().join("no-interpreter");
    std::fs::write(&no_interpreter, "#!/no/such/shell\n").unwrap();
    std::fs::set_permissions(&no_interpreter, std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in [file.as_path(), no_interpreter.as_path(), dir.path()] {
        let setup = start(config(Some(program(path)), Duration::from_secs(5)));
        let other = ProviderConfig {
            wire_name: "b".parse().unwrap(),
            ..config(Some(command("sleep 0.1")), Duration::from_secs(5))
        };
        let changed = probe().0;
        let broken = config(Some(program(path)), Duration::from_secs(5));
        let managed = |config| ManagedProvider { config: Arc::new(config), power_changed: changed.clone() };
        setup.actor.do_send(SetProviders { providers: vec![managed(broken), managed(other)] });
        let (failed, woken) = futures_util::join!(
            setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: false }),
            setup.actor.send(EnsureAwake { wire_name: "b".into(), by_owner: false })
        );
        assert_eq!(failed.unwrap().unwrap_err(), "wake recipe failed: wake command not found", "{path:?}");
        assert!(woken.unwrap().is_ok());
    }
}

/// F51: both tasks get the result, of a successful and of a failed run.
#[actix::test]
async fn two_wake_tasks_for_one_model_cause_one_run_and_two_results() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    for (script, status) in [("sleep 0.1", Some(200)), ("sleep 0.1; exit 3", None)] {
        let script = format!("echo x >> {}; {script}", count.display());
        let setup = start(config(Some(command(&script)), Duration::from_secs(5)));
        BACKEND.with(|backend| backend.down.set(true));
        for id in ["t1", "t2"] {
            setup.send_task(id).await;
        }
        wait_until("the recipe runs", || count.exists()).await;
        BACKEND.with(|backend| backend.down.set(false));
        for id in ["t1", "t2"] {
            let result = setup.result_of(id).await;
            match status {
                Some(status) => assert_eq!(result["status"], status),
                None => assert_eq!(result["error"], "wake recipe failed: wake command exited with code 3"),
            }
        }
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
        std::fs::remove_file(&count).unwrap();
    }
}

/// A17: the recipe does not run while the backend is up, and rarely while the recipe fails.
#[actix::test]
async fn a_recipe_runs_rarely_however_often_a_hub_asks() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let setup = start(config(
        Some(command(&format!("echo x >> {}; exit 3", count.display()))),
        Duration::from_secs(5),
    ));
    let ask = async |id: String| {
        setup.send_task(&id).await;
        setup.result_of(&id).await
    };
    for n in 0..50 {
        assert_eq!(ask(format!("up{n}")).await["status"], 200);
    }
    assert!(!count.exists(), "the backend was up all the time");
    BACKEND.with(|backend| backend.down.set(true));
    let failed = "wake recipe failed: wake command exited with code 3";
    for n in 0..50 {
        assert_eq!(ask(format!("down{n}")).await["error"], failed);
        assert_eq!(setup.failure().await, failed);
    }
    let runs = || std::fs::read_to_string(&count).unwrap().lines().count();
    assert_eq!(runs(), 1);
    assert_eq!(setup.wake_by(true).await.unwrap_err(), failed);
    assert_eq!(runs(), 2, "the owner's request runs the recipe");
    BACKEND.with(|backend| backend.down.set(false));
    assert_eq!(ask("again".to_owned()).await["status"], 200, "the backend became available by itself");
    assert_eq!(runs(), 2);
}

#[actix::test]
async fn a_wake_by_the_owner_ends_the_pause_between_two_runs() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let recipe = command(&format!("echo x >> {}", count.display()));
    let setup = start(config(Some(recipe), Duration::from_secs(5)));
    let start = Instant::now();
    setup.wake().await.unwrap();
    BACKEND.with(|backend| backend.down.set(true));
    let checks = || BACKEND.with(|backend| backend.checks.get());
    let before = checks();
    let again = actix_rt::spawn(setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: false }));
    wait_until("the backend is checked", || checks() > before).await;
    assert!(!again.is_finished());
    let by_owner = setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: true });
    BACKEND.with(|backend| backend.down.set(false));
    by_owner.await.unwrap().unwrap();
    again.await.unwrap().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n", "the backend came up in the pause");
}

/// F51: the owner's request comes during the check for a wake task.
#[actix::test]
async fn a_wake_by_the_owner_runs_a_recipe_that_has_just_failed() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!("echo x >> {}; exit 3", count.display());
    let setup = start(config(Some(command(&script)), Duration::from_secs(5)));
    BACKEND.with(|backend| backend.down.set(true));
    let failed = setup.failure().await;
    let runs = || std::fs::read_to_string(&count).unwrap().lines().count();
    assert_eq!(runs(), 1);
    BACKEND.with(|backend| backend.check_takes.set(Duration::from_mins(1)));
    setup.send_task("t1").await;
    wait_until("the check runs", || BACKEND.with(|backend| backend.checked_now.get() > 0)).await;
    assert_eq!(setup.wake_by(true).await.unwrap_err(), failed);
    assert_eq!(runs(), 2);
    setup.result_of("t1").await;
}
