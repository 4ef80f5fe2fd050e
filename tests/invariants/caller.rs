//! Callers: each sends requests, sometimes disconnects before the end, and checks the answers.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::client::ask;
use tokio::time::{Instant, sleep, timeout};

use crate::answers::{Wanted, content};
use crate::reading::{Ended, Reader};
use crate::record::{Kind, Record};
use crate::runs::Runs;
use crate::{DEADLINE, REGISTRARS};
use testkit::random::Random;

/// The hub's limit of 5 s for reading a request head; its clock has steps of half a second.
const HEAD: Duration = Duration::from_millis(4500);

/// State shared by all callers.
pub struct World {
    pub record: Rc<Record>,
    pub runs: Rc<Runs>,
    pub token: String,
    /// Set at the end of the run: callers send no new requests.
    pub over: Cell<bool>,
}

#[derive(Clone)]
pub struct Caller {
    pub world: Rc<World>,
    /// Port of the hub, or of the fault proxy before the hub.
    pub port: u16,
    pub bad_network: bool,
}

impl Caller {
    /// Sends requests until the run is over, on average one in each `pause`.
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

    pub fn wanted(&self, kind: Kind, random: &mut Random) -> Wanted {
        let tokens = if random.percent(5) { random.between(100, 400) } else { random.between(1, 40) };
        Wanted { nonce: self.world.record.nonce(kind), tokens: usize::try_from(tokens).unwrap() }
    }

    /// Picks a target: mostly a pool of four rows, else one row.
    pub fn target(random: &mut Random) -> String {
        if random.percent(80) {
            format!("pool-{}", random.index(REGISTRARS / 4))
        } else {
            format!("row-{}", random.index(REGISTRARS))
        }
    }

    /// Makes one call that waits for its answer or disconnects before it.
    async fn sync(&self, random: &mut Random, streaming: bool) {
        let wanted = self.wanted(Kind::Sync, random);
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
                    "P2: the connection of request {} ({kind}) broke after {:?}, though its hub was running",
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
        record.ended(kind, outcome);
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
            Ok(text) => {
                self.world.record.answered(wanted.nonce);
                self.judge(wanted, text, true);
            }
            Err(wrong) => self.world.record.violation(format!("P3: request {}: {wrong}", wanted.nonce)),
        }
        Ended::Complete
    }

    /// Makes one call, and returns whether its answer is complete.
    pub async fn is_complete(&self, wanted: Wanted, streaming: bool, body: String) -> bool {
        matches!(self.call(wanted, streaming, "", body).await, Ended::Complete)
    }

    /// Checks a refusal: its status must be one that an overloaded or stopping hub gives, and it must state a reason. A request
    /// head that takes longer than 5 s on a stalled machine gets a bare 408 from the hub or its HTTP library; such a request has
    /// not run.
    pub fn refused(&self, wanted: Wanted, status: u16, body: &Value) {
        let record = &self.world.record;
        let too_late = || {
            let never_ran = self.world.runs.of(wanted.nonce, <[_]>::is_empty);
            never_ran && record.asked(wanted.nonce).at.elapsed() >= HEAD
        };
        let is_true = match status {
            408 => too_late(),
            429 | 502 | 503 | 504 => !body["error"].is_null(),
            _ => false,
        };
        if !is_true {
            let took = record.asked(wanted.nonce).at.elapsed();
            record.violation(format!(
                "P2: request {} was answered {status} after {took:?}: {body}",
                wanted.nonce
            ));
        }
    }

    /// Sends one request, and returns the status and the JSON of the answer; an empty body is `null`.
    pub async fn json(&self, request: &str, body: Option<&str>) -> io::Result<(u16, Value)> {
        let asked = async {
            let answer = ask(self.port, &self.world.token, request, "", body).await?;
            let status = answer.status;
            let text = answer.text().await?;
            Ok((status, serde_json::from_str(&text).unwrap_or_default()))
        };
        timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
