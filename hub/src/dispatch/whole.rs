//! A whole answer, looked at once when it comes: on another thread where it is large.

use bytes::Bytes;
use serde_json::value::RawValue;
use wire::openai::{Usage, usage};
use wire::task::Endpoint;

use super::encode;
use super::run::StartedResponse;
use crate::error::ApiError;
use crate::heavy::heavy;

/// Largest error that is passed on, as registrars have it too: it is read for its words.
const LARGEST_ERROR: usize = 256 << 10;

/// The body of a whole answer: compact JSON.
#[derive(Debug)]
pub struct Body {
    json: Box<RawValue>,
    usage: Option<Usage>,
}

impl Body {
    /// Looks at `json`. An error that is too large to be one becomes a short one.
    pub fn read(status: u16, json: Box<RawValue>) -> Self {
        let usage = usage(json.get());
        if status < 400 || json.get().len() <= LARGEST_ERROR {
            return Self { json, usage };
        }
        let short = ApiError::backend(status, "the backend failed").openai();
        // What we write ourselves is JSON.
        Self { json: RawValue::from_string(short).unwrap_or_default(), usage }
    }

    /// The text.
    pub fn get(&self) -> &str {
        self.json.get()
    }

    /// What it says that it cost.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The same in other words, which are JSON too.
    pub(super) fn reworded(self, change: impl FnOnce(&str) -> String) -> Self {
        match RawValue::from_string(change(self.json.get())) {
            Ok(json) => Self { json, ..self },
            Err(_) => self,
        }
    }

    /// Its text, without a copy.
    pub fn into_text(self) -> String {
        Box::<str>::from(self.json).into()
    }

    /// The same as bytes.
    pub(super) fn into_bytes(self) -> Bytes {
        self.into_text().into()
    }
}

/// A whole success where a stream was promised, as the events that say the same. They are counted as the answer was.
pub(super) async fn unfolded(
    reply: StartedResponse,
    endpoint: Endpoint,
    user: &str,
) -> Result<StartedResponse, ApiError> {
    let StartedResponse::Whole { status: 0..=399, body, mut held, .. } = reply else { return Ok(reply) };
    let size = body.get().len();
    let work = move || {
        let usage = body.usage();
        let mut bytes = Vec::with_capacity(body.get().len() + 64);
        let written = backend::stream_events(endpoint, body.get()).and_then(|events| {
            // Each goes as it is written: they may be some times as large as the answer.
            events.into_iter().try_for_each(|event| encode::chunk(endpoint, &event, &mut bytes))
        });
        match written {
            Ok(()) => {
                held.grow(bytes.len().saturating_sub(size))?;
                Ok(StartedResponse::Unfolded { bytes: bytes.into(), usage, held })
            }
            Err(_) => Err(ApiError::bad_gateway("the publisher's answer is not a completion")),
        }
    };
    heavy(user, size, work).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::quota::{ByteQuota, Quota};

    /// A27: an answer's events count for all their bytes, and an answer without room for them is an error.
    #[actix_rt::test]
    async fn what_an_answer_is_unfolded_to_is_counted() {
        let text = "x".repeat(100 << 10);
        let answer = format!(r#"{{"output":[{{"content":[{{"type":"output_text","text":"{text}"}}]}}]}}"#);
        for (most, has_room) in [(1 << 20, true), (300 << 10, false)] {
            let seats = Arc::new(Quota::default());
            let held = ByteQuota::new(&seats, "alice", most, "answers unread").take(answer.len()).unwrap();
            let body = Body::read(200, RawValue::from_string(answer.clone()).unwrap());
            let whole = StartedResponse::Whole { status: 200, body, held, retry_after: None };
            match unfolded(whole, Endpoint::Responses, "alice").await {
                Ok(StartedResponse::Unfolded { bytes, held, .. }) => {
                    assert!(has_room && bytes.len() > 5 * text.len());
                    assert_eq!(format!("{held:?}"), format!("BytesPermit({})", bytes.len()));
                }
                Ok(_) => panic!("not unfolded"),
                Err(error) => assert!(!has_room && error.kind == crate::error::ErrorKind::Busy, "{error:?}"),
            }
        }
    }
}
