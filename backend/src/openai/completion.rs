//! Where a streamed answer ends, and what in it is an error. Pure.
//!
//! The end of the connection proves nothing, so only these marks do: `[DONE]`, a reason to finish for every choice that
//! was asked for, `response.completed` and its kin, `message_stop`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use wire::json::{each_element, member, unquote};
use wire::model_path::cut_model_paths;
use wire::result::DONE;
use wire::task::Endpoint;

use super::error_in_answer::ErrorInAnswer;

/// Maximum number of finished choices that are recorded, because a backend can send any number of indices.
const MAX_CHOICES: usize = 4096;

/// Built once: the search is made for every chunk.
static REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));

/// Events that servers send to keep a connection open.
const BEATS: [&str; 4] = ["ping", "keepalive", "keep-alive", "heartbeat"];

/// State of one stream.
#[derive(Debug)]
pub(super) struct Completion {
    endpoint: Endpoint,
    /// How many choices were asked for: indices `0..asked`.
    asked: u64,
    /// Indices of the choices that gave a reason to finish.
    finished: BTreeSet<u64>,
}

/// What an event is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamEvent {
    /// A chunk of the answer.
    Chunk(String),
    /// The last chunk.
    LastChunk(String),
    /// The end mark.
    End,
    /// The backend reports a failure.
    Error(ErrorInAnswer),
    /// Not JSON.
    Malformed,
    /// Left out, for its size.
    TooLarge,
}

impl Completion {
    /// That of the answer to `body`.
    pub(super) fn new(endpoint: Endpoint, body: &[u8]) -> Self {
        Self { endpoint, asked: asked(endpoint, body), finished: BTreeSet::new() }
    }

    /// Classifies one event; `None` for a keep-alive.
    pub(super) fn observe(&mut self, name: Option<&str>, data: Cow<'_, str>) -> Option<StreamEvent> {
        let text = data.trim();
        if text == DONE {
            return Some(StreamEvent::End);
        }
        if text.is_empty() || text == "null" {
            return None;
        }
        if name == Some("error") {
            return Some(StreamEvent::Error(ErrorInAnswer::named(text)));
        }
        let is_object = text.starts_with('{');
        if name.is_some_and(|name| BEATS.contains(&name))
            && (!is_object || self.endpoint != Endpoint::Messages)
        {
            return None;
        }
        if !is_object {
            return Some(StreamEvent::Malformed);
        }
        if let Some(error) = ErrorInAnswer::of(text, self.endpoint) {
            return Some(StreamEvent::Error(error));
        }
        let last = match self.endpoint {
            Endpoint::Responses => {
                is_type(name, text, &["response.completed", "response.incomplete", "response.failed"])
            }
            Endpoint::Messages => is_type(name, text, &["message_stop"]),
            _ => {
                self.finish(text);
                false
            }
        };
        let data = match (self.endpoint, name) {
            // Readers of these go by the type, which some servers give in the event's name alone.
            (Endpoint::Messages | Endpoint::Responses, Some(name)) => with_type(data, name),
            _ => data,
        };
        let data = match cut_model_paths(&data) {
            Cow::Owned(cut) => cut,
            Cow::Borrowed(_) => data.into_owned(),
        };
        Some(if last { StreamEvent::LastChunk(data) } else { StreamEvent::Chunk(data) })
    }

    /// Whether the answer is whole although no end mark came.
    pub(super) fn is_whole(&self) -> bool {
        self.finished.len() as u64 == self.asked
    }

    /// Notes which choices a chunk finishes.
    fn finish(&mut self, chunk: &str) {
        if !may_finish(chunk) {
            return;
        }
        let Some(choices) = member(chunk, "choices") else { return };
        // Only the ends are kept: a list may be as long as a body.
        let end = |choice| {
            let reason = member(choice, "finish_reason");
            if reason.is_some_and(|reason| reason.starts_with('"') && reason != "\"\"") {
                let index = member(choice, "index").and_then(|index| index.parse().ok()).unwrap_or(0);
                if index < self.asked && self.finished.len() < MAX_CHOICES {
                    self.finished.insert(index);
                }
            }
        };
        // What is no JSON ends nothing, and is found out elsewhere.
        let _ = each_element(choices, end);
    }
}

/// Whether a `finish_reason` may be there that is no null: most chunks are done after this search.
fn may_finish(chunk: &str) -> bool {
    REASON.find_iter(chunk.as_bytes()).any(|at| {
        let rest = chunk[at + REASON.needle().len()..].trim_ascii_start();
        !rest.strip_prefix(':').is_some_and(|value| value.trim_ascii_start().starts_with("null"))
    })
}

/// How many choices a request asks for: `n`, where it is a positive number, for each prompt of a list of them. Of a body as
/// large as a request may be, nothing is kept but the places of these.
fn asked(endpoint: Endpoint, body: &[u8]) -> u64 {
    let prompts = endpoint == Endpoint::Completions;
    // Both keys are rare: a search before the scan.
    if !prompts && memmem::find(body, b"\"n\"").is_none() {
        return 1;
    }
    let Ok(body) = std::str::from_utf8(body) else { return 1 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole positive number of choices"
    )]
    let n = member(body, "n").and_then(|n| n.parse::<f64>().ok()).map_or(1, |n| n as u64).max(1);
    let prompt = if prompts { member(body, "prompt") } else { None };
    n.saturating_mul(prompt.map_or(1, count_prompts))
}

/// Prompts in `prompt`: a list of texts or of token lists is many, a text or one list of tokens is one.
fn count_prompts(prompt: &str) -> u64 {
    let (mut count, mut many) = (0, false);
    let counted = each_element(prompt, |element| {
        many |= count == 0 && element.starts_with(['"', '[']);
        count += 1;
    });
    if counted.is_ok() && many { count } else { 1 }
}

fn is_type(name: Option<&str>, data: &str, types: &[&str]) -> bool {
    // Spares the parse of most events: deltas do not contain the text of the type.
    let found = types.iter().any(|kind| memmem::find(data.as_bytes(), kind.as_bytes()).is_some());
    if !found && !name.is_some_and(|name| types.contains(&name)) {
        return false;
    }
    let kind = member(data, "type").and_then(unquote);
    kind.as_deref().or(name).is_some_and(|kind| types.contains(&kind))
}

/// `data` with the `type` that its event's name says, if it has none.
fn with_type<'a>(data: Cow<'a, str>, name: &str) -> Cow<'a, str> {
    const KEY: &str = "\"type\"";
    // In front, as servers put it: no parse for nearly all.
    let rest = data.trim_start().strip_prefix('{').map(str::trim_start).unwrap_or_default();
    if rest.starts_with(KEY) || member(&data, "type").is_some() {
        return data;
    }
    let comma = if rest.starts_with('}') { "" } else { "," };
    Cow::Owned(format!("{{{KEY}:{}{comma}{rest}", wire::json::quote(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(endpoint: Endpoint, body: &str) -> Completion {
        Completion::new(endpoint, body.as_bytes())
    }

    fn is_whole(body: &'static str, chunks: &[&str]) -> bool {
        let mut completion = completion(Endpoint::ChatCompletions, body);
        for chunk in chunks {
            assert!(
                matches!(completion.observe(None, (*chunk).into()), Some(StreamEvent::Chunk(_))),
                "{chunk}"
            );
        }
        completion.is_whole()
    }

    const END_0: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const END_1: &str = r#"{"choices":[{"finish_reason": "length" ,"index":1}]}"#;

    #[test]
    fn every_choice_that_was_asked_for_has_a_reason() {
        for one in [r#"{"n":0}"#, "{}", r#"{"n":null}"#, r#"{"n":1}"#, r#"{"n":1.0}"#] {
            assert!(is_whole(one, &[END_0]), "{one}");
            assert!(!is_whole(one, &[END_1]), "{one}");
        }
        assert!(!is_whole(r#"{"n":2}"#, &[END_0, END_0]), "a choice that ends twice is one choice");
        assert!(is_whole(r#"{"n":2}"#, &[END_1, END_0]));
        let both =
            r#"{"choices":[{"index":1,"finish_reason":"stop"},{"index":0,"finish_reason":"tool_calls"}]}"#;
        assert!(is_whole(r#"{"n":2}"#, &[both]));
        let mut completion = completion(Endpoint::ChatCompletions, r#"{"n":1e9}"#);
        for index in 0..2 * MAX_CHOICES {
            let end = format!(r#"{{"choices":[{{"index":{index},"finish_reason":"stop"}}]}}"#);
            completion.observe(None, end.into());
        }
        assert_eq!(completion.finished.len(), MAX_CHOICES, "what is remembered has an end");
    }

    #[test]
    fn an_empty_reason_a_null_and_a_reason_in_a_text_are_none() {
        for chunk in [
            r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":""}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"finish_reason"},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"\"finish_reason\":\"stop\""},"finish_reason":null}]}"#,
            r#"{"choices":[],"finish_reason":"stop"}"#,
        ] {
            assert!(!is_whole("{}", &[chunk]), "{chunk}");
        }
        let late = r#"{"choices":[{"delta":{"content":"finish_reason"},"finish_reason":"stop"}]}"#;
        assert!(is_whole("{}", &[late]), "a text of that name hides no reason");
    }

    #[test]
    fn each_prompt_of_a_list_is_a_choice() {
        for (body, asked) in [
            (r#"{"prompt":["a","b","c"],"n":2}"#, 6),
            (r#"{"prompt":[[1,2],[3]],"best_of":4}"#, 2),
            (r#"{"prompt":[1,2,3]}"#, 1),
            (r#"{"prompt":"a"}"#, 1),
            (r#"{"prompt":[]}"#, 1),
            (r#"{"prompt":[1,"b"]}"#, 1),
            (r#"{"prompt":{"a":[]},"n":3}"#, 3),
            (r#"{"prompt":["a","b"}"#, 1),
        ] {
            assert_eq!(completion(Endpoint::Completions, body).asked, asked, "{body}");
        }
    }

    #[test]
    fn signs_of_life_are_no_pieces() {
        let mut chat = completion(Endpoint::ChatCompletions, "{}");
        for (name, data) in [
            (None, ""),
            (None, " null "),
            (Some("ping"), "still here"),
            (Some("ping"), "{}"),
            (Some("keepalive"), "1"),
        ] {
            assert_eq!(chat.observe(name, data.into()), None, "{name:?} {data}");
        }
        assert_eq!(chat.observe(None, "hello".into()), Some(StreamEvent::Malformed));
        assert_eq!(chat.observe(Some("message"), "hello".into()), Some(StreamEvent::Malformed));
        let ping = r#"{"type":"ping"}"#;
        let mut messages = completion(Endpoint::Messages, "{}");
        assert_eq!(messages.observe(Some("ping"), ping.into()), Some(StreamEvent::Chunk(ping.to_owned())));
    }

    #[test]
    fn an_event_without_a_type_has_the_one_of_its_name() {
        let mut messages = completion(Endpoint::Messages, "{}");
        let piece = messages.observe(Some("content_block_stop"), r#"{ "index":0}"#.into());
        assert_eq!(piece, Some(StreamEvent::Chunk(r#"{"type":"content_block_stop","index":0}"#.to_owned())));
        let last = messages.observe(Some("message_stop"), "{}".into());
        assert_eq!(last, Some(StreamEvent::LastChunk(r#"{"type":"message_stop"}"#.to_owned())));
        let kept = r#"{"index":0,"type":"content_block_stop"}"#;
        assert_eq!(messages.observe(Some("other"), kept.into()), Some(StreamEvent::Chunk(kept.to_owned())));
    }
}
