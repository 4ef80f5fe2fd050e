//! A fake hub that speaks the link over a socket, step by step as a test says.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::{io, str};

use actix_codec::{Decoder, Encoder};
use actix_http::ws::{self, hash_key};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use testkit::connection::{Connection, Request};
use testkit::peer::Peer;
use testkit::wait::{wait_for, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use wire::link::{BodyKind, Frame, Going, Hello, Link, MAX_FRAME, Received, Resume, SUBPROTOCOL};

use crate::Secret;
use crate::options::Credentials;

/// What a test has the newest link do.
enum Command {
    Going(Going),
    Task(String, String),
    Close,
    Cut,
}

#[derive(Default)]
struct State {
    /// Names of the features in the hello.
    features: Vec<&'static str>,
    /// Status with which the next channels are refused.
    refuses: Cell<Option<u16>>,
    /// Paths of the POSTs so far.
    posts: RefCell<Vec<String>>,
    /// Heartbeats that came as frames.
    beats: RefCell<Vec<Value>>,
    /// Answers to the next heartbeats on links; then `{"ok":true}`. `None`: no answer.
    answers: RefCell<VecDeque<Option<(u16, &'static str)>>>,
    /// Results, by the number of their link and their task.
    results: RefCell<HashMap<(usize, String), Vec<u8>>>,
    asked: Cell<usize>,
    links: RefCell<Vec<mpsc::UnboundedSender<Command>>>,
}

/// A running hub of links.
#[derive(Clone)]
pub(crate) struct LinkHub {
    state: Rc<State>,
    peer: Rc<Peer>,
}

impl LinkHub {
    pub(crate) fn start(features: &[&'static str]) -> Self {
        let state = Rc::new(State { features: features.to_vec(), ..State::default() });
        let serving = Rc::clone(&state);
        let serve = async move |connection: Connection| converse(connection, &serving).await;
        Self { state, peer: Rc::new(Peer::start(serve)) }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(self.peer.url(), Secret::new("token-of-the-test"))
    }

    /// Refuses channels with `status`; `None` accepts them.
    pub(crate) fn refuse(&self, status: Option<u16>) {
        self.state.refuses.set(status);
    }

    pub(crate) fn answer_next_beat(&self, answer: Option<(u16, &'static str)>) {
        self.state.answers.borrow_mut().push_back(answer);
    }

    /// Number of requests for a channel so far.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.get()
    }

    /// Number of links opened so far.
    pub(crate) fn opened(&self) -> usize {
        self.state.links.borrow().len()
    }

    /// Number of links that are open.
    pub(crate) fn open(&self) -> usize {
        self.state.links.borrow().iter().filter(|link| !link.is_closed()).count()
    }

    pub(crate) async fn until_opened(&self, count: usize) {
        wait_until("the link opens", || self.opened() >= count).await;
    }

    pub(crate) fn posts(&self, path: &str) -> usize {
        self.state.posts.borrow().iter().filter(|post| post.ends_with(path)).count()
    }

    pub(crate) fn beats(&self) -> Vec<Value> {
        self.state.beats.borrow().clone()
    }

    /// Tells the registrar on the link number `link` that this hub shuts down.
    pub(crate) fn going(&self, link: usize, delay_ms: u32) {
        self.command(link, Command::Going(Going { delay_ms, interval_ms: 1000 }));
    }

    /// Sends a task on the link number `link`.
    pub(crate) fn task(&self, link: usize, id: &str, data: &str) {
        self.command(link, Command::Task(id.to_owned(), data.to_owned()));
    }

    /// Closes the link number `link`.
    pub(crate) fn close(&self, link: usize) {
        self.command(link, Command::Close);
    }

    /// Ends the connection of the link number `link` without a close frame.
    pub(crate) fn cut(&self, link: usize) {
        self.command(link, Command::Cut);
    }

    fn command(&self, link: usize, command: Command) {
        self.state.links.borrow()[link].send(command).expect("the link is open");
    }

    /// The result of a task that ended on the link number `link`.
    pub(crate) async fn result(&self, link: usize, id: &str) -> Value {
        let of = (link, id.to_owned());
        wait_for(&format!("the result of {id}"), async || {
            serde_json::from_slice(self.state.results.borrow().get(&of)?).ok()
        })
        .await
    }
}

async fn converse(mut connection: Connection, state: &State) -> io::Result<()> {
    loop {
        let request = connection.request().await?;
        if request.method == "GET" {
            state.asked.set(state.asked.get() + 1);
            match state.refuses.get() {
                Some(status) => connection.json(status, &json!({ "error": "no" })).await?,
                None => return link(&mut connection, &request, state).await,
            }
            continue;
        }
        state.posts.borrow_mut().push(request.path().to_owned());
        if request.path().ends_with("_provider-register") {
            let answer = json!({ "providerSessionId": "sess-1", "llms": [], "agents": [] });
            connection.json(201, &answer).await?;
        } else {
            connection.json(200, &json!({ "ok": true })).await?;
        }
    }
}

async fn link(connection: &mut Connection, request: &Request, state: &State) -> io::Result<()> {
    let (sender, mut commands) = mpsc::unbounded_channel();
    let number = state.links.borrow().len();
    state.links.borrow_mut().push(sender);
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let accept = hash_key(key.as_bytes());
    let accept = str::from_utf8(&accept).unwrap();
    let head = format!(
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\
         sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    connection.write(head).await?;
    let (mut read, mut write) = connection.halves();
    let (mut codec, mut input, mut link) =
        (ws::Codec::new().max_size(MAX_FRAME), BytesMut::new(), Link::default());
    let hello = Hello {
        features: state.features.iter().map(|&name| name.to_owned()).collect(),
        stream_id: format!("stream-{number}"),
        tasks: link.tables(),
    };
    let mut out = BytesMut::new();
    codec.encode(ws::Message::Binary(Frame::Hello(hello.to_json()).encode()), &mut out).unwrap();
    loop {
        while let Some(frame) = link.next_frame() {
            codec.encode(ws::Message::Binary(frame), &mut out).unwrap();
        }
        write.write_all(&out).await?;
        out.clear();
        tokio::select! {
            read = read.read_buf(&mut input) => if read? == 0 { return Ok(()) },
            command = commands.recv(), if link.is_carried() => match command {
                Some(Command::Going(going)) => link.send_control(&Frame::Going(going)),
                Some(Command::Task(id, data)) => {
                    link.push(&id, BodyKind::Json, data.into());
                    link.finish(&id);
                }
                Some(Command::Cut) => return Ok(()),
                Some(Command::Close) | None => {
                    codec.encode(ws::Message::Close(None), &mut out).unwrap();
                    return write.write_all(&out).await;
                }
            },
        }
        while let Some(frame) = codec.decode(&mut input).unwrap() {
            match frame {
                ws::Frame::Binary(bytes) => take(&bytes, &mut link, (number, state)),
                ws::Frame::Ping(bytes) => codec.encode(ws::Message::Pong(bytes), &mut out).unwrap(),
                ws::Frame::Close(_) => return Ok(()),
                _ => (),
            }
        }
    }
}

fn take(bytes: &Bytes, link: &mut Link, (number, state): (usize, &State)) {
    match link.receive(Frame::decode(bytes).unwrap().unwrap()).unwrap() {
        Received::Resume(json) => {
            link.resume(&Resume::parse(&json).unwrap().tasks).unwrap();
        }
        Received::Beat(beat, body) => {
            state.beats.borrow_mut().push(serde_json::from_slice(&body).unwrap());
            let answer = state.answers.borrow_mut().pop_front().unwrap_or(Some((200, r#"{"ok":true}"#)));
            if let Some((status, body)) = answer {
                link.send_control(&Frame::Beaten {
                    number: beat,
                    status,
                    body: Bytes::from_static(body.as_bytes()),
                });
            }
        }
        Received::Piece { task, piece, .. } => {
            let of = (number, task.to_string());
            state.results.borrow_mut().entry(of).or_default().extend_from_slice(&piece.bytes);
            link.consumed(&task, piece.bytes.len());
            if piece.is_last {
                link.take(&task, 200);
            }
        }
        _ => (),
    }
}
