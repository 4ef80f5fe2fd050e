//! A publisher that a test controls step by step.

use serde_json::{Value, json};
use wire::sse::{Decoder, Event};

use super::http::{Answer, Ask};
use super::support::TestHub;

/// A session of a user and its control channel.
pub(crate) struct Publisher {
    token: String,
    pub(crate) session: String,
    channel: Option<Answer>,
    decoder: Decoder,
}

/// A provider for a register call: public and active.
pub(crate) fn provider(name: &str) -> Value {
    json!({ "name": name, "type": "openai", "model": format!("model-of-{name}"), "visibility": "public",
        "initialStatus": "active" })
}

/// A provider that names a pool.
pub(crate) fn pooled(name: &str, pool: &str) -> Value {
    let mut provider = provider(name);
    provider["poolName"] = pool.into();
    provider
}

/// Makes a provider private.
pub(crate) fn private(mut provider: Value) -> Value {
    provider["visibility"] = "private".into();
    provider
}

/// Makes a provider hibernating.
pub(crate) fn asleep(mut provider: Value) -> Value {
    provider["initialStatus"] = "hibernating".into();
    provider
}

/// The report of one row in a heartbeat.
pub(crate) fn report(name: &str, status: &str, in_flight: u32, capacity: u32) -> Value {
    json!({ "name": name, "status": status, "inFlight": in_flight, "queued": 0, "maxConcurrency": capacity })
}

impl Publisher {
    /// Registers `providers` and opens a channel that names `features`; with `None`, the publisher is classic.
    pub(crate) async fn start(
        hub: &TestHub,
        token: &str,
        providers: &[Value],
        features: Option<&str>,
    ) -> Self {
        let mut publisher = Self::register(hub, token, None, providers).await;
        publisher.open(hub, features).await;
        publisher
    }

    /// Registers `providers` without opening a channel.
    pub(crate) async fn register(
        hub: &TestHub,
        token: &str,
        session: Option<&str>,
        providers: &[Value],
    ) -> Self {
        let mut body = json!({ "providers": providers });
        if let Some(session) = session {
            body["providerSessionId"] = session.into();
        }
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body.to_string());
        let (status, answer) = ask.json().await;
        assert_eq!(status, 201, "{answer}");
        Self {
            token: token.into(),
            session: answer["providerSessionId"].as_str().unwrap().into(),
            channel: None,
            decoder: Decoder::new(),
        }
    }

    /// Opens the channel. Returns the data of its event `hello`.
    pub(crate) async fn open(&mut self, hub: &TestHub, features: Option<&str>) -> Value {
        let mut ask = hub
            .ask_as(&self.token, "GET", "/api/v1/llms/_provider-stream")
            .header("accept", "text/event-stream")
            .header("x-mcpctl-provider-session", &self.session);
        if let Some(features) = features {
            ask = ask.header("x-virtual-llm-features", features);
        }
        let answer = ask.open().await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.head.contains("content-type: text/event-stream"));
        self.channel = Some(answer);
        self.decoder = Decoder::new();
        let hello = self.event().await.unwrap();
        assert_eq!(hello.name(), "hello");
        serde_json::from_str(&hello.data).unwrap()
    }

    /// Drops the connection of the channel.
    pub(crate) fn close(&mut self) {
        self.channel = None;
    }

    /// Reads the next event; `None` if the hub has ended the channel.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Some(event);
            }
            let piece = self.channel.as_mut().unwrap().next().await?;
            self.decoder.feed(piece.as_bytes());
        }
    }

    /// Reads the next event, which has to be a task. Returns the task.
    pub(crate) async fn task(&mut self) -> Value {
        let event = self.event().await.expect("the channel ended");
        assert_eq!(event.name(), "task", "{}", event.data);
        serde_json::from_str(&event.data).unwrap()
    }

    /// Reads the next event, which has to be a cancel. Returns its task id.
    pub(crate) async fn cancelled(&mut self) -> String {
        let event = self.event().await.expect("the channel ended");
        assert_eq!(event.name(), "cancel", "{}", event.data);
        let data: Value = serde_json::from_str(&event.data).unwrap();
        data["taskId"].as_str().unwrap().into()
    }

    /// Posts a result for `task`. Returns the status of the hub's answer, as all methods below that post.
    pub(crate) async fn post(&self, hub: &TestHub, task: &Value, result: &Value) -> u16 {
        let id = task["taskId"].as_str().unwrap_or_else(|| panic!("no id in {task}"));
        let path = format!("/api/v1/llms/_provider-task/{id}/result");
        hub.ask_as(&self.token, "POST", path).body(result.to_string()).send().await.0
    }

    /// Posts a completion with the content `text` as the result.
    pub(crate) async fn answer(&self, hub: &TestHub, task: &Value, text: &str) -> u16 {
        self.post(hub, task, &json!({ "status": 200, "body": completion(text) })).await
    }

    /// Sends `call` and answers its task with `text`. Checks that call and result have status 200. Returns the task.
    pub(crate) async fn serves(&mut self, hub: &TestHub, call: &Ask, text: &str) -> Value {
        let ((status, answer), (task, result)) = futures_util::join!(call.send(), async {
            let task = self.task().await;
            let result = self.answer(hub, &task, text).await;
            (task, result)
        });
        assert_eq!((status, result), (200, 200), "{answer}");
        task
    }

    /// Sends `call` and posts `result` for its task with status 200. Returns the caller's answer.
    pub(crate) async fn post_for(&mut self, hub: &TestHub, call: &Ask, result: &Value) -> Answer {
        let (answer, status) = futures_util::join!(call.open(), async {
            let task = self.task().await;
            self.post(hub, &task, result).await
        });
        assert_eq!(status, 200, "{result}");
        answer
    }

    /// Sends `call` and posts a completion with the content `text` for its task. Returns the caller's answer.
    pub(crate) async fn answer_for(&mut self, hub: &TestHub, call: &Ask, text: &str) -> Answer {
        self.post_for(hub, call, &json!({ "status": 200, "body": completion(text) })).await
    }

    /// Sends the streaming `call` and posts a first chunk. Returns the caller's answer, read up to the chunk, and the task.
    pub(crate) async fn begins(&mut self, hub: &TestHub, call: &Ask, text: &str) -> (Answer, Value) {
        let (mut answer, task) = futures_util::join!(call.open(), async {
            let task = self.task().await;
            assert_eq!(self.chunk(hub, &task, text).await, 200);
            task
        });
        answer.until(text).await;
        (answer, task)
    }

    /// Posts one chunk with the content `text`.
    pub(crate) async fn chunk(&self, hub: &TestHub, task: &Value, text: &str) -> u16 {
        self.post(hub, task, &json!({ "chunk": { "data": chunk(text) } })).await
    }

    /// Posts the end mark.
    pub(crate) async fn done(&self, hub: &TestHub, task: &Value) -> u16 {
        self.post(hub, task, &json!({ "chunk": { "data": "[DONE]", "done": true } })).await
    }

    /// Sends a heartbeat with the keys `more`. Returns the status.
    pub(crate) async fn beat(&self, hub: &TestHub, more: Value) -> u16 {
        let mut body = more;
        body["providerSessionId"] = self.session.as_str().into();
        let ask = hub.ask_as(&self.token, "POST", "/api/v1/llms/_provider-heartbeat");
        ask.body(body.to_string()).send().await.0
    }
}

pub(crate) fn completion(text: &str) -> Value {
    json!({ "id": "c", "object": "chat.completion", "choices": [ { "index": 0, "finish_reason": "stop",
        "message": { "role": "assistant", "content": text } } ],
        "usage": { "prompt_tokens": 3, "completion_tokens": 5 } })
}

pub(crate) fn chunk(text: &str) -> String {
    json!({ "id": "c", "object": "chat.completion.chunk",
        "choices": [ { "index": 0, "delta": { "content": text } } ] })
    .to_string()
}
