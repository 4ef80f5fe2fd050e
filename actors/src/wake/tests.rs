//! The `WakeActor` with real commands and sockets.

mod faults;

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use testkit::peer::{Listener, Script, Step};
use testkit::procfs::is_alive;
use testkit::wait::wait_until;
use tokio::net::UdpSocket;
use wire::row::Timestamp;
use wire::task::WakeTask;
use wire::{Features, TaskId};

use super::messages::{EnsureAwake, PowerChanged, PutToSleep, SetProviders, SetWakePaused, Shutdown, Wake};
use super::*;
use crate::Secret;
use crate::fakes::backend::{BackendHandle, FakeUplink, PostedResults, ScriptedBackend};
use crate::fakes::hub::{Received, probe};
use crate::heartbeat::messages::Beat;
use crate::options::{Action, BackendConfig, CustomBackend, ProviderConfig, SleepRecipe, WakeRecipe};

thread_local! {
    /// The backend of the test on this thread.
    static BACKEND: Rc<ScriptedBackend> = Rc::default();
}

struct Setup {
    results: Rc<PostedResults>,
    outbox: Outbox,
    actor: Addr<WakeActor>,
    beats: Received<Beat>,
    power: Received<PowerChanged>,
}

fn config(action: Option<Action>, max_wait: Duration) -> ProviderConfig {
    let backend =
        CustomBackend(Arc::new(|| BACKEND.with(|backend| Rc::new(BackendHandle(Rc::clone(backend))))));
    let wake = action.map(|action| WakeRecipe { action, max_wait });
    ProviderConfig { wake, ..ProviderConfig::new("a".parse().unwrap(), "m", BackendConfig::Custom(backend)) }
}

fn start(config: ProviderConfig) -> Setup {
    let results = Rc::<PostedResults>::default();
    let outbox = Outbox::new(Rc::new(FakeUplink(Rc::clone(&results))));
    let ((beat, beats), (changed, power)) = (probe(), probe());
    let actor =
        WakeActor::new(WakeLinks { beat, http: crate::backend::Client::new(None) }, outbox.clone()).start();
    actor.do_send(SetProviders {
        providers: vec![ManagedProvider { config: Arc::new(config), power_changed: changed }],
    });
    Setup { results, outbox, actor, beats, power }
}

fn command(script: &str) -> Action {
    let args = vec!["-c".to_owned(), script.to_owned()];
    Action::Command { command: "sh".into(), args, scrub_env: vec!["VLLM_KEY".into()] }
}

fn http(url: String) -> Action {
    let headers = vec![("x-secret".to_owned(), Secret::new("s"))];
    Action::Http { url: Secret::new(url), method: "POST".into(), headers, body: Some(Secret::new("{}")) }
}

impl Setup {
    async fn wake(&self) -> Result<Duration, String> {
        self.wake_by(false).await
    }

    async fn wake_by(&self, by_owner: bool) -> Result<Duration, String> {
        self.actor.send(EnsureAwake { wire_name: "a".into(), by_owner }).await.unwrap()
    }

    /// Sends a wake task.
    async fn send_task(&self, id: &str) {
        self.send_task_of(id, Features::CLASSIC).await;
    }

    async fn send_task_of(&self, id: &str, features: Features) {
        let task = WakeTask { id: TaskId::parse(id).unwrap(), llm_name: "a".into() };
        let ticket = self.outbox.accept(&task.id, 0).unwrap();
        self.actor.send(Wake { task, ticket, features }).await.unwrap();
    }

    /// Waits for the result of a wake task.
    async fn result_of(&self, id: &str) -> serde_json::Value {
        wait_until("the task is answered", || !self.results.of(id).is_empty()).await;
        self.results.of(id).pop().unwrap()
    }

    async fn failure(&self) -> String {
        self.wake().await.unwrap_err()
    }
}

fn pid_in(file: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// F51: each request gets its own result.
#[actix::test]
async fn a_recipe_runs_once_for_all_concurrent_requests() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let setup = start(config(
        Some(command(&format!("echo x >> {}; sleep 0.2", count.display()))),
        Duration::from_secs(5),
    ));
    let asked = futures_util::future::join_all((0..20).map(|_| setup.wake())).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    assert!(!setup.beats.borrow().is_empty(), "each poll of the backend requests a heartbeat");
    assert!(setup.power.borrow().iter().all(|power| power.awake));
}

#[actix::test]
async fn a_wake_task_is_answered_with_ok_and_milliseconds() {
    let setup = start(config(Some(command("exit 0")), Duration::from_secs(5)));
    setup.send_task("t1").await;
    let result = setup.result_of("t1").await;
    assert_eq!((&result["status"], &result["body"]["ok"]), (&json!(200), &json!(true)));
    assert!(result["body"]["ms"].is_u64());
}

/// The owner paused so that no backend takes the GPU. Without a pause the same task runs the recipe.
#[actix::test]
async fn a_pause_refuses_wake_tasks_and_the_owners_up_still_runs_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let recipe = command(&format!("echo x >> {}", count.display()));
    let setup = start(config(Some(recipe), Duration::from_secs(5)));
    let runs = || std::fs::read_to_string(&count).unwrap_or_default().len() / 2;
    BACKEND.with(|backend| backend.down.set(true));
    let until = Timestamp(jiff::Timestamp::now().as_millisecond()).plus_millis(60_000);
    setup.actor.do_send(SetWakePaused(Some(Pause { until: Some(until) })));

    setup.send_task_of("t1", Features::ALL).await;
    let result = setup.result_of("t1").await;
    let code = &result["body"]["error"]["code"];
    assert_eq!((&result["status"], code), (&json!(503), &json!("paused")), "{result}");
    assert!((59..=60).contains(&result["retryAfter"].as_u64().unwrap()), "{result}");
    setup.send_task("t2").await;
    let expected = format!("'a' is paused by its owner until {until}, try again then");
    assert_eq!(setup.result_of("t2").await, json!({ "error": expected }), "a classic hub gets an error");
    assert_eq!(runs(), 0);

    let owner = setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: true });
    let owner = actix_rt::spawn(owner);
    wait_until("the owner's recipe runs", || runs() == 1).await;
    BACKEND.with(|backend| backend.down.set(false));
    owner.await.unwrap().unwrap().unwrap();

    setup.actor.do_send(SetWakePaused(None));
    BACKEND.with(|backend| backend.down.set(true));
    setup.send_task("t3").await;
    wait_until("the recipe of a wake task runs", || runs() == 2).await;
    BACKEND.with(|backend| backend.down.set(false));
    assert_eq!(setup.result_of("t3").await["body"]["ok"], json!(true));
}

#[actix::test]
async fn a_woken_backend_is_polled_until_it_is_available() {
    let setup = start(config(Some(command("exit 0")), Duration::from_secs(20)));
    BACKEND.with(|backend| backend.down.set(true));
    let waking = actix_rt::spawn({
        let actor = setup.actor.clone();
        async move { actor.send(EnsureAwake { wire_name: "a".into(), by_owner: false }).await.unwrap() }
    });
    wait_until("the first poll", || !setup.beats.borrow().is_empty()).await;
    BACKEND.with(|backend| backend.down.set(false));
    let took = waking.await.unwrap().unwrap();
    assert!(took >= Duration::from_secs(1), "{took:?}: the second poll comes 1.5 s after the first");
    assert_eq!(setup.beats.borrow().len(), 2);
}

#[actix::test]
async fn a_backend_that_stays_down_gets_the_error_did_not_come_up() {
    let setup = start(config(Some(command("exit 0")), Duration::from_millis(100)));
    BACKEND.with(|backend| backend.down.set(true));
    assert_eq!(setup.failure().await, "provider 'a' did not come up within 100ms");
}

/// F50: the command is not found, exits with a code, is killed, or times out.
#[actix::test]
async fn the_error_of_a_command_names_its_cause() {
    for (action, text) in [
        (command("exit 3"), "wake recipe failed: wake command exited with code 3"),
        (command("kill -9 $$"), "wake recipe failed: wake command killed by signal 9"),
        (
            Action::Command { command: "/no/such/program".into(), args: Vec::new(), scrub_env: Vec::new() },
            "wake recipe failed: wake command not found",
        ),
        (command("sleep 60"), "wake recipe failed: wake command timed out"),
    ] {
        assert_eq!(start(config(Some(action), Duration::from_millis(300))).failure().await, text);
    }
}

/// A16, A18: a redirect is not followed and counts as a failure.
#[actix::test]
async fn only_a_2xx_of_an_http_call_is_success() {
    let wait = Duration::from_secs(5);
    let says = |head: &str| Script::start(vec![Step::Say(head.to_owned())]);
    let server = says("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    let failure = start(config(Some(http(server.url.clone())), wait)).failure().await;
    assert_eq!(failure, "wake recipe failed: wake HTTP returned 503");
    let request = server.requests().remove(0);
    assert!(request.head.starts_with("POST /v1 HTTP/1.1"), "{request:?}");
    assert_eq!(request.header("x-secret"), Some("s"));
    let server = says("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n");
    let failure = start(config(Some(http(server.url.clone())), wait)).failure().await;
    assert_eq!(failure, "wake recipe failed: wake HTTP returned 302");
    let failure = start(config(Some(http("http://127.0.0.1:1/".into())), wait)).failure().await;
    assert_eq!(failure, "wake recipe failed: wake HTTP unreachable");
    let server = says("HTTP/1.1 204 No Content\r\n\r\n");
    start(config(Some(http(server.url.clone())), wait)).wake().await.unwrap();
}

/// F47, F48: a daemon that a successful command started is not killed.
#[actix::test]
async fn a_command_that_times_out_is_killed_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let child = format!("sleep 300 & echo $! > {}", pid.display());
    let setup = start(config(Some(command(&format!("{child}; wait"))), Duration::from_millis(500)));
    assert_eq!(setup.failure().await, "wake recipe failed: wake command timed out");
    let late = pid_in(&pid).unwrap();
    wait_until("the child of the late command is killed", || !is_alive(late)).await;

    std::fs::remove_file(&pid).unwrap();
    start(config(Some(command(&child)), Duration::from_secs(5))).wake().await.unwrap();
    let server = pid_in(&pid).unwrap();
    assert!(is_alive(server));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// F71, F47: the shutdown comes in the middle of a wake.
#[actix::test]
async fn a_shutdown_kills_the_group_and_answers_all_requests() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 300 & echo $! > {}; wait", pid.display());
    let setup = start(config(Some(command(&script)), Duration::from_mins(1)));
    let waking = setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: false });
    let waking = actix_rt::spawn(waking);
    wait_until("the recipe runs", || pid_in(&pid).is_some()).await;
    setup.actor.do_send(Shutdown);
    assert_eq!(waking.await.unwrap().unwrap(), Err("publisher shutting down".to_owned()));
    let child = pid_in(&pid).unwrap();
    wait_until("the group is killed", || !is_alive(child)).await;
    assert_eq!(setup.failure().await, "publisher shutting down");
}

/// A17: no recipe runs.
#[actix::test]
async fn a_name_without_a_recipe_or_a_provider_has_its_own_error() {
    let setup = start(config(None, Duration::ZERO));
    assert_eq!(setup.failure().await, "provider 'a' has no wake recipe configured");
    let other = setup.actor.send(EnsureAwake { wire_name: "b".into(), by_owner: false }).await.unwrap();
    assert_eq!(other, Err("provider 'b' not registered locally".to_owned()));
}

#[actix::test]
async fn a_wake_during_the_sleep_recipe_runs_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let say = |word: &str| command(&format!("sleep 0.2; echo {word} >> {}", log.display()));
    let wait = Duration::from_secs(5);
    let sleep = Some(SleepRecipe { action: say("sleep"), max_wait: wait, idle: None });
    let setup = start(ProviderConfig { sleep, ..config(Some(say("wake")), wait) });
    let (slept, woken) = futures_util::join!(
        setup.actor.send(PutToSleep { wire_name: "a".into() }),
        setup.actor.send(EnsureAwake { wire_name: "a".into(), by_owner: false })
    );
    assert_eq!(slept.unwrap(), Ok(()));
    assert!(woken.unwrap().is_ok());
    assert_eq!(std::fs::read_to_string(log).unwrap(), "sleep\nwake\n");
    let power: Vec<bool> = setup.power.borrow().iter().map(|power| power.awake).collect();
    assert_eq!(power, [false, true]);
}

#[actix::test]
async fn a_wake_on_lan_packet_has_six_bytes_ff_and_the_address_sixteen_times() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mac = [0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0x0F];
    let port = socket.local_addr().unwrap().port();
    let action = Action::WakeOnLan { mac, broadcast: "127.0.0.1".into(), port };
    start(config(Some(action), Duration::from_secs(5))).wake().await.unwrap();
    let mut packet = [0; 200];
    let read = socket.recv(&mut packet).await.unwrap();
    assert_eq!(packet[..read], [[0xFF; 6].as_slice(), &mac.repeat(16)].concat());
}
