//! The hub of `up`: in memory, for this machine, until the command ends.

use std::net::{Ipv4Addr, SocketAddr};

use ::hub::{
    DataDir, Hub, HubError, HubHandle, HubOptions, HubTimings, Limits, MachineOptions, Origins, PoolPolicy,
    Role,
};
use actors::{Credentials, Secret};

use crate::exit::Failure;

/// Default port; if it is in use, a free one is used.
const DEFAULT_PORT: u16 = 8787;
/// Owner of the token and the link that `up` prints.
const USER: &str = "me";

/// A running hub, a member's token for it, and the code of a sign-in link.
pub(super) struct Embedded {
    pub(super) url: String,
    pub(super) token: Secret,
    pub(super) code: Secret,
    hub: HubHandle,
}

impl Embedded {
    /// Starts the hub on `port`, or on a free port.
    pub(super) async fn start(port: Option<u16>, public_url: Option<String>) -> Result<Self, Failure> {
        let options = |port| options(port, public_url.clone());
        let hub = match (Hub::start(options(port.unwrap_or(DEFAULT_PORT))).await, port) {
            (Err(HubError::PortInUse(_)), None) => Hub::start(options(0)).await,
            (started, _) => started,
        };
        let hub = hub.map_err(|error| match error {
            HubError::PortInUse(addr) => Failure::failed(format!(
                "cannot listen on {addr}: the port is in use; leave --port out, and a free one is taken"
            )),
            error => Failure::failed(error),
        })?;
        let token = hub.mint_token(USER, Role::Member).await.map_err(Failure::failed)?;
        let code = hub.mint_link(USER, Role::Member).await.map_err(Failure::failed)?;
        Ok(Self { url: hub.url(), token: Secret::new(token), code: Secret::new(code), hub })
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials::new(self.url.clone(), self.token.clone())
    }

    pub(super) async fn stop(self) {
        self.hub.stop().await;
    }
}

fn options(port: u16, public_url: Option<String>) -> HubOptions {
    HubOptions {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        public_url,
        data: DataDir::Memory,
        cluster: None,
        admin_token: None,
        tls: None,
        pools: PoolPolicy::default(),
        cors_origins: Origins::default(),
        limits: Limits::default(),
        machine: MachineOptions::default(),
        timings: HubTimings::default(),
    }
}
