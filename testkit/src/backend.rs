//! A fake OpenAI-compatible backend. It answers by a script that the test sets, and stores the requests.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::WriteHalf;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{Connection, Request, SSE, answer, chunked};
use crate::peer::Peer;

/// How the backend answers chat requests.
#[derive(Clone, Default)]
pub struct Script {
    /// Answer with this status and body instead of a chat answer.
    pub refuse: Option<(u16, String)>,
    /// Answer with this status and an error that quotes the request, as `FastAPI` does.
    pub echo: Option<u16>,
    /// Time between two tokens of a streamed answer. Delays do not add up.
    pub pace: Duration,
    /// Further pause after the first token of a streamed answer.
    pub pause: Duration,
    /// Number of tokens in a streamed answer.
    pub tokens: usize,
    /// Pause before the answer begins.
    pub think: Duration,
    /// Send nothing after the first token of a streamed answer, and keep the connection open.
    pub stalls: bool,
    /// Omit the end mark of a streamed answer.
    pub truncate: bool,
    /// Text of the answer, instead of `hello from the backend`.
    pub text: Option<String>,
    /// Close the connection after a whole answer.
    pub close: bool,
    /// The `choices` of the answer: one entry for each chunk of a stream, or one message.
    pub choices: Option<Vec<Value>>,
    /// The usage of a streamed answer, for requests that ask for it.
    pub usage: Option<Value>,
    /// Refuse requests with this member, as servers do that do not know it.
    pub unknown_member: Option<&'static str>,
    /// The models in the backend's list, instead of the default one.
    pub models: Option<Vec<String>>,
    /// `max_model_len` of each model in the list, as vLLM has it.
    pub max_model_len: Option<u32>,
    /// Each request for the list of models waits here for others.
    pub models_wait: Option<Rc<Barrier>>,
}

#[derive(Default)]
struct State {
    script: Script,
    requests: Vec<Request>,
    open: usize,
}

/// A running fake backend, on the thread of the test.
pub struct FakeBackend {
    state: Rc<Mutex<State>>,
    peer: Peer,
}

/// Counts a request in `State::open` until its answer ends or is dropped.
struct Open<'a>(&'a Mutex<State>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}

impl FakeBackend {
    pub fn start() -> Self {
        Self::on(0)
    }

    /// Starts a backend on `port`; 0 means any free port.
    pub fn on(port: u16) -> Self {
        let script = Script { tokens: 3, ..Script::default() };
        let state = Rc::new(Mutex::new(State { script, ..State::default() }));
        let shared = Rc::clone(&state);
        let serve = async move |connection: Connection| {
            connection.while_plugged(async |connection| converse(connection, &shared).await).await
        };
        Self { state, peer: Peer::on(("127.0.0.1", port), serve).unwrap() }
    }

    pub fn url(&self) -> String {
        format!("{}/v1", self.peer.url())
    }

    pub fn port(&self) -> u16 {
        self.peer.port()
    }

    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state.lock().script);
    }

    /// The bodies of the chat requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.state.lock().requests.iter().map(Request::json).collect()
    }

    /// The headers of the chat requests so far.
    pub fn headers(&self) -> Vec<Vec<(String, String)>> {
        self.state.lock().requests.iter().map(|request| request.headers.clone()).collect()
    }

    /// Number of chat requests that are neither answered nor dropped.
    pub fn open(&self) -> usize {
        self.state.lock().open
    }

    /// Stops the backend, closes its connections, and waits until its port is free.
    pub async fn stop(&self) {
        self.peer.stop().await;
    }
}

async fn converse(connection: &mut Connection, state: &Mutex<State>) -> io::Result<()> {
    loop {
        let request = connection.request().await?;
        let script = state.lock().script.clone();
        match (request.method.as_str(), request.path()) {
            ("GET", "/v1/models") => {
                if let Some(others) = &script.models_wait {
                    others.wait().await;
                }
                connection.json(200, &models(&script)).await?;
            }
            ("POST", "/v1/chat/completions") => {
                let body = request.json();
                {
                    let mut state = state.lock();
                    state.requests.push(request);
                    state.open += 1;
                }
                let _open = Open(state);
                let (mut from, mut to) = connection.halves();
                let mut byte = [0];
                tokio::select! {
                    answered = chat(&mut to, &body, &script) => answered?,
                    // The client has closed the connection, or sent a second request before the first answer.
                    _ = from.read(&mut byte) => return Ok(()),
                }
                if script.close {
                    return Ok(());
                }
            }
            _ => connection.write(answer(404, "", "")).await?,
        }
    }
}

fn models(script: &Script) -> Value {
    let models = script.models.clone().unwrap_or_else(|| vec!["fake-model".to_owned()]);
    let model = |id: &String| {
        let mut model = json!({ "id": id, "object": "model" });
        if let Some(length) = script.max_model_len {
            model["max_model_len"] = length.into();
        }
        model
    };
    let models: Vec<_> = models.iter().map(model).collect();
    json!({ "object": "list", "data": models })
}

async fn chat(to: &mut WriteHalf<'_>, request: &Value, script: &Script) -> io::Result<()> {
    sleep(script.think).await;
    if let Some(member) = script.unknown_member.filter(|member| request.get(member).is_some()) {
        let reason = json!({ "loc": ["body", member], "msg": "Extra inputs are not permitted" });
        let body = json!({ "detail": [reason] }).to_string();
        return to.write_all(answer(422, "content-type: application/json\r\n", &body).as_bytes()).await;
    }
    if request["stream"] == true && script.refuse.is_none() && script.echo.is_none() {
        let is_asked = request["stream_options"]["include_usage"] == true;
        return stream(to, script, script.usage.as_ref().filter(|_| is_asked)).await;
    }
    let (status, body) = if let Some((status, body)) = &script.refuse {
        (*status, body.clone())
    } else if let Some(status) = script.echo {
        (status, json!({ "detail": [{ "msg": "not this", "input": request }] }).to_string())
    } else if let Some(choices) = &script.choices {
        (200, json!({ "id": "c", "object": "chat.completion", "choices": choices }).to_string())
    } else {
        let text = script.text.as_deref().unwrap_or("hello from the backend");
        let message = json!({ "role": "assistant", "content": text });
        let body = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": request["model"],
            "choices": [{ "index": 0, "finish_reason": "stop", "message": message }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        });
        (200, body.to_string())
    };
    let close = if script.close { "connection: close\r\n" } else { "" };
    let headers = format!("content-type: application/json\r\n{close}");
    to.write_all(answer(status, &headers, &body).as_bytes()).await
}

async fn stream(to: &mut WriteHalf<'_>, script: &Script, usage: Option<&Value>) -> io::Result<()> {
    to.write_all(SSE.as_bytes()).await?;
    let mut at = Instant::now();
    for (n, event) in events(script, usage).enumerate() {
        if script.stalls && n == 1 {
            return std::future::pending().await;
        }
        at += if n == 1 { script.pace + script.pause } else { script.pace };
        // Without a pace, too, a token comes alone: a registrar merges those that come at once.
        sleep_until(at.max(Instant::now())).await;
        to.write_all(chunked(&format!("data: {event}\n\n")).as_bytes()).await?;
    }
    if script.stalls {
        return std::future::pending().await;
    }
    to.write_all(b"0\r\n\r\n").await
}

/// The `data:` fields of a streamed answer.
fn events(script: &Script, usage: Option<&Value>) -> impl Iterator<Item = String> {
    let chunk = |choice: &Value| {
        json!({ "id": "c", "object": "chat.completion.chunk", "choices": [choice] }).to_string()
    };
    let given = script.choices.iter().flatten().map(chunk);
    let has_own = script.choices.is_none();
    let tokens = if has_own { script.tokens } else { 0 };
    let own = (0..tokens).map(move |n| {
        let text = script.text.clone().unwrap_or_else(|| format!("t{n} "));
        chunk(&json!({ "index": 0, "delta": { "content": text }, "finish_reason": null }))
    });
    let is_whole = has_own && !script.truncate;
    let last = is_whole.then(|| chunk(&json!({ "index": 0, "delta": {}, "finish_reason": "stop" })));
    let end = (is_whole || !has_own).then(|| "[DONE]".to_owned());
    let usage = usage.map(|usage| json!({ "id": "c", "choices": [], "usage": usage }).to_string());
    given.chain(own).chain(last).chain(usage).chain(end)
}
