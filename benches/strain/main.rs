//! What the hub does under strain: the figures that it has to keep, in one run.
//!
//! `cargo bench --bench strain`, or with names to run those parts: `cargo bench --bench strain -- queue rows`. The hub is
//! a process of the release build (or `BENCH_PROGRAM=path`), started here and ended by id; callers and the probe are threads of this one. On a
//! machine with two cores they take time from the hub: its CPU time is exact, latencies are an upper bound.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panic"
)]
#![allow(clippy::cast_precision_loss, reason = "figures")]
#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a benchmark is public")]

mod backend;
mod bodies;
mod http;
mod images;
mod probe;
mod queue;
mod rig;
mod rows;
mod shared;
mod waiters;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let parts: [(&str, fn()); 6] = [
        ("bodies", bodies::run),
        ("images", images::run),
        ("queue", queue::run),
        ("rows", rows::run),
        ("shared", shared::run),
        ("waiters", waiters::run),
    ];
    for (name, run) in parts {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            run();
        }
    }
}

/// One line: what, the figure, and what it has to be.
fn figure(what: &str, value: &str, goal: &str) {
    println!("{what:<60} {value:>14}   {goal}");
}
