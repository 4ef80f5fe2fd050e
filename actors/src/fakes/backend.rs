//! A fake uplink, and a fake backend whose replies come from the test.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use wire::TaskId;
use wire::sse::Decoder;
use wire::task::InferTask;

use crate::backend::{Backend, BackendError, BackendRequest, Reply};
use crate::uplink::{Outcome, Uplink};

/// The results that a fake uplink has received.
#[derive(Default)]
pub(crate) struct PostedResults {
    pub(crate) posts: RefCell<Vec<(String, Value)>>,
    /// Whether streams go over a link.
    pub(crate) has_link: Cell<bool>,
    /// The task and the data of all events of each stream over the link.
    pub(crate) streams: RefCell<Vec<(String, Vec<String>)>>,
    /// Prepared answers to POSTs; after them, every POST is answered `Taken`.
    pub(crate) answers: RefCell<VecDeque<Outcome>>,
    /// POSTs that are not answered yet, if `hold` is set. Streams are not read while `hold` is set.
    pub(crate) held: RefCell<Vec<oneshot::Sender<Outcome>>>,
    pub(crate) hold: Cell<bool>,
}

impl PostedResults {
    pub(crate) fn of(&self, task: &str) -> Vec<Value> {
        let posts = self.posts.borrow();
        posts.iter().filter(|(id, _)| id == task).map(|(_, body)| body.clone()).collect()
    }

    /// A field of each posted chunk of a task.
    pub(crate) fn chunk_fields(&self, task: &str, field: &str) -> Vec<Value> {
        self.of(task).into_iter().map(|post| post["chunk"][field].clone()).collect()
    }

    pub(crate) fn error_of(&self, task: &str) -> Option<String> {
        Some(self.of(task).last()?["error"].as_str()?.to_owned())
    }
}

/// An uplink that stores results in a [`PostedResults`].
pub(crate) struct FakeUplink(pub(crate) Rc<PostedResults>);

impl Uplink for FakeUplink {
    fn send_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Outcome> {
        let body = serde_json::from_slice(&body).unwrap();
        self.0.posts.borrow_mut().push((task.to_string(), body));
        if self.0.hold.get() {
            let (answer, answered) = oneshot::channel();
            self.0.held.borrow_mut().push(answer);
            return async { answered.await.unwrap() }.boxed_local();
        }
        let answer = self.0.answers.borrow_mut().pop_front().unwrap_or(Outcome::Taken);
        async move { answer }.boxed_local()
    }

    fn send_stream(
        &self,
        task: &TaskId,
        mut body: mpsc::Receiver<Bytes>,
    ) -> Option<LocalBoxFuture<'static, Outcome>> {
        let (results, task) = (Rc::clone(&self.0), task.to_string());
        let sending = async move {
            if results.hold.get() {
                std::future::pending::<()>().await;
            }
            let (mut decoder, mut events) = (Decoder::new(), Vec::new());
            while let Some(bytes) = body.recv().await {
                decoder.feed(&bytes);
                events.extend(std::iter::from_fn(|| decoder.next_event()).map(|event| event.data));
            }
            results.streams.borrow_mut().push((task, events));
            Outcome::Taken
        };
        self.0.has_link.get().then(|| sending.boxed_local())
    }
}

/// A call of the backend that waits for the test's reply.
pub(crate) struct PendingCall {
    pub(crate) request: BackendRequest,
    answer: oneshot::Sender<Result<Reply, BackendError>>,
}

impl PendingCall {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(&self.request.body).unwrap()
    }

    /// Whether the caller dropped the call, which closes the connection of a real backend.
    pub(crate) fn is_dropped(&self) -> bool {
        self.answer.is_closed()
    }

    pub(crate) fn whole(self, status: u16, body: &Value) {
        let _ = self.answer.send(Ok(Reply::Whole { status, body: body.to_string() }));
    }

    pub(crate) fn fail(self, error: BackendError) {
        let _ = self.answer.send(Err(error));
    }

    /// Replies with a stream of the values sent on the returned channel.
    pub(crate) fn stream(self) -> mpsc::UnboundedSender<Result<String, BackendError>> {
        let (pieces, receiver) = mpsc::unbounded_channel();
        self.streams(futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        }));
        pieces
    }

    /// Replies with these chunks.
    pub(crate) fn streams(self, pieces: impl Stream<Item = Result<String, BackendError>> + 'static) {
        let _ = self.answer.send(Ok(Reply::Stream(pieces.boxed_local())));
    }
}

/// A fake backend that the test controls.
#[derive(Default)]
pub(crate) struct ScriptedBackend {
    pub(crate) waiting: RefCell<VecDeque<PendingCall>>,
    pub(crate) down: Cell<bool>,
    /// Whether the next call panics.
    pub(crate) panics: Cell<bool>,
    /// Number of backends created.
    pub(crate) made: Cell<usize>,
    /// Duration of a health check.
    pub(crate) check_takes: Cell<Duration>,
    pub(crate) checks: Cell<usize>,
    /// Number of health checks under way. `checked_at_once` is its maximum.
    pub(crate) checked_now: Cell<usize>,
    pub(crate) checked_at_once: Cell<usize>,
}

/// Counts a health check until it is dropped.
struct Check(Rc<ScriptedBackend>);

impl Drop for Check {
    fn drop(&mut self) {
        self.0.checked_now.set(self.0.checked_now.get() - 1);
    }
}

impl ScriptedBackend {
    pub(crate) fn calls(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn next(&self) -> PendingCall {
        self.waiting.borrow_mut().pop_front().expect("a call")
    }
}

/// The `Backend` of a [`ScriptedBackend`].
pub(crate) struct BackendHandle(pub(crate) Rc<ScriptedBackend>);

impl Backend for BackendHandle {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let panics = self.0.panics.take();
        let (answer, answered) = oneshot::channel();
        if !panics {
            self.0.waiting.borrow_mut().push_back(PendingCall { request, answer });
        }
        async move {
            assert!(!panics, "requested by the test");
            answered
                .await
                .unwrap_or_else(|_| Err(BackendError::Failed("the test dropped the call".to_owned())))
        }
        .boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        let (backend, up) = (Rc::clone(&self.0), !self.0.down.get());
        async move {
            backend.checks.set(backend.checks.get() + 1);
            let now = backend.checked_now.get() + 1;
            backend.checked_now.set(now);
            backend.checked_at_once.set(backend.checked_at_once.get().max(now));
            let check = Check(backend);
            let takes = check.0.check_takes.get();
            if !takes.is_zero() {
                sleep(takes).await;
            }
            up
        }
        .boxed_local()
    }
}

/// A chat task with one message.
pub(crate) fn infer_task(id: &str, streaming: bool) -> InferTask {
    let request = json!({ "messages": [{ "role": "user", "content": "hi" }], "seed": u64::MAX });
    InferTask {
        id: TaskId::parse(id).unwrap(),
        llm_name: "a".to_owned(),
        streaming,
        request: serde_json::value::to_raw_value(&request).unwrap(),
        endpoint: None,
        headers: Vec::new(),
    }
}
