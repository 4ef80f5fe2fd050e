//! The end of a run: nothing goes wrong any more, and everything must come to rest.

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

/// The longest pause of a registrar (2 s), several times; idle connections (15 s) and dead sessions go in that time too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until there is nothing to complain of.
async fn rests<F: Future<Output = Result<(), String>>>(
    record: &Record,
    mut look: impl FnMut() -> F,
) -> Duration {
    let start = Instant::now();
    loop {
        let Err(complaint) = look().await else { return start.elapsed() };
        if start.elapsed() > PATIENCE {
            record.violation(format!("{complaint}, {PATIENCE:?} after the last fault"));
            return start.elapsed();
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every row is there, and is routable.
pub async fn all_are_active(scene: &Scene, admin: &Caller) -> Duration {
    rests(&scene.record, || async {
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

/// Nothing is under way: at the hub, at the registrars, at the backends.
pub async fn nothing_is_under_way(scene: &Scene, caller: &Caller) {
    let record = &scene.record;
    rests(record, || async {
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
        rests(record, || async {
            let asked = command(registrar.home())
                .args(["status", "-o", "json"])
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .output();
            let asked = asked.await.map_err(|error| error.to_string())?;
            let status: Value = serde_json::from_slice(&asked.stdout)
                .map_err(|_| format!("{} does not tell its status", registrar.name()))?;
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

/// Every provider answers, whole and streamed.
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

/// What each process holds when it rests.
pub type Baseline = HashMap<String, Footprint>;

pub fn baseline(scene: &Scene) -> Baseline {
    let programs = scene.registrars.iter().chain([&scene.hub]);
    programs.map(|program| (program.name().to_owned(), Footprint::of(program.pid()))).collect()
}

/// Threads of a blocking pool that idle.
const THREADS: usize = 4;
/// What a registrar's pools keep of its busiest moment: connections for 4 tasks and their results, and a few beside.
const CONNECTIONS: usize = 12;

/// Descriptors, threads and children are those of the start.
pub async fn nothing_leaks(scene: &Rc<Scene>, baseline: &Baseline) {
    println!("what processes hold, and held at first");
    for program in scene.registrars.iter().chain([&scene.hub]) {
        let before = baseline[program.name()];
        // The hub has the other ends of all of them.
        let kept =
            if program.name() == "hub" { CONNECTIONS / 2 * scene.registrars.len() } else { CONNECTIONS };
        let look = || async {
            let now = Footprint::of(program.pid());
            let much = now.descriptors > before.descriptors + kept
                || now.threads > before.threads + THREADS
                || now.children > before.children;
            if much { Err(format!("{} holds {now:?}, at first {before:?}", program.name())) } else { Ok(()) }
        };
        rests(&scene.record, look).await;
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

/// Nobody panicked.
pub fn logs_are_calm(scene: &Scene) {
    for program in scene.registrars.iter().chain([&scene.hub]) {
        let log = std::fs::read_to_string(program.log_file()).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("panicked")).take(3) {
            scene.record.violation(format!("{}: {line}", program.name()));
        }
    }
}

/// Every durable task that was accepted has one end.
pub async fn every_task_ended_once(record: &Record, admin: &Caller) {
    let count = record.tasks.borrow().len();
    // A few at a time.
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
