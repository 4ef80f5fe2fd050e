//! Answers of a backend reach the caller: the same content, in order, once, and an end mark; or an error and no end mark.
//!
//! The test runs a backend on raw TCP, a hub and three registrars in this process, for a few seconds. To run it longer, and
//! with other answers:
//!
//! ```sh
//! PROVENANCE_SECONDS=600 PROVENANCE_SEED=7 cargo test --release --test provenance provenance -- --nocapture
//! ```
//!
//! `CUT_SECONDS` and `CUT_SEED` do the same for recorded answers that break off (`cut`).
//!
//! Every run prints its seed. A failure names the number of its answer: `PROVENANCE_SEED=7 PROVENANCE_NUMBER=123` runs that
//! answer alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic, and this one has something to tell"
)]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]

mod backend;
mod caller;
mod cut;
mod dialect;
mod plan;
mod recorded;
mod rig;

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use plan::Plan;
use rig::Rig;

/// Number of concurrent callers. Their answers share connections, channels and buffers.
const CALLERS: u64 = 8;
/// Deadline for one answer. The largest answer takes about a second in a debug build on two busy cores.
const DEADLINE: Duration = Duration::from_mins(1);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn seed() -> u64 {
    u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos())
}

/// P3, F02: content in events of any size, in any dialect, on any route, arrives once and in order, or the caller gets an
/// error.
#[actix_rt::test]
async fn provenance_of_every_byte() {
    let (complete, failed) = run("PROVENANCE", Plan::new).await;
    assert!(complete > 5 && failed > 1, "too few answers were tried: {complete} complete, {failed} failed");
}

/// Requests answers of `plan` for some seconds. The environment variables `{name}_SECONDS`, `{name}_SEED` and
/// `{name}_NUMBER` set the seconds, the seed, and a single answer. Returns how many answers were whole, and how many broke off.
async fn run(name: &str, plan: fn(u64, u64) -> Plan) -> (u64, u64) {
    let variable = |what: &str| number(&format!("{name}_{what}"));
    let (seconds, seed) = (variable("SECONDS").unwrap_or(4), variable("SEED").unwrap_or_else(seed));
    println!("{name}_SECONDS={seconds} {name}_SEED={seed}");
    let rig = Rig::start().await;
    let (next, complete, failed) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let one = async |number: u64| {
        let plan = plan(seed, number);
        let judged = timeout(DEADLINE, caller::judge(&rig, &plan)).await;
        match judged.unwrap_or_else(|_| Err(format!("no end within {DEADLINE:?}"))) {
            Ok(true) => complete.set(complete.get() + 1),
            Ok(false) => failed.set(failed.get() + 1),
            Err(wrong) => panic!("{wrong}\n{name}_SEED={seed} {name}_NUMBER={number}: {plan:?}"),
        }
    };
    if let Some(alone) = variable("NUMBER") {
        one(alone).await;
        println!("of {alone}: {} whole, {} broken off", complete.get(), failed.get());
        std::process::exit(0);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    join_all((0..CALLERS).map(async |_| {
        while Instant::now() < end {
            one(next.replace(next.get() + 1)).await;
        }
    }))
    .await;
    rig.stop().await;
    println!("{name}: {} whole answers, {} that broke off", complete.get(), failed.get());
    (complete.get(), failed.get())
}
