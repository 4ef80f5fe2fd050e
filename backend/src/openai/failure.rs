//! Errors of calls that got no whole answer.

use std::time::Duration;

use hyper::Uri;
use tokio::time::timeout;

use super::Inner;
use crate::BackendError;
use crate::http::{BodyError, Client, SendError};

/// Time limit of the check whether a server accepts connections. A caller gets the error of a stopped backend within a second.
const LISTENS: Duration = Duration::from_millis(500);

impl Inner {
    pub(super) async fn unsent(&self, error: SendError) -> BackendError {
        match error {
            SendError::NoTls => failed("the backend's URL is https, and TLS could not be set up"),
            SendError::Tls => {
                failed("the TLS handshake with the backend failed: is its certificate trusted?")
            }
            SendError::Silent => self.silent(),
            SendError::Invalid => failed("the backend's URL is not one"),
            SendError::Malformed => failed("backend's answer is not HTTP"),
            // The backend may be running the request. Only a stopped one may be woken and get it again.
            SendError::Broken if listens(&self.http, self.url.reveal()).await => {
                failed("backend broke off before it answered")
            }
            SendError::Unresolved => BackendError::Unresolved,
            SendError::Unreachable | SendError::Proxy | SendError::Broken => BackendError::Unavailable,
        }
    }

    pub(super) fn unread(&self, error: BodyError) -> BackendError {
        match error {
            BodyError::TooLarge(limit) => {
                failed(format!("backend's answer is larger than {} MiB", limit >> 20))
            }
            BodyError::Broken => failed("backend broke off in the middle of its answer"),
            BodyError::Silent => self.silent(),
            BodyError::BudgetExceeded => BackendError::BudgetExceeded,
        }
    }

    pub(super) fn silent(&self) -> BackendError {
        failed(format!("backend sent nothing for {} s", self.silence.as_secs_f64()))
    }
}

/// Whether a server accepts connections at `url`, or does not refuse them within [`LISTENS`].
async fn listens(http: &Client, url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return true };
    !matches!(timeout(LISTENS, http.touch(&url)).await, Ok(Err(_)))
}

pub(super) fn failed(text: impl Into<String>) -> BackendError {
    BackendError::Failed(text.into())
}
