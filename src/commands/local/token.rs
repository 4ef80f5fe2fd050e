//! The token. After a refusal, a newer token in the credentials file replaces it.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use actors::{Credentials, Secret};
use tokio::time::Instant;

use crate::{
    cli::Global,
    config::{self, Paths},
};

/// Time after a refusal in which the hub is not asked again with the same token. Hubs refuse an address that sends many
/// invalid ones, and with it everybody behind that address.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Token {
    global: Global,
    paths: Paths,
    hub_url: String,
    current: RefCell<Secret>,
    /// When the hub refused the current token.
    refused: Cell<Option<Instant>>,
}

/// The hub has refused the token, and there is no newer one.
#[derive(Debug)]
pub(super) struct Refused;

impl Token {
    pub(super) fn new(global: Global, paths: Paths, credentials: &Credentials) -> Self {
        Self {
            global,
            paths,
            hub_url: credentials.hub_url.clone(),
            current: RefCell::new(credentials.token.clone()),
            refused: Cell::new(None),
        }
    }

    /// The token for the next request.
    pub(super) async fn get(&self) -> Result<Secret, Refused> {
        if let Some(at) = self.refused.get() {
            self.read_again().await;
            if self.refused.get().is_some() && at.elapsed() < RETRY_INTERVAL {
                return Err(Refused);
            }
        }
        Ok(self.current.borrow().clone())
    }

    /// Notes that the hub refused `used`.
    pub(super) fn refuse(&self, used: &Secret) {
        if *self.current.borrow() == *used {
            self.refused.set(Some(Instant::now()));
        }
    }

    /// Notes that the hub accepted `used`.
    pub(super) fn accept(&self, used: &Secret) {
        if self.refused.get().is_some() && *self.current.borrow() == *used {
            self.refused.set(None);
        }
    }

    /// Reads the credentials again. A token for another hub is not used.
    async fn read_again(&self) {
        let (global, paths) = (self.global.clone(), self.paths.clone());
        let reading = actix_rt::task::spawn_blocking(move || {
            // The warnings were logged at the start.
            let (_, credentials) = config::inspect_credentials(&global, &paths);
            credentials.map(|credentials| (credentials.hub_url, credentials.token)).ok()
        });
        let Ok(Some((hub_url, token))) = reading.await else { return };
        if hub_url == self.hub_url && *self.current.borrow() != token {
            log::info!("uses the new token in {}", self.paths.credentials.display());
            *self.current.borrow_mut() = token;
            self.refused.set(None);
        }
    }
}
