//! Whether the server's thread still turns, for somebody who looks from another thread: a watchdog.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A thread that died is started again by the server, which takes a moment.
const AGAIN: Duration = Duration::from_secs(1);

/// The server's thread, as soon as it has said which one it is.
#[derive(Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<ArbiterHandle>>>);

impl Pulse {
    /// Called by the server's thread: this is the one.
    pub(super) fn is_here(&self) {
        *self.0.lock() = Arbiter::try_current();
    }

    /// Comes back when that thread has turned once from now on; never while it hangs.
    pub async fn turned(&self) {
        loop {
            let (sender, receiver) = oneshot::channel();
            let thread = self.0.lock().clone();
            let is_sent = thread.is_some_and(|thread| {
                thread.spawn_fn(move || {
                    // Nobody waits any more: nobody wants to know.
                    let _ = sender.send(());
                })
            });
            if is_sent && receiver.await.is_ok() {
                return;
            }
            sleep(AGAIN).await;
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
    async fn a_server_that_hangs_has_no_pulse_and_one_that_goes_on_has() {
        let hub = Hub::start(options()).await.unwrap();
        timeout(PATIENCE, hub.pulse().turned()).await.unwrap();
        let (go_on, hangs) = mpsc::channel::<()>();
        let thread = hub.pulse.0.lock().clone().unwrap();
        thread.spawn_fn(move || assert!(hangs.recv().is_err(), "nothing is sent"));
        let hung = timeout(Duration::from_millis(100), hub.pulse().turned()).await;
        assert!(hung.is_err(), "it turned while it hung");
        drop(go_on);
        timeout(PATIENCE, hub.pulse().turned()).await.unwrap();
        hub.stop().await;
    }
}
