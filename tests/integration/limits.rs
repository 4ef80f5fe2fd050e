//! What the operating system runs out of: descriptors, disk, a reader of the log.

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

use super::registrar::{QUICK, home_with_mock};

/// A write over the limit is an error like any other, as it is where the disk is full.
const NO_SIGNAL: &str = "trap '' XFSZ";

/// Sets how long a file the process may write: 0 is a disk that is full for it.
fn set_file_size(pid: i32, soft: &str) {
    let set = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--fsize={soft}:")])
        .status()
        .unwrap();
    assert!(set.success());
}

async fn terminate(mut child: Child) -> Option<i32> {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap().code()
}

/// F87: a registrar whose standard error nobody reads works, and ends when it is told to.
#[actix_rt::test]
async fn a_registrar_whose_log_nobody_reads_works_and_ends() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let child = home.command(&QUICK).spawn().unwrap();
    hub.channel(1).await;
    // Each is a line of the log, and a pipe holds 64 KiB.
    for _ in 0..5000 {
        hub.send("event: task\ndata: {nonsense\n\n");
    }
    hub.infer("t1", "m", false, "still here?");
    hub.ended("t1").await;
    let beats = hub.requests("_provider-heartbeat").len();
    hub.request("_provider-heartbeat", beats + 2).await;
    assert_eq!(terminate(child).await, Some(0));
}

/// F87: nor does a hub need a reader of its log.
#[actix_rt::test]
async fn a_hub_whose_log_nobody_reads_works_and_ends() {
    let (home, port) = (Home::new(), free_port());
    let mut command = home.command(&["hub", "--in-memory", "--listen", &format!("127.0.0.1:{port}"), "-vv"]);
    let child = command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap();
    let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
    wait_for("it listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
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

/// F62, F52: on a full disk a registrar publishes all the same, under an id that it keeps in memory, and its log is lost.
#[actix_rt::test]
async fn a_full_disk_costs_a_registrar_its_file_and_its_log_and_nothing_else() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let mut command = home.command_after(&format!("{NO_SIGNAL}; ulimit -f 0"), &QUICK);
    let log = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = command.stderr(Stdio::from(log)).spawn().unwrap();
    hub.channel(1).await;
    hub.script("_provider-heartbeat", [(404, json!({ "error": "unknown session" }))]);
    let again = hub.request("_provider-register", 2).await;
    assert_eq!(again.json()["providerSessionId"], "sess-1", "it is known, though it is not on disk");
    hub.channel(2).await;
    hub.infer("t1", "m", false, "hi");
    assert_eq!(hub.ended("t1").await[0]["status"], 200);
    assert_eq!(terminate(child).await, Some(0));
    let left: Vec<_> = std::fs::read_dir(home.mcpctl())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "provider-session.lock")
        .filter(|name| name.contains("session") || name.starts_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// F52: a session file that cannot be made is a loud warning, start after start.
#[actix_rt::test]
async fn a_session_file_that_cannot_be_made_is_a_warning_that_names_it() {
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
        assert!(outcome.stderr.lines().filter(named).count() >= 2, "lock and file: {outcome:?}");
    }
}

/// F63: a full disk refuses what has to be written with 503 and `Retry-After`; the rest goes on, and when there is room
/// all that happened meanwhile is written without a restart.
#[actix_rt::test]
async fn a_full_disk_refuses_writes_and_loses_nothing_that_happened_meanwhile() {
    let mut team = Team::start_after(NO_SIGNAL).await;
    team.backend.script(|script| script.think = Duration::from_millis(700));
    let enqueue = json!({ "llm": "local", "request": { "messages": [] } });
    let task = team.http.post("/api/v1/inference-tasks", &enqueue).await.json();
    let path = format!("/api/v1/inference-tasks/{}", task["id"].as_str().unwrap());
    wait_until("it runs", || team.backend.open() == 1).await;

    set_file_size(team.hub.pid(), "0");
    let refused = [
        team.http.post("/api/v1/tokens", &json!({ "user": "bob" })).await,
        team.http.post("/api/v1/inference-tasks", &enqueue).await,
    ];
    for answer in refused {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
    }
    team.backend.script(|script| script.think = Duration::ZERO);
    assert_eq!(team.chat(false).await.status, 200, "nothing of it is written");
    assert_eq!(team.http.get("/api/v1/llms/local").await.status, 200);
    wait_until("it is answered", || team.backend.open() == 0).await;
    let status = team.http.get(&path).await.json()["status"].take();
    assert!(status == "claimed" || status == "running", "its end is not written, and it is {status}");

    set_file_size(team.hub.pid(), "unlimited");
    assert_eq!(team.http.post("/api/v1/tokens", &json!({ "user": "bob" })).await.status, 201);
    let ended = async || (team.http.get(&path).await.json()["status"] == "completed").then_some(());
    wait_for("the task ends", ended).await;
    // A task that is shown as ended is already on disk, so it survives SIGKILL.
    team.hub.signal(Signal::SIGKILL);
    team.hub.ended().await;
    team.hub = start_hub(&team.home, team.port);
    team.hub.logs("opened").await;
    let task = team.http.get(&path).await.json();
    assert_eq!(task["status"], "completed", "{task}");
    let users: Vec<Value> = team.http.get("/api/v1/tokens").await.json().as_array().unwrap().clone();
    assert_eq!(users.iter().filter(|token| token["user"] == "bob").count(), 1, "{users:?}");
}

/// F65: a hub does not start on a file that is no database of its own: it says so in a sentence, and leaves it as it is.
#[actix_rt::test]
async fn a_hub_does_not_start_on_a_file_that_is_not_its_own() {
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

/// F85: a hub without descriptors neither spins nor dies, and serves again when there are some.
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
    let served = timeout(PATIENCE, http.get("/api/v1/llms")).await.expect("it serves again");
    assert_eq!(served.status, 200);
    hub.signal(Signal::SIGTERM);
    assert_eq!(hub.end().await.code(), 0);
}

/// F85: a registrar without descriptors ends each of its tasks, does not spin, and works again when there are some.
#[actix_rt::test]
async fn a_registrar_without_descriptors_ends_its_tasks_and_recovers() {
    const TASKS: usize = 64;
    let (hub, backend, home) = (ClassicHub::start(), FakeBackend::start(), Home::new());
    backend.script(|script| (script.think, script.close) = (Duration::from_millis(1500), true));
    home.credentials(&hub.url(), "t");
    home.providers(
        &json!([{ "name": "a", "type": "openai", "model": "m", "url": backend.url(), "publish": true,
        "maxConcurrency": TASKS }]),
    );
    let process = Process::new(home.command_after("ulimit -n 64", &QUICK).spawn().unwrap());
    hub.channel(1).await;
    for n in 0..TASKS {
        hub.infer(&format!("t{n}"), "a", false, "x");
    }
    wait_until("it has none left", || backend.open() > 20).await;
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
    // Connections that are not used any more keep theirs for some seconds; each try uses one, so there are few.
    let tries = std::cell::Cell::new(0);
    wait_for("it works again", || async {
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
