//! docs/vllm-sleep.md, word for word, against a server that sleeps and wakes as vLLM does.

use std::sync::Arc;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::process::{Home, Process};
use crate::support::team::{ADMIN, free_port, start_registrar};
use crate::support::wait_until;

/// Whether it sleeps, and every call that it got, without the questions about its state.
#[derive(Default)]
struct Vllm {
    sleeps: bool,
    calls: Vec<String>,
}

type State = web::Data<Mutex<Vllm>>;

fn start() -> (u16, Arc<Mutex<Vllm>>) {
    let state = Arc::new(Mutex::new(Vllm::default()));
    let shared = Arc::clone(&state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&shared)))
            .route(
                "/is_sleeping",
                web::get().to(async |state: State| {
                    HttpResponse::Ok().json(json!({ "is_sleeping": state.lock().sleeps }))
                }),
            )
            // Answered in its sleep, too.
            .route(
                "/v1/models",
                web::get().to(async || {
                    HttpResponse::Ok().json(json!({ "data": [{ "id": "Qwen/Qwen2.5-7B-Instruct-AWQ" }] }))
                }),
            )
            .route(
                "/sleep",
                web::post().to(async |state: State, request: HttpRequest| {
                    let mut state = state.lock();
                    state.sleeps = true;
                    state.calls.push(format!("sleep {}", request.query_string()));
                    HttpResponse::Ok().finish()
                }),
            )
            .route(
                "/wake_up",
                web::post().to(async |state: State| {
                    let mut state = state.lock();
                    state.sleeps = false;
                    state.calls.push("wake".to_owned());
                    HttpResponse::Ok().finish()
                }),
            )
            .route("/v1/chat/completions", web::post().to(chat))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let port = server.addrs()[0].port();
    actix_rt::spawn(server.run());
    (port, state)
}

async fn chat(state: State) -> HttpResponse {
    let mut state = state.lock();
    if state.sleeps {
        state.calls.push("a chat while asleep".to_owned());
        return HttpResponse::InternalServerError()
            .json(json!({ "error": { "message": "EngineCore sleeps" } }));
    }
    state.calls.push("chat".to_owned());
    HttpResponse::Ok().json(json!({
        "object": "chat.completion",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "awake" } }],
    }))
}

/// The first configuration of the page, for this port, and with less patience.
fn documented(port: u16) -> String {
    let page = include_str!("../../docs/vllm-sleep.md");
    let config = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let config = config.replace("127.0.0.1:8000", &format!("127.0.0.1:{port}"));
    let quick = config.replace("\"idleSeconds\": 900", "\"idleSeconds\": 0.4");
    assert_ne!(config, quick, "the page has another time");
    quick
}

#[actix_rt::test]
async fn the_documented_vllm_sleeps_when_idle_and_wakes_for_a_caller() {
    let (vllm_port, vllm) = start();
    let (home, port) = (Home::new(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let mut command = home.command(&["hub", "--in-memory", "--listen", &format!("127.0.0.1:{port}")]);
    let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap());
    hub.logs("listens on").await;
    home.credentials(&url, ADMIN);
    home.write("config.json", &documented(vllm_port));
    let registrar = start_registrar(&home);
    registrar.logs("control channel open").await;
    let http = Http::new(&url, ADMIN);
    let status = async |wanted: &str| {
        wait_until(wanted, || async {
            let row: Value = http.get("/api/v1/llms/qwen").await.json();
            (row["status"] == wanted).then_some(())
        })
        .await;
    };
    let ask = async || {
        let body = json!({ "model": "qwen", "messages": [{ "role": "user", "content": "hi" }] });
        let answer = http.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    };
    ask().await;
    status("hibernating").await;
    ask().await;
    assert_eq!(vllm.lock().calls[..4], ["chat", "sleep level=1", "wake", "chat"]);
    status("hibernating").await;
    assert_eq!(home.run(&["provider", "qwen", "up"]).await.code(), 0);
    let calls = vllm.lock().calls.clone();
    assert!(calls[4..].starts_with(&["sleep level=1".to_owned(), "wake".to_owned()]), "{calls:?}");
}
