//! Durable tasks: created, followed, deleted; at the end, each one is checked.

use std::time::Duration;

use serde_json::json;
use testkit::client::ask;
use tokio::time::{Instant, sleep, timeout};

use crate::answers::{Wanted, content, delta};
use crate::caller::Caller;
use crate::reading::{Ended, Reader};
use crate::record::{Kind, TaskRecord};
use crate::{DEADLINE, TASK_DEADLINE};
use testkit::random::Random;

/// The final states of a durable task.
const ENDS: [&str; 3] = ["completed", "error", "cancelled"];

impl Caller {
    /// Creates a durable task, then follows it to its end or deletes it.
    pub async fn durable(&self, random: &mut Random, streaming: bool) {
        let wanted = self.wanted(Kind::Durable, random);
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
                return record.ended("durable", "broken when it was created");
            }
            Ok(Err(error)) => {
                return record.violation(format!("P2: a task could not be created: {error}"));
            }
            Err(_) => return record.violation(format!("P2: a task was not accepted within {DEADLINE:?}")),
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
                if end == "completed" {
                    record.answered(wanted.nonce);
                }
                record.tasks.borrow_mut()[number].end = Some(end);
            }
            Ok(None) => {
                record.violation(format!("P2: the hub does not know the accepted task {id} any more"));
            }
            Err(_) => record.violation(format!("P2: the task {id} had no end in {TASK_DEADLINE:?}")),
        }
    }

    /// Reads a task's stream to its end, and resumes it after each broken connection.
    pub async fn follow(&self, wanted: Wanted, id: &str) {
        let mut reader = Reader::default();
        loop {
            let last = reader.seen.as_ref().map(|seen| format!("Last-Event-ID: {seen}\r\n"));
            let request = format!("GET /api/v1/inference-tasks/{id}/stream");
            let opened = ask(self.port, &self.world.token, &request, &last.unwrap_or_default(), None).await;
            match opened {
                Ok(answer) if answer.status == 200 => {
                    reader.resume();
                    if !matches!(self.stream(wanted, answer, &mut reader).await, Ended::Broken) {
                        return;
                    }
                }
                _ => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Polls a task until it has ended. Returns `None` if the hub does not know the task.
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

    /// Checks an accepted task: it has one final state, the one that its caller saw; a completed task has its whole answer.
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
