//! Checks after the last fault: every component must come to rest.

use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::{Value, json};
use testkit::client::ask;
use tokio::time::{Instant, sleep, timeout};

use crate::answers::Wanted;
use crate::caller::Caller;
use crate::fleet::{ADMIN, command};
use crate::footprint::Footprint;
use crate::inject::Scene;
use crate::record::{Kind, Record};

/// Deadline for coming to rest: several times a registrar's longest delay (2 s), and longer than the timeouts of idle
/// connections (15 s) and of lost sessions.
const PATIENCE: Duration = Duration::from_secs(30);

/// Repeats `check` until it passes, or records its complaint at the deadline.
async fn wait_until<F: Future<Output = Result<(), String>>>(
    record: &Record,
    mut check: impl FnMut() -> F,
) -> Duration {
    let start = Instant::now();
    loop {
        let Err(complaint) = check().await else { return start.elapsed() };
        if start.elapsed() > PATIENCE {
            record.violation(format!("{complaint}, {PATIENCE:?} after the last fault"));
            return start.elapsed();
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every row is active.
pub async fn all_are_active(scene: &Scene, admin: &Caller) -> Duration {
    wait_until(&scene.record, || async {
        let (_, rows) = admin.json("GET /api/v1/llms", None).await.map_err(|error| error.to_string())?;
        let away: Vec<_> = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter(|row| row["status"] != "active")
            .map(|row| format!("{} is {}", row["name"], row["status"]))
            .collect();
        let count = rows.as_array().map_or(0, Vec::len);
        if count == scene.registrars.len() && away.is_empty() {
            Ok(())
        } else {
            Err(format!("P4: of {count} rows {}", away.join(", ")))
        }
    })
    .await
}

/// Waits until hub, registrars and backends have no request under way.
pub async fn nothing_is_under_way(scene: &Scene, caller: &Caller) {
    let record = &scene.record;
    wait_until(record, || async {
        let answer = ask(scene.hub_port, ADMIN, "GET /metrics", "", None).await;
        let text =
            answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
        for (metric, due) in
            [("requests_in_flight", 0), ("queue_depth", 0), ("publishers", scene.registrars.len())]
        {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("virtual_llm_{metric} ")));
            if line != Some(due.to_string().as_str()) {
                return Err(format!("the hub's {metric} is {line:?} and not {due}"));
            }
        }
        match caller.world.runs.open.get() {
            0 => Ok(()),
            open => Err(format!("{open} requests are open at backends")),
        }
    })
    .await;
    for registrar in &scene.registrars {
        wait_until(record, || async {
            let asked = command(registrar.home())
                .args(["status", "-o", "json"])
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .output();
            let asked = asked.await.map_err(|error| error.to_string())?;
            let status: Value = serde_json::from_slice(&asked.stdout)
                .map_err(|_| format!("{} does not report its status", registrar.name()))?;
            let report = &status["providers"][0]["report"]["status"];
            if report["inFlight"] == 0 && report["queued"] == 0 {
                Ok(())
            } else {
                Err(format!("{} has work left: {}", registrar.name(), status["providers"]))
            }
        })
        .await;
    }
}

/// Checks that every provider answers a whole and a streamed request.
pub async fn all_answer(scene: &Scene, caller: &Caller) {
    let before = scene.record.violations();
    for index in 0..scene.registrars.len() {
        for streaming in [false, true] {
            let complete = timeout(PATIENCE, caller.once(&format!("row-{index}"), streaming)).await;
            if complete != Ok(true) && scene.record.violations() == before {
                scene.record.violation(format!("row-{index} does not answer (streaming: {streaming})"));
            }
        }
    }
}

/// The footprint of each process at rest.
pub type Baseline = HashMap<String, Footprint>;

pub fn baseline(scene: &Scene) -> Baseline {
    let programs = scene.registrars.iter().chain([&scene.hub]);
    programs.map(|program| (program.name().to_owned(), Footprint::of(program.pid()))).collect()
}

/// Number of idle threads that a blocking pool may keep.
const THREADS: usize = 4;
/// Connections that a registrar's pools may keep: for 4 tasks and their results, and a few others.
const CONNECTIONS: usize = 12;

/// Waits until descriptors, threads and children are back at their numbers of the start.
pub async fn nothing_leaks(scene: &Rc<Scene>, baseline: &Baseline) {
    println!("footprint of each process now, and at the start");
    for program in scene.registrars.iter().chain([&scene.hub]) {
        let before = baseline[program.name()];
        // The hub holds the other ends of the registrars' connections.
        let kept =
            if program.name() == "hub" { CONNECTIONS / 2 * scene.registrars.len() } else { CONNECTIONS };
        let look = || async {
            let now = Footprint::of(program.pid());
            let much = now.descriptors > before.descriptors + kept
                || now.threads > before.threads + THREADS
                || now.children > before.children;
            if much { Err(format!("{} holds {now:?}, at first {before:?}", program.name())) } else { Ok(()) }
        };
        wait_until(&scene.record, look).await;
        let now = Footprint::of(program.pid());
        println!(
            "  {:<14} descriptors {:>3} ({:>3}), threads {:>2} ({:>2}), children {} ({})",
            program.name(),
            now.descriptors,
            before.descriptors,
            now.threads,
            before.threads,
            now.children,
            before.children
        );
    }
}

/// Checks that no log has a panic.
pub fn logs_are_calm(scene: &Scene) {
    for program in scene.registrars.iter().chain([&scene.hub]) {
        let log = std::fs::read_to_string(program.log_file()).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("panicked")).take(3) {
            scene.record.violation(format!("{}: {line}", program.name()));
        }
    }
}

/// Checks that every accepted durable task has one final state.
pub async fn every_task_ended_once(record: &Record, admin: &Caller) {
    let count = record.tasks.borrow().len();
    iter(0..count).for_each_concurrent(8, |number| admin.check_task(number)).await;
}

impl Caller {
    /// One call on one row; whether its answer is complete.
    pub async fn once(&self, row: &str, streaming: bool) -> bool {
        let wanted = Wanted { nonce: self.world.record.nonce(Kind::Sync), tokens: 5 };
        let body = json!({ "model": row, "stream": streaming,
            "messages": [{ "role": "user", "content": wanted.text() }] });
        self.is_complete(wanted, streaming, body.to_string()).await
    }
}
