//! The calls of a schedule: what each asks for, and what its caller reads.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;

use actix_web::body::MessageBody;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep};
use wire::task::Endpoint;

use super::node::Node;
use super::world::{ROW, World};
use crate::dispatch::{InferenceRequest, Priority, RequestBody, serve};
use crate::error::{Dialect, ErrorKind};

/// Time in which a call is refused that waits for nothing.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What a caller asks for, which the request says.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub call: u64,
    pub is_streamed: bool,
    pub chunks: u64,
    /// Letters of each chunk.
    pub size: usize,
    /// Time of the backend for each.
    pub pace: Duration,
}

impl Plan {
    /// The text of the chunk `number`, which tells its call and its place.
    pub fn chunk(&self, number: u64) -> String {
        format!("{}.{number} {}", self.call, "x".repeat(self.size))
    }

    pub fn text(&self) -> String {
        (0..self.chunks).map(|number| self.chunk(number)).collect()
    }

    fn request(&self) -> Vec<u8> {
        let Self { call, is_streamed, chunks, size, pace } = self;
        let plan = json!([call, is_streamed, chunks, size, pace.as_millis()]).to_string();
        json!({ "model": ROW, "stream": is_streamed, "messages": [{ "role": "user", "content": plan }] })
            .to_string()
            .into()
    }

    /// Reads a task.
    pub fn read(task: &[u8]) -> Self {
        let task: Value = serde_json::from_slice(task).unwrap();
        let plan = task["request"]["messages"][0]["content"].as_str().unwrap();
        let (call, is_streamed, chunks, size, pace) = serde_json::from_str(plan).unwrap();
        Self { call, is_streamed, chunks, size, pace: Duration::from_millis(pace) }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its answer was whole.
    Whole,
    /// It was told that there is no more.
    Failed(String),
    /// It was told so at once: the registrar was away.
    Refused,
    /// Its caller has left, or its hub was killed.
    Left,
}

/// A call at its hub.
pub struct Call {
    pub plan: Plan,
    pub home: Rc<Node>,
    /// Bytes of its answer that its caller has read.
    read: RefCell<Vec<u8>>,
    pub end: RefCell<Option<End>>,
    leaving: Notify,
    /// Time of the caller for each read.
    pub pause: Cell<Duration>,
}

impl Call {
    pub fn start(world: &World, home: Rc<Node>, plan: Plan, pause: Duration) -> Rc<Self> {
        let (read, end, leaving) = Default::default();
        let call = Self { plan, home, read, end, leaving, pause: Cell::new(pause) };
        let (call, caller) = (Rc::new(call), world.common.caller.clone());
        let running = call.clone();
        world.spawn(async move {
            let target = running.home.hub.registry.lock().target(&caller, ROW).unwrap();
            let request = InferenceRequest {
                caller,
                target,
                endpoint: Endpoint::ChatCompletions,
                streaming: running.plan.is_streamed,
                body: RequestBody::parse(running.plan.request()).unwrap(),
                headers: Vec::new(),
                set_model: false,
                conversation: None,
                is_chained: false,
                queue_timeout: None,
                priority: Priority::Normal,
            };
            let end = tokio::select! {
                biased;
                () = running.leaving.notified() => End::Left,
                end = running.run(request) => end,
            };
            log::debug!("call {} ends: {end:?}", running.plan.call);
            *running.end.borrow_mut() = Some(end);
        });
        call
    }

    async fn run(&self, request: InferenceRequest) -> End {
        let began = Instant::now();
        let response = match serve(self.home.hub.clone(), request, Dialect::OpenAi).await {
            Ok(response) => response,
            Err(error) if error.kind == ErrorKind::PublisherAway && began.elapsed() < AT_ONCE => {
                return End::Refused;
            }
            Err(error) => return End::Failed(format!("{error:?}")),
        };
        let status = response.status();
        let mut body = Box::pin(response.into_body());
        while let Some(read) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            let Ok(read) = read else { return End::Failed("it broke".into()) };
            self.read.borrow_mut().extend_from_slice(&read);
            self.home.runs().await;
            if !self.pause.get().is_zero() {
                sleep(self.pause.get()).await;
            }
        }
        match self.text() {
            (_, Some(error)) => End::Failed(error),
            (text, None) if status == 200 && text == self.plan.text() => End::Whole,
            (text, None) => panic!("call {} is said to be whole: {status} {text:?}", self.plan.call),
        }
    }

    /// The caller leaves.
    pub fn leave(&self) {
        self.leaving.notify_one();
    }

    pub fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// The text that its caller has read, and what it was told of the end, unless that is the end of a whole answer.
    fn text(&self) -> (String, Option<String>) {
        let read = String::from_utf8(self.read.borrow().clone()).unwrap();
        let error = |event: &Value| event.get("error").map(ToString::to_string);
        if !self.plan.is_streamed {
            let Ok(answer) = serde_json::from_str::<Value>(&read) else { return (String::new(), Some(read)) };
            let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
            return (text.to_owned(), error(&answer));
        }
        let mut text = String::new();
        let mut told = Some("it ended".to_owned());
        // Of the last event a part may be missing.
        for event in read.split_inclusive("\n\n").filter_map(|event| event.strip_suffix("\n\n")) {
            let Some(data) = event.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                told = None;
                continue;
            }
            let event: Value = serde_json::from_str(data).unwrap();
            text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            if let Some(error) = error(&event) {
                told = Some(error);
                break;
            }
        }
        (text, told)
    }

    /// Checks that what was read is the beginning of what the backend wrote.
    pub fn check(&self) {
        let text = self.text().0;
        assert!(self.plan.text().starts_with(&text), "call {}: {text:?}", self.plan.call);
    }
}
