//! Exhausted resources of the operating system: file descriptors, disk space, a log pipe that is not read.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::classic_hub::ClassicHub;
use testkit::free_port;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, Team, start_hub, start_hub_after};
use testkit::wait::{PATIENCE, eventually, wait_for, wait_until};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::registrar::{QUICK, home_with_backend, home_with_mock};

/// Ignores SIGXFSZ, so that a write above the limit fails with an error, as on a full disk.
const NO_SIGNAL: &str = "trap '' XFSZ";

/// Sets the process's soft limit for the size of a file. With 0, every write fails as on a full disk.
fn set_file_size(pid: i32, soft: &str) {
    let set = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--fsize={soft}:")])
        .status()
        .unwrap();
    assert!(set.success());
}

async fn terminate(mut child: Child) -> Option<i32> {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    timeout(PATIENCE, child.wait()).await.expect("the process ends").unwrap().code()
}

/// F87: a registrar whose standard error is a full pipe serves tasks, and ends at SIGTERM.
#[actix_rt::test]
async fn a_registrar_with_a_full_log_pipe_serves_and_stops() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let child = home.command(&QUICK).spawn().unwrap();
    hub.channel(1).await;
    // Each of these tasks writes a log line, and a pipe holds 64 KiB.
    for _ in 0..5000 {
        hub.send("event: task\ndata: {nonsense\n\n");
    }
    hub.infer("t1", "m", false, "still here?");
    hub.ended("t1").await;
    let beats = hub.requests("_provider-heartbeat").len();
    hub.request("_provider-heartbeat", beats + 2).await;
    assert_eq!(terminate(child).await, Some(0));
}

/// F87: a hub whose standard error is a full pipe serves calls, and ends at SIGTERM.
#[actix_rt::test]
async fn a_hub_with_a_full_log_pipe_serves_and_stops() {
    let (home, port) = (Home::new(), free_port());
    let mut command = home.command(&["hub", "--in-memory", "--listen", &format!("127.0.0.1:{port}"), "-vv"]);
    let child = command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap();
    let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
    wait_for("the hub listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
    let provider = json!({ "name": "a", "type": "openai", "model": "m", "initialStatus": "active" });
    let register = json!({ "providers": [provider] });
    // Each round writes three log lines (session, channel opened, channel closed): together more than a pipe holds.
    for _ in 0..700 {
        let registered = http.post("/api/v1/llms/_provider-register", &register).await.json();
        let session = registered["providerSessionId"].as_str().unwrap().to_owned();
        drop(http.open_channel(&session).await);
        eventually("the channel closes", async || {
            http.get("/api/v1/llms/a").await.json()["status"] == "inactive"
        })
        .await;
    }
    assert_eq!(http.get("/healthz").await.status, 200);
    assert_eq!(terminate(child).await, Some(0));
}

/// F62, F52: on a full disk a registrar publishes under a session id in memory, and its log lines are lost.
#[actix_rt::test]
async fn a_registrar_publishes_on_a_full_disk() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let mut command = home.command_after(&format!("{NO_SIGNAL}; ulimit -f 0"), &QUICK);
    let log = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = command.stderr(Stdio::from(log)).spawn().unwrap();
    hub.channel(1).await;
    hub.script("_provider-heartbeat", [(404, json!({ "error": "unknown session" }))]);
    let again = hub.request("_provider-register", 2).await;
    assert_eq!(
        again.json()["providerSessionId"],
        "sess-1",
        "the registrar knows its session id, though it is not on disk"
    );
    hub.channel(2).await;
    hub.infer("t1", "m", false, "hi");
    assert_eq!(hub.ended("t1").await[0]["status"], 200);
    assert_eq!(terminate(child).await, Some(0));
    let left: Vec<_> = std::fs::read_dir(home.mcpctl())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "provider-session.lock")
        .filter(|name| name.contains("session") || name.contains(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// F52: each start without a writable session file logs a warning.
#[actix_rt::test]
async fn a_warning_names_the_session_file_that_cannot_be_created() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let file = home.write("in-the-way", "").join("provider-session");
    let args = [&["--session-file", file.to_str().unwrap()], &QUICK[..]].concat();
    for start in 1..=2 {
        let process = home.start(&args);
        hub.channel(start).await;
        hub.infer(&format!("t{start}"), "m", false, "hi");
        hub.ended(&format!("t{start}")).await;
        process.signal(Signal::SIGTERM);
        let outcome = process.end().await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        let named = |line: &&str| line.contains("WARN") && line.contains(file.to_str().unwrap());
        assert!(
            outcome.stderr.lines().filter(named).count() >= 2,
            "one warning for the lock and one for the file: {outcome:?}"
        );
    }
}

/// F63: on a full disk, requests that must be stored are refused with 503 and `Retry-After`, and other requests are served.
/// When there is room again, the hub stores all changes made meanwhile, without a restart.
#[actix_rt::test]
async fn a_hub_on_a_full_disk_refuses_writes_and_loses_no_change() {
    let mut team = Team::start_after(NO_SIGNAL).await;
    team.backend.script(|script| script.think = Duration::from_millis(700));
    let enqueue = json!({ "llm": "local", "request": { "messages": [] } });
    let task = team.http.post("/api/v1/inference-tasks", &enqueue).await.json();
    let path = format!("/api/v1/inference-tasks/{}", task["id"].as_str().unwrap());
    wait_until("the task runs", || team.backend.open() == 1).await;

    set_file_size(team.hub.pid(), "0");
    let refused = [
        team.http.post("/api/v1/tokens", &json!({ "user": "bob" })).await,
        team.http.post("/api/v1/inference-tasks", &enqueue).await,
    ];
    for answer in refused {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
    }
    team.backend.script(|script| script.think = Duration::ZERO);
    assert_eq!(team.chat(false).await.status, 200, "a direct call needs no write");
    assert_eq!(team.http.get("/api/v1/llms/local").await.status, 200);
    wait_until("the task is answered", || team.backend.open() == 0).await;
    let status = team.http.get(&path).await.json()["status"].take();
    assert!(
        status == "claimed" || status == "running",
        "the end of the task is not stored, so its status must not be {status}"
    );

    set_file_size(team.hub.pid(), "unlimited");
    assert_eq!(team.http.post("/api/v1/tokens", &json!({ "user": "bob" })).await.status, 201);
    let ended = async || (team.http.get(&path).await.json()["status"] == "completed").then_some(());
    wait_for("the task ends", ended).await;
    // A task whose status is final is already on disk, so it survives SIGKILL.
    team.hub.signal(Signal::SIGKILL);
    team.hub.ended().await;
    team.hub = start_hub(&team.home, team.port);
    team.hub.logs("opened").await;
    let task = team.http.get(&path).await.json();
    assert_eq!(task["status"], "completed", "{task}");
    let users: Vec<Value> = team.http.get("/api/v1/tokens").await.json().as_array().unwrap().clone();
    assert_eq!(users.iter().filter(|token| token["user"] == "bob").count(), 1, "{users:?}");
}

/// F65: a hub does not start with a file that is not its database. It prints an error, and does not change the file.
#[actix_rt::test]
async fn a_hub_does_not_start_with_a_file_that_is_not_its_database() {
    let home = Home::new();
    let file = home.path().join("hub/hub.db");
    let content = "no database at all, but long enough to look at\n".repeat(100);
    std::fs::create_dir(home.path().join("hub")).unwrap();
    std::fs::write(&file, &content).unwrap();
    let outcome = start_hub(&home, 0).end().await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    let errors: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert!(
        errors.len() == 1 && errors[0].contains("damaged") && errors[0].contains("hub.db"),
        "{outcome:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
}

/// F85: a hub without free descriptors neither spins nor ends, and serves again when descriptors are free.
#[actix_rt::test]
async fn a_hub_without_descriptors_neither_spins_nor_dies() {
    let (home, port) = (Home::new(), free_port());
    let hub = start_hub_after("ulimit -n 64", &home, port);
    hub.logs("listens on").await;
    let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
    assert_eq!(http.get("/api/v1/llms").await.status, 200);
    let flood = join_all((0..200).map(|_| TcpStream::connect(("127.0.0.1", port)))).await;
    let before = hub.cpu();
    sleep(Duration::from_secs(1)).await;
    let used = hub.cpu() - before;
    assert!(used < 0.5, "{used} s of CPU in a second");
    drop(flood);
    let served = timeout(PATIENCE, http.get("/api/v1/llms")).await.expect("the hub serves again");
    assert_eq!(served.status, 200);
    hub.signal(Signal::SIGTERM);
    assert_eq!(hub.end().await.code(), 0);
}

/// F85: a registrar without free descriptors ends each of its tasks, does not spin, and serves again when descriptors are free.
#[actix_rt::test]
async fn a_registrar_without_descriptors_ends_its_tasks_and_recovers() {
    const TASKS: usize = 64;
    let (hub, backend) = (ClassicHub::start(), FakeBackend::start());
    backend.script(|script| (script.think, script.close) = (Duration::from_millis(1500), true));
    let home = home_with_backend(&hub, &backend, &json!({ "maxConcurrency": TASKS }));
    let process = Process::new(home.command_after("ulimit -n 64", &QUICK).spawn().unwrap());
    hub.channel(1).await;
    for n in 0..TASKS {
        hub.infer(&format!("t{n}"), "a", false, "x");
    }
    wait_until("no descriptor is free", || backend.open() > 20).await;
    let before = process.cpu();
    sleep(Duration::from_secs(1)).await;
    let used = process.cpu() - before;
    assert!(used < 0.7, "{used} s of CPU in a second");
    let mut answered = 0;
    for n in 0..TASKS {
        let last = hub.ended(&format!("t{n}")).await.pop().unwrap();
        answered += usize::from(last["status"] == 200);
        assert!(last["status"] == 200 || last["error"] == "backend not available", "{last}");
    }
    assert!((20..TASKS).contains(&answered), "{answered} of {TASKS} had a descriptor");
    backend.script(|script| script.think = Duration::ZERO);
    // Idle connections keep their descriptors for some seconds, and each try uses one, so the test makes few tries.
    let tries = std::cell::Cell::new(0);
    wait_for("the registrar serves again", || async {
        sleep(Duration::from_millis(500)).await;
        tries.set(tries.get() + 1);
        let id = format!("after-{}", tries.get());
        hub.infer(&id, "a", false, "x");
        (hub.ended(&id).await[0]["status"] == 200).then_some(())
    })
    .await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.end().await.code(), 0);
}
