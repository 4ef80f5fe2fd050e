//! What the relay costs, by a link and classic: every figure beside the same call made directly to the same backend, in one run.
//!
//! `cargo bench --bench relay`, or with names to run those parts: `cargo bench --bench relay -- streams delays`. With
//! `--report` the figures and their charts go to docs/benchmarks.md. `BENCH_PEER='command'` measures another way: a relay
//! that listens on `$PORT` before the backend at `$BACKEND`. `BENCH_PEER=127.0.0.1:9000 BENCH_PORT=9001` measures a tunnel
//! that leads from the first port to the second one. `BENCH_PROGRAM=path` measures another build of virtual-llm.
//! Callers live in this process, the backend is another of the same program; hub and registrar are processes of the
//! release build, started here and ended by id. Ratios and CPU time are what to read: absolute times are the machine's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panic"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures"
)]
#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a benchmark is public")]

mod backend;
mod caller;
mod calls;
mod crash;
mod decoding;
mod delays;
mod figures;
mod floor;
mod idle;
mod instructions;
mod report;
mod rig;
mod streams;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    if wants(backend::ARGUMENT) && !wanted.is_empty() {
        return backend::serve();
    }
    if wants(floor::ARGUMENT) && !wanted.is_empty() {
        return floor::serve();
    }
    let backend = backend::Backend::start();
    let figures = figures::Figures::default();
    // Takes some minutes and valgrind: only when asked for, and then alone.
    if wanted.iter().any(|name| name == "instructions") {
        actix_rt::System::new().block_on(instructions::count(backend.port, &figures));
        return;
    }
    let rig = rig::Rig::start(backend.port);
    actix_rt::System::new().block_on(async {
        rig.ready().await;
        if wants("memory") {
            rig.linked().memory(&figures).await;
        }
        if wants("calls") {
            calls::one_caller(&rig, &figures).await;
            calls::many_callers(&rig, &figures, 32).await;
            calls::many_callers(&rig, &figures, 256).await;
            calls::large_body(&rig, &figures).await;
        }
        if wants("streams") {
            streams::unpaced(&rig, &figures).await;
            streams::paced(&rig, &figures).await;
            streams::one(&rig, &figures).await;
        }
        if wants("delays") {
            streams::first_token(&rig, &figures).await;
            delays::cancel(&rig, &figures).await;
            delays::wake(&rig, &figures).await;
            crash::crash(&rig, &figures).await;
            delays::reconnect(&rig, &figures).await;
        }
        if wants("idle") {
            idle::publishers(&rig, &figures).await;
        }
    });
    if wants("decoding") {
        decoding::tasks(&figures);
    }
    if std::env::args().any(|arg| arg == "--report") {
        report::write(&figures);
    }
}
