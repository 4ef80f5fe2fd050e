//! Reading a request's body: bounded in size and in time.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::error::{ApiError, ErrorKind};

/// Largest body of a caller's inference (SPEC.md section 3.7): an image of 20 MB is 27 MB in base64.
pub(super) const INFERENCE: usize = 32 << 20;
/// Largest result of a publisher: twice that, for many embeddings or an image.
pub(super) const RESULT: usize = 64 << 20;
/// Largest body of all other routes.
pub(super) const SMALL: usize = 2 << 20;

/// Longest silence within a body.
const SILENCE: Duration = Duration::from_secs(30);
/// What is read past the limit before we answer: a client that is still writing does not read its 413, and loses it
/// when the connection is reset.
const OVERRUN: usize = 64 << 20;

/// The whole body.
pub(super) async fn read(req: &HttpRequest, mut payload: Payload, limit: usize) -> Result<Bytes, ApiError> {
    let announced = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut over = announced.is_some_and(|length: usize| length > limit);
    let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(limit));
    let mut size = 0;
    loop {
        let read = match timeout(SILENCE, payload.next()).await {
            Err(_) => {
                return Err(ApiError::new(ErrorKind::SlowRequest, "the request's body did not come in time"));
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(ApiError::bad_request("the request's body broke off")),
            Ok(Some(Ok(read))) => read,
        };
        size += read.len();
        over |= size > limit;
        if !over {
            body.extend_from_slice(&read);
        } else if size > limit + OVERRUN {
            break;
        }
    }
    if over {
        let text = format!("the request's body is larger than {} MiB", limit >> 20);
        return Err(ApiError::new(ErrorKind::TooLarge, text));
    }
    Ok(body.freeze())
}

/// The whole body as text.
pub(super) async fn text(req: &HttpRequest, payload: Payload, limit: usize) -> Result<String, ApiError> {
    let body = read(req, payload, limit).await?;
    String::from_utf8(body.into()).map_err(|_| ApiError::bad_request("the request's body is not UTF-8"))
}

/// The whole body as one JSON type. The error names the key, and quotes nothing.
pub(super) async fn json<T: serde::de::DeserializeOwned>(
    req: &HttpRequest,
    payload: Payload,
) -> Result<T, ApiError> {
    let body = read(req, payload, SMALL).await?;
    // An array of its values would pass for an object, too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::bad_request("the request's body is not a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(&body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let cause = error.inner();
        let what = match cause.classify() {
            serde_json::error::Category::Data => "has a key that is missing or of another type",
            _ => "is not valid JSON",
        };
        let (at, line) = (error.path().to_string(), cause.line());
        let at = if at == "." { String::new() } else { format!(": {at}") };
        ApiError::bad_request(format!("the request's body {what}{at} (line {line})"))
    })?;
    reader
        .end()
        .map_err(|_| ApiError::bad_request("the request's body has something after its JSON object"))?;
    Ok(value)
}
