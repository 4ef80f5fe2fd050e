//! Which events of a stream have content. They are counted where a backend reports no usage.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::task::Endpoint;

/// Keys whose strings are content, of chat and text completions and of the Messages API.
const CONTENT: [&[u8]; 8] = [
    b"\"content",
    b"\"text",
    b"\"reasoning_content",
    b"\"reasoning",
    b"\"arguments",
    b"\"refusal",
    b"\"thinking",
    b"\"partial_json",
];

/// Built once: the searches are made for every chunk.
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\":"));
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\":\""));

/// Whether `event`, in compact JSON, has a part of the answer's text, reasoning or tool arguments that is not empty. It is
/// searched, not parsed: each token of each stream is such an event.
pub fn has_content(endpoint: Endpoint, event: &[u8]) -> bool {
    match endpoint {
        // The other events of the Responses API repeat what the deltas said.
        Endpoint::Responses => {
            let mut ends = DELTA.find_iter(event).map(|at| at + DELTA.needle().len());
            ends.any(|end| event.get(end).is_some_and(|first| *first != b'"'))
        }
        Endpoint::Messages => has_string(event),
        _ => CHOICES.find(event).is_some_and(|at| has_string(&event[at..])),
    }
}

/// Whether one of the keys of [`CONTENT`] has a string that is not empty. Within a string the quotes of such a key are escaped.
fn has_string(event: &[u8]) -> bool {
    memchr::memchr_iter(b':', event).any(|at| {
        matches!(event.get(at + 1..at + 3), Some([b'"', first]) if *first != b'"')
            && event[..at]
                .strip_suffix(b"\"")
                .is_some_and(|before| CONTENT.iter().any(|key| before.ends_with(key)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_with_content_are_told_from_the_others() {
        use Endpoint::{ChatCompletions as Chat, Completions, Messages, Responses};
        let chat =
            |delta: &str| format!(r#"{{"id":"c","model":"m","choices":[{{"index":0,"delta":{delta}}}]}}"#);
        for (endpoint, event) in [
            (Chat, chat(r#"{"content":"a"}"#)),
            (Chat, chat(r#"{"role":"assistant","content":"\""}"#)),
            (Chat, chat(r#"{"content":null,"reasoning_content":"a"}"#)),
            (Chat, chat(r#"{"reasoning":"a"}"#)),
            (Chat, chat(r#"{"refusal":"a"}"#)),
            (Chat, chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\""}}]}"#)),
            (Chat, chat(r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}"#)),
            (Completions, r#"{"choices":[{"text":"a","index":0}]}"#.into()),
            (Messages, r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#.into()),
            (
                Messages,
                r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#
                    .into(),
            ),
            (Responses, r#"{"type":"response.output_text.delta","delta":"a","logprobs":[]}"#.into()),
        ] {
            assert!(has_content(endpoint, event.as_bytes()), "{event}");
        }
        for (endpoint, event) in [
            (Chat, chat(r#"{"role":"assistant","content":""}"#)),
            (Chat, chat("{}")),
            (Chat, chat(r#"{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}"#)),
            (Chat, r#"{"choices":[],"usage":{"prompt_tokens":3},"a":"\"content\":\"x\""}"#.into()),
            (Completions, r#"{"choices":[{"text":"","index":0,"finish_reason":"stop"}]}"#.into()),
            (
                Messages,
                r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":3}}}"#.into(),
            ),
            (Messages, r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#.into()),
            (Messages, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#.into()),
            (Responses, r#"{"type":"response.output_text.done","text":"a"}"#.into()),
            (
                Responses,
                r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"a"}]}]}}"#.into(),
            ),
        ] {
            assert!(!has_content(endpoint, event.as_bytes()), "{event}");
        }
    }
}
