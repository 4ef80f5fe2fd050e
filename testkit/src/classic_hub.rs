//! A fake hub that implements only section 3 of SPEC.md, like an existing `mcpd`. It stores every request, and sends prepared
//! answers.
//!
//! It runs on the thread of its test, so that a test can pause the clock. A test gives it features by [`ClassicHub::set_hello`].

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::connection::{Connection, Request, SSE, answer, chunked};
use crate::peer::Peer;
use crate::wait::{wait_for, wait_until};

/// The characters that `encodeURIComponent` encodes: all but letters, digits and these marks.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The answer to one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An answer with a status, header lines and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// An event stream, fed by [`ClassicHub::send`].
    Channel,
    /// No answer, on a connection that stays open.
    Hang,
    /// The connection is closed without an answer.
    Cut,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), "{}".to_owned())
    }
}

impl From<(u16, Value)> for Reply {
    fn from((status, body): (u16, Value)) -> Self {
        Self::Status(status, vec![("content-type", "application/json".to_owned())], body.to_string())
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// Prepared answers, by the last part of the path.
    scripts: Vec<(String, VecDeque<Reply>)>,
    channels: Vec<mpsc::UnboundedSender<String>>,
    /// Number of channels opened so far.
    opened: usize,
    hello: Option<String>,
    sessions: usize,
    /// Number of requests whose head was read.
    heads: usize,
}

/// A running fake hub. Dropping the last clone closes its connections.
#[derive(Clone)]
pub struct ClassicHub {
    state: Rc<Mutex<State>>,
    peer: Rc<Peer>,
}

impl ClassicHub {
    pub fn start() -> Self {
        Self::on(0)
    }

    /// Starts a hub on `port`; 0 means any free port.
    pub fn on(port: u16) -> Self {
        let state = State { hello: Some("{}".to_owned()), ..State::default() };
        let state = Rc::new(Mutex::new(state));
        let shared = Rc::clone(&state);
        let serve = async move |connection: Connection| {
            connection.while_plugged(async |connection| converse(connection, &shared).await).await
        };
        Self { state, peer: Rc::new(Peer::on(("127.0.0.1", port), serve).unwrap()) }
    }

    pub fn url(&self) -> String {
        self.peer.url()
    }

    pub fn port(&self) -> u16 {
        self.peer.port()
    }

    /// Prepares answers for the next requests whose path ends with `path`, one answer for each request.
    pub fn script<R: Into<Reply>>(&self, path: &str, replies: impl IntoIterator<Item = R>) {
        let replies = replies.into_iter().map(Into::into).collect();
        self.state.lock().scripts.push((path.to_owned(), replies));
    }

    /// Sets the data of the hello on the next channels; `None` sends none.
    pub fn set_hello(&self, data: Option<&str>) {
        self.state.lock().hello = data.map(str::to_owned);
    }

    /// Sends text on the newest channel.
    pub fn send(&self, text: impl Into<String>) {
        let state = self.state.lock();
        state
            .channels
            .last()
            .expect("no channel was opened")
            .send(text.into())
            .expect("the channel is closed");
    }

    /// Sends a task on the newest channel.
    pub fn task(&self, task: impl std::fmt::Display) {
        self.send(format!("event: task\ndata: {task}\n\n"));
    }

    /// Sends an inference task for one user message.
    pub fn infer(&self, id: &str, llm: &str, streaming: bool, text: &str) {
        let request = json!({ "messages": [{ "role": "user", "content": text }] });
        self.task(json!({ "kind": "infer", "taskId": id, "llmName": llm, "streaming": streaming, "request": request }));
    }

    /// Closes every channel.
    pub fn close_channels(&self) {
        self.state.lock().channels.clear();
    }

    pub fn open_channels(&self) -> usize {
        self.state.lock().channels.iter().filter(|channel| !channel.is_closed()).count()
    }

    /// Waits until `count` channels have been opened in total and one is open.
    pub async fn channel(&self, count: usize) {
        wait_until("the channel opens", || self.state.lock().opened >= count && self.open_channels() > 0)
            .await;
    }

    /// Number of accepted connections.
    pub fn connections(&self) -> usize {
        self.peer.connections()
    }

    /// Number of requests whose head was read.
    pub fn heads(&self) -> usize {
        self.state.lock().heads
    }

    /// The requests whose path ends with `path`.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock();
        state.requests.iter().filter(|request| request.path().ends_with(path)).cloned().collect()
    }

    /// Waits for the `n`-th request whose path ends with `path`, counted from 1.
    pub async fn request(&self, path: &str, n: usize) -> Request {
        wait_for(&format!("request {n} of {path}"), async || self.requests(path).into_iter().nth(n - 1)).await
    }

    /// Stops the hub, closes its connections, and waits until its port is free.
    pub async fn stop(&self) {
        self.peer.stop().await;
    }

    /// The bodies of the results of a task so far.
    pub fn results(&self, id: &str) -> Vec<Value> {
        let path = format!("/_provider-task/{}/result", utf8_percent_encode(id, COMPONENT));
        self.requests(&path).iter().map(Request::json).collect()
    }

    /// Waits for the end of a task. Returns the bodies of all its results.
    pub async fn ended(&self, id: &str) -> Vec<Value> {
        wait_for(&format!("task {id} ends"), async || {
            let results = self.results(id);
            let last = results.last()?;
            (last.get("chunk").is_none() || last["chunk"]["done"] == true).then_some(results)
        })
        .await
    }
}

impl State {
    fn reply(&mut self, request: &Request) -> Reply {
        let scripted = self.scripts.iter_mut().find_map(|(path, replies)| {
            request.path().ends_with(path.as_str()).then(|| replies.pop_front()).flatten()
        });
        if let Some(reply) = scripted {
            return reply;
        }
        match request.path().strip_prefix("/api/v1/llms/") {
            Some("_provider-register") => {
                let body = request.json();
                let id = body["providerSessionId"].as_str().map_or_else(
                    || {
                        self.sessions += 1;
                        format!("sess-{}", self.sessions)
                    },
                    str::to_owned,
                );
                (201, json!({ "providerSessionId": id, "llms": [], "agents": [] })).into()
            }
            Some("_provider-stream") => Reply::Channel,
            Some(_) => (200, json!({})).into(),
            None => (404, json!({ "error": "not found" })).into(),
        }
    }
}

async fn converse(connection: &mut Connection, state: &Mutex<State>) -> io::Result<()> {
    loop {
        let mut request = connection.head().await?;
        state.lock().heads += 1;
        request.is_whole = connection.body(&mut request).await.is_ok();
        let reply = state.lock().reply(&request);
        state.lock().requests.push(request);
        match reply {
            Reply::Status(status, headers, body) => {
                let lines: String =
                    headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
                connection.write(answer(status, &lines, &body)).await?;
            }
            Reply::Channel => return channel(connection, state).await,
            Reply::Hang => connection.unplugged().await,
            Reply::Cut => return Ok(()),
        }
    }
}

async fn channel(connection: &mut Connection, state: &Mutex<State>) -> io::Result<()> {
    connection.write(SSE).await?;
    let (sender, mut events) = mpsc::unbounded_channel();
    {
        let mut state = state.lock();
        if let Some(data) = &state.hello {
            let _ = sender.send(format!("event: hello\ndata: {data}\n\n"));
        }
        state.channels.push(sender);
        state.opened += 1;
    }
    let (mut from, mut to) = connection.halves();
    let mut byte = [0];
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(text) => to.write_all(chunked(&text).as_bytes()).await?,
                None => return to.write_all(b"0\r\n\r\n").await,
            },
            _ = from.read(&mut byte) => return Ok(()),
        }
    }
}
