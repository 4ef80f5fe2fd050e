//! What the integration tests share: the binary as a process, a fake classic hub, a fake backend.

pub mod backend;
pub mod browser;
pub mod classic_hub;
pub mod golden;
pub mod http;
pub mod prefix;
pub mod process;
pub mod proxy;
pub mod team;
pub mod terminal;

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for something that takes milliseconds on an idle machine: two busy cores may take seconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Says that something was not tested, past the capture of the test's output: a skip that nobody reads is a hole. With
/// `REQUIRE_TOOLS=1` it is a failure.
pub fn skipped(what: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {what}\n").as_bytes());
    let required = std::env::var_os("REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "REQUIRE_TOOLS=1, and this was skipped: {what}");
}

/// Polls `probe` every 10 ms until it gives something; panics with `what` when [`PATIENCE`] ends.
pub async fn wait_until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
