//! `POST /_provider-task/{taskId}/result` (SPEC.md section 3.5).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::{self, JsonError};

/// The data that ends a stream.
pub const DONE: &str = "[DONE]";

/// The result of a task, or one chunk of it: the body of one POST.
#[derive(Debug, Clone)]
pub enum TaskResult {
    /// The backend's status and JSON body, or the success of a wake.
    Answer {
        /// HTTP status, 100 to 599.
        status: u16,
        /// Compact JSON.
        body: Box<RawValue>,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// One chunk of a streamed answer.
    Chunk(Chunk),
    /// The task failed.
    Error(TaskError),
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// One sentence for the caller, without addresses and keys.
    pub message: String,
    /// The backend's `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

/// One chunk of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// One `chat.completion.chunk` as JSON text, or [`DONE`].
    pub data: String,
    /// Whether it is the last chunk.
    pub done: bool,
    /// Position in the stream, from 0 (feature `chunk-seq`).
    pub seq: Option<u64>,
}

/// Why a body is not a result.
#[derive(Debug, thiserror::Error)]
pub enum InvalidResult {
    /// Not JSON, or a key of another type.
    #[error("malformed result (line {line}, column {column})", line = .0.line(), column = .0.column())]
    Json(#[source] serde_json::Error),
    /// Rejected JSON in a body or in a chunk.
    #[error("malformed result: {0}")]
    Inner(#[from] JsonError),
    /// A status outside 200 to 599.
    #[error("a result's status must be 200 to 599")]
    Status,
    /// None of the three forms.
    #[error("a result is one of status and body, chunk, error")]
    Form,
}

#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    chunk: Option<ChunkFrame<'a>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    /// Ignored if it is no number of seconds.
    #[serde(default, borrow, rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    retry_after: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct ChunkFrame<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl TaskResult {
    /// Creates an answer with the compacted body `json`, which must be an object if `status` is below 400.
    pub fn answer(status: u16, json: &str) -> Result<Self, JsonError> {
        let json = json::compact(json)?;
        let json = if status < 400 { object(json)? } else { json };
        Ok(Self::Answer { status, body: raw(json)?, retry_after: None })
    }

    /// Creates an error.
    pub fn error(message: impl Into<String>) -> Self {
        Self::Error(TaskError { message: message.into(), retry_after: None })
    }

    /// Sets the backend's `Retry-After`, in seconds. A chunk has none.
    #[must_use]
    pub fn retry_after(mut self, seconds: Option<u32>) -> Self {
        match &mut self {
            Self::Answer { retry_after, .. } | Self::Error(TaskError { retry_after, .. }) => {
                *retry_after = seconds;
            }
            Self::Chunk(_) => (),
        }
        self
    }

    /// Creates the success of a wake that took `millis`, polling included.
    pub fn awake(millis: u64) -> Self {
        // The JSON is valid, so the fallback is unreachable.
        Self::answer(200, &format!(r#"{{"ok":true,"ms":{millis}}}"#))
            .unwrap_or_else(|error| Self::error(error.to_string()))
    }

    /// Creates a chunk that is not the last.
    pub fn chunk(data: impl Into<String>, seq: Option<u64>) -> Self {
        Self::Chunk(Chunk { data: data.into(), done: false, seq })
    }

    /// Creates the end mark of a stream.
    pub fn done(seq: Option<u64>) -> Self {
        Self::Chunk(Chunk { data: DONE.into(), done: true, seq })
    }

    /// Whether the result ends its task: any except a chunk that is not the last.
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Self::Chunk(chunk) if !chunk.done)
    }

    /// Formats the body of the POST.
    pub fn to_json(&self) -> String {
        let seconds = match self {
            Self::Answer { retry_after, .. } | Self::Error(TaskError { retry_after, .. }) => *retry_after,
            Self::Chunk(_) => None,
        };
        let seconds = seconds.and_then(|seconds| RawValue::from_string(seconds.to_string()).ok());
        let mut frame =
            Frame { status: None, body: None, chunk: None, error: None, retry_after: seconds.as_deref() };
        match self {
            Self::Answer { status, body, .. } => {
                frame.status = Some(*status);
                frame.body = Some(body);
            }
            Self::Chunk(Chunk { data, done, seq }) => {
                let done = done.then_some(true);
                frame.chunk = Some(ChunkFrame { data: Cow::Borrowed(data), done, seq: *seq });
            }
            Self::Error(error) => frame.error = Some(Cow::Borrowed(&error.message)),
        }
        // Strings, numbers and valid JSON always serialise, so the fallback is unreachable.
        serde_json::to_string(&frame).unwrap_or_else(|_| r#"{"error":"unserialisable result"}"#.to_owned())
    }

    /// Parses the body of a POST. JSON in it is checked, depth included, and compacted. The data of a chunk is an object or the end
    /// mark.
    pub fn parse(text: &str) -> Result<Self, InvalidResult> {
        let frame: Frame<'_> = serde_json::from_str(text).map_err(InvalidResult::Json)?;
        let seconds = frame.retry_after.and_then(|value| value.get().parse().ok());
        let result = match frame {
            Frame { error: Some(message), .. } => Ok(Self::error(message)),
            Frame { chunk: Some(chunk), .. } => {
                let mark = chunk.data == DONE || (chunk.data.is_empty() && chunk.done == Some(true));
                let data = if mark { DONE.to_owned() } else { object(json::compact(&chunk.data)?)? };
                Ok(Self::Chunk(Chunk { data, done: mark || chunk.done == Some(true), seq: chunk.seq }))
            }
            Frame { status: Some(status), body: Some(body), .. } => {
                if !(200..=599).contains(&status) {
                    return Err(InvalidResult::Status);
                }
                Ok(Self::answer(status, body.get())?)
            }
            _ => Err(InvalidResult::Form),
        };
        result.map(|result| result.retry_after(seconds))
    }
}

/// Checks that compact JSON is an object.
fn object(compact: String) -> Result<String, JsonError> {
    if compact.starts_with('{') { Ok(compact) } else { Err(JsonError::NotAnObject) }
}

fn raw(compact: String) -> Result<Box<RawValue>, JsonError> {
    RawValue::from_string(compact).map_err(|_| JsonError::Syntax(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_written_as_in_the_specification() {
        let forms = [
            (TaskResult::answer(200, "{ \"a\": 1 }").unwrap(), r#"{"status":200,"body":{"a":1}}"#),
            (TaskResult::chunk("{}", None), r#"{"chunk":{"data":"{}"}}"#),
            (TaskResult::chunk("{}", Some(0)), r#"{"chunk":{"data":"{}","seq":0}}"#),
            (TaskResult::done(None), r#"{"chunk":{"data":"[DONE]","done":true}}"#),
            (TaskResult::error("no"), r#"{"error":"no"}"#),
            (TaskResult::error("no").retry_after(Some(7)), r#"{"error":"no","retryAfter":7}"#),
            (
                TaskResult::answer(429, "{}").unwrap().retry_after(Some(0)),
                r#"{"status":429,"body":{},"retryAfter":0}"#,
            ),
            (TaskResult::awake(1234), r#"{"status":200,"body":{"ok":true,"ms":1234}}"#),
        ];
        for (result, text) in forms {
            assert_eq!(result.to_json(), text);
            assert_eq!(TaskResult::parse(text).unwrap().to_json(), text);
        }
    }

    /// F89: the result is still accepted.
    #[test]
    fn a_retry_after_that_is_no_number_is_ignored() {
        for odd in ["null", "-1", "1.5", "\"3\"", "[]", "99999999999"] {
            let text = format!(r#"{{"error":"no","retryAfter":{odd}}}"#);
            assert_eq!(TaskResult::parse(&text).unwrap().to_json(), r#"{"error":"no"}"#, "{odd}");
        }
    }

    #[test]
    fn invalid_json_other_values_and_deep_json_are_rejected() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        for data in ["hi\\n\\nevent: done\\ndata: {}", "", deep.as_str()] {
            assert!(TaskResult::parse(&format!(r#"{{"chunk":{{"data":"{data}"}}}}"#)).is_err());
        }
        assert!(TaskResult::parse(r#"{"status":999,"body":{}}"#).is_err());
        assert!(TaskResult::parse(&format!(r#"{{"status":200,"body":{deep}}}"#)).is_err());
        for other in ["null", "5", "-0.1e9", "true", "[]", "[{}]", r#"\"{}\""#, " [ ] "] {
            assert!(TaskResult::parse(&format!(r#"{{"chunk":{{"data":"{other}"}}}}"#)).is_err(), "{other}");
            let last = format!(r#"{{"chunk":{{"data":"{other}","done":true}}}}"#);
            assert!(TaskResult::parse(&last).is_err(), "{other}");
        }
        for other in ["null", "5", "[]", "[{}]", r#""{}""#, "false"] {
            assert!(TaskResult::parse(&format!(r#"{{"status":200,"body":{other}}}"#)).is_err(), "{other}");
            assert!(TaskResult::answer(207, other).is_err(), "{other}");
            assert!(TaskResult::answer(422, other).is_ok(), "an error can have any body: {other}");
        }
        assert!(TaskResult::parse("{}").is_err());
        assert!(TaskResult::parse(r#"{"status":200}"#).is_err());
    }
}
