//! A backend that answers as each request's plan says, and counts what it reported.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use serde_json::{Value, json};
use testkit::connection::{Connection, SSE, answer, chunked};
use testkit::peer::Peer;

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The caller leaves when it has read so many tokens.
    Left(usize),
    /// The caller leaves before the first token.
    LeftAtOnce,
    /// The backend closes the connection after so many tokens.
    Cut(usize),
    /// The first backend refuses, and another one answers.
    Refused,
    /// Every backend answers with an error.
    Broken,
}

/// What a backend does with a request. The plan is a word in the prompt, so that it passes through any dialect.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub id: usize,
    pub input: u64,
    pub cached: u64,
    pub output: usize,
    pub ending: Ending,
}

impl Plan {
    pub fn word(&self) -> String {
        let (letter, after) = match self.ending {
            Ending::Whole => ('w', 0),
            Ending::Left(after) => ('l', after),
            Ending::LeftAtOnce => ('h', 0),
            Ending::Cut(after) => ('c', after),
            Ending::Refused => ('r', 0),
            Ending::Broken => ('b', 0),
        };
        let Self { id, input, cached, output, .. } = self;
        format!("plan:{id}:{input}:{cached}:{output}:{letter}:{after}.")
    }

    fn find(text: &str) -> Option<Self> {
        let word = text.split("plan:").nth(1)?.split('.').next()?;
        let mut parts = word.split(':');
        let mut number = || parts.next()?.parse::<usize>().ok();
        let (id, input, cached, output) = (number()?, number()?, number()?, number()?);
        let (letter, after) = (parts.next()?, parts.next()?.parse().ok()?);
        let ending = match letter {
            "w" => Ending::Whole,
            "l" => Ending::Left(after),
            "h" => Ending::LeftAtOnce,
            "c" => Ending::Cut(after),
            "r" => Ending::Refused,
            _ => Ending::Broken,
        };
        Some(Self { id, input: input as u64, cached: cached as u64, output, ending })
    }

    /// The text of a token, which no other token has.
    pub fn token(&self, n: usize) -> String {
        format!("t{}-{n};", self.id)
    }
}

/// Tokens that a backend reported for a call; without a usage the tokens that it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    pub input: u64,
    pub cached: u64,
    pub output: u64,
    pub counted: u64,
}

impl Reported {
    pub fn add(&mut self, other: Self) {
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
        self.counted += other.counted;
    }

    fn pieces(count: usize) -> Self {
        Self { output: count as u64, counted: count as u64, ..Self::default() }
    }
}

/// What all backends of a test did.
#[derive(Default)]
pub struct Ledger {
    /// The plan's id, the model, and what was reported.
    pub reported: Vec<(usize, String, Reported)>,
    /// Ids of the plans that a backend has seen.
    pub seen: Vec<usize>,
    /// Requests that the first backend refused.
    pub refused: usize,
}

pub type Shared = Rc<RefCell<Ledger>>;

/// Starts a backend. The first one refuses what is to be refused.
pub fn start(ledger: &Shared, is_first: bool) -> Peer {
    let ledger = ledger.clone();
    Peer::start(async move |mut connection| serve(&mut connection, &ledger, is_first).await)
}

async fn serve(connection: &mut Connection, ledger: &Shared, is_first: bool) -> io::Result<()> {
    loop {
        let request = connection.request().await?;
        let (body, path) = (request.json(), request.path().to_owned());
        let is_known = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"].contains(&path.as_str());
        let Some(plan) = Plan::find(&request.text()).filter(|_| is_known) else {
            let models =
                json!({ "object": "list", "data": [{ "id": "one" }, { "id": "two" }, { "id": "up" }] });
            let status = if path == "/v1/models" { 200 } else { 404 };
            connection.json(status, &models).await?;
            continue;
        };
        ledger.borrow_mut().seen.push(plan.id);
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        let report = |reported| ledger.borrow_mut().reported.push((plan.id, model.clone(), reported));
        match plan.ending {
            Ending::Refused if is_first => {
                ledger.borrow_mut().refused += 1;
                connection.json(503, &json!({ "error": { "message": "busy" } })).await?;
            }
            Ending::Broken => connection.json(500, &json!({ "error": { "message": "broken" } })).await?,
            Ending::LeftAtOnce => {
                connection.closed().await;
                return Ok(());
            }
            _ if body["stream"] == true => {
                connection.write(SSE).await?;
                let end = match plan.ending {
                    Ending::Left(after) | Ending::Cut(after) => after,
                    _ => plan.output,
                };
                for n in 0..end {
                    connection.write(event(&piece(&path, &plan.token(n)))).await?;
                }
                if plan.ending == Ending::Whole || plan.ending == Ending::Refused {
                    let is_asked = body["stream_options"]["include_usage"] == true;
                    let usage = json!({ "id": "c", "choices": [], "usage": usage(&plan) });
                    let tail = format!(
                        "{}{}",
                        if is_asked { event(&usage) } else { String::new() },
                        chunked("data: [DONE]\n\n")
                    );
                    report(if is_asked { whole(&plan) } else { Reported::pieces(end) });
                    connection.write(format!("{tail}0\r\n\r\n")).await?;
                    continue;
                }
                report(Reported::pieces(end));
                if let Ending::Left(_) = plan.ending {
                    connection.closed().await;
                }
                return Ok(());
            }
            _ => {
                let is_embedding = path.ends_with("embeddings");
                let reported = whole(&plan);
                report(if is_embedding { Reported { output: 0, ..reported } } else { reported });
                let body = answer(
                    200,
                    "content-type: application/json\r\n",
                    &whole_body(&path, &model, &plan).to_string(),
                );
                connection.write(body).await?;
            }
        }
    }
}

fn event(data: &Value) -> String {
    chunked(&format!("data: {data}\n\n"))
}

fn whole(plan: &Plan) -> Reported {
    Reported { input: plan.input, cached: plan.cached, output: plan.output as u64, counted: 0 }
}

fn usage(plan: &Plan) -> Value {
    json!({ "prompt_tokens": plan.input, "completion_tokens": plan.output,
        "prompt_tokens_details": { "cached_tokens": plan.cached } })
}

fn piece(path: &str, token: &str) -> Value {
    let choice = if path.ends_with("chat/completions") {
        json!({ "index": 0, "delta": { "content": token }, "finish_reason": null })
    } else {
        json!({ "index": 0, "text": token, "finish_reason": null })
    };
    json!({ "id": "c", "object": "chat.completion.chunk", "choices": [choice] })
}

fn whole_body(path: &str, model: &str, plan: &Plan) -> Value {
    let text: String = (0..plan.output).map(|n| plan.token(n)).collect();
    if path.ends_with("embeddings") {
        let usage = json!({ "prompt_tokens": plan.input, "total_tokens": plan.input,
            "prompt_tokens_details": { "cached_tokens": plan.cached } });
        let data = json!([{ "object": "embedding", "index": 0, "embedding": [0.5] }]);
        return json!({ "object": "list", "model": model, "data": data, "usage": usage });
    }
    let choice = if path.ends_with("chat/completions") {
        json!({ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } })
    } else {
        json!({ "index": 0, "finish_reason": "stop", "text": text })
    };
    json!({ "id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage(plan) })
}
