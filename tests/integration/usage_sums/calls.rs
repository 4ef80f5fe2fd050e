//! Calls of all dialects, with the endings that their plans have.

use awc::http::Method;
use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::http::Http;
use testkit::wait::{eventually, wait_until};

use super::backend::{Ending, Plan, Shared};

/// A call to make.
pub struct Call {
    plan: Plan,
    path: &'static str,
    body: Value,
}

const TASKS: &str = "/api/v1/inference-tasks";

impl Call {
    /// The call with this number: one of every kind with every ending among some hundred.
    pub fn number(id: usize) -> Self {
        // A number without a pattern that the kinds below share.
        let mixed = (id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let is_streamed = !mixed.is_multiple_of(3);
        let output = 1 + mixed / 7 % 9;
        let (target, is_pool) = [("pool", true), ("up", false), ("pool", true)][mixed / 64 % 3];
        let (path, mut body) = kind(mixed / 256 % 10, is_streamed);
        let is_streamed = body["stream"] == true || body["streaming"] == true;
        let is_durable = path == TASKS;
        let after = 1 + mixed / 5 % output;
        let ending = match mixed / 4096 % 20 {
            0..=2 if is_streamed && !is_durable => Ending::Left(after),
            3 => Ending::LeftAtOnce,
            4 if is_streamed => Ending::Cut(after),
            5 | 6 if is_pool && path != INFER => Ending::Refused,
            7 => Ending::Broken,
            _ => Ending::Whole,
        };
        let input = 10 + (mixed / 3 % 90) as u64;
        let plan = Plan { id, input, cached: input / 2, output, ending };
        fill(&mut body, target, &plan.word());
        Self { plan, path, body }
    }

    pub fn ending(&self) -> Ending {
        self.plan.ending
    }

    pub fn id(&self) -> usize {
        self.plan.id
    }

    /// Makes the call, and leaves it when the plan says so.
    pub async fn make(self, http: &Http, ledger: &Shared) {
        if self.path == TASKS {
            return self.make_durable(http, ledger).await;
        }
        let Self { plan, path, body } = self;
        let body = Some(body.to_string());
        match plan.ending {
            Ending::LeftAtOnce => {
                let seen =
                    wait_until("a backend has the request", || ledger.borrow().seen.contains(&plan.id));
                tokio::select! {
                    _ = http.open(Method::POST, path, body) => panic!("{path} has an answer before its first token"),
                    () = seen => (),
                }
            }
            Ending::Left(after) => {
                let mut response = http.open(Method::POST, path, body).await;
                let (mut text, last) = (Vec::new(), plan.token(after - 1));
                while !String::from_utf8_lossy(&text).contains(&last) {
                    let piece = response.next().await;
                    text.extend_from_slice(&piece.expect("the stream goes on").expect("the stream is whole"));
                }
            }
            Ending::Broken => {
                let answer = http.send(Method::POST, path, body).await;
                assert!(answer.status >= 400, "{path}: {answer:?}");
            }
            Ending::Cut(_) => drop(http.send(Method::POST, path, body).await),
            Ending::Whole | Ending::Refused => {
                let answer = http.send(Method::POST, path, body.clone()).await;
                assert_eq!(answer.status, 200, "{path}: {body:?} {plan:?} {answer:?}");
            }
        }
    }

    async fn make_durable(self, http: &Http, ledger: &Shared) {
        let Self { plan, body, .. } = self;
        let accepted = http.post(TASKS, &body).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let task = format!("{TASKS}/{}", accepted.json()["id"].as_str().unwrap());
        if plan.ending == Ending::LeftAtOnce {
            wait_until("a backend has the task", || ledger.borrow().seen.contains(&plan.id)).await;
            assert_eq!(http.send(Method::DELETE, &task, None).await.status, 204);
        }
        let ended = ["completed", "error", "cancelled"];
        eventually("the task has ended", async || {
            let status = http.get(&task).await.json()["status"].clone();
            ended.contains(&status.as_str().unwrap_or_default())
        })
        .await;
    }
}

const INFER: &str = "/api/v1/llms/one/infer";

/// The path of a dialect, and a body without model and prompt.
fn kind(number: usize, is_streamed: bool) -> (&'static str, Value) {
    match number {
        0 => ("/v1/completions", json!({ "prompt": "", "stream": is_streamed })),
        1 => ("/v1/embeddings", json!({ "input": "" })),
        2 => ("/v1/responses", json!({ "input": "", "stream": is_streamed })),
        3 => ("/v1/messages", json!({ "messages": [], "max_tokens": 99, "stream": is_streamed })),
        4 => ("/api/chat", json!({ "messages": [], "stream": is_streamed })),
        5 => ("/api/generate", json!({ "prompt": "", "stream": is_streamed })),
        6 => ("/api/embed", json!({ "input": "" })),
        7 => (INFER, json!({ "messages": [], "stream": is_streamed })),
        8 => (TASKS, json!({ "streaming": is_streamed, "request": { "messages": [] } })),
        _ => ("/v1/chat/completions", json!({ "messages": [], "stream": is_streamed })),
    }
}

fn fill(body: &mut Value, target: &str, word: &str) {
    if !body["request"].is_null() {
        body["llm"] = target.into();
        return fill(&mut body["request"], target, word);
    }
    body["model"] = target.into();
    for key in ["prompt", "input"] {
        if body.get(key).is_some() {
            body[key] = word.into();
        }
    }
    if body.get("messages").is_some() {
        body["messages"] = json!([{ "role": "user", "content": word }]);
    }
}
