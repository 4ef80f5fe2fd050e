//! Fakes of this crate's own traits, for tests: an uplink, a backend, a hub without sockets, and probes in place of actors.

pub(crate) mod backend;
pub(crate) mod hub;
pub(crate) mod link_hub;

use std::time::Duration;

use testkit::classic_hub::ClassicHub;

use crate::Secret;
use crate::options::{Credentials, Timings};

/// Credentials for a fake hub with sockets.
pub(crate) fn credentials(hub: &ClassicHub) -> Credentials {
    Credentials::new(hub.url(), Secret::new("token-of-the-test"))
}

/// Short timings for tests with sockets.
pub(crate) fn quick() -> Timings {
    Timings {
        heartbeat_interval: Duration::from_millis(300),
        reconnect_base: Duration::from_millis(20),
        reconnect_max: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(2),
    }
}
