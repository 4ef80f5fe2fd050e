//! The response of the hub to a call.

use std::time::Duration;

use awc::ClientResponse;
use awc::http::StatusCode;
use awc::http::header::{HeaderMap, RETRY_AFTER, SERVER, VIA};
use bytes::Bytes;

use super::{CALL_TIMEOUT, HubError, MAX_RESPONSE, error};
use crate::http;

pub(super) struct HubResponse {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) retry_after: Option<Duration>,
    /// Target of a redirect, without path and query, which must not be logged.
    pub(super) redirects_to: Option<String>,
    /// The program that answered, where it names itself: its `Server` header, else `Via`.
    pub(super) server: Option<String>,
}

/// Longest name of a program, in characters.
const MAX_SERVER: usize = 64;

/// The program that answered.
pub(super) fn server(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(SERVER).or_else(|| headers.get(VIA))?.to_str().ok()?;
    Some(value.chars().take(MAX_SERVER).collect())
}

impl HubResponse {
    /// Reads a response to its end, so that its connection can be used again.
    pub(super) async fn read<S>(call: &'static str, mut response: ClientResponse<S>) -> Result<Self, HubError>
    where
        S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
    {
        let now = jiff::Timestamp::now();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|value| http::retry_after(value, now));
        let status = response.status();
        let redirects_to =
            status.is_redirection().then(|| error::redirect_target(response.headers())).flatten();
        let server = server(response.headers());
        match http::read_body(&mut response, MAX_RESPONSE, CALL_TIMEOUT).await {
            Ok(body) => Ok(Self { status, body, retry_after, redirects_to, server }),
            // The status of a refusal is enough.
            Err(_) if !status.is_success() => {
                Ok(Self { status, body: Bytes::new(), retry_after, redirects_to, server })
            }
            Err(error) => Err(HubError::Invalid { call, reason: error.to_string() }),
        }
    }
}
