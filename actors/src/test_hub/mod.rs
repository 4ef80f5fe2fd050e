//! A classic hub for tests on the same thread: an HTTP server that records its calls and gives prepared answers.
//!
//! It has section 3 of SPEC.md only, unless a test sets a hello with features.

pub(crate) mod backend;
pub(crate) mod scripted;
mod wire_http;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) use wire_http::Call;
use wire_http::serve;

use crate::Secret;
use crate::options::{Credentials, Timings};

/// The answer to one call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, header lines, a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// An event stream, fed by [`TestHub::send`].
    Channel,
    /// No answer.
    Hang,
    /// The connection is closed without an answer.
    Cut,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), "{}".to_owned())
    }
}

#[derive(Clone)]
pub(crate) struct TestHub {
    pub(crate) state: Rc<State>,
    pub(crate) url: String,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) calls: RefCell<Vec<Call>>,
    /// Prepared answers, by the end of the path.
    scripts: RefCell<Vec<(String, VecDeque<Reply>)>>,
    channels: RefCell<Vec<mpsc::UnboundedSender<String>>>,
    hello: RefCell<Option<String>>,
    connections: Cell<usize>,
    /// Number of requests whose head was read.
    heads: Cell<usize>,
}

impl TestHub {
    /// Starts a hub on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Rc::<State>::default();
        *state.hello.borrow_mut() = Some("{}".to_owned());
        actix_rt::spawn(serve(listener, Rc::clone(&state)));
        Self { state, url }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.url, Secret::new("token-of-the-test"))
    }

    /// Prepares the answers to the next calls of a route.
    pub(crate) fn script(&self, route: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.state.scripts.borrow_mut().push((route.to_owned(), replies));
    }

    /// Sets the data of the hello on the next channels; `None` sends none.
    pub(crate) fn set_hello(&self, data: Option<&str>) {
        *self.state.hello.borrow_mut() = data.map(str::to_owned);
    }

    /// Sends bytes on the newest channel.
    pub(crate) fn send(&self, text: &str) {
        let channels = self.state.channels.borrow();
        channels.last().expect("a channel").send(text.to_owned()).expect("an open channel");
    }

    /// Sends a task on the newest channel.
    pub(crate) fn send_task(&self, data: &str) {
        self.send(&format!("event: task\ndata: {data}\n\n"));
    }

    /// Closes every channel.
    pub(crate) fn close_channels(&self) {
        self.state.channels.borrow_mut().clear();
    }

    pub(crate) fn open_channels(&self) -> usize {
        self.state.channels.borrow().iter().filter(|channel| !channel.is_closed()).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.get()
    }

    pub(crate) fn heads(&self) -> usize {
        self.state.heads.get()
    }

    pub(crate) fn calls(&self, route: &str) -> Vec<Call> {
        self.state.calls.borrow().iter().filter(|call| call.path.ends_with(route)).cloned().collect()
    }

    /// Waits for the n-th call of a route, counted from 1.
    pub(crate) async fn nth(&self, route: &str, n: usize) -> Call {
        wait_until(&format!("call {n} to {route}"), || self.calls(route).len() >= n).await;
        self.calls(route).swap_remove(n - 1)
    }
}

impl State {
    fn reply(&self, call: &Call) -> Reply {
        for (route, replies) in self.scripts.borrow_mut().iter_mut() {
            if call.path.ends_with(route.as_str())
                && let Some(reply) = replies.pop_front()
            {
                return reply;
            }
        }
        match call.path.rsplit('/').next() {
            Some("_provider-register") => {
                let asked: serde_json::Value = serde_json::from_str(&call.body).unwrap_or_default();
                let id = asked["providerSessionId"].as_str().unwrap_or("sess-of-the-hub");
                let body = format!(r#"{{"providerSessionId":"{id}","llms":[],"agents":[]}}"#);
                Reply::Status(201, Vec::new(), body)
            }
            Some("_provider-stream") => Reply::Channel,
            _ => Reply::status(200),
        }
    }
}

/// Waits until `is_so`, at most 10 s.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Short timings for tests with sockets.
pub(crate) fn quick() -> Timings {
    Timings {
        heartbeat_interval: Duration::from_millis(300),
        reconnect_base: Duration::from_millis(20),
        reconnect_max: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(2),
    }
}
