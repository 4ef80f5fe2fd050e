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
use crate::auth::TokenCheck;
use crate::clock;
use crate::dispatch::RequestBody;
use crate::error::{ApiError, ErrorKind};
use crate::model::{Caller, UserId};
use crate::offload::{MAX_BURST, offload};
use crate::quota::BytesPermit;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// Its largest size in bytes.
    bytes: usize,
    /// Whether it begins a call.
    is_call: bool,
}

/// A caller's inference (SPEC.md section 3.7): an image of 20 MB is 27 MB in base64.
pub(super) const INFERENCE: Most = Most { bytes: 32 << 20, is_call: true };
/// A publisher's result: twice that, for many embeddings or an image.
pub(super) const RESULT: Most = Most { bytes: 64 << 20, is_call: false };
/// The body of all other routes.
pub(super) const SMALL: Most = Most { bytes: 2 << 20, is_call: false };

/// Longest silence within a body.
const SILENCE: Duration = Duration::from_secs(30);
/// A body that trickles is given up when it is behind this many bytes a second...
const SLOWEST: u64 = 1024;
/// ...and has had this long: a line of 56 kbit/s is seven times as fast, and one that stalls for a while catches up.
const HEAD_START: Duration = Duration::from_mins(1);
/// Of a body whose length was announced so much has to be there before memory is set aside for the rest.
const FIRST: usize = 64 << 10;
/// A body of unknown length is read in blocks of so many bytes, and put together at its end.
const BLOCK: usize = 1 << 20;
/// What is read past the limit before we answer: a client that is still writing does not read its 413, and loses it
/// when the connection is reset.
const OVERRUN: usize = 64 << 20;

/// What the body of `req` counts for: nothing on a path without a caller.
fn held(req: &HttpRequest, most: Most) -> BytesPermit {
    let Some(hub) = req.app_data::<HubData>() else { return BytesPermit::default() };
    let account = |caller: &Caller| {
        if most.is_call { hub.bytes_of(&caller.user) } else { hub.results_of(&caller.user) }
    };
    req.extensions().get::<Caller>().map(|caller| account(caller).empty()).unwrap_or_default()
}

/// Whose turn it is to have a large body worked on.
fn sender(req: &HttpRequest) -> UserId {
    req.extensions().get::<Caller>().map(|caller| caller.user.clone()).unwrap_or_default()
}

/// The whole body as its sender had it, and what it counts for.
pub(super) async fn read(
    req: &HttpRequest,
    payload: Payload,
    most: Most,
) -> Result<(Vec<u8>, BytesPermit), ApiError> {
    // Read first: a client that is still writing does not read what it is answered.
    let (blocks, mut held) = read_coded(req, payload, most).await?;
    still_valid(req)?;
    let size = blocks.iter().map(Vec::len).sum();
    let body = match <[Vec<u8>; 1]>::try_from(blocks) {
        Ok([body]) => body,
        Err(blocks) => offload(&sender(req), size, move || Ok(blocks.concat())).await?,
    };
    let codings = codings(req.headers())?;
    if codings.is_empty() {
        return Ok((body, held));
    }
    // A few bytes may become many: always on another thread.
    let decoded = move || {
        let decoded = decode(&body, &codings, most.bytes, &mut held)?;
        Ok((decoded, held))
    };
    offload(&sender(req), usize::MAX, decoded).await
}

/// An error where the token that began the request does not count any more: a body may take long.
fn still_valid(req: &HttpRequest) -> Result<(), ApiError> {
    let (hub, extensions) = (req.app_data::<HubData>(), req.extensions());
    let (Some(hub), Some(caller)) = (hub, extensions.get::<Caller>()) else { return Ok(()) };
    let is_valid = match extensions.get::<TokenCheck>() {
        Some(looked) => hub.tokens.is_still_valid(caller, *looked),
        None => hub.tokens.is_valid(&caller.token_id, clock::now()),
    };
    if is_valid { Ok(()) } else { Err(ApiError::revoked()) }
}

/// The whole body as it came: in one block if its length was announced, else in blocks of [`BLOCK`], since a vector that
/// grows is copied again and again. It counts as it comes: a word about its length costs nobody anything.
async fn read_coded(
    req: &HttpRequest,
    mut payload: Payload,
    most: Most,
) -> Result<(Vec<Vec<u8>>, BytesPermit), ApiError> {
    let limit = most.bytes;
    let mut held = held(req, most);
    let announced = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let too_large = || {
        let text = format!("the request's body is larger than {} MiB", limit >> 20);
        ApiError::new(ErrorKind::TooLarge, text)
    };
    let mut refusal = announced.filter(|length| *length > limit).map(|_| too_large());
    let room = announced.filter(|_| refusal.is_none());
    let mut blocks = vec![Vec::with_capacity(room.unwrap_or(0).min(FIRST))];
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
        if burst >= MAX_BURST {
            burst = 0;
            yield_now().await;
        }
        if size > limit {
            refusal.get_or_insert_with(too_large);
        }
        if refusal.is_none() {
            refusal = held.grow(read.len()).err();
        }
        if refusal.is_none() {
            match (blocks.last_mut(), room) {
                (Some(last), Some(all)) => {
                    if last.capacity() - last.len() < read.len() {
                        last.reserve_exact(all.saturating_sub(last.len()).max(read.len()));
                    }
                    last.extend_from_slice(&read);
                }
                (Some(last), None) if last.len() < BLOCK => last.extend_from_slice(&read),
                _ => blocks.push(read.to_vec()),
            }
        } else if size > limit + OVERRUN {
            break;
        } else {
            // What came counts no more.
            blocks = Vec::new();
            held = BytesPermit::default();
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
pub(super) async fn request(req: &HttpRequest, payload: Payload) -> Result<RequestBody, ApiError> {
    let (body, held) = read(req, payload, INFERENCE).await?;
    offload(&sender(req), body.len(), move || Ok(RequestBody::parse(body)?.counted(held))).await
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
    offload(&sender(req), size, read).await
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

    const ALL: usize = SMALL.bytes;

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
        let (took, slow) = listen(ALL, 1, Duration::from_secs(20)).await;
        assert_eq!(slow, Err(ErrorKind::SlowRequest));
        assert!(took < Duration::from_secs(90), "{took:?}");
        let (_, silent) = listen(ALL, 1024, Duration::from_secs(31)).await;
        assert_eq!(silent, Err(ErrorKind::SlowRequest));
        // 56 kbit/s, and 25 s of nothing now and then.
        assert_eq!(listen(ALL, 7_000, Duration::from_secs(1)).await.1, Ok(ALL));
        assert_eq!(listen(ALL, 7_000 * 25, Duration::from_secs(25)).await.1, Ok(ALL));
    }
}
