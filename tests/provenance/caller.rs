//! A caller that checks each answer: it has the content of the plan, in order, once, and an end mark; or it has an error and
//! no end mark.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::client::{Answer, ask_on};
use tokio::net::TcpSocket;
use tokio::time::sleep;
use wire::sse::Decoder;

use crate::backend::cut_at;
use crate::dialect::{Reading, request, short, whole_text, write};
use crate::plan::{Dialect, Kind, Plan};
use crate::rig::Rig;

/// What the caller received for one plan.
struct Outcome {
    text: String,
    /// Whether the answer was whole with status 200, or a stream with its end mark.
    ended: bool,
    error: Option<String>,
}

/// Requests the answer of `plan`. Returns whether the answer was complete, or what was wrong with it.
pub async fn judge(rig: &Rig, plan: &Plan) -> Result<bool, String> {
    rig.backend.plans.borrow_mut().insert(plan.number, plan.clone());
    let outcome = if plan.durable { durable(rig, plan).await } else { call(rig, plan).await };
    rig.backend.plans.borrow_mut().remove(&plan.number);
    let outcome = outcome?;
    let written = write(backend_dialect(plan), plan.streaming, plan);
    let end = cut_at(plan, written.body.len());
    if outcome.ended && end < written.proof {
        return Err(format!(
            "marked as complete, though it broke off at {end} of {} bytes",
            written.body.len()
        ));
    }
    if plan.recorded.is_some() {
        return outcome.end(plan);
    }
    let expected = plan.texts().concat();
    if !expected.starts_with(&outcome.text) {
        return Err(difference(&expected, &outcome.text));
    }
    if outcome.ended && outcome.text.len() < expected.len() {
        let (got, all) = (outcome.text.len(), expected.len());
        return Err(format!("{got} of {all} bytes in an answer that is marked as complete"));
    }
    outcome.end(plan)
}

impl Outcome {
    /// Whether the answer is complete. An uncut answer must be complete, and an incomplete one must have an error.
    fn end(self, plan: &Plan) -> Result<bool, String> {
        if self.ended {
            return Ok(true);
        }
        let error = self.error.ok_or("neither an end mark nor an error")?;
        if plan.cut.is_some() { Ok(false) } else { Err(format!("an error for an uncut answer: {error}")) }
    }
}

/// The API in which the backend is called.
fn backend_dialect(plan: &Plan) -> Dialect {
    match plan.kind {
        Kind::Anthropic => Dialect::Messages,
        kind if kind.has(plan.dialect) => plan.dialect,
        _ => Dialect::Chat,
    }
}

fn difference(expected: &str, got: &str) -> String {
    let at = expected.bytes().zip(got.bytes()).take_while(|(one, other)| one == other).count();
    let start = (0..=at).rev().find(|at| got.is_char_boundary(*at)).unwrap();
    let (got_len, all) = (got.len(), expected.len());
    format!(
        "byte {at} differs ({got_len} came, {all} were sent), the answer has there: {}",
        short(&got[start..])
    )
}

async fn call(rig: &Rig, plan: &Plan) -> Result<Outcome, String> {
    let path = format!("POST /v1/{}", plan.dialect.path());
    let answer = open(rig, plan, &path, Some(&request(plan).to_string())).await?;
    if answer.status != 200 || !plan.streaming {
        return whole(answer, plan.dialect).await;
    }
    stream(answer, plan).await
}

async fn open(rig: &Rig, plan: &Plan, request: &str, body: Option<&str>) -> Result<Answer, String> {
    let asked = async {
        let socket = TcpSocket::new_v4()?;
        if plan.slow_caller {
            // With its default buffers the kernel would take megabytes, and the hub would not notice a slow caller.
            socket.set_recv_buffer_size(8 << 10)?;
        }
        let socket = socket.connect(SocketAddr::from(([127, 0, 0, 1], rig.port))).await?;
        ask_on(socket, &rig.token, request, "", body).await
    };
    asked.await.map_err(|error| format!("{request}: {error}"))
}

async fn json(answer: Answer) -> Result<Value, String> {
    let text = answer.text().await.map_err(|error| format!("a whole answer broke: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{error}: {}", short(&text)))
}

async fn whole(answer: Answer, dialect: Dialect) -> Result<Outcome, String> {
    let status = answer.status;
    let body = json(answer).await?;
    if status == 200 {
        return Ok(Outcome { text: whole_text(dialect, &body), ended: true, error: None });
    }
    Ok(Outcome { text: String::new(), ended: false, error: Some(format!("{status} {body}")) })
}

async fn stream(mut answer: Answer, plan: &Plan) -> Result<Outcome, String> {
    let (mut decoder, mut reading) = (Decoder::new(), Reading::default());
    let mut random = plan.random.clone();
    if plan.slow_caller {
        // During this pause the hub's buffers may fill up, or the backend may finish.
        sleep(random.millis(50, 400)).await;
    }
    loop {
        match answer.next().await {
            Ok(Some(piece)) => decoder.feed(&piece),
            Ok(None) => break,
            Err(error) => return Err(format!("the caller's connection broke: {error}")),
        }
        while let Some(event) = decoder.next_event() {
            reading.take(plan.dialect, &event);
        }
        if plan.slow_caller && random.percent(5) {
            sleep(random.millis(1, 8)).await;
        }
    }
    let Reading { text, ended, error, wrong } = reading;
    wrong.map_or(Ok(Outcome { text, ended, error }), Err)
}

/// Creates a durable task and follows its stream. The stored result must have the same text as the stream.
async fn durable(rig: &Rig, plan: &Plan) -> Result<Outcome, String> {
    let answer = open(rig, plan, "POST /api/v1/inference-tasks", Some(&request(plan).to_string())).await?;
    let status = answer.status;
    let task = json(answer).await?;
    let id = task["id"].as_str().filter(|_| status == 202).ok_or(format!("{status} {task}"))?.to_owned();
    let followed = open(rig, plan, &format!("GET /api/v1/inference-tasks/{id}/stream"), None).await?;
    if followed.status != 200 {
        return whole(followed, plan.dialect).await;
    }
    // The answer of a task that does not stream is one event.
    let followed = if plan.streaming { Some(stream(followed, plan).await?) } else { rest(followed).await? };
    let task = json(open(rig, plan, &format!("GET /api/v1/inference-tasks/{id}"), None).await?).await?;
    let kept = match task["status"].as_str() {
        Some("completed") => {
            let result = &task["result"];
            let chunks = result["chunks"].as_array().into_iter().flatten();
            let chunks = chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
            let text =
                if plan.streaming { chunks.collect() } else { whole_text(plan.dialect, &result["body"]) };
            Outcome { text, ended: true, error: None }
        }
        Some("error") => {
            Outcome { text: String::new(), ended: false, error: Some(short(&task["error"].to_string())) }
        }
        other => return Err(format!("the task is {other:?} after its end")),
    };
    match followed {
        Some(followed) if followed.ended != kept.ended => Err(format!(
            "the stream of the task has its end mark: {}, but the task is {}",
            followed.ended, task["status"]
        )),
        Some(followed) if kept.ended && followed.text != kept.text => {
            Err("the stream of the task had another text than its stored result".to_owned())
        }
        _ => Ok(kept),
    }
}

/// Reads an answer to its end without comparing it.
async fn rest(answer: Answer) -> Result<Option<Outcome>, String> {
    answer.text().await.map(|_| None).map_err(|error| format!("the caller's connection broke: {error}"))
}
