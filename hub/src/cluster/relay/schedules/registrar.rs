//! The registrar of a schedule: its end of the link, its WebSocket, and a backend that writes what the caller asked for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use actix_web::FromRequest;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::test::TestRequest;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, sleep, timeout};
use wire::link::{BodyKind, Frame, Hello, Link, Received, Resume, SUBPROTOCOL};

use super::calls::Plan;
use super::node::Node;
use super::world::{SESSION, World};
use crate::http::accept_link;
use crate::tests::publisher::completion;

/// Time after which a writer looks again whether there is credit, and a connection whether its hub is stopped.
const LOOK: Duration = Duration::from_millis(50);

/// A task at the backend, by its id.
#[derive(Default)]
struct Task {
    request: Vec<u8>,
    /// Number of its call, when the request is whole.
    call: Option<u64>,
}

pub struct Registrar {
    world: Rc<World>,
    link: RefCell<Link>,
    tasks: RefCell<BTreeMap<String, Task>>,
    /// All tasks that ever came, and the calls that ran.
    came: RefCell<BTreeSet<String>>,
    pub ran: RefCell<Vec<u64>>,
    /// The hub that has the connection.
    pub at: RefCell<Option<Rc<Node>>>,
    /// The hub to which it goes next; any if there is none.
    pub next: RefCell<Option<Rc<Node>>>,
    has_frames: Notify,
    cut: Notify,
    /// Whether it stays away.
    pub is_over: Cell<bool>,
}

/// A connection at a hub.
struct Socket {
    body: Pin<Box<BoxBody>>,
    input: mpsc::UnboundedSender<Result<Bytes, actix_web::error::PayloadError>>,
    codec: ws::Codec,
    read: BytesMut,
}

impl Socket {
    /// Asks for a link. `None` if there is none now.
    async fn open(world: &World, node: &Node) -> Option<Self> {
        if node.hub.is_leaving() {
            return None;
        }
        world.adopt(node);
        let homes = node.shared.peers.tables(SESSION).await;
        let (input, mut payload) = mpsc::unbounded_channel();
        let headers = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", SUBPROTOCOL),
            (wire::features::FEATURES_HEADER, "cancel"),
        ];
        let request =
            headers.iter().fold(TestRequest::get(), |request, header| request.insert_header(*header));
        let request = request.to_http_request();
        let payload: actix_http::BoxedPayloadStream =
            Box::pin(stream::poll_fn(move |cx| payload.poll_recv(cx)));
        let payload =
            actix_web::web::Payload::from_request(&request, &mut Payload::from(payload)).await.ok()?;
        let caller = &world.common.caller;
        let accepted = accept_link(&node.hub, caller, &request, SESSION, payload, homes);
        let Ok(Ok(response)) = accepted else { panic!("no link") };
        let codec = ws::Codec::new().client_mode().max_size(4 << 20);
        Some(Self { body: Box::pin(response.into_body()), input, codec, read: BytesMut::new() })
    }

    /// The next frames; `None` at the end.
    async fn read(&mut self) -> Option<Vec<Bytes>> {
        let bytes = poll_fn(|cx| self.body.as_mut().poll_next(cx)).await?.ok()?;
        self.read.extend_from_slice(&bytes);
        let mut frames = Vec::new();
        while let Some(frame) = self.codec.decode(&mut self.read).unwrap() {
            if let ws::Frame::Binary(bytes) = frame {
                frames.push(bytes);
            }
        }
        Some(frames)
    }

    fn write(&mut self, frame: Bytes) {
        let mut bytes = BytesMut::new();
        self.codec.encode(ws::Message::Binary(frame), &mut bytes).unwrap();
        let _ = self.input.send(Ok(bytes.freeze()));
    }

    /// The hub has not noticed that the registrar has left.
    async fn linger(mut self, time: Duration) {
        let _ = timeout(time, async { while self.read().await.is_some() {} }).await;
    }
}

impl Registrar {
    pub fn start(world: &Rc<World>) -> Rc<Self> {
        let registrar = Rc::new(Self {
            world: world.clone(),
            link: RefCell::default(),
            tasks: RefCell::default(),
            came: RefCell::default(),
            ran: RefCell::default(),
            at: RefCell::default(),
            next: RefCell::default(),
            has_frames: Notify::new(),
            cut: Notify::new(),
            is_over: Cell::new(false),
        });
        world.spawn(registrar.clone().live());
        registrar
    }

    /// Loses the connection, if there is one, and goes to `next`.
    pub fn leave(&self, next: Option<Rc<Node>>) {
        log::debug!("the registrar loses its connection, to {:?}", next.as_ref().map(|node| node.process));
        *self.next.borrow_mut() = next;
        self.cut.notify_one();
    }

    pub fn is_idle(&self) -> bool {
        self.tasks.borrow().is_empty() && self.link.borrow().is_empty()
    }

    async fn live(self: Rc<Self>) {
        while !self.is_over.get() {
            let node = self.next.borrow_mut().take().unwrap_or_else(|| self.world.any_node());
            let is_there = self.world.nodes.borrow().iter().any(|other| Rc::ptr_eq(other, &node));
            if is_there && node.stopped.get().is_none() {
                self.connect(&node).await;
                self.link.borrow_mut().disconnect();
                *self.at.borrow_mut() = None;
            }
            sleep(self.world.millis(800)).await;
        }
    }

    async fn connect(self: &Rc<Self>, node: &Rc<Node>) {
        *self.at.borrow_mut() = Some(node.clone());
        let opened = async {
            let opening = pin!(Socket::open(&self.world, node));
            tokio::select! {
                biased;
                () = self.cut.notified() => None,
                opened = opening => opened,
            }
        };
        let Some(mut socket) = opened.await else { return };
        log::debug!("the registrar is at {}", node.process);
        loop {
            tokio::select! {
                biased;
                () = self.cut.notified() => break,
                () = node.runs() => (),
            }
            while let Some(frame) = self.link.borrow_mut().next_frame() {
                socket.write(frame);
            }
            tokio::select! {
                biased;
                () = self.cut.notified() => break,
                frames = socket.read() => match frames {
                    Some(frames) => frames.iter().for_each(|bytes| self.take(bytes)),
                    None => return log::debug!("{} ends the connection", node.process),
                },
                () = self.has_frames.notified() => (),
                () = sleep(LOOK * 20) => (),
            }
        }
        if self.world.below(3) == 0 {
            self.world.spawn(socket.linger(self.world.millis(4000)));
        }
    }

    fn take(self: &Rc<Self>, bytes: &Bytes) {
        let frame = Frame::decode(bytes).unwrap().unwrap();
        let received = self.link.borrow_mut().receive(frame).expect("the hub is against the rules");
        match received {
            Received::Hello(json) => {
                let mut link = self.link.borrow_mut();
                let lost =
                    link.resume(&Hello::parse(&json).unwrap().tasks).expect("the hello is against the rules");
                let resume = Resume { tasks: link.tables() };
                link.send_control(&Frame::Resume(resume.to_json()));
                drop(link);
                log::debug!("hello {json:?}");
                for task in &lost {
                    self.end(task);
                }
            }
            Received::Piece { task, is_new, piece } => {
                if is_new && !self.came.borrow_mut().insert(task.to_string()) {
                    // As a registrar does that has ended it: no id runs twice.
                    log::debug!("{task} came again");
                    let mut link = self.link.borrow_mut();
                    link.push(
                        &task,
                        BodyKind::Json,
                        json!({ "error": "it was cancelled" }).to_string().into(),
                    );
                    return link.finish(&task);
                }
                self.link.borrow_mut().consumed(&task, piece.bytes.len());
                let mut tasks = self.tasks.borrow_mut();
                let state = tasks.entry(task.to_string()).or_default();
                assert!(state.call.is_none(), "a piece behind the end of {task}");
                state.request.extend_from_slice(&piece.bytes);
                if piece.is_last {
                    let plan = Plan::read(&state.request);
                    state.call = Some(plan.call);
                    log::debug!("call {} runs as {task}", plan.call);
                    self.ran.borrow_mut().push(plan.call);
                    self.world.spawn(self.clone().answer(task.to_string(), plan));
                }
            }
            Received::Taken { task, status } => {
                log::debug!("{task} is taken: {status}");
                self.end(&task);
            }
            Received::Cancelled(task) => {
                log::debug!("{task} is cancelled");
                self.end(&task);
            }
            Received::Going(_) => self.leave(None),
            Received::Superseded => panic!("the newest channel is superseded"),
            Received::Credit(_) | Received::Nothing => (),
            other => panic!("{other:?}"),
        }
        self.has_frames.notify_one();
    }

    fn end(&self, task: &str) {
        self.tasks.borrow_mut().remove(task);
    }

    /// Writes the answer of a task at the backend's pace, as far as there is credit.
    async fn answer(self: Rc<Self>, task: String, plan: Plan) {
        let push = |kind, text: String| {
            self.link.borrow_mut().push(&task, kind, text.into());
            self.has_frames.notify_one();
        };
        let is_gone = || !self.tasks.borrow().contains_key(&task);
        if plan.is_streamed {
            for chunk in 0..plan.chunks {
                sleep(plan.pace).await;
                while !is_gone() && self.link.borrow().pending_bytes(&task) > 0 {
                    sleep(LOOK).await;
                }
                if is_gone() {
                    return;
                }
                let data = crate::tests::publisher::chunk(&plan.chunk(chunk));
                push(BodyKind::Events, format!("data: {data}\n\n"));
            }
            push(BodyKind::Events, "data: [DONE]\n\n".into());
        } else {
            sleep(plan.pace * u32::try_from(plan.chunks).unwrap()).await;
            if is_gone() {
                return;
            }
            push(BodyKind::Json, json!({ "status": 200, "body": completion(&plan.text()) }).to_string());
        }
        self.link.borrow_mut().finish(&task);
        self.has_frames.notify_one();
    }
}
