//! The liveness of the server's thread, for a watchdog on another thread.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Interval of retries: the server restarts a thread that has died, which takes a moment.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A probe of the server's thread.
#[derive(Clone, Default)]
pub struct Liveness(Arc<Mutex<Option<ArbiterHandle>>>);

impl Liveness {
    /// Makes the current thread the one that is probed.
    pub(super) fn set_thread(&self) {
        *self.0.lock() = Arbiter::try_current();
    }

    /// Resolves when the thread has run a task that this call sends it; never while the thread hangs.
    pub async fn responds(&self) {
        loop {
            let (sender, receiver) = oneshot::channel();
            let thread = self.0.lock().clone();
            let is_sent = thread.is_some_and(|thread| {
                thread.spawn_fn(move || {
                    // The receiver may be gone.
                    let _ = sender.send(());
                })
            });
            if is_sent && receiver.await.is_ok() {
                return;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::timeout;

    use crate::Hub;
    use crate::tests::{http::PATIENCE, support::options};

    use super::*;

    #[actix_rt::test]
    async fn a_server_that_hangs_has_no_liveness() {
        let hub = Hub::start(options()).await.unwrap();
        timeout(PATIENCE, hub.liveness().responds()).await.unwrap();
        let (go_on, hangs) = mpsc::channel::<()>();
        let thread = hub.liveness.0.lock().clone().unwrap();
        thread.spawn_fn(move || assert!(hangs.recv().is_err(), "nothing is sent"));
        let responds = timeout(Duration::from_millis(100), hub.liveness().responds()).await;
        assert!(responds.is_err(), "a hanging server is alive");
        drop(go_on);
        timeout(PATIENCE, hub.liveness().responds()).await.unwrap();
        hub.stop().await;
    }
}
