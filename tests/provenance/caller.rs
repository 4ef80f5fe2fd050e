//! A caller, and its verdict: the same content, in order, once, with its end mark; or an error and no end mark.

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

/// What came of one plan.
struct Outcome {
    text: String,
    /// A whole answer with status 200, or a stream with its end mark.
    ended: bool,
    error: Option<String>,
}

/// Asks for the answer of `plan`; what is wrong with what came, or whether it was all of it.
pub async fn judge(rig: &Rig, plan: &Plan) -> Result<bool, String> {
    rig.backend.plans.borrow_mut().insert(plan.number, plan.clone());
    let outcome = if plan.durable { durable(rig, plan).await } else { call(rig, plan).await };
    rig.backend.plans.borrow_mut().remove(&plan.number);
    let outcome = outcome?;
    let written = write(backend_dialect(plan), plan.streaming, plan);
    let end = cut_at(plan, written.body.len());
    if outcome.ended && end < written.proof {
        return Err(format!("complete, though it broke off at {end} of {} bytes", written.body.len()));
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
        return Err(format!("{got} of {all} bytes in an answer that is called complete"));
    }
    outcome.end(plan)
}

impl Outcome {
    /// Whether it is complete: a good answer has to be, and any other has an error.
    fn end(self, plan: &Plan) -> Result<bool, String> {
        if self.ended {
            return Ok(true);
        }
        let error = self.error.ok_or("neither an end mark nor an error")?;
        if plan.cut.is_some() { Ok(false) } else { Err(format!("an error for a good answer: {error}")) }
    }
}

/// The API in which the backend is asked.
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
    format!("byte {at} differs ({got_len} came, {all} were sent), there stands: {}", short(&got[start..]))
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
            // Else the kernel holds megabytes for it, and the hub sees no slow caller.
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
        // Meanwhile the backend may be done, and all the hub has places for is taken.
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

/// A durable task: its stream is followed, and what is kept of it has to be the same.
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
        Some(followed) if followed.ended != kept.ended => {
            Err(format!("its stream has ended: {}, the task is {}", followed.ended, task["status"]))
        }
        Some(followed) if kept.ended && followed.text != kept.text => {
            Err("the stream of the task had another text than what is kept".to_owned())
        }
        _ => Ok(kept),
    }
}

/// Reads to the end what nobody compares.
async fn rest(answer: Answer) -> Result<Option<Outcome>, String> {
    answer.text().await.map(|_| None).map_err(|error| format!("the caller's connection broke: {error}"))
}
