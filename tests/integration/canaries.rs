//! Canary strings: the test sends recognisable secrets, prompts and answers through everything that a hub and a registrar do,
//! at the most verbose log level, then searches all files and logs for them. Over 300 lines: one run needs all steps.

use std::path::Path;
use std::time::Duration;

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::wait::{wait_for, wait_until};

const ADMIN: &str = "canary-admin-token-0123456789abcdef";
const PROMPT: &str = "canary-prompt";
const ANSWER: &str = "canary-answer";
const KEY: &str = "canary-backend-key";
/// Part of a recipe's URL, headers, body, arguments and output.
const RECIPE: &str = "canary-recipe";
const GUESS: &str = "vlt_canary-guess";

/// A hub and a registrar at `RUST_LOG=trace`, each with its own home directory, and their collected output.
struct Scene {
    backend: FakeBackend,
    hub_home: Home,
    home: Home,
    port: u16,
    hub: Option<Process>,
    registrar: Option<Process>,
    admin: Http,
    caller: Http,
    publisher: String,
    /// Strings that must not appear in files or output.
    canaries: Vec<String>,
    /// All collected output: its source and its text.
    output: Vec<(String, String)>,
}

impl Scene {
    async fn start() -> Self {
        let backend = FakeBackend::start();
        backend.script(|script| script.text = Some(ANSWER.into()));
        let port = testkit::free_port();
        let url = format!("http://127.0.0.1:{port}");
        let (hub_home, home) = (Home::new(), Home::new());
        let hub = start_hub(&hub_home, port).await;
        let admin = Http::new(&url, ADMIN);
        let (caller, publisher) = (token(&admin, "caller").await, token(&admin, "publisher").await);
        home.credentials(&url, &publisher);
        // A closed port. Its number is unique, so a match in the output means that the address leaked.
        let closed_port = testkit::free_port();
        let nowhere = format!("http://127.0.0.1:{closed_port}");
        let env = home.path().join("recipe-environment");
        let say = format!("env > {}; echo {RECIPE}; echo {RECIPE} >&2; exit 3", env.display());
        let provider = |name: &str, url: &str, more: Value| {
            let mut provider = json!({ "name": name, "type": "openai", "model": "fake-model", "url": url,
                "apiKey": KEY, "publish": true, "visibility": "public" });
            provider.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            provider
        };
        home.providers(&json!([
            provider("local", &backend.url(), json!({})),
            provider("sleepy", &nowhere, json!({ "wake": { "type": "http", "url": format!("{nowhere}/{RECIPE}"),
                "headers": { "x-key": RECIPE }, "body": { "x": RECIPE }, "maxWaitSeconds": 1 } })),
            provider("lazy", &nowhere, json!({ "apiKeyEnv": "CANARY_KEY", "apiKey": null, "wake": { "type": "command",
                "command": "sh", "args": ["-c", say, RECIPE], "maxWaitSeconds": 2 } })),
            { "name": "panics", "type": "mock", "model": "mock", "publish": true, "visibility": "public",
                "panicEvery": 1 },
        ]));
        let registrar = start_registrar(&home, &publisher).await;
        let mut canaries: Vec<String> = [ADMIN, PROMPT, ANSWER, KEY, RECIPE, GUESS].map(str::to_owned).into();
        canaries.extend([format!("127.0.0.1:{}", backend.port()), nowhere[7..].to_owned()]);
        canaries.extend([caller.clone(), publisher.clone()]);
        let caller = Http::new(&url, &caller);
        let (hub, registrar) = (Some(hub), Some(registrar));
        Self {
            backend,
            hub_home,
            home,
            port,
            hub,
            registrar,
            admin,
            caller,
            publisher,
            canaries,
            output: Vec::new(),
        }
    }

    fn chat(model: &str, streaming: bool) -> Value {
        json!({ "model": model, "stream": streaming, "max_tokens": 8,
            "messages": [{ "role": "user", "content": PROMPT }] })
    }

    async fn ask(&self, model: &str, streaming: bool) -> (u16, String) {
        let answer = self.caller.post("/v1/chat/completions", &Self::chat(model, streaming)).await;
        (answer.status, answer.body)
    }

    fn collect_output(&mut self, who: &str, process: &Process) {
        self.output.push((format!("{who}'s stdout"), process.stdout()));
        self.output.push((format!("{who}'s stderr"), process.stderr()));
    }

    /// Collects everything that the hub returns to callers with a token.
    async fn read_all(&mut self) {
        for path in ["llms", "agents", "sessions", "audit", "inference-tasks", "tokens", "llms/local/tasks"] {
            for (who, http) in [("an admin", &self.admin), ("the caller", &self.caller)] {
                let text = http.get(&format!("/api/v1/{path}")).await.body;
                self.output.push((format!("{path} for {who}"), text));
            }
        }
        self.output.push(("the metrics".into(), self.admin.get("/metrics").await.body));
        let mut events = self.admin.open(Method::GET, "/api/v1/events", None).await;
        let mut text = String::new();
        while !text.contains("event: snapshot") {
            text += &String::from_utf8_lossy(&first(&mut events).await);
        }
        self.output.push(("the events".into(), text));
    }

    /// Returns each canary found in `said`, and its source.
    fn found(&self, said: &[(String, String)]) -> Vec<String> {
        let mut found = Vec::new();
        for (place, text) in said {
            for canary in self.canaries.iter().filter(|canary| text.contains(canary.as_str())) {
                let line = text.lines().find(|line| line.contains(canary.as_str())).unwrap_or_default();
                found.push(format!("{canary} in {place}: {line:.400}"));
            }
        }
        found
    }

    /// Contents of all files that the hub and the registrar wrote.
    fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for home in [&self.hub_home, &self.home] {
            collect(home.path(), &mut files);
        }
        // The test itself wrote these files with secrets.
        files.retain(|(path, _)| !path.ends_with("config.json") && !path.ends_with("credentials"));
        files
    }
}

async fn first(
    body: &mut (impl futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin),
) -> bytes::Bytes {
    futures_util::StreamExt::next(body).await.unwrap().unwrap()
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), files);
        } else if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            files.push((entry.path().display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

async fn token(admin: &Http, user: &str) -> String {
    let made = admin.post("/api/v1/tokens", &json!({ "user": user })).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["token"].as_str().unwrap().to_owned()
}

async fn start_hub(home: &Home, port: u16) -> Process {
    let (listen, data) = (format!("127.0.0.1:{port}"), home.path().join("hub"));
    let args = ["hub", "--listen", &listen, "--data-dir", data.to_str().unwrap(), "--reattach-grace", "1s"];
    let mut command = home.command(&args);
    command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).env("RUST_LOG", "trace");
    let hub = Process::new(command.spawn().unwrap());
    hub.logs("listens on").await;
    hub
}

async fn start_registrar(home: &Home, token: &str) -> Process {
    let quick = ["--heartbeat-interval", "200ms", "--reconnect-base", "50ms", "--reconnect-max", "200ms"];
    let mut command = home.command(&[&["publish"], &quick[..]].concat());
    command.env("RUST_LOG", "trace").env("CANARY_KEY", KEY);
    // Users may keep tokens in these variables; a recipe must not inherit them.
    command.env("MCPD_TOKEN", token).env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN);
    let registrar = Process::new(command.spawn().unwrap());
    registrar.logs("control channel open").await;
    registrar
}

/// The command line of a running process.
fn command_line(process: &Process) -> String {
    let read = std::fs::read(format!("/proc/{}/cmdline", process.pid()));
    String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()
}

/// A08, A10, A39: no token, key, address, recipe, prompt or answer is in a log line at any level, a metric, a list, an event, a
/// command line, a recipe's environment or a file, after success, errors, wakes, cancels and crashes. The one exception is
/// the bodies of durable tasks, until the task is deleted.
#[actix_rt::test]
async fn secrets_prompts_and_answers_appear_in_no_log_list_or_file() {
    let mut scene = Scene::start().await;

    // Calls that succeed.
    for streaming in [false, true] {
        let (status, body) = scene.ask("local", streaming).await;
        assert!(status == 200 && body.contains(ANSWER), "{status} {body}");
    }
    let infer = scene.caller.post("/api/v1/llms/local/infer", &Scene::chat("x", false)).await;
    assert!(infer.status == 200 && infer.body.contains(ANSWER), "{infer:?}");
    assert!(scene.backend.requests().iter().all(|request| request.to_string().contains(PROMPT)));
    assert!(scene.backend.headers()[0].iter().any(|(_, value)| value.contains(KEY)));

    // Every inference endpoint, and `chat-llm` with all of its log; the answer may appear only on standard output.
    for (path, key) in
        [("completions", "prompt"), ("embeddings", "input"), ("responses", "input"), ("rerank", "query")]
    {
        let answer =
            scene.caller.post(&format!("/v1/{path}"), &json!({ "model": "local", key: PROMPT })).await;
        scene.output.push((format!("the headers of {path}"), format!("{:?}", answer.headers)));
    }
    scene.caller.post("/v1/messages", &Scene::chat("local", false)).await;
    let url = format!("http://127.0.0.1:{}", scene.port);
    let mut command = scene.home.command(&["chat-llm", "local", "-m", PROMPT, "-vv", "--hub-url", &url]);
    let chat = command.env("RUST_LOG", "trace").output().await.unwrap();
    assert!(String::from_utf8_lossy(&chat.stdout).contains(ANSWER), "{chat:?}");
    scene.output.push(("the log of a command".into(), String::from_utf8_lossy(&chat.stderr).into_owned()));

    // A backend that quotes the request in its error.
    let echo = format!("bad key {KEY} for {PROMPT} at {} answering {ANSWER}", scene.backend.url());
    for status in [400, 401, 404, 429, 500] {
        let body = json!({ "error": { "message": echo, "type": "x" } }).to_string();
        scene.backend.script(|script| script.refuse = Some((status, body)));
        for streaming in [false, true] {
            let (_, body) = scene.ask("local", streaming).await;
            assert!(!body.contains(KEY) && !body.contains(&scene.backend.url()[7..]), "{status}: {body}");
        }
    }
    scene.backend.script(|script| script.refuse = None);
    scene.backend.script(|script| script.truncate = true);
    assert!(scene.ask("local", true).await.1.contains("error"));
    scene.backend.script(|script| script.truncate = false);

    // Recipes that fail, a task that panics, malformed requests, invalid tokens.
    let mut told = Vec::new();
    for model in ["sleepy", "lazy", "panics", "nobody"] {
        for streaming in [false, true] {
            let (status, body) = scene.ask(model, streaming).await;
            assert!(status >= 400, "{model}: {status} {body}");
            told.push((format!("what {model} answers"), body));
        }
    }
    for body in [format!(r#"{{"model":"local","messages":"{PROMPT}"#), format!("[{PROMPT}]"), PROMPT.into()] {
        for path in ["/v1/chat/completions", "/v1/messages", "/api/v1/inference-tasks", "/api/v1/agents"] {
            let answer = scene.caller.send(Method::POST, path, Some(body.clone())).await;
            assert_eq!(answer.status, 400, "{answer:?}");
            told.push((format!("what {path} answers"), answer.body));
        }
    }
    let guess = Http::new(&format!("http://127.0.0.1:{}", scene.port), GUESS);
    for path in
        ["/v1/models", &format!("/api/v1/llms?token={GUESS}"), &format!("/{ADMIN}?access_token={ADMIN}")]
    {
        let answer = guess.get(path).await;
        assert_eq!(answer.status, 401);
        told.push((format!("what {path} answers"), answer.body));
    }
    assert_eq!(scene.found(&told), [""; 0]);

    // A caller that disconnects in the middle of an answer.
    scene.backend.script(|script| {
        script.tokens = 100_000;
        script.pace = Duration::from_millis(10);
    });
    let stream = Scene::chat("local", true).to_string();
    let mut response = scene.caller.open(Method::POST, "/v1/chat/completions", Some(stream.clone())).await;
    assert!(String::from_utf8_lossy(&first(&mut response).await).contains(ANSWER));
    drop(response);
    wait_until("the backend request is dropped", || scene.backend.open() == 0).await;

    // Durable tasks: their bodies are stored until the tasks are deleted.
    scene.backend.script(|script| script.tokens = 3);
    let enqueue = async |scene: &Scene, llm: &str, streaming: bool| {
        let task = json!({ "llm": llm, "request": Scene::chat(llm, streaming), "streaming": streaming });
        let made = scene.caller.post("/api/v1/inference-tasks", &task).await;
        assert_eq!(made.status, 202, "{made:?}");
        format!("/api/v1/inference-tasks/{}", made.json()["id"].as_str().unwrap())
    };
    let mut durable = Vec::new();
    for (llm, streaming) in [("local", false), ("local", true), ("lazy", false)] {
        let task = enqueue(&scene, llm, streaming).await;
        let end = wait_for("the durable task has ended", || async {
            let task = scene.caller.get(&task).await;
            ["completed", "error"].iter().any(|end| task.json()["status"] == *end).then_some(task)
        });
        let end = end.await;
        assert_eq!(end.body.contains(ANSWER), llm == "local", "{end:?}");
        durable.push(task);
    }
    assert!(!scene.found(&scene.files()).is_empty(), "a result is kept until it is deleted");

    // Hub and registrar are killed in the middle of an answer, and started again.
    scene.backend.script(|script| script.tokens = 100_000);
    for _ in 0..2 {
        let mut response =
            scene.caller.open(Method::POST, "/v1/chat/completions", Some(stream.clone())).await;
        first(&mut response).await;
        let mut registrar = scene.registrar.take().unwrap();
        let line = command_line(&registrar);
        scene.output.push(("the registrar's command line".into(), line));
        registrar.signal(Signal::SIGKILL);
        registrar.ended().await;
        wait_until("the backend request is dropped", || scene.backend.open() == 0).await;
        scene.collect_output("the registrar", &registrar);
        scene.registrar = Some(start_registrar(&scene.home, &scene.publisher).await);
    }
    let response = scene.caller.open(Method::POST, "/v1/chat/completions", Some(stream.clone())).await;
    let mut hub = scene.hub.take().unwrap();
    scene.output.push(("the hub's command line".into(), command_line(&hub)));
    hub.signal(Signal::SIGKILL);
    drop(response);
    // The hub's lock is released when the process ends.
    hub.ended().await;
    scene.collect_output("the hub", &hub);
    drop(hub);
    scene.hub = Some(start_hub(&scene.hub_home, scene.port).await);
    scene.hub.as_ref().unwrap().logs("opened").await;

    // Everything that the hub's API and the registrar's status show now.
    scene.read_all().await;
    let status = scene.home.run(&["status", "-o", "json"]).await;
    assert!(status.stdout.contains("\"local\""), "{status:?}");
    scene.output.push(("the status".into(), status.stdout + &status.stderr));
    let check = scene.home.command(&["check"]).env("CANARY_KEY", KEY).output().await.unwrap();
    scene.output.push(("the check".into(), String::from_utf8_lossy(&check.stderr).into_owned()));

    // After the tasks are deleted and the processes have ended, no canary is left.
    for task in &durable {
        assert_eq!(scene.caller.send(Method::DELETE, task, None).await.status, 204);
    }
    for process in [scene.registrar.take().unwrap(), scene.hub.take().unwrap()] {
        process.signal(Signal::SIGTERM);
        let outcome = process.end().await;
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        scene.output.push(("stdout at the end".into(), outcome.stdout));
        scene.output.push(("stderr at the end".into(), outcome.stderr));
    }
    assert!(scene.output.iter().any(|(_, text)| text.contains("TRACE") || text.contains("DEBUG")));
    let mut said = std::mem::take(&mut scene.output);
    said.extend(scene.files());
    assert!(said.iter().any(|(place, text)| place.ends_with("recipe-environment") && text.contains("HOME=")));
    assert!(said.iter().any(|(place, _)| place.ends_with("provider-session")));
    assert!(
        said.iter().any(|(place, _)| place.ends_with("hub.db")),
        "{:?}",
        said.iter().map(|(place, _)| place).collect::<Vec<_>>()
    );
    let found = scene.found(&said);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A48: the program disables core dumps, whatever limit it inherits: a dump would contain prompts and answers.
#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn hub_disables_core_dumps() {
    let home = Home::new();
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", "ulimit -S -c $(ulimit -H -c); exec \"$0\" hub --in-memory --listen 127.0.0.1:0"])
        .arg(env!("CARGO_BIN_EXE_virtual-llm"))
        .env("HOME", home.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let hub = Process::new(command.spawn().unwrap());
    hub.logs("listens on").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
