//! How one of several hubs stops: callers and publishers are sent to the others before calls are refused.

use std::time::Duration;

use tokio::time::sleep;

use crate::hub::{Hub, Phase};

/// Time for which it takes calls meanwhile: load balancers ask `/readyz` each second or two, and registrars open their channels at
/// other hubs. Unit tests have neither.
const LEAVE_FOR: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(6) };

impl Hub {
    /// Leaves, if there is another hub.
    pub(super) async fn leave(&self) {
        if !self.shared.as_ref().is_some_and(|shared| shared.has_others()) {
            return;
        }
        self.registry.lock().leave(self.now());
        // Links are told to go.
        self.phase.send_replace(Phase::Leaving);
        sleep(LEAVE_FOR / 2).await;
        // A channel that cannot be told ends. What runs there is answered to any hub.
        for session in self.channels.sessions() {
            if !self.links.has(&session) {
                self.channels.drop_session(&session);
            }
        }
        sleep(LEAVE_FOR / 2).await;
    }
}
