//! Public rows: the hub calls the upstream itself. What comes goes the same way as a publisher's answer, through the
//! same checks.

use std::sync::Arc;
use std::time::Duration;

use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::time::timeout;
use wire::json::{JsonError, Object, compact, quote};
use wire::task::Endpoint;

use super::attempt::Piece;
use super::lane::Lane;
use super::run::Request;
use super::upload::{Progress, Reader};
use crate::core::Hub;
use crate::error::{ApiError, ErrorKind};
use crate::http;
use crate::limits::Held;
use crate::model::Upstream;
use crate::registry::Candidate;

/// An upstream that says nothing for so long, before or within an answer, has failed: as the registrar has it.
const SILENCE: Duration = Duration::from_mins(10);
/// Largest whole answer: as a publisher's.
const LARGEST: usize = 64 << 20;
/// The version of Anthropic's API that we speak.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// One call of an upstream.
pub(super) struct UpstreamCall {
    upstream: Upstream,
    provider_type: String,
    endpoint: Endpoint,
    streaming: bool,
    body: String,
}

impl UpstreamCall {
    /// The call that answers `request` by `candidate`.
    pub(super) fn new(
        upstream: Upstream,
        candidate: &Candidate,
        request: &Request,
    ) -> Result<Self, ApiError> {
        let body = body(request.body.as_str(), &candidate.model, request.streaming);
        Ok(Self {
            upstream,
            provider_type: candidate.provider_type.clone(),
            endpoint: request.endpoint,
            streaming: request.streaming,
            body: body.map_err(|error| ApiError::bad_request(error.to_string()))?,
        })
    }

    /// Calls, and hands the answer to the caller of task `id`, for as long as somebody waits for it.
    pub(super) async fn run(self, hub: Arc<Hub>, id: String, lane: Lane) {
        let last = tokio::select! {
            biased;
            () = lane.closed() => return,
            // Dropping the sender tells the caller that nothing more comes.
            () = hub.stopping() => return,
            last = self.answer(&lane) => last,
        };
        hub.conclude(&id, last);
    }

    async fn send(&self) -> Result<ClientResponse, String> {
        let url = url(&self.upstream.url, self.endpoint);
        let accept = if self.streaming { "text/event-stream" } else { "application/json" };
        let mut request = http::client(&url)?
            .post(url)
            .timeout(SILENCE)
            .no_decompress()
            .insert_header(("accept", accept))
            .insert_header(("accept-encoding", "identity"))
            .insert_header(("content-type", "application/json"));
        let is_anthropic = self.provider_type == "anthropic" && self.endpoint == Endpoint::Messages;
        if is_anthropic {
            request = request.insert_header(("anthropic-version", ANTHROPIC_VERSION));
        }
        if let Some(key) = &self.upstream.api_key {
            request = if is_anthropic {
                request.insert_header(("x-api-key", key.as_str()))
            } else {
                request.insert_header(("authorization", format!("Bearer {key}")))
            };
        }
        request.send_body(self.body.clone()).await.map_err(|error| {
            let text = match error {
                SendRequestError::Timeout => "the upstream did not answer in time",
                // `Disconnected` is awc's word for a connection that ended before the answer, long after the connect.
                SendRequestError::Connect(error) if !matches!(error, ConnectError::Disconnected) => {
                    "the upstream cannot be reached"
                }
                _ => "the upstream broke off",
            };
            text.to_owned()
        })
    }

    /// The last word of an answer; its pieces go out before it.
    async fn answer(&self, lane: &Lane) -> Piece {
        let response = match self.send().await {
            Ok(response) => response,
            Err(message) => return error(message),
        };
        let status = response.status().as_u16();
        match status {
            300..=399 => {
                return error(format!("the upstream points elsewhere ({status}), which is not followed"));
            }
            401 | 403 | 407 => {
                let text = "the upstream refused the hub's key";
                return Piece::Error(ApiError::new(ErrorKind::BackendKey, text));
            }
            _ => (),
        }
        let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"));
        if status < 300 && is_stream {
            self.stream(response, lane).await
        } else {
            self.whole(status, response).await
        }
    }

    async fn whole(&self, status: u16, mut response: ClientResponse) -> Piece {
        let named = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = named.and_then(|seconds| seconds.trim().parse().ok());
        let mut body = BytesMut::new();
        loop {
            match timeout(SILENCE, response.next()).await {
                Err(_) => return error("the upstream's answer stopped coming"),
                Ok(Some(Err(_))) => return error("the upstream broke off"),
                Ok(Some(Ok(read))) if body.len() + read.len() > LARGEST => {
                    return error("the upstream's answer is too large");
                }
                Ok(Some(Ok(read))) => body.extend_from_slice(&read),
                Ok(None) => break,
            }
        }
        let failed = status >= 400;
        let text = String::from_utf8_lossy(&body);
        let text = if failed { self.upstream.redact(&text) } else { text.into_owned() };
        let json = compact(&text).ok().and_then(|text| serde_json::value::RawValue::from_string(text).ok());
        match json {
            Some(body) => Piece::Answer { status, body, held: Held::default(), retry_after },
            None if failed => {
                let error = ApiError::backend(status, format!("the upstream answered {status}"));
                Piece::Error(error.retry_after(retry_after))
            }
            // Half an answer is none, either.
            None => error("the upstream's answer is not JSON"),
        }
    }

    async fn stream(&self, mut response: ClientResponse, lane: &Lane) -> Piece {
        let mut reader = Reader::of_upstream(self.endpoint);
        loop {
            let read = match timeout(SILENCE, response.next()).await {
                Err(_) => return error("the upstream's answer stopped coming"),
                Ok(Some(Err(_))) => return error("the upstream broke off"),
                // awc hides a connection that broke: only an end mark proves that the answer is whole.
                Ok(None) if reader.is_complete() => return Piece::Done,
                Ok(None) => return error("the upstream's answer ended before its end mark"),
                Ok(Some(Ok(read))) => read,
            };
            let (piece, progress) = reader.read(&read);
            if let Some(piece) = piece
                && !lane.send(piece).await
            {
                return error("nobody waits for it");
            }
            match progress {
                Progress::Open => (),
                Progress::Ended(Piece::Error(error)) => {
                    return Piece::Error(error.reword(|text| self.upstream.redact(text)));
                }
                Progress::Ended(piece) => return piece,
                Progress::Broken(_) => return error("the upstream sent a chunk that is not JSON"),
            }
        }
    }
}

fn error(message: impl Into<String>) -> Piece {
    Piece::Error(ApiError::bad_gateway(message.into()))
}

/// The request as the upstream gets it: the row's model, and `stream` only where it streams. Embeddings and ranks know
/// no such key, for the others its absence means false.
fn body(request: &str, model: &str, streaming: bool) -> Result<String, JsonError> {
    let mut object = Object::parse(request)?;
    object.set("model", quote(model));
    object.remove("stream");
    if streaming {
        object.set("stream", "true");
    } else {
        object.remove("stream_options");
    }
    Ok(object.to_string())
}

/// Where an endpoint is below a base URL that may or may not end in its version.
fn url(base: &str, endpoint: Endpoint) -> String {
    let base = base.trim_end_matches('/');
    let has_version = base.split('/').skip(3).any(|segment| {
        segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let version = if has_version { "" } else { "/v1" };
    format!("{base}{version}/{}", endpoint.as_str())
}

impl Upstream {
    /// The text without the key, and without where the upstream is.
    fn redact(&self, text: &str) -> String {
        let authority = self.url.split('/').nth(2).unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let mut text = text.to_owned();
        for secret in [self.api_key.as_deref().unwrap_or_default(), authority, host] {
            // Shorter ones would turn ordinary words into stars.
            if secret.len() >= 4 {
                text = text.replace(secret, "***");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_or_may_not_end_in_its_version() {
        let of = |base| url(base, Endpoint::ChatCompletions);
        assert_eq!(of("http://h:1"), "http://h:1/v1/chat/completions");
        assert_eq!(of("http://h:1/v1/"), "http://h:1/v1/chat/completions");
        assert_eq!(of("https://h/api/v1"), "https://h/api/v1/chat/completions");
        assert_eq!(of("https://h/v1beta/openai"), "https://h/v1beta/openai/chat/completions");
        assert_eq!(of("https://v1host/proxy"), "https://v1host/proxy/v1/chat/completions");
    }

    #[test]
    fn key_and_address_are_taken_out_of_a_text() {
        let upstream =
            Upstream { url: "http://gpu.example:8000/v1".into(), api_key: Some("sk-secret".into()) };
        let text = "key sk-secret refused at http://gpu.example:8000/v1 by gpu.example";
        assert_eq!(upstream.redact(text), "key *** refused at http://***/v1 by ***");
    }

    #[test]
    fn a_request_says_stream_only_when_it_streams() {
        let of = |streaming| {
            body(
                r#"{"model":"x","stream":true,"stream_options":{},"seed":18446744073709551615}"#,
                "m",
                streaming,
            )
        };
        assert_eq!(of(false).unwrap(), r#"{"model":"m","seed":18446744073709551615}"#);
        assert_eq!(
            of(true).unwrap(),
            r#"{"model":"m","stream_options":{},"seed":18446744073709551615,"stream":true}"#
        );
    }
}
