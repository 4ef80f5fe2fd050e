//! Reads the body of a request, with limits of size and time, and decompresses it.

use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::body_blocks::{BodyBlocks, join};
use super::decode::{coding, decode};
use crate::auth::TokenCheck;
use crate::clock;
use crate::dispatch::RequestBody;
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::{Caller, UserId};
use crate::offload::{MAX_BURST, offload};
use crate::quota::BytesPermit;
use crate::registry::Malformed;

/// The size limit of a body, and the quota that its bytes count against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    bytes: usize,
    /// Whether the body is a call's, and not a result's.
    is_call: bool,
}

impl Limit {
    pub(super) const fn bytes(self) -> usize {
        self.bytes
    }

    /// The error of a body above the limit.
    pub(super) fn too_large(self) -> ApiError {
        let text = format!("the request's body is larger than {} MiB", self.bytes >> 20);
        ApiError::new(ErrorKind::TooLarge, text)
    }
}

/// A caller's inference (SPEC.md section 3.7): an image of 20 MB is 27 MB in base64.
pub(super) const INFERENCE: Limit = Limit { bytes: 32 << 20, is_call: true };
/// A registrar's result: twice that, for many embeddings or an image.
pub(super) const RESULT: Limit = Limit { bytes: 64 << 20, is_call: false };
/// All other bodies.
pub(super) const SMALL: Limit = Limit { bytes: 2 << 20, is_call: false };

/// Longest time between two reads.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Lowest average rate in bytes a second, once [`RATE_GRACE`] is over: a line of 56 kbit/s is seven times as fast.
const MIN_RATE: u64 = 1024;
/// Time before [`MIN_RATE`] applies, in which a line that stalled can catch up.
const RATE_GRACE: Duration = Duration::from_mins(1);
/// Bytes that are read past the limit before the 413 is sent: a client that is still writing would lose the response when
/// the connection is reset.
const OVERRUN: usize = 64 << 20;

/// An empty permit of the quota that the body of `req` counts against; requests without a caller are not counted.
fn permit(req: &HttpRequest, limit: Limit) -> BytesPermit {
    let Some(hub) = req.app_data::<HubData>() else { return BytesPermit::default() };
    let quota = |caller: &Caller| {
        if limit.is_call { hub.bytes_of(&caller.user) } else { hub.results_of(&caller.user) }
    };
    req.extensions().get::<Caller>().map(|caller| quota(caller).empty()).unwrap_or_default()
}

/// The user whose turn [`offload`] work on the body takes.
fn sender(req: &HttpRequest) -> UserId {
    req.extensions().get::<Caller>().map(|caller| caller.user.clone()).unwrap_or_default()
}

/// Reads and decompresses the whole body. The permit counts its bytes.
pub(super) async fn read(
    req: &HttpRequest,
    payload: Payload,
    limit: Limit,
) -> Result<(Vec<u8>, BytesPermit), ApiError> {
    // The body is read before the request is refused: a client that is still writing does not read the response.
    let (blocks, permit) = read_encoded(req, payload, limit).await?;
    check_token(req)?;
    let size = blocks.iter().map(Vec::len).sum();
    let body = match <[Vec<u8>; 1]>::try_from(blocks) {
        Ok([body]) => body,
        Err(blocks) => offload(&sender(req), size, move || Ok(join(blocks, size))).await?,
    };
    let Some(coding) = coding(req.headers())? else { return Ok((body, permit)) };
    // A small body may decompress to a large one, so this always runs on another thread.
    let decoded = move || decode(&body, coding, limit.bytes, permit);
    offload(&sender(req), usize::MAX, decoded).await
}

/// Checks once more, after the body was read, that the request's token is valid.
fn check_token(req: &HttpRequest) -> Result<(), ApiError> {
    let (hub, extensions) = (req.app_data::<HubData>(), req.extensions());
    let (Some(hub), Some(caller)) = (hub, extensions.get::<Caller>()) else { return Ok(()) };
    let is_valid = match extensions.get::<TokenCheck>() {
        Some(looked) => hub.tokens.is_still_valid(caller, *looked),
        None => hub.tokens.is_valid(&caller.token_id, clock::now()),
    };
    if is_valid { Ok(()) } else { Err(ApiError::revoked()) }
}

/// Reads the whole body without decompressing it: in one block if its length was announced. Bytes are counted as they
/// arrive, not as they are announced.
async fn read_encoded(
    req: &HttpRequest,
    mut payload: Payload,
    limit: Limit,
) -> Result<(Vec<Vec<u8>>, BytesPermit), ApiError> {
    let permit = permit(req, limit);
    let announced = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut refusal = announced.filter(|length| *length > limit.bytes).map(|_| limit.too_large());
    let length = announced.filter(|_| refusal.is_none());
    let mut body = Some(BodyBlocks::new(length, permit));
    let mut size = 0;
    let mut burst = 0;
    let start = Instant::now();
    loop {
        let read = match timeout(READ_TIMEOUT, payload.next()).await {
            Err(_) => return Err(slow()),
            Ok(Some(Ok(_))) if is_too_slow(start.elapsed(), size) => return Err(slow()),
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
        if size > limit.bytes {
            refusal.get_or_insert_with(|| limit.too_large());
        }
        if refusal.is_none() {
            refusal = body.as_mut().and_then(|body| body.push(&read).err());
        }
        if refusal.is_some() {
            // The rest is read and dropped.
            body = None;
            if size > limit.bytes + OVERRUN {
                break;
            }
        }
    }
    match (refusal, body) {
        (None, Some(body)) => Ok(body.into_parts()),
        (refusal, _) => Err(refusal.unwrap_or_else(|| limit.too_large())),
    }
}

fn slow() -> ApiError {
    ApiError::new(ErrorKind::SlowRequest, "the request's body did not come in time")
}

/// Whether `size` bytes after `elapsed` are below [`MIN_RATE`].
fn is_too_slow(elapsed: Duration, size: usize) -> bool {
    let due = elapsed.saturating_sub(RATE_GRACE).as_secs().saturating_mul(MIN_RATE);
    u64::try_from(size).is_ok_and(|size| size < due)
}

/// Reads the body of an inference.
pub(super) async fn request(req: &HttpRequest, payload: Payload) -> Result<RequestBody, ApiError> {
    let (body, permit) = read(req, payload, INFERENCE).await?;
    offload(&sender(req), body.len(), move || Ok(RequestBody::parse(body)?.counted(permit))).await
}

/// Reads a body of one JSON type. The error names the wrong key and quotes no value.
pub(super) async fn json<T: DeserializeOwned + Send + 'static>(
    req: &HttpRequest,
    payload: Payload,
) -> Result<T, ApiError> {
    Ok(counted(req, payload).await?.0)
}

/// Like [`json`], with the permit that counts the body.
pub(super) async fn counted<T: DeserializeOwned + Send + 'static>(
    req: &HttpRequest,
    payload: Payload,
) -> Result<(T, BytesPermit), ApiError> {
    checked(req, payload, |_| Ok(())).await
}

/// Like [`counted`], then runs `check`, on another thread if the body is large. Its error becomes a 400.
pub(super) async fn checked<T: DeserializeOwned + Send + 'static>(
    req: &HttpRequest,
    payload: Payload,
    check: fn(&T) -> Result<(), Malformed>,
) -> Result<(T, BytesPermit), ApiError> {
    let (body, permit) = read(req, payload, SMALL).await?;
    Ok((parsed(&sender(req), body, check).await?, permit))
}

/// Parses and checks the body of a request of `user`, on another thread if it is large.
pub(super) async fn parsed<T: DeserializeOwned + Send + 'static>(
    user: &str,
    body: impl AsRef<[u8]> + Send + 'static,
    check: fn(&T) -> Result<(), Malformed>,
) -> Result<T, ApiError> {
    let size = body.as_ref().len();
    let parsed = move || {
        let value = parse(body.as_ref())?;
        check(&value)?;
        Ok(value)
    };
    offload(user, size, parsed).await
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // serde would also accept an array of the fields' values.
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

    /// Reads a body of `size` bytes of which `piece` bytes arrive every `pause`. Returns the time taken and the result.
    async fn read_slowly(size: usize, piece: usize, pause: Duration) -> (Duration, Result<usize, ErrorKind>) {
        let start = Instant::now();
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
        (start.elapsed(), read.map(|(body, _)| body.len()).map_err(|error| error.kind))
    }

    /// A25: a body that arrives too slowly is refused; a body over a slow line is read.
    #[actix_rt::test]
    async fn a_trickling_body_is_refused_and_one_over_a_slow_line_is_read() {
        tokio::time::pause();
        let (took, slow) = read_slowly(ALL, 1, Duration::from_secs(20)).await;
        assert_eq!(slow, Err(ErrorKind::SlowRequest));
        assert!(took < Duration::from_secs(90), "{took:?}");
        let (_, silent) = read_slowly(ALL, 1024, Duration::from_secs(31)).await;
        assert_eq!(silent, Err(ErrorKind::SlowRequest));
        // A line of 56 kbit/s, without pauses and with pauses of 25 s.
        assert_eq!(read_slowly(ALL, 7_000, Duration::from_secs(1)).await.1, Ok(ALL));
        assert_eq!(read_slowly(ALL, 7_000 * 25, Duration::from_secs(25)).await.1, Ok(ALL));
    }
}
