//! A hub that speaks only section 3 of the contract, as an existing `mcpd` does: it remembers every request to the
//! letter, and answers as told.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::wait_until;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// Answers given instead of the usual one, per path ending, in order.
    scripted: Vec<(String, VecDeque<(u16, Value)>)>,
    channel: Option<mpsc::UnboundedSender<Bytes>>,
    channels: usize,
    sessions: usize,
}

/// A running fake hub.
pub struct ClassicHub {
    state: Arc<Mutex<State>>,
    port: u16,
    server: ServerHandle,
}

impl ClassicHub {
    pub fn start() -> Self {
        Self::on(0)
    }

    /// Listens on `port`; 0 takes a free one.
    pub fn on(port: u16) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(Arc::clone(&shared)))
                .app_data(web::PayloadConfig::new(64 << 20))
                .default_service(web::to(answer))
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
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next requests whose path ends with `path` get these answers, one each.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = (u16, Value)>) {
        self.state.lock().scripted.push((path.to_owned(), answers.into_iter().collect()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// The requests whose path ends with `path`.
    pub fn seen_at(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path.ends_with(path)).collect()
    }

    /// Waits for the `count`-th request whose path ends with `path`.
    pub async fn request(&self, path: &str, count: usize) -> Seen {
        wait_until(&format!("{count} of {path}"), || async { self.seen_at(path).into_iter().nth(count - 1) })
            .await
    }

    /// Waits until the control channel was opened `count` times.
    pub async fn channel(&self, count: usize) {
        wait_until("the channel opens", || async {
            let state = self.state.lock();
            (state.channels >= count && state.channel.is_some()).then_some(())
        })
        .await;
    }

    /// Writes raw bytes to the channel.
    pub fn write(&self, bytes: impl Into<Bytes>) {
        let state = self.state.lock();
        state.channel.as_ref().expect("an open channel").send(bytes.into()).unwrap();
    }

    /// Sends a task.
    pub fn task(&self, task: &Value) {
        self.write(format!("event: task\ndata: {task}\n\n"));
    }

    /// Sends an inference task for one user message.
    pub fn infer(&self, id: &str, llm: &str, streaming: bool, text: &str) {
        let request = json!({ "messages": [{ "role": "user", "content": text }] });
        self.task(&json!({ "kind": "infer", "taskId": id, "llmName": llm, "streaming": streaming, "request": request }));
    }

    /// Closes the channel.
    pub fn hang_up(&self) {
        self.state.lock().channel = None;
    }

    /// The bodies of the results of a task so far.
    pub fn results(&self, id: &str) -> Vec<Value> {
        let path = format!("/_provider-task/{}/result", wire::ids::encode_uri_component(id));
        self.seen_at(&path).into_iter().map(|seen| seen.body).collect()
    }

    /// Waits for the end of a task; gives the bodies of all its results.
    pub async fn ended(&self, id: &str) -> Vec<Value> {
        wait_until(&format!("task {id} ends"), || async {
            let results = self.results(id);
            let last = results.last()?;
            (last.get("chunk").is_none() || last["chunk"]["done"] == true).then_some(results)
        })
        .await
    }

    pub async fn stop(&self) {
        self.hang_up();
        self.server.stop(false).await;
    }
}

async fn answer(state: web::Data<Mutex<State>>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let path = request.uri().path().to_owned();
    let scripted = {
        let mut state = state.lock();
        state.seen.push(Seen {
            path: path.clone(),
            headers: request
                .headers()
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_str().unwrap_or("?").to_owned()))
                .collect(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        });
        state
            .scripted
            .iter_mut()
            .find(|(ending, answers)| path.ends_with(ending.as_str()) && !answers.is_empty())
            .and_then(|(_, answers)| answers.pop_front())
    };
    if let Some((status, body)) = scripted {
        return HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap()).json(body);
    }
    match path.strip_prefix("/api/v1/llms/") {
        Some("_provider-register") => {
            let mut state = state.lock();
            let told =
                state.seen.last().and_then(|seen| seen.body["providerSessionId"].as_str().map(str::to_owned));
            let id = told.unwrap_or_else(|| {
                state.sessions += 1;
                format!("sess-{}", state.sessions)
            });
            HttpResponse::Created().json(json!({ "providerSessionId": id, "llms": [], "agents": [] }))
        }
        Some("_provider-stream") => {
            let (sender, receiver) = mpsc::unbounded_channel();
            sender.send(Bytes::from_static(b"event: hello\ndata: {}\n\n")).unwrap();
            let mut state = state.lock();
            state.channel = Some(sender);
            state.channels += 1;
            HttpResponse::Ok()
                .content_type("text/event-stream")
                .streaming(UnboundedReceiverStream::new(receiver).map(Ok::<_, actix_web::Error>))
        }
        Some(_) => HttpResponse::Ok().json(json!({})),
        None => HttpResponse::NotFound().json(json!({ "error": "not found" })),
    }
}
