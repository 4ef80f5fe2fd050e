//! Random faults in all components: every promise holds under them.
//!
//! The test runs one hub, 20 registrars, half of them classic, 20 backends and 200 callers, with fault proxies between them,
//! for 20 s. To run it longer, and with the faults of another seed:
//!
//! ```sh
//! FAULT_SECONDS=1200 FAULT_SEED=7 cargo test --test invariants all_of_it -- --nocapture
//! ```
//!
//! Every run prints its seed. The logs and stores of a failed run are kept in `target/tmp`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test fails by panic, and this one has something to tell"
)]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]

mod answers;
mod backend;
mod caller;
mod durable;
mod fleet;
mod footprint;
mod inject;
mod reading;
mod record;
mod runs;
mod schedule;
mod settle;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use testkit::free_port;
use testkit::proxy::Proxy;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use backend::Backend;
use caller::{Caller, World};
use fleet::{ADMIN, EndsAll, Pids};
use footprint::Memory;
use inject::Scene;
use record::Record;
use runs::Runs;
use testkit::random::Random;

pub const REGISTRARS: usize = 20;
const CALLERS: usize = 200;
/// Average pause between two requests of one caller. All callers together send 100 requests a second, which a debug build on
/// two busy cores can serve.
const PAUSE: Duration = Duration::from_secs(2);
/// Deadline for a call: the hub's `--wait-timeout` of 8 s, 2 s in a queue, 4 s of a silent backend, 5 s until a session counts
/// as lost, 400 tokens of a slow backend, and a pause of the hub by SIGSTOP.
const DEADLINE: Duration = Duration::from_secs(45);
/// Deadline for a durable task: the `--queue-timeout` of 20 s, then [`DEADLINE`], and one restart of the hub.
const TASK_DEADLINE: Duration = Duration::from_secs(90);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// P1, P2, P3, P4, P7, P8, F02, F90: under random crashes, hangs and broken connections every accepted request ends once, no
/// partial answer is marked as complete, no request runs again after its first byte, and nothing leaks.
#[test]
fn all_of_it_holds_under_random_faults() {
    let seconds = number("FAULT_SECONDS").unwrap_or(15);
    let seed = number("FAULT_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    });
    println!("FAULT_SECONDS={seconds} FAULT_SEED={seed}");
    let base =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("invariants-{seed}-{}", std::process::id()));
    fleet::private_dir(&base);
    fleet::copy_binary(&base);
    let pids = Pids::default();
    let ends_all = EndsAll(pids.clone());
    let violations = actix_rt::System::new().block_on(async {
        actix_rt::spawn(end_on_signal(pids.clone()));
        run(seed, Duration::from_secs(seconds), &base, &pids).await
    });
    drop(ends_all);
    assert_eq!(violations, 0, "FAULT_SECONDS={seconds} FAULT_SEED={seed}; logs in {}", base.display());
    std::fs::remove_dir_all(&base).unwrap();
}

/// Kills all child processes when the test is interrupted by a signal.
async fn end_on_signal(pids: Pids) {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminate.recv() => (),
    }
    pids.kill_all();
    std::process::exit(130);
}

async fn run(seed: u64, length: Duration, base: &Path, pids: &Pids) -> usize {
    let record = Rc::new(Record::default());
    let runs = Rc::new(Runs::default());
    let hub_port = free_port();
    let hub = fleet::hub(base, hub_port, pids, &record);
    hub.start();
    fleet::ready(&hub, hub_port).await.unwrap();
    let world = |token: String| {
        let (record, runs) = (Rc::clone(&record), Rc::clone(&runs));
        Rc::new(World { record, runs, token, over: Cell::new(false) })
    };
    let admin = Caller { world: world(ADMIN.to_owned()), port: hub_port, bad_network: false };
    let wanted = json!({ "user": "team", "role": "member" }).to_string();
    let (_, made) = admin.json("POST /api/v1/tokens", Some(&wanted)).await.unwrap();
    let token = made["token"].as_str().unwrap().to_owned();

    let scene = Rc::new(scene(base, hub, hub_port, &token, pids, &record, &runs).await);
    for registrar in &scene.registrars {
        registrar.start();
    }
    settle::all_are_active(&scene, &admin).await;
    let good = Caller { world: world(token), port: hub_port, bad_network: false };
    settle::all_answer(&scene, &good).await;
    let baseline = settle::baseline(&scene);

    let memory = Rc::new(Memory::default());
    let watching = actix_rt::spawn(Rc::clone(&memory).watch(Rc::clone(&scene)));
    let mut callers = JoinSet::new();
    for index in 0..CALLERS {
        let bad_network = index % 4 == 0;
        let port = if bad_network { scene.callers.port() } else { hub_port };
        let caller = Caller { port, bad_network, ..good.clone() };
        callers.spawn_local(caller.run(Random::new(seed ^ (index as u64 + 1)), PAUSE));
    }
    let faults = schedule::schedule(seed, length);
    println!("{} faults in {length:?}", faults.len());
    inject::inject(&scene, faults).await;
    let healed = Instant::now();
    let back = settle::all_are_active(&scene, &admin).await;
    println!("all rows active {back:.1?} after the last fault");
    good.world.over.set(true);
    let last =
        timeout(DEADLINE + TASK_DEADLINE, async { while callers.join_next().await.is_some() {} }).await;
    if last.is_err() {
        record.violation("P2: a caller never got an end of its answer");
    }
    println!("the last caller had its end {:.1?} after the last fault", healed.elapsed());
    // Memory is sampled only under the load of the callers, because a slope needs a constant load.
    watching.abort();

    settle::nothing_is_under_way(&scene, &good).await;
    settle::all_answer(&scene, &good).await;
    settle::every_task_ended_once(&record, &good).await;
    settle::nothing_leaks(&scene, &baseline).await;
    settle::logs_are_calm(&scene);
    record.report();
    println!("{} runs at the backends", runs.count());
    runs.check(&record);
    memory.check(&record);
    // Without faults, each process exits with 0 after SIGTERM.
    for program in scene.registrars.iter().chain([&scene.hub]) {
        program.terminate(Duration::from_secs(10)).await;
    }
    println!("{} violations", record.violations());
    record.violations()
}

async fn scene(
    base: &Path,
    hub: fleet::Program,
    hub_port: u16,
    token: &str,
    pids: &Pids,
    record: &Rc<Record>,
    runs: &Rc<Runs>,
) -> Scene {
    let (mut registrars, mut channels, mut backends, mut backend_links) = (vec![], vec![], vec![], vec![]);
    for index in 0..REGISTRARS {
        let backend = Backend::start(index, runs).await;
        let link = if index % 2 == 0 { Some(Proxy::to(backend.port()).await) } else { None };
        let port = link.as_ref().map_or(backend.port(), Proxy::port);
        let channel = Proxy::to(hub_port).await;
        let registrar = fleet::registrar(index, base, channel.port(), port, token, pids, record);
        registrars.push(registrar);
        channels.push(channel);
        backends.push(backend);
        backend_links.push(link);
    }
    let callers = Proxy::to(hub_port).await;
    let record = Rc::clone(record);
    Scene {
        record,
        hub,
        hub_port,
        registrars,
        channels,
        backend_links,
        backends,
        callers,
        busy: RefCell::new(HashSet::new()),
    }
}
