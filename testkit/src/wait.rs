//! Waits for a condition, with a deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Deadline of all waits. The awaited events take milliseconds on an idle machine and seconds on two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Interval between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(3);

/// Waits until `is_so` returns true. Panics with `what` after [`PATIENCE`].
pub async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, async || is_so().then_some(())).await;
}

/// As [`wait_until`], with an asynchronous condition.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    wait_for(what, async || is_so().await.then_some(())).await;
}

/// Waits until `probe` returns a value, and returns it. Panics with `what` after [`PATIENCE`].
pub async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, probe).await
}

/// As [`wait_for`], with a deadline of `limit`.
pub async fn wait_within<T>(limit: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            sleep(INTERVAL).await;
        }
    };
    timeout(limit, looking).await.unwrap_or_else(|_| panic!("timed out after {limit:?} waiting until {what}"))
}

/// Waits until nothing listens on this port of 127.0.0.1.
pub async fn port_is_free(port: u16) {
    wait_until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()).await;
}

/// Waits until the reactor has reported every socket that was readable at the time of the call, so that tokio knows of the
/// bytes on it.
pub async fn reactor_turns() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    one.write_all(b"x").await.unwrap();
    other.read_u8().await.unwrap();
}
