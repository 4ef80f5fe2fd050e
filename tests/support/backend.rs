//! A fake OpenAI-compatible backend: it answers as told and remembers what it was asked.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What the backend does with chat requests.
#[derive(Clone, Default)]
pub struct Script {
    /// Answer with this status and body instead.
    pub refuse: Option<(u16, String)>,
    /// Answer with this status, and with the request in what the error says, as `FastAPI` does.
    pub echo: Option<u16>,
    /// Between two tokens of a streamed answer.
    pub pace: Duration,
    /// Tokens of a streamed answer.
    pub tokens: usize,
    /// Before anything.
    pub think: Duration,
    /// After the first token of a streamed answer: nothing more, on a connection that stays open.
    pub stalls: bool,
    /// Leave the end mark out.
    pub truncate: bool,
    /// What it says, instead of its usual words.
    pub text: Option<String>,
    /// Close the connection after a whole answer.
    pub close: bool,
    /// What an answer's choices are, instead of its usual ones: the deltas of a stream, or one message.
    pub choices: Option<Vec<Value>>,
    /// The models that it lists, instead of its usual one.
    pub models: Option<Vec<String>>,
}

#[derive(Default)]
struct State {
    script: Script,
    requests: Vec<Value>,
    headers: Vec<Vec<(String, String)>>,
    open: usize,
}

/// A running fake backend.
pub struct FakeBackend {
    state: Arc<Mutex<State>>,
    port: u16,
    server: ServerHandle,
}

/// Counts a request as open until it is answered or dropped.
struct Open(Arc<Mutex<State>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}

impl FakeBackend {
    pub fn start() -> Self {
        Self::on(0)
    }

    pub fn on(port: u16) -> Self {
        let state = Arc::new(Mutex::new(State {
            script: Script { tokens: 3, ..Script::default() },
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(Arc::clone(&shared)))
                .app_data(web::PayloadConfig::new(64 << 20))
                .route("/v1/models", web::get().to(models))
                .route("/v1/chat/completions", web::post().to(chat))
        })
        .workers(1)
        .disable_signals()
        .h1_allow_half_closed(false)
        .shutdown_timeout(0)
        .bind(("127.0.0.1", port))
        .unwrap();
        let port = server.addrs()[0].port();
        let running = server.run();
        let server = running.handle();
        actix_rt::spawn(running);
        Self { state, port, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state.lock().script);
    }

    /// The bodies of the chat requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.state.lock().requests.clone()
    }

    /// The headers of the chat requests so far.
    pub fn headers(&self) -> Vec<Vec<(String, String)>> {
        self.state.lock().headers.clone()
    }

    /// Chat requests that are neither answered nor dropped.
    pub fn open(&self) -> usize {
        self.state.lock().open
    }

    pub async fn stop(&self) {
        self.server.stop(false).await;
    }
}

async fn models(state: web::Data<Mutex<State>>) -> HttpResponse {
    let models = state.lock().script.models.clone().unwrap_or_else(|| vec!["fake-model".to_owned()]);
    let models: Vec<_> = models.iter().map(|id| json!({ "id": id, "object": "model" })).collect();
    HttpResponse::Ok().json(json!({ "object": "list", "data": models }))
}

async fn chat(state: web::Data<Mutex<State>>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let streaming = body["stream"] == true;
    let script = {
        let mut state = state.lock();
        state.requests.push(body.clone());
        state.headers.push(
            request
                .headers()
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_str().unwrap_or("?").to_owned()))
                .collect(),
        );
        state.open += 1;
        state.script.clone()
    };
    let open = Open(Arc::clone(&state));
    tokio::time::sleep(script.think).await;
    if let Some((status, body)) = script.refuse {
        let status = actix_web::http::StatusCode::from_u16(status).unwrap();
        return HttpResponse::build(status).content_type("application/json").body(body);
    }
    if let Some(status) = script.echo {
        let status = actix_web::http::StatusCode::from_u16(status).unwrap();
        return HttpResponse::build(status).json(json!({ "detail": [{ "msg": "not this", "input": body }] }));
    }
    if let (Some(choices), false) = (&script.choices, streaming) {
        return HttpResponse::Ok()
            .json(json!({ "id": "c", "object": "chat.completion", "choices": choices }));
    }
    if !streaming {
        let mut response = HttpResponse::Ok();
        if script.close {
            response.force_close();
        }
        return response.json(json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": script.text.as_deref().unwrap_or("hello from the backend") } }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        }));
    }
    let mut frames: Vec<String> = (0..script.tokens)
        .map(|n| json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": { "content": script.text.clone().unwrap_or_else(|| format!("t{n} ")) }, "finish_reason": null }] }))
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    if let Some(choices) = &script.choices {
        let chunk =
            |choice: &Value| json!({ "id": "c", "object": "chat.completion.chunk", "choices": [choice] });
        frames = choices.iter().map(|choice| format!("data: {}\n\n", chunk(choice))).collect();
        frames.push("data: [DONE]\n\n".to_owned());
    } else if !script.truncate {
        let last = json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
        frames.push(format!("data: {last}\n\ndata: [DONE]\n\n"));
    }
    if script.stalls {
        frames.truncate(1);
    }
    let body =
        stream::unfold((frames.into_iter(), script.pace, open), move |(mut frames, pace, open)| async move {
            let frame = match frames.next() {
                None if script.stalls => std::future::pending().await,
                frame => frame?,
            };
            tokio::time::sleep(pace).await;
            Some((Ok::<_, actix_web::Error>(Bytes::from(frame)), (frames, pace, open)))
        });
    HttpResponse::Ok().content_type("text/event-stream").streaming(body)
}
