//! The configuration of docs/vllm-sleep.md, against a fake server that sleeps and wakes like vLLM.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};
use testkit::http::Http;
use testkit::peer::Peer;
use testkit::team::{ADMIN, connected_registrar, hub_in_memory};
use testkit::wait::eventually;

/// State of the fake server: whether it sleeps, and its calls without the queries of its state.
#[derive(Default)]
struct Vllm {
    sleeps: bool,
    calls: Vec<String>,
}

fn start() -> (Peer, Rc<RefCell<Vllm>>) {
    let state = Rc::<RefCell<Vllm>>::default();
    let vllm = Rc::clone(&state);
    let peer = Peer::start(async move |mut connection| {
        loop {
            let request = connection.request().await?;
            let (status, body) = vllm.borrow_mut().answer(&request.target);
            connection.json(status, &body).await?;
        }
    });
    (peer, state)
}

impl Vllm {
    fn answer(&mut self, target: &str) -> (u16, Value) {
        match target.split_once('?').unwrap_or((target, "")) {
            ("/is_sleeping", _) => (200, json!({ "is_sleeping": self.sleeps })),
            // vLLM answers this path even while it sleeps.
            ("/v1/models", _) => (200, json!({ "data": [{ "id": "Qwen/Qwen2.5-7B-Instruct-AWQ" }] })),
            ("/sleep", query) => {
                self.sleeps = true;
                self.calls.push(format!("sleep {query}"));
                (200, json!({}))
            }
            ("/wake_up", _) => {
                self.sleeps = false;
                self.calls.push("wake".to_owned());
                (200, json!({}))
            }
            ("/v1/chat/completions", _) if self.sleeps => {
                self.calls.push("a chat while asleep".to_owned());
                (500, json!({ "error": { "message": "EngineCore sleeps" } }))
            }
            ("/v1/chat/completions", _) => {
                self.calls.push("chat".to_owned());
                let message = json!({ "role": "assistant", "content": "awake" });
                let choice = json!({ "index": 0, "finish_reason": "stop", "message": message });
                (200, json!({ "object": "chat.completion", "choices": [choice] }))
            }
            _ => (404, json!({})),
        }
    }
}

/// The first configuration of the page, with this port and a shorter idle time.
fn documented(port: u16) -> String {
    let page = include_str!("../../docs/vllm-sleep.md");
    let config = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let config = config.replace("127.0.0.1:8000", &format!("127.0.0.1:{port}"));
    let quick = config.replace("\"idleSeconds\": 900", "\"idleSeconds\": 0.4");
    assert_ne!(config, quick, "the idle time of the page was not found");
    quick
}

#[actix_rt::test]
async fn the_documented_vllm_sleeps_when_idle_and_wakes_for_a_caller() {
    let (server, vllm) = start();
    let (home, _hub, url) = hub_in_memory(&[]).await;
    home.write("config.json", &documented(server.port()));
    let _registrar = connected_registrar(&home).await;
    let http = Http::new(&url, ADMIN);
    let status = async |wanted: &str| {
        let row = async || http.get("/api/v1/llms/qwen").await.json();
        eventually(wanted, async || row().await["status"] == wanted).await;
    };
    let ask = async || {
        let body = json!({ "model": "qwen", "messages": [{ "role": "user", "content": "hi" }] });
        let answer = http.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    };
    ask().await;
    status("hibernating").await;
    ask().await;
    assert_eq!(vllm.borrow().calls[..4], ["chat", "sleep level=1", "wake", "chat"]);
    status("hibernating").await;
    assert_eq!(home.run(&["provider", "qwen", "up"]).await.code(), 0);
    let calls = vllm.borrow().calls.clone();
    assert!(calls[4..].starts_with(&["sleep level=1".to_owned(), "wake".to_owned()]), "{calls:?}");
}
