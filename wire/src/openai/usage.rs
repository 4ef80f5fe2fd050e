//! The token counts that an answer reports. All reading of usage is here, for whole answers and for events of a stream.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{each_member, member};

/// Largest number of tokens that counts: some 10^12, a million times what any context holds. A backend's larger number would
/// only spoil the audit and the rates.
pub const MAX_TOKENS: u64 = 1 << 40;

/// Reads a JSON number as a count of tokens: whole, at most [`MAX_TOKENS`], in any notation (`12`, `12.0`, `1.2e1`). Anything
/// else is no count.
pub fn token_count(number: &str) -> Option<u64> {
    let whole = number.parse().ok().or_else(|| {
        let number = number.parse::<f64>().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
        let is_count = number.fract() == 0.0 && (0.0..=MAX_TOKENS as f64).contains(&number);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative and in range"
        )]
        is_count.then_some(number as u64)
    });
    whole.filter(|count| *count <= MAX_TOKENS)
}

/// The token usage that an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input tokens: `prompt_tokens`, or `input_tokens` of the Responses and Messages APIs.
    pub input: Option<u64>,
    /// Tokens of the prompt that `input` leaves out: the Messages API counts those that its cache had, and those that were
    /// written to it, apart.
    apart: Option<u64>,
    /// Tokens of the prompt that the backend had in its cache.
    cached: Option<u64>,
    /// Output tokens: `completion_tokens`, or `output_tokens`.
    pub output: Option<u64>,
    /// `total_tokens`, which some servers report alone for embeddings and ranks.
    total: Option<u64>,
}

/// The part of a prompt that a backend had in its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptCache {
    /// Tokens of the whole prompt.
    pub prompt: u64,
    /// Tokens that the cache had, at most those of the prompt.
    pub cached: u64,
}

impl Usage {
    /// This usage with what a `later` part of the same answer reports. Some APIs report input and output in two parts.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        Self {
            input: later.input.or(self.input),
            apart: later.apart.or(self.apart),
            cached: later.cached.or(self.cached),
            output: later.output.or(self.output),
            total: later.total.or(self.total),
        }
    }

    /// All tokens of the prompt, cached or not.
    pub fn prompt(self) -> Option<u64> {
        let alone = self.total.filter(|_| self.output.is_none());
        let prompt = self.input.map(|input| input + self.apart.unwrap_or_default());
        prompt.or(alone).filter(|prompt| *prompt <= MAX_TOKENS)
    }

    /// The prompt and its cached part, if both are known. Counts that contradict each other are none.
    pub fn cache(self) -> Option<PromptCache> {
        let (prompt, cached) = (self.prompt()?, self.cached?);
        (cached <= prompt).then_some(PromptCache { prompt, cached })
    }

    /// Without the output tokens, which the first event of a message counts only up to then.
    #[must_use]
    pub fn without_output(self) -> Self {
        Self { output: None, ..self }
    }

    fn is_complete(self) -> bool {
        self.input.is_some() && self.output.is_some() && self.cached.is_some()
    }
}

/// Built once: the searches are made for every chunk.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static TIMINGS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"timings\""));
static NO_CHOICE: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [br#""choices":[]"#.as_slice(), br#""choices":null"#].map(Finder::new));
static META: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"meta\""));

/// Reads the usage of an answer or a chunk: its `usage`, and `timings` of llama.cpp, which its streams have even if the
/// caller asked for no usage. A member that is no [`token_count`] is treated as absent.
pub fn usage(body: &str) -> Option<Usage> {
    let usage = object(body, "usage", &USAGE).map(reported);
    if usage.is_some_and(Usage::is_complete) {
        return usage;
    }
    match object(body, "timings", &TIMINGS).map(usage_of_timings) {
        Some(timed) => Some(timed.merged(usage.unwrap_or_default())),
        None => usage,
    }
}

/// Does the same for a whole answer, which may be a ranking in Cohere's format: with `tokens` or `billed_units` in `meta`.
pub fn answer_usage(body: &str) -> Option<Usage> {
    usage(body).or_else(|| {
        let meta = object(body, "meta", &META)?;
        let counts = ["tokens", "billed_units"].into_iter().filter_map(|key| member(meta, key));
        counts.map(reported).find(|usage| *usage != Usage::default())
    })
}

/// Whether a chunk of a chat or text completion, in compact JSON, has nothing but the usage: `usage` is an object, and
/// `choices` is empty.
pub fn is_usage_chunk(chunk: &str) -> bool {
    if NO_CHOICE.iter().all(|choices| choices.find(chunk.as_bytes()).is_none()) {
        return false;
    }
    let (mut has_usage, mut has_no_choice) = (false, false);
    let read_all = each_member(chunk, |key, value| match key {
        "\"usage\"" => has_usage = value.starts_with('{'),
        "\"choices\"" => has_no_choice = matches!(value, "[]" | "null"),
        _ => (),
    });
    read_all.is_ok() && has_usage && has_no_choice
}

/// The member `key` of `body` if it is an object. Most chunks do not have it, or as null, and a search for the `quoted` key is
/// cheaper than a scan.
fn object<'a>(body: &'a str, key: &str, quoted: &Finder<'_>) -> Option<&'a str> {
    let is_object = |at: usize| {
        let rest = body.as_bytes()[at + quoted.needle().len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().first() == Some(&b'{'))
    };
    quoted.find_iter(body.as_bytes()).find(|at| is_object(*at))?;
    member(body, key).filter(|value| value.starts_with('{'))
}

/// Reads `usage` in one pass.
fn reported(usage: &str) -> Usage {
    let [mut prompt, mut input, mut completion, mut output, mut total] = [None; 5];
    let [mut details, mut read, mut written, mut hit, mut cached] = [None; 5];
    let mut has_input_details = false;
    let read_all = each_member(usage, |key, value| match key {
        "\"prompt_tokens\"" => prompt = token_count(value),
        "\"input_tokens\"" => input = token_count(value),
        "\"completion_tokens\"" => completion = token_count(value),
        "\"output_tokens\"" => output = token_count(value),
        "\"total_tokens\"" => total = token_count(value),
        "\"prompt_tokens_details\"" | "\"input_tokens_details\"" => {
            has_input_details = true;
            details = member(value, "cached_tokens").and_then(token_count);
        }
        "\"cache_read_input_tokens\"" => read = token_count(value),
        "\"cache_creation_input_tokens\"" => written = token_count(value),
        // DeepSeek's name, and Moonshot's.
        "\"prompt_cache_hit_tokens\"" => hit = token_count(value),
        "\"cached_tokens\"" => cached = token_count(value),
        _ => (),
    });
    if read_all.is_err() {
        return Usage::default();
    }
    // Gateways also have the names of the Messages API beside OpenAI's, whose input is the whole prompt.
    let is_message = prompt.is_none() && !has_input_details && (read.is_some() || written.is_some());
    Usage {
        input: prompt.or(input),
        apart: is_message.then(|| read.unwrap_or_default() + written.unwrap_or_default()),
        cached: details.or(read).or(hit).or(cached),
        output: completion.or(output),
        total,
    }
}

/// Reads `timings`. Its `prompt_n` leaves out the tokens from the cache; older versions do not report these.
fn usage_of_timings(timings: &str) -> Usage {
    let number = |key: &str| token_count(member(timings, key)?);
    let cached = number("cache_n");
    let input = cached.zip(number("prompt_n")).map(|(cached, processed)| cached + processed);
    Usage { input, cached, output: number("predicted_n"), ..Usage::default() }
}

#[cfg(test)]
mod tests;
