//! A hub whose records are in a PostgreSQL database.

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::free_port;
use testkit::http::Http;
use testkit::postgres::Database;
use testkit::process::{Home, Process};
use testkit::proxy::{Network, Proxy};
use testkit::team::{ADMIN, connected_registrar, start_hub, start_hub_with};
use testkit::wait::{eventually, port_is_free};

/// A hub of the cluster `team`, and the file with the address of its database.
struct Member {
    home: Home,
    port: u16,
    file: String,
}

impl Member {
    fn new(url: &str) -> Self {
        let (home, port) = (Home::new(), free_port());
        let file = home.write("database", url).display().to_string();
        home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
        Self { home, port, file }
    }

    async fn start(&self, id: &str) -> Process {
        let options = ["--cluster", "team", "--hub-id", id, "--database-url-file", &self.file];
        let hub = start_hub_with(&self.home, self.port, &options);
        hub.logs("listens on").await;
        hub
    }

    fn http(&self) -> Http {
        Http::new(&format!("http://127.0.0.1:{}", self.port), ADMIN)
    }

    /// What a start is refused with.
    async fn refused(&self, id: &str) -> String {
        let data = self.home.path().join("hub").display().to_string();
        let arguments =
            ["hub", "--listen", "127.0.0.1:0", "--data-dir", &data, "--cluster", "team", "--hub-id", id];
        let outcome = self.home.run(&[&arguments[..], &["--database-url-file", &self.file]].concat()).await;
        assert_eq!(outcome.code(), 1, "{outcome:?}");
        outcome.stderr
    }
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] })
}

#[actix_rt::test]
async fn a_killed_hub_of_a_cluster_has_its_records_back() {
    let Some(database) = Database::create().await else { return };
    let member = Member::new(&database.url());
    let hub = member.start("a").await;
    let http = member.http();
    let made = http.post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    let provider = json!({ "name": "away", "type": "openai", "model": "m", "initialStatus": "active" });
    http.post("/api/v1/llms/_provider-register", &json!({ "providers": [provider] })).await;
    let task =
        http.post("/api/v1/inference-tasks", &json!({ "llm": "away", "request": { "messages": [] } })).await;
    let id = task.json()["id"].as_str().unwrap().to_owned();

    // Another hub waits for its turn, from a directory of its own.
    let other = Member::new(&database.url());
    let refusal = other.refused("b").await;
    assert!(refusal.contains("hub 'a' of the cluster uses it"), "{refusal}");

    hub.signal(Signal::SIGKILL);
    port_is_free(member.port).await;
    let hub = member.start("a").await;
    let alice = Http::new(&format!("http://127.0.0.1:{}", member.port), made["token"].as_str().unwrap());
    assert_eq!(alice.get("/api/v1/whoami").await.json()["user"], "alice");
    assert_eq!(http.get("/api/v1/llms/away").await.status, 200);
    let found = http.get(&format!("/api/v1/inference-tasks/{id}")).await.json();
    assert_eq!(found["status"], "pending", "{found}");

    let hubs = member.home.run(&["get", "hub"]).await;
    assert_eq!(hubs.code(), 0, "{hubs:?}");
    let lines: Vec<Vec<&str>> = hubs.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!([lines[0][0], lines[0][2]], ["ID", "STATE"], "{}", hubs.stdout);
    assert_eq!(
        lines[1..].iter().map(|line| (line[0], line[2])).collect::<Vec<_>>(),
        [("a", "serving"), ("a", "superseded")]
    );
    let none = member.home.run(&["get", "hub", "b"]).await;
    assert!(none.code() == 1 && none.stderr.contains("there is no hub 'b'"), "{none:?}");

    // A newer process of the hub takes over, and the older one ends.
    let newer = Member::new(&database.url());
    let _newer = newer.start("a").await;
    let ended = hub.end().await;
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("another process has taken over the database"), "{}", ended.stderr);
    assert_eq!(newer.http().get("/api/v1/llms/away").await.status, 200);
}

/// A hub that was paused for longer than its lease, while a standby took over, ends when it goes on.
#[actix_rt::test]
async fn a_hub_that_slept_through_its_lease_ends() {
    let Some(database) = Database::create().await else { return };
    let (paused, standby) = (Member::new(&database.url()), Member::new(&database.url()));
    let first = paused.start("a").await;
    first.signal(Signal::SIGSTOP);
    // As if the 15 s were over.
    database.run("UPDATE hubs SET until = now() - interval '1 s'").await;
    let _second = standby.start("b").await;
    first.signal(Signal::SIGCONT);
    let ended = first.end().await;
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("another process has taken over the database"), "{}", ended.stderr);
    assert_eq!(standby.http().post("/api/v1/tokens", &json!({ "user": "alice" })).await.status, 201);
}

/// What has to be stored gets 503 while the database is away; inference goes on, and what happened meanwhile is written later.
#[actix_rt::test]
async fn inference_goes_on_without_the_database() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let member = Member::new(&database.url_at(proxy.port()));
    let _hub = member.start("a").await;
    let http = member.http();
    member.home.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let _registrar = connected_registrar(&member.home).await;
    let ask = async || http.post("/v1/chat/completions", &chat("echo")).await.status;
    eventually("the mock answers", async || ask().await == 200).await;
    for network in [Network::Resets, Network::BlackHole] {
        proxy.set(network);
        eventually("the database is missed", async || http.get("/readyz").await.status == 503).await;
        assert_eq!(ask().await, 200, "{network:?}");
        let refused = http.post("/api/v1/tokens", &json!({ "user": "alice" })).await;
        assert_eq!(refused.status, 503, "{network:?}");
        proxy.set(Network::Resets);
        proxy.set(Network::Passes);
        eventually("the database is back", async || http.get("/readyz").await.status == 200).await;
    }
    assert_eq!(http.post("/api/v1/tokens", &json!({ "user": "alice" })).await.status, 201);
    let audit = async || http.get("/api/v1/audit?limit=50").await.json().as_array().map_or(0, Vec::len);
    eventually("each call has its audit row", async || audit().await >= 3).await;
}

#[actix_rt::test]
async fn the_records_of_a_hub_alone_move_to_a_database() {
    let Some(database) = Database::create().await else { return };
    let member = Member::new(&database.url());
    let alone = start_hub(&member.home, member.port);
    alone.logs("listens on").await;
    let http = member.http();
    let token = http.post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    let providers = json!([
        { "name": "away", "type": "openai", "model": "m", "initialStatus": "active" },
        { "name": "second", "type": "openai", "model": "m", "visibility": "public" },
    ]);
    http.post("/api/v1/llms/_provider-register", &json!({ "providers": providers })).await;
    let mut tasks = Vec::new();
    // One is larger than what is stored in one piece.
    for size in [10, 3 << 20] {
        let request = json!({ "messages": [{ "role": "user", "content": "x".repeat(size) }] });
        let task = http.post("/api/v1/inference-tasks", &json!({ "llm": "away", "request": request })).await;
        tasks.push(task.json()["id"].as_str().unwrap().to_owned());
    }
    let ended = http.send(Method::DELETE, &format!("/api/v1/inference-tasks/{}", tasks[0]), None).await;
    assert!(ended.status < 300, "{}", ended.status);
    assert_eq!(http.post("/v1/chat/completions", &chat("none")).await.status, 404);

    let data = member.home.path().join("hub").display().to_string();
    let arguments =
        ["hub", "migrate-store", "--from", &data, "--cluster", "team", "--database-url-file", &member.file];
    let running = member.home.run(&arguments).await;
    assert_eq!(running.code(), 1, "{running:?}");
    assert!(running.stderr.contains("another hub already uses"), "{running:?}");
    alone.signal(Signal::SIGTERM);
    alone.end().await;
    let moved = member.home.run(&arguments).await;
    assert_eq!(moved.code(), 0, "{moved:?}");
    assert!(moved.stdout.starts_with("moved 2 LLMs, 0 agents, "), "{moved:?}");
    assert!(moved.stdout.contains(", 1 open tasks, "), "{moved:?}");
    let again = member.home.run(&arguments).await;
    assert_eq!(again.code(), 1, "{again:?}");
    assert!(again.stderr.contains("it is not empty"), "{again:?}");

    let _hub = member.start("a").await;
    let alice = Http::new(&format!("http://127.0.0.1:{}", member.port), token["token"].as_str().unwrap());
    assert_eq!(alice.get("/api/v1/whoami").await.json()["user"], "alice");
    assert_eq!(alice.get("/api/v1/llms/second").await.status, 200);
    let open = http.get(&format!("/api/v1/inference-tasks/{}", tasks[1])).await.json();
    assert_eq!(open["status"], "pending", "{open}");
}

#[actix_rt::test]
async fn mistakes_of_an_operator_are_told_in_words() {
    let home = Home::new();
    let file = home.write("database", "postgres://nobody:s3cret@127.0.0.1:1/none").display().to_string();
    let run = async |arguments: &[&str]| {
        let outcome = home.run(&[&["hub", "--listen", "127.0.0.1:0"], arguments].concat()).await;
        assert!(!outcome.stderr.contains("s3cret"), "{outcome:?}");
        (outcome.code(), outcome.stderr)
    };
    for (arguments, word) in [
        (&["--cluster", "team"][..], "--hub-id"),
        (&["--hub-id", "a"], "--cluster"),
        (&["--cluster", "team", "--hub-id", "A", "--database-url-file", "x"], "1 to 16 of a-z and 0-9"),
        (&["--cluster", "team", "--hub-id", "a", "--database-url-file", "/none"], "/none: "),
    ] {
        let (code, text) = run(arguments).await;
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(word), "{word}: {text}");
    }
    let (code, text) = run(&["--cluster", "team", "--hub-id", "a", "--database-url-file", &file]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the database none at 127.0.0.1: ") && text.contains("refused"), "{text}");
}
