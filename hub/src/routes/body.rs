//! Reading a request's body: bounded in size and in time, decoded where its sender compressed it.

use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::HubData;
use super::decode::{codings, decode};
use crate::error::{ApiError, ErrorKind};
use crate::heavy::{BURST, heavy};
use crate::limits::Held;
use crate::memory::Body;
use crate::model::Caller;
use crate::relay::RequestBody;

/// Largest body of a caller's inference (SPEC.md section 3.7): an image of 20 MB is 27 MB in base64.
pub(super) const INFERENCE: usize = 32 << 20;
/// Largest result of a publisher: twice that, for many embeddings or an image.
pub(super) const RESULT: usize = 64 << 20;
/// Largest body of all other routes.
pub(super) const SMALL: usize = 2 << 20;

/// Longest silence within a body.
const SILENCE: Duration = Duration::from_secs(30);
/// A body that trickles is given up when it is behind this many bytes a second...
const SLOWEST: u64 = 1024;
/// ...and has had this long: a line of 56 kbit/s is seven times as fast, and one that stalls for a while catches up.
const HEAD_START: Duration = Duration::from_mins(1);
/// A body of unknown length is read in blocks of so many bytes, and put together at its end.
const BLOCK: usize = 1 << 20;
/// What is read past the limit before we answer: a client that is still writing does not read its 413, and loses it
/// when the connection is reset.
const OVERRUN: usize = 64 << 20;

/// What the body of `req` counts for: nothing on a path without a caller.
fn held(req: &HttpRequest) -> Held {
    let hub = req.app_data::<HubData>();
    let caller = req.extensions().get::<Caller>().cloned();
    hub.zip(caller).map(|(hub, caller)| hub.bytes_of(&caller.user).none()).unwrap_or_default()
}

/// The whole body as its sender had it, and what it counts for.
pub(super) async fn read(
    req: &HttpRequest,
    payload: Payload,
    limit: usize,
) -> Result<(Vec<u8>, Held), ApiError> {
    // Read first: a client that is still writing does not read what it is answered.
    let (blocks, mut held) = read_coded(req, payload, limit).await?;
    let size = blocks.iter().map(Vec::len).sum();
    let body = match <[Vec<u8>; 1]>::try_from(blocks) {
        Ok([body]) => body,
        Err(blocks) => heavy(size, move || Ok(blocks.concat())).await?,
    };
    let codings = codings(req.headers())?;
    if codings.is_empty() {
        return Ok((body, held));
    }
    // A few bytes may become many: always on another thread.
    let decoded = heavy(usize::MAX, move || {
        let decoded = decode(&body, &codings, limit, &mut held)?;
        Ok((decoded, held))
    });
    decoded.await
}

/// The whole body as it came: in one block if its length was announced, else in blocks of [`BLOCK`], since a vector that
/// grows is copied again and again.
async fn read_coded(
    req: &HttpRequest,
    mut payload: Payload,
    limit: usize,
) -> Result<(Vec<Vec<u8>>, Held), ApiError> {
    let mut held = held(req);
    let memory = req.app_data::<HubData>().map(|hub| &hub.memory);
    let body = if limit == INFERENCE { Body::New } else { Body::Ongoing };
    // All users together have an end, and each of them.
    let mut grow = |bytes| {
        memory.map_or(Ok(()), |memory| memory.admit(bytes, body))?;
        held.grow(bytes)
    };
    let announced = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let too_large = || {
        let text = format!("the request's body is larger than {} MiB", limit >> 20);
        ApiError::new(ErrorKind::TooLarge, text)
    };
    // What is announced counts from now on: memory is set aside for all of it.
    let mut refusal = match announced {
        Some(length) if length > limit => Some(too_large()),
        Some(length) => grow(length).err(),
        None => None,
    };
    let room = announced.filter(|_| refusal.is_none());
    let mut blocks = vec![Vec::with_capacity(room.unwrap_or(0))];
    let mut size = 0;
    let mut burst = 0;
    let begin = Instant::now();
    loop {
        let read = match timeout(SILENCE, payload.next()).await {
            Err(_) => return Err(slow()),
            Ok(Some(Ok(_))) if is_too_slow(begin.elapsed(), size) => return Err(slow()),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(ApiError::bad_request("the request's body broke off")),
            Ok(Some(Ok(read))) => read,
        };
        size += read.len();
        burst += read.len();
        if burst >= BURST {
            burst = 0;
            yield_now().await;
        }
        if size > limit {
            refusal.get_or_insert_with(too_large);
        }
        if refusal.is_none() && announced.is_none() {
            refusal = grow(read.len()).err();
        }
        if refusal.is_none() {
            match blocks.last_mut() {
                Some(last) if announced.is_some() || last.len() < BLOCK => last.extend_from_slice(&read),
                _ => blocks.push(read.to_vec()),
            }
        } else if size > limit + OVERRUN {
            break;
        } else {
            blocks = Vec::new();
        }
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    Ok((blocks, held))
}

fn slow() -> ApiError {
    ApiError::new(ErrorKind::SlowRequest, "the request's body did not come in time")
}

/// Whether `size` bytes are less than what must have come by now.
fn is_too_slow(elapsed: Duration, size: usize) -> bool {
    let due = elapsed.saturating_sub(HEAD_START).as_secs().saturating_mul(SLOWEST);
    u64::try_from(size).is_ok_and(|size| size < due)
}

/// The whole body as an inference's request.
pub(super) async fn request(req: &HttpRequest, payload: Payload) -> Result<(RequestBody, Held), ApiError> {
    let (body, held) = read(req, payload, INFERENCE).await?;
    Ok((heavy(body.len(), move || RequestBody::parse(body)).await?, held))
}

/// The whole body as one JSON type. The error names the key, and quotes nothing.
pub(super) async fn json<T: DeserializeOwned + Send + 'static>(
    req: &HttpRequest,
    payload: Payload,
) -> Result<T, ApiError> {
    checked(req, payload, |_| Ok(())).await
}

/// As [`json`], and what `check` finds wrong is refused in its words: before anything is locked, elsewhere where it is
/// large.
pub(super) async fn checked<T: DeserializeOwned + Send + 'static>(
    req: &HttpRequest,
    payload: Payload,
    check: fn(&T) -> Result<(), String>,
) -> Result<T, ApiError> {
    let (body, _held) = read(req, payload, SMALL).await?;
    let size = body.len();
    let read = move || {
        let value = parse(&body)?;
        check(&value).map_err(ApiError::bad_request)?;
        Ok(value)
    };
    heavy(size, read).await
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // An array of its values would pass for an object, too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::bad_request("the request's body is not a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use actix_web::FromRequest;
    use actix_web::test::TestRequest;
    use bytes::Bytes;
    use futures_util::{Stream, stream};
    use tokio::time::sleep;

    use super::*;

    /// How long a body of `size` bytes, of which one piece comes every `pause`, is listened to, and what comes of it.
    async fn listen(size: usize, piece: usize, pause: Duration) -> (Duration, Result<usize, ErrorKind>) {
        let begin = Instant::now();
        let pieces = stream::unfold(size, move |left| async move {
            sleep(pause).await;
            let piece = Bytes::from(vec![b' '; piece.min(left)]);
            (left > 0).then(|| (Ok(piece.clone()), left - piece.len()))
        });
        let req = TestRequest::post().to_http_request();
        let payload: Pin<Box<dyn Stream<Item = _>>> = Box::pin(pieces);
        let mut payload = actix_web::dev::Payload::Stream { payload };
        let payload = Payload::from_request(&req, &mut payload).await.unwrap();
        let read = read(&req, payload, SMALL).await;
        (begin.elapsed(), read.map(|(body, _)| body.len()).map_err(|error| error.kind))
    }

    /// A25: a body that trickles, however patiently, is given up; one over a slow line is not.
    #[actix_rt::test]
    async fn a_trickle_is_given_up_and_a_slow_line_is_not() {
        tokio::time::pause();
        let (took, slow) = listen(SMALL, 1, Duration::from_secs(20)).await;
        assert_eq!(slow, Err(ErrorKind::SlowRequest));
        assert!(took < Duration::from_secs(90), "{took:?}");
        let (_, silent) = listen(SMALL, 1024, Duration::from_secs(31)).await;
        assert_eq!(silent, Err(ErrorKind::SlowRequest));
        // 56 kbit/s, and 25 s of nothing now and then.
        assert_eq!(listen(SMALL, 7_000, Duration::from_secs(1)).await.1, Ok(SMALL));
        assert_eq!(listen(SMALL, 7_000 * 25, Duration::from_secs(25)).await.1, Ok(SMALL));
    }
}
