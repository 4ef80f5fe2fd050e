//! What stands in a chunk or a completion.

use serde_json::Value;

use crate::{client, exit::Failure};

/// The part of a chunk or a completion that a person reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// The answer's text.
    pub(super) text: Option<String>,
    /// What the model thinks first; vLLM, llama.cpp and others have their own key for it.
    pub(super) thought: Option<String>,
    /// The tokens of the whole answer, once the backend has counted them.
    pub(super) counted: Option<u64>,
}

impl Piece {
    /// From the data of one event.
    pub(super) fn of_chunk(data: &str) -> Result<Self, Failure> {
        let Ok(value) = serde_json::from_str::<Value>(data) else {
            return Err(Failure::failed("the answer broke off: a part of it is not JSON"));
        };
        Self::read(&value, "delta", data.as_bytes())
    }

    /// From a whole `chat.completion`.
    pub(super) fn of_completion(bytes: &[u8]) -> Result<Self, Failure> {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return Err(Failure::failed("the answer is not JSON, or broke off"));
        };
        Self::read(&value, "message", bytes)
    }

    fn read(value: &Value, part: &str, raw: &[u8]) -> Result<Self, Failure> {
        if value.get("error").is_some_and(|error| !error.is_null()) {
            let reason = client::reason(raw).unwrap_or_default();
            return Err(Failure::failed(format!("the answer broke off: {reason}")));
        }
        let message = &value["choices"][0][part];
        let text = |key: &str| message[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self {
            text: text("content"),
            thought: text("reasoning_content").or_else(|| text("reasoning")),
            counted: value["usage"]["completion_tokens"].as_u64(),
        })
    }
}
