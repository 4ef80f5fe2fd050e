//! Callers: each asks, now and then leaves, and judges what it gets.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use wire::sse::Decoder;

use crate::answers::{Wanted, content, delta};
use crate::backend::Runs;
use crate::http::{Answer, ask};
use crate::random::Random;
use crate::record::{Record, TaskRecord};
use crate::{DEADLINE, REGISTRARS, TASK_DEADLINE};

/// How a durable task may end.
const ENDS: [&str; 3] = ["completed", "error", "cancelled"];

/// What all callers share.
pub struct World {
    pub record: Rc<Record>,
    pub runs: Rc<Runs>,
    pub token: String,
    /// No new requests.
    pub over: Cell<bool>,
}

#[derive(Clone)]
pub struct Caller {
    pub world: Rc<World>,
    /// Where it calls: the hub, or the bad network before it.
    pub port: u16,
    pub bad_network: bool,
}

/// How a stream, or an answer, ended.
enum Ended {
    Complete,
    Refused(u16),
    /// An error within a stream.
    Failed,
    /// The connection broke.
    Broken,
}

impl Caller {
    /// Asks until it is over; on average one request in `pause`.
    pub async fn run(self, mut random: Random, pause: Duration) {
        let pause = u64::try_from(pause.as_millis()).unwrap();
        while !self.world.over.get() {
            sleep(random.millis(0, 2 * pause)).await;
            let streaming = random.percent(50);
            if random.percent(15) {
                self.durable(&mut random, streaming).await;
            } else {
                self.sync(&mut random, streaming).await;
            }
        }
    }

    fn wanted(&self, random: &mut Random) -> Wanted {
        let tokens = if random.percent(5) { random.between(100, 400) } else { random.between(1, 40) };
        Wanted { nonce: self.world.record.nonce(), tokens: usize::try_from(tokens).unwrap() }
    }

    /// A pool of four, mostly; else one row.
    fn target(random: &mut Random) -> String {
        if random.percent(80) {
            format!("pool-{}", random.index(REGISTRARS / 4))
        } else {
            format!("row-{}", random.index(REGISTRARS))
        }
    }

    /// One call that waits for its answer, or leaves before.
    async fn sync(&self, random: &mut Random, streaming: bool) {
        let wanted = self.wanted(random);
        let body = json!({ "model": Self::target(random), "stream": streaming,
            "messages": [{ "role": "user", "content": wanted.text() }] });
        let extra = if random.percent(20) { "x-queue-timeout: 2\r\n" } else { "" };
        let kind = if streaming { "stream" } else { "whole" };
        let record = &self.world.record;
        let start = Instant::now();
        let call = self.call(wanted, streaming, extra, body.to_string());
        if random.percent(10) {
            let leaves = random.millis(0, 1500);
            let ended = timeout(leaves, call).await;
            return record.ended(kind, if ended.is_ok() { "ended before it left" } else { "left" });
        }
        let ended = timeout(DEADLINE, call).await;
        let outcome = match ended {
            Ok(Ended::Complete) => "complete".to_owned(),
            Ok(Ended::Refused(status)) => format!("refused with {status}"),
            Ok(Ended::Failed) => "an error ended the stream".to_owned(),
            Ok(Ended::Broken) if self.bad_network => "broken by the network".to_owned(),
            Ok(Ended::Broken) if record.hub_was_away(start) => "broken as the hub ended".to_owned(),
            Ok(Ended::Broken) => {
                record.violation(format!(
                    "P2: the connection of request {} ({kind}) broke after {:?}, though its hub lived",
                    wanted.nonce,
                    start.elapsed()
                ));
                "broken".to_owned()
            }
            Err(_) => {
                record.violation(format!("P2: request {} ({kind}) had no end in {DEADLINE:?}", wanted.nonce));
                "without an end".to_owned()
            }
        };
        self.no_member_twice(wanted);
        record.ended(kind, outcome);
    }

    /// Each member is tried once, and an id that comes twice runs once, in each life of a registrar.
    fn no_member_twice(&self, wanted: Wanted) {
        self.world.runs.of(wanted.nonce, |runs| {
            let mut members: Vec<_> = runs.iter().map(|run| (run.backend, run.life)).collect();
            members.sort_unstable();
            if members.windows(2).any(|pair| pair[0] == pair[1]) {
                let all: Vec<_> =
                    runs.iter().map(|run| (run.backend, run.life, run.started.elapsed())).collect();
                self.world.record.violation(format!(
                    "P1: request {} ran twice at one backend (backend, life, so long ago): {all:?}",
                    wanted.nonce
                ));
            }
        });
    }

    async fn call(&self, wanted: Wanted, streaming: bool, extra: &str, body: String) -> Ended {
        let request = "POST /v1/chat/completions";
        let Ok(answer) = ask(self.port, &self.world.token, request, extra, Some(&body)).await else {
            return Ended::Broken;
        };
        let status = answer.status;
        if streaming && status == 200 {
            return self.stream(wanted, answer, &mut Reader::default()).await;
        }
        let Ok(text) = answer.text().await else { return Ended::Broken };
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if status != 200 {
            self.refused(wanted, status, &body);
            return Ended::Refused(status);
        }
        match content(&body).ok_or("an answer without its content".to_owned()) {
            Ok(text) => self.judge(wanted, text, true),
            Err(wrong) => self.world.record.violation(format!("P3: request {}: {wrong}", wanted.nonce)),
        }
        Ended::Complete
    }

    /// One call; whether its answer is complete.
    pub async fn is_complete(&self, wanted: Wanted, streaming: bool, body: String) -> bool {
        matches!(self.call(wanted, streaming, "", body).await, Ended::Complete)
    }

    /// A refusal is one that a hub in trouble may give, and says why.
    fn refused(&self, wanted: Wanted, status: u16, body: &Value) {
        if !matches!(status, 429 | 502 | 503 | 504) || body["error"].is_null() {
            self.world
                .record
                .violation(format!("P2: request {} was answered {status}: {body}", wanted.nonce));
        }
    }

    /// Reads a stream to its end.
    async fn stream(&self, wanted: Wanted, mut answer: Answer, reader: &mut Reader) -> Ended {
        let record = &self.world.record;
        loop {
            match answer.next().await {
                Ok(Some(piece)) => reader.decoder.feed(&piece),
                Ok(None) if reader.done => {
                    self.judge(wanted, &reader.text, true);
                    return Ended::Complete;
                }
                Ok(None) if reader.failed => {
                    self.judge(wanted, &reader.text, false);
                    return Ended::Failed;
                }
                // The end without a mark, or none: broken either way, and taken for nothing else.
                Ok(None) | Err(_) => {
                    self.judge(wanted, &reader.text, false);
                    return Ended::Broken;
                }
            }
            while let Some(event) = reader.decoder.next_event() {
                if reader.done || reader.failed {
                    record.violation(format!("P1: request {}: something after the end", wanted.nonce));
                }
                if !reader.decoder.last_event_id().is_empty() {
                    reader.seen = Some(reader.decoder.last_event_id().to_owned());
                }
                if event.data == "[DONE]" {
                    reader.done = true;
                    continue;
                }
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                if !data["error"].is_null() {
                    reader.failed = true;
                    continue;
                }
                let whole = content(&data).unwrap_or_else(|| delta(&data));
                if reader.text.is_empty() && !whole.is_empty() {
                    reader.first = Some(Instant::now());
                }
                reader.text.push_str(whole);
            }
            if let Some(first) = reader.first {
                self.no_run_after(wanted, first);
            }
        }
    }

    /// The text so far is of one run, and all of it if it is said to be; nobody runs the request again.
    fn judge(&self, wanted: Wanted, text: &str, whole: bool) {
        let known =
            |run| self.world.runs.of(wanted.nonce, |runs| runs.iter().any(|known| known.number == run));
        match wanted.check(text, whole) {
            Ok(run) if run.is_none_or(known) => (),
            Ok(_) => self.world.record.violation(format!("P3: request {}: of an unknown run", wanted.nonce)),
            Err(wrong) => self.world.record.violation(format!("P3: request {}: {wrong}", wanted.nonce)),
        }
        if whole {
            self.no_run_after(wanted, Instant::now());
        }
    }

    /// Nobody begins on a request whose answer has begun. One exception: what was on its way to a registrar, or from
    /// it to its backend, when everything there stood still, arrives when it goes on, though its hub has long turned
    /// to another. No program can help that.
    fn no_run_after(&self, wanted: Wanted, first: Instant) {
        let record = &self.world.record;
        self.world.runs.of(wanted.nonce, |runs| {
            let asked = record.asked(wanted.nonce);
            for run in runs.iter().filter(|run| run.started > first) {
                if !record.was_late(run.backend, asked, run.started) {
                    record.violation(format!(
                        "P1: request {} ran again, at backend {}, {:?} after its first byte",
                        wanted.nonce,
                        run.backend,
                        run.started - first
                    ));
                }
            }
        });
    }

    /// A durable task: put in, then followed to its end or taken back.
    async fn durable(&self, random: &mut Random, streaming: bool) {
        let wanted = self.wanted(random);
        let record = &self.world.record;
        let body = json!({ "llm": Self::target(random), "streaming": streaming,
            "request": { "messages": [{ "role": "user", "content": wanted.text() }] } });
        let start = Instant::now();
        let created =
            timeout(DEADLINE, self.json("POST /api/v1/inference-tasks", Some(&body.to_string()))).await;
        let id = match created {
            Ok(Ok((202, answer))) => answer["id"].as_str().unwrap_or_default().to_owned(),
            Ok(Ok((status, answer))) => {
                self.refused(wanted, status, &answer);
                return record.ended("durable", format!("refused with {status}"));
            }
            Ok(Err(_)) if self.bad_network || record.hub_was_away(start) => {
                return record.ended("durable", "broken when it was put in");
            }
            Ok(Err(error)) => {
                return record.violation(format!("P2: a task could not be put in: {error}"));
            }
            Err(_) => return record.violation(format!("P2: a task was not taken in {DEADLINE:?}")),
        };
        let number = {
            let mut tasks = record.tasks.borrow_mut();
            tasks.push(TaskRecord { id: id.clone(), wanted, streaming, deleted: false, end: None });
            tasks.len() - 1
        };
        if random.percent(10) {
            sleep(random.millis(0, 1500)).await;
            record.tasks.borrow_mut()[number].deleted = true;
            let deleted = self.json(&format!("DELETE /api/v1/inference-tasks/{id}"), None).await;
            return record
                .ended("durable", if deleted.is_ok() { "taken back" } else { "taken back, perhaps" });
        }
        let follows = random.percent(40);
        let end = timeout(TASK_DEADLINE, async {
            if follows {
                self.follow(wanted, &id).await;
            }
            self.end_of(&id).await
        });
        match end.await {
            Ok(Some(end)) => {
                record.ended("durable", format!("{end}{}", if follows { ", followed" } else { "" }));
                record.tasks.borrow_mut()[number].end = Some(end);
            }
            Ok(None) => record.violation(format!("P2: the accepted task {id} is not known any more")),
            Err(_) => record.violation(format!("P2: the task {id} had no end in {TASK_DEADLINE:?}")),
        }
    }

    /// Reads a task's stream, coming back where it broke, until it has its end.
    async fn follow(&self, wanted: Wanted, id: &str) {
        let mut reader = Reader::default();
        loop {
            let last = reader.seen.as_ref().map(|seen| format!("Last-Event-ID: {seen}\r\n"));
            let request = format!("GET /api/v1/inference-tasks/{id}/stream");
            let opened = ask(self.port, &self.world.token, &request, &last.unwrap_or_default(), None).await;
            match opened {
                Ok(answer) if answer.status == 200 => {
                    reader.decoder = Decoder::new();
                    if !matches!(self.stream(wanted, answer, &mut reader).await, Ended::Broken) {
                        return;
                    }
                }
                _ => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Asks for a task until it has ended; `None` for one that the hub does not know.
    async fn end_of(&self, id: &str) -> Option<String> {
        loop {
            let asked = self.json(&format!("GET /api/v1/inference-tasks/{id}"), None).await;
            if let Ok((404, _)) = asked {
                return None;
            }
            let ended = asked.ok().and_then(|(_, task)| Some(task["status"].as_str()?.to_owned()));
            if let Some(end) = ended.filter(|status| ENDS.contains(&status.as_str())) {
                return Some(end);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// One question that is answered with JSON, or with nothing.
    pub async fn json(&self, request: &str, body: Option<&str>) -> io::Result<(u16, Value)> {
        let asked = async {
            let answer = ask(self.port, &self.world.token, request, "", body).await?;
            let status = answer.status;
            let text = answer.text().await?;
            Ok((status, serde_json::from_str(&text).unwrap_or_default()))
        };
        timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Every accepted task has one end, the same that its caller saw, and a completed one its whole answer.
    pub async fn check_task(&self, number: usize) {
        let record = &self.world.record;
        let (id, wanted, streaming, deleted, seen) = {
            let tasks = record.tasks.borrow();
            let task = &tasks[number];
            (task.id.clone(), task.wanted, task.streaming, task.deleted, task.end.clone())
        };
        let Ok((status, task)) = self.json(&format!("GET /api/v1/inference-tasks/{id}"), None).await else {
            return record.violation(format!("the hub does not answer for task {id}"));
        };
        if status == 404 && deleted {
            return;
        }
        let end = task["status"].as_str().unwrap_or("unknown");
        if !ENDS.contains(&end) {
            return record.violation(format!("P2: task {id} is {end} in the end: {task}"));
        }
        if seen.is_some_and(|seen| seen != end) || (end == "cancelled" && !deleted) {
            record.violation(format!("P1: task {id} ended twice, and is {end} now"));
        }
        if end != "completed" {
            return;
        }
        let result = &task["result"];
        let text: String = if streaming {
            result["chunks"].as_array().into_iter().flatten().map(delta).collect()
        } else {
            content(&result["body"]).unwrap_or_default().to_owned()
        };
        if let Err(wrong) = wanted.check(&text, true) {
            record.violation(format!("P3: task {id} (streaming: {streaming}) is completed: {wrong}"));
        }
    }
}

/// A stream's reader, over all connections that it takes.
#[derive(Default)]
struct Reader {
    decoder: Decoder,
    text: String,
    first: Option<Instant>,
    seen: Option<String>,
    done: bool,
    failed: bool,
}
