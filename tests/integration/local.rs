//! `local` before a hub: tools of this machine without a token, and those who are not served.

mod callers;

use std::time::Duration;

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::client::{Answer, ask};
use testkit::free_port;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, Team, hub_in_memory, start_hub};
use testkit::wait::{eventually, port_is_free, wait_until};

/// Key that a tool sends for want of a token.
const NO_KEY: &str = "ollama";

/// A team, and `local` on its hub.
struct Scene {
    team: Team,
    local: Process,
    port: u16,
}

impl Scene {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(options: &[&str]) -> Self {
        let team = Team::start().await;
        let port = free_port();
        let local = start(&team.home, port, options).await;
        Self { team, local, port }
    }

    fn http(&self) -> Http {
        Http::new(&format!("http://127.0.0.1:{}", self.port), NO_KEY)
    }

    /// Sends a request with further header lines, each of which ends with CRLF.
    async fn ask(&self, request: &str, headers: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        ask(self.port, NO_KEY, request, headers, body.as_deref()).await.unwrap()
    }
}

/// Starts `local`, and waits until it serves.
async fn start(home: &Home, port: u16, options: &[&str]) -> Process {
    let local = home.start(&[&["local", "--port", &port.to_string()], options].concat());
    local.prints("Serving until Ctrl-C.").await;
    local
}

fn chat(streaming: bool) -> Value {
    json!({ "model": "local", "stream": streaming, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
}

#[actix_rt::test]
async fn tools_without_a_token_use_each_api_of_the_hub() {
    let scene = Scene::start().await;
    let stdout = scene.local.stdout();
    let own = format!("http://127.0.0.1:{}", scene.port);
    for line in [
        format!("Hub        http://127.0.0.1:{}, as admin\n", scene.team.port),
        format!("OpenAI     {own}/v1\n"),
        "Models     local, team\n".to_owned(),
    ] {
        assert!(stdout.contains(&line), "{stdout}");
    }
    let http = scene.http();
    let models = http.get("/v1/models").await;
    assert_eq!((models.status, &models.json()["data"][0]["id"]), (200, &json!("local")));
    let whole = http.post("/v1/chat/completions", &chat(false)).await;
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "hello from the backend");
    let stream = http.post("/v1/chat/completions", &chat(true)).await;
    assert_eq!(stream.events().pop().unwrap().data, "[DONE]");
    let anthropic = "x-api-key: none\r\nanthropic-version: 2023-06-01\r\n";
    let message = scene.ask("POST /v1/messages", anthropic, Some(&chat(false))).await;
    let message: Value = serde_json::from_str(&message.text().await.unwrap()).unwrap();
    assert_eq!(message["content"][0]["text"], "hello from the backend");
    let root = http.get("/").await;
    assert_eq!((root.status, root.body.as_str()), (200, "Ollama is running"));
    assert_eq!(http.get("/healthz").await.status, 200);
}

/// F75, F76: the same promise as without `local`.
#[actix_rt::test]
async fn a_callers_disconnect_ends_the_task_of_the_hub() {
    let scene = Scene::start().await;
    scene.team.backend.script(|script| {
        script.tokens = 100_000;
        script.pace = Duration::from_millis(20);
    });
    for streaming in [true, false] {
        scene
            .team
            .backend
            .script(|script| script.think = Duration::from_secs(if streaming { 0 } else { 100 }));
        let body = chat(streaming).to_string();
        let http = scene.http();
        let asking = tokio::task::spawn_local(async move {
            http.open(Method::POST, "/v1/chat/completions", Some(body)).await
        });
        wait_until("the task runs", || scene.team.backend.open() == 1).await;
        if streaming {
            drop(asking.await.unwrap());
        } else {
            asking.abort();
        }
        wait_until("the task is cancelled", || scene.team.backend.open() == 0).await;
    }
}

#[actix_rt::test]
async fn an_image_of_twenty_megabytes_reaches_the_backend() {
    let scene = Scene::start().await;
    let image = "A".repeat(20 << 20);
    let mut body = chat(false);
    body["messages"][0]["content"] =
        json!([{ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{image}") } }]);
    let answer = scene.http().post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let request = &scene.team.backend.requests()[0];
    assert!(request["messages"] == body["messages"], "the image is another one");
    // The hub refuses a call for an unknown model before it has read the body.
    body["model"] = "unknown".into();
    let answer = scene.http().post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[actix_rt::test]
async fn a_hub_that_is_away_is_told_in_the_dialect_and_logged_once() {
    let mut scene = Scene::start().await;
    scene.team.hub.signal(Signal::SIGKILL);
    scene.team.hub.ended().await;
    port_is_free(scene.team.port).await;
    for (path, key) in [
        ("/v1/chat/completions", "/error/message"),
        ("/v1/messages", "/error/message"),
        ("/api/chat", "/error"),
    ] {
        let answer = scene.http().post(path, &chat(false)).await;
        if path == "/api/chat" && answer.status == 404 {
            // A hub without this API.
            continue;
        }
        assert_eq!(answer.status, 502, "{answer:?}");
        let text = answer.json().pointer(key).unwrap().as_str().unwrap().to_owned();
        assert!(text.contains("cannot reach the hub") && text.contains("connection refused"), "{text}");
    }
    let logged = scene.local.stderr().matches("cannot reach the hub").count();
    assert_eq!(logged, 1, "{}", scene.local.stderr());
    scene.team.hub = start_hub(&scene.team.home, scene.team.port);
    let http = scene.http();
    eventually("it answers again", async || http.get("/v1/models").await.status == 200).await;
    scene.local.logs("the hub answers again").await;
}

/// A11: the token is in no log and no answer.
#[actix_rt::test]
async fn a_revoked_token_is_told_and_a_new_login_is_used_at_once() {
    let (home, _hub, url) = hub_in_memory(&[]).await;
    let hub = Http::new(&url, ADMIN);
    let create = async || hub.post("/api/v1/tokens", &json!({ "user": "zoe" })).await.json();
    let (old, new) = (create().await, create().await);
    let token = |made: &Value| made["token"].as_str().unwrap().to_owned();
    home.credentials(&url, &token(&old));
    let port = free_port();
    let local = start(&home, port, &[]).await;
    let http = Http::new(&format!("http://127.0.0.1:{port}"), NO_KEY);
    assert_eq!(http.get("/v1/models").await.status, 200);

    let path = format!("/api/v1/tokens/{}", old["id"].as_str().unwrap());
    let revoked = hub.send(Method::DELETE, &path, None);
    assert_eq!(revoked.await.status, 204);
    for _ in 0..3 {
        let answer = http.post("/v1/chat/completions", &chat(false)).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.body.contains(&format!("`virtual-llm login {url}`")), "{answer:?}");
        assert!(!answer.body.contains(&token(&old)));
    }
    local.logs("does not accept your token").await;
    home.credentials(&url, &token(&new));
    assert_eq!(http.get("/v1/models").await.status, 200);
    local.logs("uses the new token").await;
    let told = local.stdout() + &local.stderr();
    assert!(!told.contains(&token(&old)) && !told.contains(&token(&new)), "{told}");
}

#[actix_rt::test]
async fn a_port_in_use_is_told_with_the_option() {
    let taken = FakeBackend::start();
    let home = Home::new();
    home.credentials("http://127.0.0.1:1", ADMIN);
    let outcome = home.run(&["local", "--port", &taken.port().to_string()]).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains("the port is in use") && outcome.stderr.contains("--port"),
        "{outcome:?}"
    );
}

#[actix_rt::test]
async fn a_refused_token_at_the_start_is_exit_3() {
    let (home, _hub, url) = hub_in_memory(&[]).await;
    home.credentials(&url, "no-token-of-this-hub-0123456789");
    let outcome = home.run(&["local", "--port", "0"]).await;
    assert_eq!(outcome.code(), 3, "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("`virtual-llm login {url}`")), "{outcome:?}");
}

#[actix_rt::test]
async fn a_signal_ends_it_with_exit_0() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let scene = Scene::start().await;
        assert_eq!(scene.http().get("/v1/models").await.status, 200);
        scene.local.signal(signal);
        let outcome = scene.local.end().await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
    }
}
