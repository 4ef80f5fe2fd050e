//! Answers of real servers. Those of llama.cpp are recorded; the others follow the servers' documentation.

use std::collections::BTreeSet;

use serde_json::Value;
use wire::sse::Decoder;

use crate::plan::{Dialect, Kind};

/// One recorded answer.
pub struct Recorded {
    pub name: &'static str,
    pub dialect: Dialect,
    pub streaming: bool,
    /// Number of choices in the request (`n`).
    pub choices: u64,
    pub bytes: &'static [u8],
}

macro_rules! recorded {
    ($name:literal, $dialect:ident, $streaming:literal, $choices:literal) => {
        Recorded {
            name: $name,
            dialect: Dialect::$dialect,
            streaming: $streaming,
            choices: $choices,
            bytes: include_bytes!(concat!("answers/", $name)),
        }
    };
}

pub static ANSWERS: [Recorded; 11] = [
    recorded!("llamacpp.chat.sse", Chat, true, 1),
    recorded!("llamacpp.chat.json", Chat, false, 1),
    recorded!("llamacpp.completions.sse", Completions, true, 1),
    recorded!("vllm.two.chat.sse", Chat, true, 2),
    recorded!("vllm.tools.chat.sse", Chat, true, 1),
    recorded!("ollama.chat.sse", Chat, true, 1),
    recorded!("lmstudio.chat.sse", Chat, true, 1),
    recorded!("lmstudio.chat.json", Chat, false, 1),
    recorded!("lmstudio.responses.sse", Responses, true, 1),
    recorded!("anthropic.messages.sse", Messages, true, 1),
    recorded!("anthropic.messages.json", Messages, false, 1),
];

impl Recorded {
    /// Number of bytes that prove the answer whole: up to the end mark, or to the last finish reason of a choice.
    pub fn proof(&self) -> usize {
        if !self.streaming {
            return self.bytes.len();
        }
        let (mut decoder, mut ended) = (Decoder::new(), BTreeSet::new());
        for (at, byte) in self.bytes.iter().enumerate() {
            decoder.feed(&[*byte]);
            let Some(event) = decoder.next_event() else { continue };
            let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
            let is_last = ["message_stop", "response.completed"].iter().any(|last| data["type"] == *last);
            let ends = data["choices"].as_array().into_iter().flatten();
            let ends =
                ends.filter(|choice| choice["finish_reason"].as_str().is_some_and(|why| !why.is_empty()));
            ended.extend(ends.filter_map(|choice| choice["index"].as_u64()));
            if is_last || event.data == "[DONE]" || ended.len() as u64 == self.choices {
                return at + 1;
            }
        }
        panic!("nothing in {} proves the answer whole", self.name)
    }
}

/// The kinds of backends that can give this answer, and the APIs in which a caller can request it.
pub fn callers(answer: &Recorded) -> Vec<(Kind, Dialect)> {
    let mut callers = vec![(Kind::Full, answer.dialect)];
    match answer.dialect {
        // A translated request has one choice.
        Dialect::Chat if answer.choices == 1 => {
            callers
                .extend([Dialect::Chat, Dialect::Responses, Dialect::Messages].map(|d| (Kind::ChatOnly, d)));
        }
        Dialect::Messages => {
            callers
                .extend([Dialect::Chat, Dialect::Responses, Dialect::Messages].map(|d| (Kind::Anthropic, d)));
        }
        _ => (),
    }
    callers
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
