//! A whole response, parsed once when it arrives; a large one on another thread.

use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;
use wire::json::member;
use wire::openai::{Usage, answer_usage};
use wire::task::Endpoint;

use super::encode::{self, EventFormat};
use super::piece::StartedResponse;
use super::tally::Tally;
use crate::error::ApiError;
use crate::offload::offload;

/// Longest id by which a caller can continue a response, in bytes. Those of OpenAI have 53 letters.
const LONGEST_ID: usize = 512;

/// Largest error body that is passed on, in bytes, as in registrars.
const LARGEST_ERROR: usize = 256 << 10;

/// The body of a whole response: compact JSON.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    json: Box<RawValue>,
    usage: Option<Usage>,
    /// The id of a response of the responses API, as JSON.
    id: Option<Box<str>>,
}

impl ResponseBody {
    /// Reads the usage and the id from `json`, which may be large. Replaces an error larger than [`LARGEST_ERROR`] by a short one.
    pub(super) fn read(status: u16, json: Box<RawValue>) -> Self {
        let usage = answer_usage(json.get());
        if status < 400 {
            let id = response_id(json.get()).map(Box::from);
            return Self { json, usage, id };
        }
        if json.get().len() <= LARGEST_ERROR {
            return Self { json, usage, id: None };
        }
        let short = ApiError::backend(status, "the backend failed").openai();
        Self { json: RawValue::from_string(short).unwrap_or_default(), usage, id: None }
    }

    pub(crate) fn get(&self) -> &str {
        self.json.get()
    }

    /// The token usage that the body reports.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The id by which a caller can continue the response, as JSON.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The body with its text changed; unchanged if the new text is not JSON.
    pub(super) fn reworded(self, change: impl FnOnce(&str) -> String) -> Self {
        match RawValue::from_string(change(self.json.get())) {
            Ok(json) => Self { json, ..self },
            Err(_) => self,
        }
    }

    /// The text, without a copy.
    pub(crate) fn into_text(self) -> String {
        Box::<str>::from(self.json).into()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.into_text().into()
    }
}

/// The id of a whole response of the responses API, which has an `output`.
fn response_id(answer: &str) -> Option<&str> {
    memmem::find(answer.as_bytes(), br#""output""#)?;
    member(answer, "id").filter(|id| id.len() <= LONGEST_ID)
}

/// Turns a whole success into the events of a stream, and counts their bytes instead.
pub(super) async fn expand_to_events(
    response: StartedResponse,
    endpoint: Endpoint,
    user: &str,
) -> Result<StartedResponse, ApiError> {
    let StartedResponse::Whole { status: 0..=399, body, mut held, .. } = response else {
        return Ok(response);
    };
    let size = body.get().len();
    let work = move || {
        let format = EventFormat { endpoint, drops_usage: false };
        let mut tally = Tally::default();
        let mut bytes = Vec::with_capacity(body.get().len() + 64);
        let written = backend::stream_events(endpoint, body.get()).and_then(|events| {
            // Each event is freed when it is written: together they may be some times as large as the body.
            events.into_iter().try_for_each(|event| {
                tally.content += encode::write_counted(format, &event, &mut bytes)?.content;
                Ok(())
            })
        });
        tally.usage = body.usage();
        match written {
            Ok(()) => {
                held.grow(bytes.len().saturating_sub(size))?;
                Ok(StartedResponse::Expanded { bytes: bytes.into(), tally, held })
            }
            Err(_) => Err(ApiError::bad_gateway("the publisher's answer is not a completion")),
        }
    };
    offload(user, size, work).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::quota::{ByteQuota, Quota};

    /// A27: it is read once, with the rest of a large answer away from the serving thread, and kept as a key.
    #[test]
    fn only_a_short_id_of_a_response_is_kept() {
        let id = |status, answer: &str| {
            ResponseBody::read(status, RawValue::from_string(answer.to_owned()).unwrap())
                .id()
                .map(str::to_owned)
        };
        let of = |id: &str| format!(r#"{{"output":[{{"id":"x"}}],"id":{id}}}"#);
        let (short, long) = (format!("\"{}\"", "r".repeat(500)), format!("\"{}\"", "r".repeat(600)));
        assert_eq!(id(200, &of(&short)), Some(short.clone()));
        assert_eq!(id(200, &of(&long)), None);
        assert_eq!(id(400, &of(&short)), None);
        assert_eq!(id(200, r#"{"id":"chatcmpl-1","choices":[]}"#), None);
        assert_eq!(id(200, r#"{"output":[{"id":"x"}]}"#), None);
    }

    /// A27: all events that are made of a whole response count, and exceeding the quota is an error.
    #[actix_rt::test]
    async fn an_expanded_response_counts_all_bytes_of_its_events() {
        let text = "x".repeat(100 << 10);
        let answer = format!(r#"{{"output":[{{"content":[{{"type":"output_text","text":"{text}"}}]}}]}}"#);
        for (most, has_room) in [(1 << 20, true), (300 << 10, false)] {
            let quota = Arc::new(Quota::default());
            let held = ByteQuota::new(&quota, "alice", most, "answers unread").take(answer.len()).unwrap();
            let body = ResponseBody::read(200, RawValue::from_string(answer.clone()).unwrap());
            let whole = StartedResponse::Whole { status: 200, body, held, retry_after: None };
            match expand_to_events(whole, Endpoint::Responses, "alice").await {
                Ok(StartedResponse::Expanded { bytes, held, .. }) => {
                    assert!(has_room && bytes.len() > 5 * text.len());
                    assert_eq!(format!("{held:?}"), format!("BytesPermit({})", bytes.len()));
                }
                Ok(_) => panic!("not expand_to_events"),
                Err(error) => assert!(!has_room && error.kind == crate::error::ErrorKind::Busy, "{error:?}"),
            }
        }
    }
}
