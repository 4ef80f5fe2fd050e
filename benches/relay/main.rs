//! What the relay costs: every figure beside the same call made directly to the same backend, in one run.
//!
//! `cargo bench --bench relay`, or with a name to run one part: `cargo bench --bench relay -- streams`.
//! Callers live in this process, the backend is another of the same program; hub and registrar are processes of the release build, started here and
//! ended by id. Ratios and CPU time are what to read: absolute times are the machine's.

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
mod figures;
mod rig;
mod streams;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    if wants(backend::ARGUMENT) && !wanted.is_empty() {
        return backend::serve();
    }
    let backend = backend::Backend::start();
    let rig = rig::Rig::start(backend.port);
    actix_rt::System::new().block_on(async {
        rig.ready().await;
        if wants("memory") {
            rig.memory().await;
        }
        if wants("calls") {
            calls::one_caller(&rig).await;
            calls::many_callers(&rig, 32).await;
            calls::many_callers(&rig, 256).await;
        }
        if wants("streams") {
            streams::first_token(&rig).await;
            streams::unpaced(&rig).await;
            streams::paced(&rig).await;
        }
    });
}
