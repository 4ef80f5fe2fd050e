//! What a chat completion, or one chunk of it, says. Strings are kept escaped: the halves of a pair of surrogates that
//! two chunks share stay what they are, and together they are whole.

use wire::openai::MAX_TOKENS;

use super::json::{Json, escape, unescape};
use super::{AnswerError, checked_answer};

/// Where servers put what a model thinks; the first that is there counts, some send both.
pub(super) const REASONING_MEMBERS: [&str; 2] = ["reasoning_content", "reasoning"];

/// A part of an answer. All texts are escaped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delta {
    /// Reasoning, and the member it came in.
    Reasoning(&'static str, String),
    Text(String),
    Refusal(String),
    Call(CallDelta),
}

/// A tool call, or a part of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CallDelta {
    pub(super) index: Option<u64>,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Delta {
    /// Bytes of its texts.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Reasoning(_, text) | Self::Text(text) | Self::Refusal(text) => text.len(),
            Self::Call(call) => call.id.len() + call.name.len() + call.arguments.len(),
        }
    }
}

/// Tokens, as far as the backend says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) total: u64,
    pub(super) cached: u64,
    pub(super) reasoning: u64,
}

/// All that one chunk, or a whole completion, says of the first choice.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) deltas: Vec<Delta>,
    pub(super) finish: Option<String>,
    /// The stop sequence that was met, escaped, where the backend names it (vLLM does).
    pub(super) stop: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl Chunk {
    /// Reads one chunk of a stream, a JSON object.
    pub(super) fn of_stream(text: &str) -> Result<Self, AnswerError> {
        let text = checked_answer(text)?;
        let chunk = Some(Json::of_compact(&text)).filter(Json::is_object).ok_or(AnswerError::NotChat)?;
        let mut out = Self { usage: chunk.get("usage").and_then(usage), ..Self::default() };
        if let Some(choice) = first_choice(&chunk) {
            // Some servers write whole messages into a stream.
            if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
                out.say(delta);
            }
            out.conclude(choice);
        }
        Ok(out)
    }

    /// Reads a whole completion.
    pub(super) fn of_completion(text: &str) -> Result<Self, AnswerError> {
        let text = checked_answer(text)?;
        let completion = Json::of_compact(&text);
        let mut out = Self { usage: completion.get("usage").and_then(usage), ..Self::default() };
        let choice = first_choice(&completion).ok_or(AnswerError::NotChat)?;
        let message = choice.get("message").filter(|message| message.is_object());
        out.say(message.ok_or(AnswerError::NotChat)?);
        out.conclude(choice);
        Ok(out)
    }

    fn conclude(&mut self, choice: &Json<'_>) {
        self.finish = choice.get_str("finish_reason").filter(|reason| !reason.is_empty()).map(Into::into);
        self.stop = choice.get("stop_reason").and_then(Json::fragment).map(Into::into);
    }

    fn say(&mut self, said: &Json<'_>) {
        let thought = REASONING_MEMBERS
            .iter()
            .map(|key| (*key, said.get_fragment(key)))
            .find(|(_, text)| !text.is_empty());
        if let Some((key, text)) = thought {
            self.push(Delta::Reasoning(key, text.into()));
        }
        match said.get("content") {
            Some(Json::Array(parts)) => parts.iter().for_each(|part| self.part(part)),
            Some(text) => self.push(Delta::Text(text.fragment().unwrap_or_default().into())),
            None => (),
        }
        self.push(Delta::Refusal(said.get_fragment("refusal").into()));
        let calls = said.get("tool_calls").map(Json::items).unwrap_or_default();
        // A whole message has no indices, and several calls in it.
        let counted = calls.len() > 1 && calls.iter().all(|call| call.get("index").is_none());
        for (place, call) in calls.iter().enumerate() {
            let index = if counted { Some(place as u64) } else { call.get("index").and_then(Json::as_count) };
            let id = call.get_fragment("id").into();
            self.call(index, id, call.get("function").unwrap_or(call));
        }
        if let Some(function) = said.get("function_call") {
            self.call(Some(0), String::new(), function);
        }
    }

    /// A content part, as Mistral's servers write them.
    fn part(&mut self, part: &Json<'_>) {
        match part.get_str("type").as_deref() {
            Some("thinking") => match part.get("thinking") {
                Some(Json::Array(parts)) => {
                    for part in parts {
                        self.push(Delta::Reasoning(REASONING_MEMBERS[0], part.get_fragment("text").into()));
                    }
                }
                _ => self.push(Delta::Reasoning(REASONING_MEMBERS[0], part.get_fragment("thinking").into())),
            },
            Some("refusal") => self.push(Delta::Refusal(part.get_fragment("refusal").into())),
            _ => self.push(Delta::Text(part.get_fragment("text").into())),
        }
    }

    fn call(&mut self, index: Option<u64>, id: String, function: &Json<'_>) {
        let arguments = match function.get("arguments") {
            None => String::new(),
            // Arguments are JSON in a string; some servers leave the string away.
            Some(arguments) => {
                arguments.fragment().map_or_else(|| escape(&arguments.to_string()), Into::into)
            }
        };
        let name = function.get_fragment("name").into();
        self.deltas.push(Delta::Call(CallDelta { index, id, name, arguments }));
    }

    fn push(&mut self, piece: Delta) {
        let (Delta::Reasoning(_, text) | Delta::Text(text) | Delta::Refusal(text)) = &piece else { return };
        if !text.is_empty() {
            self.deltas.push(piece);
        }
    }
}

fn first_choice<'j, 'a>(chunk: &'j Json<'a>) -> Option<&'j Json<'a>> {
    let choices = chunk.get("choices")?.items();
    choices.iter().find(|choice| choice.get("index").and_then(Json::as_count).unwrap_or(0) == 0)
}

fn usage(usage: &Json<'_>) -> Option<Usage> {
    let count = |key: &str| usage.get(key).and_then(Json::as_count);
    let detail = |key: &str, detail: &str| usage.get(key)?.get(detail)?.as_count();
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    // The second is DeepSeek's.
    let cached =
        detail("prompt_tokens_details", "cached_tokens").or_else(|| count("prompt_cache_hit_tokens"));
    Some(Usage {
        input,
        output,
        total: count("total_tokens").unwrap_or((input + output).min(MAX_TOKENS)),
        cached: cached.unwrap_or(0),
        reasoning: detail("completion_tokens_details", "reasoning_tokens").unwrap_or(0),
    })
}

/// The arguments of a call as a JSON object: `{}` where there are none, `None` where they are no object, or one of more
/// values than a tree is made of.
pub(super) fn arguments(fragment: &str) -> Option<Json<'static>> {
    let text = unescape(fragment);
    if text.trim().is_empty() {
        return Some(Json::object([]));
    }
    match Json::parse(&text).ok()? {
        object @ Json::Object(_) => Some(object),
        // Models that were taught with arguments in a string write a string in it.
        twice if twice.is_string() => Json::parse(&twice.as_str()?).ok().filter(Json::is_object),
        nothing if nothing.is_null() => Some(Json::object([])),
        _ => None,
    }
}
