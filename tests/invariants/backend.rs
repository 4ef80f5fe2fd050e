//! A fake backend that records each run of each request, by the request's nonce.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::connection::{self, Connection, SSE, chunked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::WriteHalf;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::answers::{Wanted, token};
use crate::runs::Runs;

/// How a backend treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// The port is closed, and open connections are reset.
    Dead,
    /// Pauses before and between tokens.
    Slow,
    /// Never answers.
    Hangs,
    /// Closes the connection in the middle of each answer.
    CutsOff,
    /// Answers each request with this error status.
    Refuses(u16),
}

impl Mood {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Dead => "dead",
            Self::Slow => "slow",
            Self::Hangs => "hangs",
            Self::CutsOff => "cuts off",
            Self::Refuses(503) => "refuses with 503",
            Self::Refuses(_) => "refuses with 429",
        }
    }
}

pub struct Backend {
    mood: watch::Sender<Mood>,
    port: u16,
}

impl Backend {
    pub async fn start(index: usize, runs: &Rc<Runs>) -> Self {
        let mut listener = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = listener.as_ref().unwrap().local_addr().unwrap().port();
        let (mood, mut told) = watch::channel(Mood::Good);
        let runs = Rc::clone(runs);
        actix_rt::spawn(async move {
            loop {
                let dead = *told.borrow_and_update() == Mood::Dead;
                if dead {
                    listener = None;
                } else if listener.is_none() {
                    // Connections from before the restart may hold the port for a moment.
                    listener = TcpListener::bind(("127.0.0.1", port)).await.ok();
                }
                let Some(listener) = &listener else {
                    tokio::select! {
                        changed = told.changed() => if changed.is_err() { return },
                        () = sleep(Duration::from_millis(20)) => (),
                    }
                    continue;
                };
                tokio::select! {
                    changed = told.changed() => if changed.is_err() { return },
                    accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                        actix_rt::spawn(serve(Connection::of(socket), index, Rc::clone(&runs), told.clone()));
                    },
                }
            }
        });
        Self { mood, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn serve(mut connection: Connection, index: usize, runs: Rc<Runs>, mut told: watch::Receiver<Mood>) {
    let died = {
        let mut death = told.clone();
        tokio::select! {
            _ = death.wait_for(|mood| *mood == Mood::Dead) => true,
            _ = talk(&mut connection, index, &runs, &mut told) => false,
        }
    };
    if died {
        let _ = connection.reset();
    }
}

/// Answers requests until the peer closes or the connection fails.
async fn talk(
    connection: &mut Connection,
    index: usize,
    runs: &Runs,
    told: &mut watch::Receiver<Mood>,
) -> io::Result<()> {
    loop {
        let asked = connection.request().await?;
        let mood = *told.borrow();
        if asked.method == "GET" {
            let models = json!({ "object": "list", "data": [{ "id": "fake", "object": "model" }] });
            connection.json(200, &models).await?;
        } else if let Mood::Refuses(status) = mood {
            connection.json(status, &json!({ "error": { "message": "not now" } })).await?;
        } else {
            let request: Value = serde_json::from_slice(&asked.body)?;
            let text = request["messages"][0]["content"].as_str().unwrap_or_default();
            let wanted = Wanted::parse(text).ok_or(io::ErrorKind::InvalidData)?;
            let key =
                asked.header("authorization").and_then(|key| key.strip_prefix("Bearer life-")?.parse().ok());
            let run = runs.begin(wanted.nonce, index, key.ok_or(io::ErrorKind::InvalidData)?);
            let _open = Open::new(&runs.open);
            let streaming = request["stream"] == true;
            let (mut read, mut write) = connection.halves();
            tokio::select! {
                answered = answer(&mut write, wanted, run, streaming, mood) => if !answered? { return Ok(()) },
                // A read that returns during an answer means that the peer has closed the connection.
                _ = read.read_u8() => return Ok(()),
            }
        }
    }
}

/// Counts a request in `Runs::open` until its answer ends or is dropped.
struct Open<'a>(&'a Cell<usize>);

impl<'a> Open<'a> {
    fn new(open: &'a Cell<usize>) -> Self {
        open.set(open.get() + 1);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Answers one request. Returns `false` if the backend broke off the answer.
async fn answer(
    to: &mut WriteHalf<'_>,
    wanted: Wanted,
    run: u64,
    streaming: bool,
    mood: Mood,
) -> io::Result<bool> {
    let (think, pace) = match mood {
        Mood::Slow => (Duration::from_millis(700), Duration::from_millis(60)),
        _ => (Duration::from_millis(5), Duration::from_millis(4)),
    };
    sleep(think).await;
    if mood == Mood::Hangs {
        return std::future::pending().await;
    }
    let cut = (mood == Mood::CutsOff).then_some(wanted.tokens / 2);
    if !streaming {
        let content: String = (0..wanted.tokens).map(|n| token(wanted.nonce, run, n)).collect();
        let body = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": content } }],
            "usage": { "prompt_tokens": 1, "completion_tokens": wanted.tokens, "total_tokens": wanted.tokens + 1 },
        })
        .to_string();
        let whole = connection::answer(200, "content-type: application/json\r\n", &body);
        if cut.is_some() {
            to.write_all(&whole.as_bytes()[..whole.len() - body.len() / 2]).await?;
            return Ok(false);
        }
        to.write_all(whole.as_bytes()).await?;
        return Ok(true);
    }
    to.write_all(SSE.as_bytes()).await?;
    for n in 0..wanted.tokens {
        if cut == Some(n) {
            return Ok(false);
        }
        let delta = json!({ "content": token(wanted.nonce, run, n) });
        event(to, &chunk(&delta, None).to_string()).await?;
        sleep(pace).await;
    }
    event(to, &chunk(&json!({}), Some("stop")).to_string()).await?;
    event(to, "[DONE]").await?;
    to.write_all(b"0\r\n\r\n").await?;
    Ok(true)
}

fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

async fn event(to: &mut WriteHalf<'_>, data: &str) -> io::Result<()> {
    to.write_all(chunked(&format!("data: {data}\n\n")).as_bytes()).await
}
